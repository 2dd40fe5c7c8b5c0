//! A block: neighbouring keys of the base with their slots, as one value of sled's.
//!
//! An entry is the number of bytes that its key shares with the one before it (2), the number of those that it does not
//! (2), these, a tag, and what the tag says: `0`, a value's length (2) and the value; `1`, a location: segment (8),
//! offset (4), length (4), CRC-32 (4). Numbers are big-endian.

use bytes::Bytes;
use smallvec::SmallVec;

use super::memtable::{Location, Slot};
use crate::store::StoreError;
use crate::store::kv::Key;

/// A block with more bytes is divided,
const MOST_BYTES: usize = 4096;
/// into blocks of about so many.
pub(super) const USUAL_BYTES: usize = 3072;
const INLINE: u8 = 0;
const STORED: u8 = 1;

/// Builds one block, key by key, in order.
#[derive(Debug, Default)]
pub(super) struct Builder {
    bytes: Vec<u8>,
    last: Key,
}

impl Builder {
    pub(super) fn push(&mut self, key: &[u8], found: Found<'_>) -> Result<(), StoreError> {
        let too_long = |_| StoreError::Io("a key or a value is larger than the base takes".into());
        let number = |length: usize| u16::try_from(length).map(u16::to_be_bytes).map_err(too_long);
        let shared = self.last.iter().zip(key).take_while(|(a, b)| a == b).count();
        self.bytes.extend_from_slice(&number(shared)?);
        self.bytes.extend_from_slice(&number(key.len() - shared)?);
        self.bytes.extend_from_slice(&key[shared..]);
        match found {
            Found::Inline(value) => {
                self.bytes.push(INLINE);
                self.bytes.extend_from_slice(&number(value.len())?);
                self.bytes.extend_from_slice(value);
            }
            Found::Stored(location) => {
                self.bytes.push(STORED);
                self.bytes.extend_from_slice(&location.segment.to_be_bytes());
                self.bytes.extend_from_slice(&location.offset.to_be_bytes());
                self.bytes.extend_from_slice(&location.bytes.to_be_bytes());
                self.bytes.extend_from_slice(&location.checksum.to_be_bytes());
            }
        }
        self.last.truncate(shared);
        self.last.extend_from_slice(&key[shared..]);
        Ok(())
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Entries on their way from one block into others. The keys are in one place and the values where they came from, so
/// that none of them takes memory of its own.
#[derive(Debug, Default)]
pub(super) struct Merged<'a> {
    keys: Vec<u8>,
    /// Each with the end of its key.
    entries: Vec<(usize, Found<'a>)>,
}

impl<'a> Merged<'a> {
    /// `key` comes after all the others.
    pub(super) fn push(&mut self, key: &[u8], found: Found<'a>) {
        self.keys.extend_from_slice(key);
        self.entries.push((self.keys.len(), found));
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], Found<'a>)> {
        self.entries.iter().scan(0, |start, (end, found)| {
            let key = &self.keys[*start..*end];
            *start = *end;
            Some((key, *found))
        })
    }

    /// The same as blocks, none of them empty, each with its first key.
    pub(super) fn divide(&self) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        let mut whole = Builder::default();
        for (key, found) in self.iter() {
            whole.push(key, found)?;
        }
        let Some((first, _)) = self.iter().next() else {
            return Ok(Vec::new());
        };
        if whole.bytes() <= MOST_BYTES {
            return Ok(vec![(Key::from_slice(first), whole.finish())]);
        }
        let each = whole.bytes() / whole.bytes().div_ceil(USUAL_BYTES);
        let mut blocks = Vec::new();
        let (mut bound, mut block) = (first, Builder::default());
        for (key, found) in self.iter() {
            if block.bytes() >= each {
                blocks.push((Key::from_slice(bound), std::mem::take(&mut block).finish()));
                bound = key;
            }
            block.push(key, found)?;
        }
        blocks.push((Key::from_slice(bound), block.finish()));
        Ok(blocks)
    }
}

/// Reads a block's entries in order.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    rest: &'a [u8],
    key: Key,
}

/// A slot that is not a removed one, not copied yet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found<'a> {
    Inline(&'a [u8]),
    Stored(Location),
}

impl<'a> Entries<'a> {
    pub(super) const fn new(block: &'a [u8]) -> Self {
        Self { rest: block, key: SmallVec::new_const() }
    }

    /// The next entry, unless that was the last one.
    pub(super) fn next(&mut self) -> Result<Option<(&[u8], Found<'a>)>, StoreError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let shared = u16::from_be_bytes(self.number()?).into();
        let own = u16::from_be_bytes(self.number()?).into();
        let own = self.take(own)?;
        if shared > self.key.len() {
            return Err(damaged());
        }
        self.key.truncate(shared);
        self.key.extend_from_slice(own);
        let found = match self.number::<1>()? {
            [INLINE] => {
                let bytes = u16::from_be_bytes(self.number()?).into();
                Found::Inline(self.take(bytes)?)
            }
            [STORED] => Found::Stored(Location {
                segment: u64::from_be_bytes(self.number()?),
                offset: u32::from_be_bytes(self.number()?),
                bytes: u32::from_be_bytes(self.number()?),
                checksum: u32::from_be_bytes(self.number()?),
            }),
            _ => return Err(damaged()),
        };
        Ok(Some((&self.key, found)))
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], StoreError> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or_else(damaged)?;
        self.rest = rest;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(damaged)?;
        self.rest = rest;
        Ok(*taken)
    }
}

impl<'a> Found<'a> {
    /// Nothing if it is a removed one.
    pub(super) fn of(slot: &'a Slot) -> Option<Self> {
        match slot {
            Slot::Inline(value) => Some(Self::Inline(value)),
            Slot::Stored(location) => Some(Self::Stored(*location)),
            Slot::Removed => None,
        }
    }

    pub(super) fn slot(&self) -> Slot {
        match self {
            Self::Inline(value) => Slot::Inline(Bytes::copy_from_slice(value)),
            Self::Stored(location) => Slot::Stored(*location),
        }
    }
}

fn damaged() -> StoreError {
    StoreError::Damaged("a block of the base has not the parts that it should have".into())
}
