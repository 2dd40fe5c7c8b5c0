//! The operations that share a flush: each sees the effects of those before it, and all become one batch.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Mutex;

use bytes::Bytes;
use postrider_common::{Domain, MailboxId, Timestamp};
use serde::{Deserialize, Serialize};

use super::keys;
use super::kv::{Batch, Key, Kv};
use super::leases::{Effect, Leases};
use super::marks::Marks;
use super::records::{self, FloorRecord};
use super::space::Space;
use super::view::Before;
use super::{StoreError, StoreLimits};

/// What the writer keeps from group to group.
#[derive(Debug)]
pub(crate) struct Rules {
    pub limits: StoreLimits,
    pub marks: Marks,
    pub space: Space,
    /// After a failed write nobody knows what the disk has. No operation runs from then on.
    pub refused: Option<StoreError>,
}

/// One group.
#[derive(Debug)]
pub(crate) struct Group<'a, K> {
    pub kv: &'a K,
    pub rules: &'a mut Rules,
    pub leases: &'a Mutex<Leases>,
    /// What the disk has, as far as it was looked at.
    known: Before,
    writes: Before,
    /// What the running step has overwritten in `writes`, to undo it if it fails.
    overwritten: Vec<(Key, Option<Option<Bytes>>)>,
    effects: Vec<Effect>,
    changes: Changes,
}

/// What to tell those who watch.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub deposited: BTreeSet<MailboxId>,
    pub enqueued: BTreeSet<Domain>,
    pub removed: BTreeSet<MailboxId>,
}

/// What a group comes to.
#[derive(Debug)]
pub(crate) struct Finished {
    pub batch: Batch,
    pub before: Before,
    pub effects: Vec<Effect>,
    pub changes: Changes,
}

impl<'a, K: Kv> Group<'a, K> {
    pub(crate) fn new(kv: &'a K, rules: &'a mut Rules, leases: &'a Mutex<Leases>) -> Self {
        Self {
            kv,
            rules,
            leases,
            known: BTreeMap::new(),
            writes: BTreeMap::new(),
            overwritten: Vec::new(),
            effects: Vec::new(),
            changes: Changes::default(),
        }
    }

    /// Runs one operation. If it fails, nothing of it stays in the group.
    pub(crate) fn step<T>(
        &mut self,
        operation: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Some(error) = &self.rules.refused {
            return Err(error.clone());
        }
        self.overwritten.clear();
        let effects = self.effects.len();
        let result = operation(self);
        if result.is_err() {
            while let Some((key, value)) = self.overwritten.pop() {
                match value {
                    Some(value) => self.writes.insert(key, value),
                    None => self.writes.remove(&key),
                };
            }
            self.effects.truncate(effects);
        }
        result
    }

    pub(crate) fn finish(self) -> Finished {
        let before = self.known.into_iter().filter(|(key, _)| self.writes.contains_key(key)).collect();
        Finished {
            batch: self.writes.into_iter().collect(),
            before,
            effects: self.effects,
            changes: self.changes,
        }
    }

    pub(crate) fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if let Some(written) = self.writes.get(key) {
            return Ok(written.clone());
        }
        if let Some(known) = self.known.get(key) {
            return Ok(known.clone());
        }
        let found = self.kv.get(key)?;
        self.known.insert(key.to_vec(), found.clone());
        Ok(found)
    }

    pub(crate) fn record<T: for<'r> Deserialize<'r>>(&mut self, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.get(key)?.map(|bytes| records::decode(&bytes)).transpose()
    }

    /// The first `limit` pairs with `start <= key < end`, ascending.
    pub(crate) fn range(
        &mut self,
        start: &[u8],
        end: &[u8],
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        if start >= end {
            return Ok(Vec::new());
        }
        let bounds = (Bound::Included(start), Bound::Excluded(end));
        let deleted = self.writes.range::<[u8], _>(bounds).filter(|(_, value)| value.is_none()).count();
        // So many that `limit` remain whatever this group has deleted: those that it has put come in between or after.
        let mut pairs = BTreeMap::new();
        for (key, value) in self.kv.range(start, end, limit.saturating_add(deleted))? {
            self.known.entry(key.clone()).or_insert_with(|| Some(value.clone()));
            pairs.insert(key, value);
        }
        for (key, value) in self.writes.range::<[u8], _>(bounds) {
            match value {
                Some(value) => pairs.insert(key.clone(), value.clone()),
                None => pairs.remove(key),
            };
        }
        Ok(pairs.into_iter().take(limit).collect())
    }

    /// All pairs whose keys begin with `prefix`, for those few kinds of which there are few.
    pub(crate) fn all(&mut self, prefix: &[u8]) -> Result<Vec<(Key, Bytes)>, StoreError> {
        self.range(prefix, &keys::end_of(prefix), usize::MAX / 2)
    }

    pub(crate) fn put<T: Serialize>(&mut self, key: Key, record: &T) -> Result<(), StoreError> {
        self.get(&key)?;
        self.write(key, Some(records::encode(record)));
        Ok(())
    }

    /// Puts what readers look at under a key that was never used.
    pub(crate) fn put_new(&mut self, key: Key, value: Bytes) {
        self.known.entry(key.clone()).or_insert(None);
        self.write(key, Some(value));
    }

    pub(crate) fn remove(&mut self, key: Key) -> Result<(), StoreError> {
        self.get(&key)?;
        self.write(key, None);
        Ok(())
    }

    /// Puts or removes, without a look at what is there, a key that readers do not look at: an index.
    pub(crate) fn write_index(&mut self, key: Key, present: bool) {
        self.write(key, present.then(records::nothing));
    }

    /// Removes the pieces below `body` without reading them. A reader may miss them before that is durable, and
    /// then passes over what they belong to, which is as good as gone.
    pub(crate) fn remove_pieces(&mut self, body: &[u8], bytes: u32) -> Result<(), StoreError> {
        for piece in 0..records::pieces(bytes)? {
            self.write(keys::piece(body, piece), None);
        }
        Ok(())
    }

    /// The id of the first entry of a new mailbox, or of the first item of a new destination: the time in
    /// milliseconds above so many zero bits, or more. One that is made again never uses an id again, so that what
    /// somebody remembers of the earlier one is never taken for something else, whatever the clock does.
    pub(crate) fn first_id(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        const BITS: u32 = 20;
        let floor = self.record::<FloorRecord>(keys::FLOOR)?;
        Ok((now.as_millis() << BITS).max(floor.map_or(0, |floor| floor.0)))
    }

    /// A mailbox or destination is deleted that would have used `next` next.
    pub(crate) fn raise_floor(&mut self, next: u64) -> Result<(), StoreError> {
        let floor = self.record::<FloorRecord>(keys::FLOOR)?;
        if floor.map_or(0, |floor| floor.0) >= next {
            return Ok(());
        }
        self.put(keys::FLOOR.to_vec(), &FloorRecord(next))
    }

    /// What to do in memory once the group is durable.
    pub(crate) fn then(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// What to tell once the group is durable.
    pub(crate) fn changes(&mut self) -> &mut Changes {
        &mut self.changes
    }

    fn write(&mut self, key: Key, value: Option<Bytes>) {
        let previous = self.writes.insert(key.clone(), value);
        self.overwritten.push((key, previous));
    }
}
