//! The operations that share a flush: each sees the effects of those before it, and all become one batch.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use postrider_common::random::SharedRandom;
use postrider_common::{DeviceId, Domain, MailboxId, Timestamp};

use super::attachments::Pins;
use super::keys;
use super::kv::{Batch, Key, Kv, Write};
use super::leases::{Effect, Leases};
use super::marks::Marks;
use super::records::{self, FloorRecord, Record};
use super::space::Space;
use super::{StoreError, StoreLimits};

/// What the writer keeps from group to group.
#[derive(Debug)]
pub(crate) struct Rules {
    pub limits: StoreLimits,
    pub marks: Marks,
    pub space: Space,
    /// How many bindings of other relays' mailboxes there are, or a few more where a step has failed.
    pub learnt: Arc<AtomicU64>,
    /// Attachments that somebody is submitting with several envelopes.
    pub pins: Pins,
    /// What tracking ids are made of.
    pub random: SharedRandom,
    /// After a failed write nobody knows what the disk has. No operation runs from then on.
    pub refused: Option<StoreError>,
}

/// One group.
#[derive(Debug)]
pub(crate) struct Group<'a, K> {
    pub kv: &'a K,
    pub rules: &'a mut Rules,
    pub leases: &'a Mutex<Leases>,
    writes: BTreeMap<Key, Write>,
    /// What the running step has overwritten in `writes`, to undo it if it fails.
    overwritten: Vec<(Key, Option<Write>)>,
    effects: Vec<Effect>,
    changes: Changes,
}

/// What to tell those who watch.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub deposited: BTreeSet<MailboxId>,
    pub enqueued: BTreeSet<Domain>,
    pub removed: BTreeSet<MailboxId>,
    pub suspended: BTreeSet<MailboxId>,
    pub devices_removed: BTreeSet<(MailboxId, DeviceId)>,
    pub moved: BTreeSet<MailboxId>,
    pub is_attachment_doomed: bool,
}

/// What a group comes to.
#[derive(Debug)]
pub(crate) struct Finished {
    pub batch: Batch,
    pub effects: Vec<Effect>,
    pub changes: Changes,
}

impl<'a, K: Kv> Group<'a, K> {
    pub(crate) fn new(kv: &'a K, rules: &'a mut Rules, leases: &'a Mutex<Leases>) -> Self {
        Self {
            kv,
            rules,
            leases,
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
        let batch = self.writes.into_iter().collect();
        Finished { batch, effects: self.effects, changes: self.changes }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.writes.get(key) {
            Some(write) => Ok(write.value().cloned()),
            None => self.kv.get(key),
        }
    }

    pub(crate) fn record<T: Record>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
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
        let deleted =
            self.writes.range::<[u8], _>(bounds).filter(|(_, write)| **write == Write::Remove).count();
        // So many that `limit` remain whatever this group has deleted: those that it has put come in between or after.
        let found = self.kv.range(start, end, limit.saturating_add(deleted))?;
        let mut pairs: BTreeMap<_, _> = found.into_iter().collect();
        for (key, write) in self.writes.range::<[u8], _>(bounds) {
            match write.value() {
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

    pub(crate) fn put<T: Record>(&mut self, key: Key, record: &T) {
        self.write(key, Write::Put(records::encode(record)));
    }

    /// Puts what is under a key that was never used.
    pub(crate) fn put_new(&mut self, key: Key, value: Bytes) {
        self.write(key, Write::New(value));
    }

    /// Puts a key that says all there is to say.
    pub(crate) fn put_index(&mut self, key: Key) {
        self.put_new(key, records::nothing());
    }

    pub(crate) fn remove(&mut self, key: Key) {
        self.write(key, Write::Remove);
    }

    /// Removes the pieces below `body`.
    pub(crate) fn remove_pieces(&mut self, body: &[u8], bytes: u32) -> Result<(), StoreError> {
        for piece in 0..records::pieces(bytes)? {
            self.remove(keys::piece(body, piece));
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
        self.put(Key::from_slice(keys::FLOOR), &FloorRecord(next));
        Ok(())
    }

    /// What to do in memory once the group is durable.
    pub(crate) fn then(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// What to tell once the group is durable.
    pub(crate) fn changes(&mut self) -> &mut Changes {
        &mut self.changes
    }

    fn write(&mut self, key: Key, write: Write) {
        let previous = self.writes.insert(key.clone(), write);
        self.overwritten.push((key, previous));
    }
}
