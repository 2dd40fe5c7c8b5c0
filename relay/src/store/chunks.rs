//! Whether the chunks of an attachment are in its file as they were brought.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use postrider_common::AttachmentId;
use sha2::{Digest, Sha256};

use super::pairs::{Cursor, Pairs};
use super::records::{self, AttachmentRecord};
use super::{StoreError, keys};

/// How much of a file is in memory.
const BUFFER_BYTES: usize = 256 << 10;

/// The SHA-256 of each chunk that was brought, by its number.
pub(crate) type Digests = BTreeMap<u32, [u8; 32]>;

/// Those of one attachment.
pub(crate) fn digests(pairs: &dyn Pairs, id: &AttachmentId) -> Result<Digests, StoreError> {
    let prefix = keys::chunks(id);
    let mut cursor = Cursor::new(pairs, prefix.clone(), keys::end_of(&prefix));
    let mut digests = Digests::new();
    while let Some((key, value)) = cursor.next()? {
        digests.insert(number(&key), records::decode(&value?)?);
    }
    Ok(digests)
}

/// The number at the end of a chunk's key.
pub(crate) fn number(key: &[u8]) -> u32 {
    key.last_chunk().map(|bytes| u32::from_be_bytes(*bytes)).unwrap_or_default()
}

/// The chunks that the file does not have, or otherwise. `told` hears of the bytes of each when it was read.
pub(crate) fn wrong(
    file: &File,
    record: &AttachmentRecord,
    digests: &Digests,
    mut told: impl FnMut(u64),
) -> Vec<u32> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut wrong = Vec::new();
    for (number, digest) in digests {
        let chunk_length = u64::from(record.chunk_length);
        let start = u64::from(*number) * chunk_length;
        let end = record.length.min(start + chunk_length);
        // What cannot be read is not what was brought.
        if hash(file, start, end, &mut buffer).is_none_or(|found| found != *digest) {
            wrong.push(*number);
        }
        told(end.saturating_sub(start));
    }
    wrong
}

fn hash(file: &File, start: u64, end: u64, buffer: &mut [u8]) -> Option<[u8; 32]> {
    let mut found = Sha256::new();
    let mut at = start;
    while at < end {
        let some = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact_at(&mut buffer[..some], at).ok()?;
        found.update(&buffer[..some]);
        at += some as u64;
    }
    Some(found.finalize().into())
}
