//! One destination's leases, and what one lease takes of its queue.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use postrider_common::{Domain, Timestamp, TrackingId, backoff};

use crate::store::kv::{Key, Kv};
use crate::store::records::{self, ItemRecord};
use crate::store::{ItemId, LeaseId, StoreError, Window, keys};

/// How many keys are looked at together.
const PAGE: usize = 64;
/// When an item that could not be read is tried again, if there is a disk that does better by then.
const UNREAD_FOR: Duration = Duration::from_secs(3600);

/// One destination's leases.
#[derive(Debug)]
pub(super) struct Line {
    /// Items from here on have never been leased, unless they are delayed ones.
    pub(super) fresh: Key,
    /// Delayed items from here on have not been leased since they were delayed.
    pub(super) delayed: Key,
    /// Leased once and given back, or the lease lapsed.
    pub(super) returned: BTreeSet<ItemId>,
    /// Those of them, and of those before `fresh` and `delayed`, that have attachments: they are leased one by one, and
    /// delay no others.
    pub(super) laden: BTreeSet<ItemId>,
    /// Such as could not be read. They are tried again after [`UNREAD_FOR`], or a restart, and end like others.
    pub(super) unreadable: BTreeMap<ItemId, Unread>,
    pub(super) leased: HashMap<ItemId, Held>,
    /// The same by their end.
    pub(super) ends: BTreeSet<(Timestamp, ItemId)>,
}

/// An item that could not be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unread {
    pub(super) tracking: TrackingId,
    /// The end of the lease that it would have had: counted from the time that it is, as a lease's `now` need not be.
    pub(super) until: Timestamp,
}

/// By whom an item is held.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) lease: LeaseId,
    pub(super) until: Timestamp,
}

impl Line {
    pub(super) fn new(domain: &Domain) -> Self {
        Self {
            fresh: keys::items(domain),
            delayed: keys::delayed_of(domain),
            returned: BTreeSet::new(),
            laden: BTreeSet::new(),
            unreadable: BTreeMap::new(),
            leased: HashMap::new(),
            ends: BTreeSet::new(),
        }
    }

    /// What was taken is held from now on; or, after an error, given back.
    pub(super) fn hand_out(
        &mut self,
        taken: Vec<(ItemId, ItemRecord)>,
        result: Result<(), StoreError>,
        held: Held,
    ) -> Result<Vec<(ItemId, ItemRecord)>, StoreError> {
        let items = taken.iter().map(|(item, _)| *item);
        if let Err(error) = result {
            self.returned.extend(items);
            return Err(error);
        }
        items.for_each(|item| self.hold(item, held));
        Ok(taken)
    }

    pub(super) fn hold(&mut self, item: ItemId, held: Held) {
        self.ends.insert((held.until, item));
        self.leased.insert(item, held);
    }

    pub(super) fn is_held(&self, item: ItemId, lease: LeaseId) -> bool {
        self.leased.get(&item).is_some_and(|held| held.lease == lease)
    }

    /// Takes back what was leased until now or earlier.
    pub(super) fn lapse(&mut self, now: Timestamp, until: Timestamp) {
        while let Some((_, item)) = self.ends.first().filter(|(until, _)| *until <= now).copied() {
            self.end(item);
            self.returned.insert(item);
        }
        let again = self.unreadable.extract_if(.., |_, unread| unread.until + UNREAD_FOR <= until);
        self.returned.extend(again.map(|(item, _)| item));
    }

    /// Ends a lease; whether there was one.
    pub(super) fn end(&mut self, item: ItemId) -> bool {
        self.leased.remove(&item).is_some_and(|held| self.ends.remove(&(held.until, item)))
    }

    pub(super) fn is_known(&self, item: ItemId) -> bool {
        self.leased.contains_key(&item)
            || self.returned.contains(&item)
            || self.laden.contains(&item)
            || self.unreadable.contains_key(&item)
    }

