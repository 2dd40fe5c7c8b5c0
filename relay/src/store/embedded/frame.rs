//! A frame: one atomic batch as the journal has it.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | the segment's salt |
//! | 4 | CRC-32 of everything after it |
//! | 4 | length of the payload |
//! | 8 | sequence number |
//! | … | payload: the entries, one after the other |
//!
//! An entry is a tag (`0` removes, `1` puts), the key's length (2), for a put the value's length (4), the key and the
//! value. Numbers are big-endian.
//!
//! The salt is random and known to nobody outside: where a frame is broken, what follows it is searched for the salt,
//! and the bytes of an envelope cannot pass for a frame.

use bytes::Bytes;

use super::memtable::{Change, Location, Slot};
use crate::store::StoreError;
use crate::store::kv::{Batch, Key, Write};

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 24;
/// A value with more bytes stays in the journal; memory and base only know where.
pub(super) const INLINE_BYTES: usize = 256;
/// What an entry that puts has beside its key and its value.
pub(super) const PUT_BYTES: usize = 7;
/// Where the checksum's own bytes end.
const CHECKED_FROM: usize = 12;
const REMOVE: u8 = 0;
const PUT: u8 = 1;

/// Which segment of the journal a frame is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Home {
    pub segment: u64,
    pub salt: [u8; 8],
}

/// What the header of a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub sequence: u64,
    pub payload_bytes: usize,
    checksum: u32,
}

/// Bytes of the frame of `batch`.
pub(super) fn size(batch: &Batch) -> usize {
    let entry =
        |(key, write): &(Key, Write)| 3 + key.len() + write.value().map_or(0, |value| 4 + value.len());
    HEADER_BYTES + batch.iter().map(entry).sum::<usize>()
}

/// Writes the frame of `batch` into `buffer`, which is emptied first, for the place `offset` in `home`; and where
/// what that changes.
pub(super) fn encode(
    buffer: &mut Vec<u8>,
    batch: Batch,
    home: Home,
    offset: u64,
    sequence: u64,
) -> Result<Vec<Change>, StoreError> {
    let too_long = |_| StoreError::Io("a batch is larger than a frame may be".into());
    let payload = u32::try_from(size(&batch) - HEADER_BYTES).map_err(too_long)?;
    buffer.clear();
    buffer.extend_from_slice(&home.salt);
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&payload.to_be_bytes());
    buffer.extend_from_slice(&sequence.to_be_bytes());
    let mut changes = Vec::with_capacity(batch.len());
    for (key, write) in batch {
        let (value, is_new) = match write {
            Write::New(value) => (value, true),
            Write::Put(value) => (value, false),
            Write::Remove => {
                buffer.push(REMOVE);
                buffer.extend_from_slice(&u16::try_from(key.len()).map_err(too_long)?.to_be_bytes());
                buffer.extend_from_slice(&key);
                changes.push(Change { key, slot: Slot::Removed, is_new: false });
                continue;
            }
        };
        begin_put(buffer, &key, u32::try_from(value.len()).map_err(too_long)?)?;
        let at = offset + buffer.len() as u64;
        buffer.extend_from_slice(&value);
        changes.push(Change { key, slot: slot(home.segment, at, value)?, is_new });
    }
    let checksum = crc32fast::hash(&buffer[CHECKED_FROM..]);
    buffer[8..CHECKED_FROM].copy_from_slice(&checksum.to_be_bytes());
    Ok(changes)
}

/// What stands in front of a value of `value_bytes` bytes under `key`.
pub(super) fn begin_put(buffer: &mut Vec<u8>, key: &[u8], value_bytes: u32) -> Result<(), StoreError> {
    let too_long = |_| StoreError::Io("a key is larger than a frame takes".into());
    buffer.push(PUT);
    buffer.extend_from_slice(&u16::try_from(key.len()).map_err(too_long)?.to_be_bytes());
    buffer.extend_from_slice(&value_bytes.to_be_bytes());
    buffer.extend_from_slice(key);
    Ok(())
}

/// The header in `bytes`, if one with this salt begins there.
pub(super) fn header(bytes: &[u8; HEADER_BYTES], salt: &[u8; 8]) -> Option<Header> {
    let (found, rest) = bytes.split_first_chunk::<8>()?;
    let (checksum, rest) = rest.split_first_chunk()?;
    let (payload, rest) = rest.split_first_chunk()?;
    let sequence = rest.first_chunk()?;
    (found == salt).then_some(Header {
        sequence: u64::from_be_bytes(*sequence),
        payload_bytes: u32::from_be_bytes(*payload) as usize,
        checksum: u32::from_be_bytes(*checksum),
    })
}

/// Whether a frame's bytes are those that were written.
pub(super) fn is_whole(header: &[u8; HEADER_BYTES], payload: &[u8], expected: &Header) -> bool {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[CHECKED_FROM..]);
    hasher.update(payload);
    hasher.finalize() == expected.checksum
}

/// The entries of a payload that begins at `offset`.
pub(super) fn entries(payload: &[u8], segment: u64, offset: u64) -> Result<Vec<(Key, Slot)>, StoreError> {
    let mut slots = Vec::new();
    let mut rest = payload;
    while let Some((&tag, after)) = rest.split_first() {
        rest = after;
        let key_bytes = u16::from_be_bytes(take_number(&mut rest)?).into();
        let value_bytes = match tag {
            REMOVE => None,
            PUT => Some(u32::from_be_bytes(take_number(&mut rest)?) as usize),
            _ => return Err(damaged()),
        };
        let key = Key::from_slice(take(&mut rest, key_bytes)?);
        let slot = match value_bytes {
            None => Slot::Removed,
            Some(bytes) => {
                let at = offset + (payload.len() - rest.len()) as u64;
                slot(segment, at, Bytes::copy_from_slice(take(&mut rest, bytes)?))?
            }
        };
        slots.push((key, slot));
    }
    Ok(slots)
}

fn slot(segment: u64, at: u64, value: Bytes) -> Result<Slot, StoreError> {
    if value.len() <= INLINE_BYTES {
        return Ok(Slot::Inline(value));
    }
    let too_far = |_| StoreError::Io("a segment of the journal is larger than one may be".into());
    Ok(Slot::Stored(Location {
        segment,
        offset: u32::try_from(at).map_err(too_far)?,
        bytes: u32::try_from(value.len()).map_err(too_far)?,
        checksum: crc32fast::hash(&value),
    }))
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], StoreError> {
    let (taken, after) = rest.split_at_checked(bytes).ok_or_else(damaged)?;
    *rest = after;
    Ok(taken)
}

fn take_number<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], StoreError> {
    let (taken, after) = rest.split_first_chunk().ok_or_else(damaged)?;
    *rest = after;
    Ok(*taken)
}

fn damaged() -> StoreError {
    StoreError::Damaged("a frame of the journal has not the parts that it should have".into())
}
