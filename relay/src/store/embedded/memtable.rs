//! What the journal has and the base has not yet, in memory.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use bytes::Bytes;

use crate::store::kv::Key;

/// What an entry takes beside its value, about: its place in a node of the tree, most of which are not full, and what the
/// allocator needs for the value.
const ENTRY_BYTES: usize = 256;

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

/// What a frame does to one key.
#[derive(Debug)]
pub(super) struct Change {
    pub key: Key,
    pub slot: Slot,
    /// Nothing has ever been under the key.
    pub is_new: bool,
}

/// The newest slot of each key, in order.
#[derive(Debug, Default)]
pub(super) struct Memtable {
    slots: BTreeMap<Key, Known>,
    bytes: usize,
}

#[derive(Debug)]
struct Known {
    slot: Slot,
    /// Nothing older than this table has the key: when it is removed, nothing has to be told of it.
    is_new: bool,
}

impl Memtable {
    /// Puts a key's slot in the place of what was known of it.
    pub(super) fn follow(&mut self, Change { key, slot, is_new }: Change) {
        match self.slots.entry(key) {
            Entry::Vacant(vacant) => {
                self.bytes += ENTRY_BYTES + slot.bytes();
                vacant.insert(Known { slot, is_new });
            }
            Entry::Occupied(known) if known.get().is_new && slot == Slot::Removed => {
                self.bytes -= ENTRY_BYTES + known.get().slot.bytes();
                known.remove();
            }
            Entry::Occupied(mut known) => {
                self.bytes += slot.bytes();
                self.bytes -= known.get().slot.bytes();
                known.get_mut().slot = slot;
            }
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Slot> {
        self.slots.get(key).map(|known| &known.slot)
    }

    pub(super) fn range(&self, bounds: (Bound<&[u8]>, Bound<&[u8]>)) -> impl Iterator<Item = (&Key, &Slot)> {
        self.slots.range::<[u8], _>(bounds).map(|(key, known)| (key, &known.slot))
    }

    /// Everything, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Slot)> {
        self.slots.iter().map(|(key, known)| (key, &known.slot))
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
