//! What the journal has and the base has not yet, in memory.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::store::kv::Key;

/// What an entry takes beside its key and its value, about.
const ENTRY_BYTES: usize = 96;

/// Where a value lies in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    /// Number of the segment.
    pub segment: u64,
    /// From the segment's beginning.
    pub offset: u32,
    /// The value's length,
    pub bytes: u32,
    /// and its CRC-32.
    pub checksum: u32,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slot {
    Removed,
    Inline(Bytes),
    Stored(Location),
}

/// The newest slot of each key, in order.
#[derive(Debug, Default)]
pub(super) struct Memtable {
    slots: BTreeMap<Key, Slot>,
    bytes: usize,
}

impl Memtable {
    /// Puts `slot` in the place of what was known of `key`.
    pub(super) fn put(&mut self, key: Key, slot: Slot) {
        let key_bytes = key.len();
        self.bytes += slot.bytes();
        match self.slots.insert(key, slot) {
            Some(previous) => self.bytes -= previous.bytes(),
            None => self.bytes += key_bytes + ENTRY_BYTES,
        }
    }

    pub(super) fn slots(&self) -> &BTreeMap<Key, Slot> {
        &self.slots
    }

    /// Memory in use, about.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Slot {
    fn bytes(&self) -> usize {
        match self {
            Self::Removed | Self::Stored(_) => 0,
            Self::Inline(value) => value.len(),
        }
    }
}
