//! Where reads look: the memtables, the base behind them, and the segments with the values.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::base::Base;
use super::journal::Position;
use super::memtable::{Change, Memtable, Slot};
use super::segment::Segment;
use super::{Shared, Sizes};
use crate::store::kv::Key;
use crate::store::{StoreError, keys};

/// How often a read looks again for a value that was moved under its hands.
const TRIES: usize = 16;
/// How many keys of a memtable are looked at together.
const CHUNK: usize = 256;

/// What there is, newest first.
#[derive(Debug)]
pub(super) struct Tables {
    pub active: Memtable,
    /// On its way into the base.
    pub frozen: Option<Arc<Frozen>>,
    pub base: Arc<Base>,
    /// By number.
    pub segments: BTreeMap<u64, Arc<Segment>>,
    /// Bytes of the journal's frames of the active memtable, also of those that have left nothing in it.
    pub unapplied: u64,
    /// How often a memtable was frozen.
    pub freezes: u64,
}

/// A memtable that changes no more.
#[derive(Debug)]
pub(super) struct Frozen {
    pub table: Memtable,
    /// It has everything of the journal that comes before this and that the base has not.
    pub position: Position,
}

impl Tables {
    /// What a frame has changed, which is in the segment `newest`; with it the frames have `unapplied` bytes.
    pub(super) fn add(&mut self, newest: &Arc<Segment>, unapplied: u64, changes: Vec<Change>) {
        self.segments.entry(newest.number()).or_insert_with(|| Arc::clone(newest));
        self.unapplied = unapplied;
        for change in changes {
            self.active.follow(change);
        }
    }

    /// Freezes the memtable; no other may be frozen.
    pub(super) fn freeze(&mut self, position: Position) {
        let table = std::mem::take(&mut self.active);
        self.frozen = Some(Arc::new(Frozen { table, position }));
        self.unapplied = 0;
        self.freezes += 1;
    }

    /// Whether the memtable has to be frozen: it is large, or a start after a crash would have much to read for it.
    pub(super) fn is_full(&self, sizes: &Sizes) -> bool {
        self.active.bytes() >= sizes.memtable_bytes || self.unapplied >= sizes.unapplied_bytes
    }

    /// Whether the memtable has to be frozen, and cannot be.
    pub(super) fn is_crowded(&self, sizes: &Sizes) -> bool {
        self.frozen.is_some() && self.is_full(sizes)
    }

    /// What the memtables know of `key`.
    pub(super) fn recent(&self, key: &[u8]) -> Option<&Slot> {
        let frozen = || self.frozen.as_ref().and_then(|frozen| frozen.table.get(key));
        self.active.get(key).or_else(frozen)
    }

    /// What the memtables know of the first keys from `start`, and how far that goes if not to `end`.
    fn recent_range(&self, start: &[u8], end: &[u8]) -> (BTreeMap<Key, Slot>, Option<Key>) {
        let mut found = BTreeMap::new();
        let mut until: Option<Key> = None;
        let frozen = self.frozen.as_ref().map(|frozen| &frozen.table);
        for table in frozen.into_iter().chain([&self.active]) {
            let bounds = (Bound::Included(start), Bound::Excluded(end));
            let mut last = None;
            for (key, slot) in table.range(bounds).take(CHUNK) {
                found.insert(key.clone(), slot.clone());
                last = Some((last.map_or(1, |(count, _)| count + 1), key));
            }
            if let Some((CHUNK, key)) = last {
                let next = keys::next(key);
                until = Some(until.map_or_else(|| next.clone(), |until| until.min(next.clone())));
            }
        }
        if let Some(until) = &until {
            found.split_off(until);
        }
        (found, until)
    }
}

impl Shared {
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        for _ in 0..TRIES {
            let slot = {
                let tables = self.tables();
                match tables.recent(key) {
                    Some(slot) => slot.clone(),
                    None => {
                        let base = Arc::clone(&tables.base);
                        drop(tables);
                        base.get(key)?.unwrap_or(Slot::Removed)
                    }
                }
            };
            let location = match slot {
                Slot::Removed => return Ok(None),
                Slot::Inline(value) => return Ok(Some(value)),
                Slot::Stored(location) => location,
            };
            let segment = self.tables().segments.get(&location.segment).map(Arc::clone);
            // If it is gone, the value was moved or removed meanwhile.
            if let Some(segment) = segment {
                return segment.read(location).map(Some);
            }
        }
        Err(StoreError::Damaged("an envelope is in a segment of the journal that is missing".into()))
    }

    pub(super) fn range(
        &self,
        start: &[u8],
        end: &[u8],
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        self.range_over(Base::range, start, end, limit)
    }

    /// The same without the values: those in the journal are not read.
    pub(super) fn keys(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Key>, StoreError> {
        self.found_over(
            Base::range,
            start,
            end,
            limit,
            |key, slot| Ok((slot != Slot::Removed).then_some(key)),
        )
    }

    /// The first pairs, with `older` to read the base, which may change meanwhile.
    pub(super) fn range_over(
        &self,
        older: impl Fn(&Base, &[u8], &[u8], usize) -> Result<Vec<(Key, Slot)>, StoreError>,
        start: &[u8],
        end: &[u8],
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        self.found_over(older, start, end, limit, |key, slot| {
            let value = match slot {
                Slot::Removed => None,
                Slot::Inline(value) => Some(value),
                Slot::Stored(_) => self.get(&key)?,
            };
            Ok(value.map(|value| (key, value)))
        })
    }

    /// What `made` makes of the first keys.
    fn found_over<T>(
        &self,
        older: impl Fn(&Base, &[u8], &[u8], usize) -> Result<Vec<(Key, Slot)>, StoreError>,
        start: &[u8],
        end: &[u8],
        limit: usize,
        made: impl Fn(Key, Slot) -> Result<Option<T>, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        let mut from = Key::from_slice(start);
        while from.as_slice() < end && found.len() < limit {
            let (base, freezes, recent, until) = {
                let tables = self.tables();
                let (recent, until) = tables.recent_range(&from, end);
                (Arc::clone(&tables.base), tables.freezes, recent, until)
            };
            let mut until = until.unwrap_or_else(|| Key::from_slice(end));
            // So many that enough remain whatever the memtables have removed.
            let asked = (limit - found.len()).saturating_add(recent.len());
            let older = older(&base, &from, &until, asked)?;
            // Of what came after the memtables were looked at, the base may have shown the end and not the beginning. Who
            // goes on behind what was found would never see the rest.
            if self.tables().freezes != freezes {
                continue;
            }
            if older.len() >= asked
                && let Some((last, _)) = older.last()
            {
                until = keys::next(last);
            }
            let mut merged: BTreeMap<Key, Slot> = older.into_iter().collect();
            merged.extend(recent.into_iter().take_while(|(key, _)| *key < until));
            for (key, slot) in merged {
                if found.len() >= limit {
                    break;
                }
                found.extend(made(key, slot)?);
            }
            from = until;
        }
        Ok(found)
    }
}
