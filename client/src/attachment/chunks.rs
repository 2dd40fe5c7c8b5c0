//! How a file is divided into chunks, and how each is encrypted.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use postrider_common::limits::{MAX_CHUNK_BYTES, MAX_CHUNKS};
use postrider_common::secret::Secret;
use postrider_common::{Attachment, AttachmentId};

use super::AttachmentError;

/// Bytes of a chunk of a file that is not too large for it.
const CHUNK_BYTES: u32 = 4 << 20;
/// What encryption adds to each chunk.
pub(super) const TAG_BYTES: u32 = 16;
/// No file says that it is smaller than this.
const LEAST_BYTES: u64 = 4 << 10;

/// How a file is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// With padding.
    padded: u64,
    /// Bytes of an encrypted chunk.
    pub(super) chunk: u32,
}

impl Plan {
    /// `None`: it is larger than any attachment.
    pub(super) fn of(length: u64) -> Option<Self> {
        let padded = padme(length.max(LEAST_BYTES))?;
        let mut chunk = CHUNK_BYTES;
        while padded.div_ceil(u64::from(chunk - TAG_BYTES)) > MAX_CHUNKS.into() {
            chunk = chunk.checked_mul(2).filter(|chunk| *chunk <= MAX_CHUNK_BYTES)?;
        }
        Some(Self { padded, chunk })
    }

    fn piece(&self) -> u64 {
        u64::from(self.chunk - TAG_BYTES)
    }

    pub(super) fn encrypted(&self) -> u64 {
        self.padded + u64::from(TAG_BYTES) * self.padded.div_ceil(self.piece())
    }

    /// What it is called at a relay.
    pub(super) fn attachment(&self, id: AttachmentId) -> Attachment {
        Attachment { id, length: self.encrypted(), chunk_length: self.chunk }
    }

    /// Whether an attachment is divided so.
    pub(super) fn is_of(&self, attachment: &Attachment) -> bool {
        self.attachment(attachment.id) == *attachment
    }

    /// One piece of a file of `length` bytes, with its part of the padding.
    pub(super) fn read(&self, file: &File, number: u32, length: u64) -> io::Result<Vec<u8>> {
        let start = u64::from(number) * self.piece();
        let bytes = (self.padded - start).min(self.piece());
        let mut piece = vec![0; usize::try_from(bytes).unwrap_or(0)];
        let of_file = usize::try_from(length.saturating_sub(start).min(bytes)).unwrap_or(0);
        file.read_exact_at(&mut piece[..of_file], start)?;
        Ok(piece)
    }
}

/// The next length of which only the highest bits are not zero: so many that it has at most 12 % more.
fn padme(length: u64) -> Option<u64> {
    let exponent = length.checked_ilog2()?;
    let kept = exponent.checked_ilog2().map_or(0, |bits| bits + 1);
    let mask = (1_u64 << (exponent - kept.min(exponent))) - 1;
    length.checked_add(mask).map(|length| length & !mask)
}

fn nonce(number: u32, is_last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[7..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = is_last.into();
    Nonce::assume_unique_for_key(nonce)
}

fn cipher(key: &Secret<32>) -> Result<LessSafeKey, AttachmentError> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.expose());
    key.map(LessSafeKey::new).map_err(|_| AttachmentError::Damaged)
}

pub(super) fn encrypt(
    key: &Secret<32>,
    number: u32,
    is_last: bool,
    mut piece: Vec<u8>,
) -> Result<Bytes, AttachmentError> {
    cipher(key)?
        .seal_in_place_append_tag(nonce(number, is_last), Aad::empty(), &mut piece)
        .map_err(|_| AttachmentError::Damaged)?;
    Ok(piece.into())
}

pub(super) fn decrypt(
    key: &Secret<32>,
    number: u32,
    is_last: bool,
    chunk: Bytes,
) -> Result<Vec<u8>, AttachmentError> {
    let mut chunk = Vec::from(chunk);
    let opened = cipher(key)?.open_in_place(nonce(number, is_last), Aad::empty(), &mut chunk);
    let length = opened.map_err(|_| AttachmentError::Damaged)?.len();
    chunk.truncate(length);
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_tell_little() {
        for (length, padded) in
            [(4096, 4096), (4097, 4352), (9 << 20, 9 << 20), ((9 << 20) + 1, 9_699_328), (1 << 30, 1 << 30)]
        {
            assert_eq!(padme(length), Some(padded), "{length}");
        }
        for length in (4096..2_000_000_u64).step_by(7919) {
            let padded = padme(length).unwrap();
            assert!(padded >= length && padded as f64 <= length as f64 * 1.12, "{length} {padded}");
        }
        assert_eq!(Plan::of(0).unwrap().encrypted(), 4096 + 16);
        assert_eq!(Plan::of(20 << 30).unwrap().chunk, 8 << 20);
        assert_eq!(Plan::of(u64::MAX), None);
    }

    #[test]
    fn chunks_keep_their_places() {
        let key = Secret::new([7; 32]);
        let chunk = encrypt(&key, 3, true, b"piece".to_vec()).unwrap();
        assert_eq!(decrypt(&key, 3, true, chunk.clone()).unwrap(), b"piece");
        for (number, is_last) in [(2, true), (3, false)] {
            assert!(decrypt(&key, number, is_last, chunk.clone()).is_err());
        }
    }
}