    /// Takes what is due of its own, then what came back, then what has never been taken.
    pub(super) fn fill<K: Kv>(&mut self, take: &mut Take<'_, K>, now: Timestamp) -> Result<(), StoreError> {
        let end = keys::delayed(take.domain, now + Duration::from_millis(1), ItemId(0));
        while self.delayed < end {
            let page = take.kv.range(&self.delayed, &end, PAGE)?;
            for (key, _) in &page {
                let item = ItemId(keys::last_number(key)?);
                if !self.is_known(item) {
                    let record = take.kv.get(&keys::item(take.domain, item))?;
                    if !take.take(item, record)? {
                        return Ok(());
                    }
                }
                self.delayed = keys::next(key);
            }
            if page.len() < PAGE {
                break;
            }
        }
        if !self.fill_from_another_time(take, now)? {
            return Ok(());
        }
        while let Some(item) = self.returned.first().copied() {
            let record = take.kv.get(&keys::item(take.domain, item))?;
            if !take.take(item, record)? {
                return Ok(());
            }
            self.returned.remove(&item);
        }
        let end = keys::end_of(&keys::items(take.domain));
        loop {
            let page = take.kv.range(&self.fresh, &end, PAGE)?;
            for (key, record) in &page {
                let item = ItemId(keys::last_number(key)?);
                let is_delayed = records::decode::<ItemRecord>(record)?.not_before.is_some();
                if !is_delayed && !self.is_known(item) && !take.take(item, Some(record.clone()))? {
                    return Ok(());
                }
                self.fresh = keys::next(key);
            }
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// Takes what is delayed to a time that no wait reaches: it was counted on a clock that has been set back since.
    /// There is nothing of that otherwise. Whether there was room for all.
    pub(super) fn fill_from_another_time<K: Kv>(
        &mut self,
        take: &mut Take<'_, K>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let farthest = now + backoff::MAX_RETRY_AFTER + Duration::from_millis(1);
        let mut start = keys::delayed(take.domain, farthest, ItemId(0)).max(self.delayed.clone());
        let end = keys::end_of(&keys::delayed_of(take.domain));
        while start < end {
            let page = take.kv.range(&start, &end, PAGE)?;
            for (key, _) in &page {
                let item = ItemId(keys::last_number(key)?);
                if !self.is_known(item) {
                    let record = take.kv.get(&keys::item(take.domain, item))?;
                    if !take.take(item, record)? {
                        return Ok(false);
                    }
                }
                start = keys::next(key);
            }
            if page.len() < PAGE {
                break;
            }
        }
        Ok(true)
    }
}

/// What one lease has taken so far.
pub(super) struct Take<'a, K> {
    pub(super) kv: &'a K,
    pub(super) domain: &'a Domain,
    pub(super) window: Window,
    pub(super) bytes: usize,
    pub(super) taken: Vec<(ItemId, ItemRecord)>,
    /// Passed over.
    pub(super) laden: Vec<ItemId>,
}

impl<'a, K: Kv> Take<'a, K> {
    pub(super) const fn new(kv: &'a K, domain: &'a Domain, window: Window) -> Self {
        Self { kv, domain, window, bytes: 0, taken: Vec::new(), laden: Vec::new() }
    }

    /// Takes an item unless it is gone or has attachments; whether it did not have to stay for want of room.
    pub(super) fn take(&mut self, item: ItemId, record: Option<Bytes>) -> Result<bool, StoreError> {
        let record = record.map(|record| records::decode::<ItemRecord>(&record)).transpose()?;
        if record.is_some_and(|record| record.laden) {
            self.laden.push(item);
            return Ok(true);
        }
        self.add(item, record)
    }

    pub(super) fn add(&mut self, item: ItemId, record: Option<ItemRecord>) -> Result<bool, StoreError> {
        let Some(record) = record else {
            return Ok(true);
        };
        let bytes = self.bytes.saturating_add(record.bytes as usize);
        if !self.taken.is_empty() && (self.taken.len() >= self.window.count || bytes > self.window.bytes) {
            return Ok(false);
        }
        if self.taken.iter().any(|(taken, _)| *taken == item) {
            return Ok(true);
        }
        self.taken.push((item, record));
        self.bytes = bytes;
        Ok(true)
    }
}
