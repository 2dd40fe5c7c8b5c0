//! Who works on which queued item. In memory only: a restart lapses every lease, which is what it should do.
//!
//! Per destination there is a place in the queue before which every item has been leased at least once, and the
//! same for the index of delayed items; what was leased and came back is kept by name. So a lease looks only at
//! what it may take, however many items are in flight. Nothing is loaded when a store is opened: the places begin
//! at the beginning, and each item is passed at most once.

mod line;

use std::collections::HashMap;
use std::sync::Mutex;

use postrider_common::{Domain, Timestamp, TrackingId};

use self::line::{Held, Line, Take, Unread};
use super::keys;
use super::kv::Kv;
use super::queue::lock;
use super::records::{self, ItemRecord};
use super::view::View;
use super::{ItemId, LeaseId, Leased, StoreError, Window, envelopes};

/// The leases of every destination.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    lines: HashMap<Domain, Line>,
    /// How many there have been.
    count: u64,
    /// After a failed write nothing is handed out: what becomes of it could not be kept.
    refused: Option<StoreError>,
}

/// What a group of writes, once durable, means for leases, or for other things in memory.
#[derive(Debug)]
pub(crate) enum Effect {
    /// The item is gone.
    Ended(Domain, ItemId),
    /// The item waits for a time of its own.
    Delayed(Domain, ItemId, Timestamp),
    /// The lease was given back.
    Released(Domain, ItemId),
    /// The destination has nothing left.
    Emptied(Domain),
    /// A bucket of marks has nothing left.
    BucketEmptied(Timestamp),
}

/// Takes items for delivery until `until`. Everything that `kv` shows is durable.
///
/// The envelopes are read when the lock is free again: the writer and all other destinations need it too.
pub(crate) fn lease<K: Kv>(
    leases: &Mutex<Leases>,
    view: &View<K>,
    domain: &Domain,
    window: Window,
    now: Timestamp,
    until: Timestamp,
) -> Result<Vec<Leased>, StoreError> {
    loop {
        let (lease, items) = lock(leases).take(view.kv(), domain, window, now, until)?;
        let mut leased = Vec::with_capacity(items.len());
        let mut unreadable = Vec::new();
        for (item, record) in &items {
            match read(view.kv(), domain, *item, lease, record) {
                Ok(one) => leased.extend(one),
                Err(error @ StoreError::Damaged(_)) => unreadable.push((*item, record.tracking, error)),
                Err(error) => {
                    lock(leases).give_back(domain, lease, items.iter().map(|(item, _)| *item));
                    return Err(error);
                }
            }
        }
        if unreadable.is_empty() {
            // Otherwise whatever was taken has ended meanwhile. There may be others.
            if !leased.is_empty() || items.is_empty() {
                return Ok(leased);
            }
            continue;
        }
        // There was room for others in their place.
        lock(leases).give_back(domain, lease, items.iter().map(|(item, _)| *item));
        for (item, tracking, error) in unreadable {
            set_aside(leases, view, domain, (item, tracking), &error, until)?;
        }
    }
}

/// Hands out an item for some time no more that cannot be read.
fn set_aside<K: Kv>(
    leases: &Mutex<Leases>,
    view: &View<K>,
    domain: &Domain,
    (item, tracking): (ItemId, TrackingId),
    error: &StoreError,
    until: Timestamp,
) -> Result<(), StoreError> {
    // It may have ended since, and not be there for that reason.
    if view.get(&keys::item(domain, item))?.is_some() {
        view.unreadable().note(&keys::item_body(domain, item), &keys::item(domain, item), error);
        lock(leases).set_aside(domain, item, Unread { tracking, until });
    }
    Ok(())
}

/// Takes one item with attachments of those that [`lease`] has passed over.
pub(crate) fn lease_laden<K: Kv>(
    leases: &Mutex<Leases>,
    view: &View<K>,
    domain: &Domain,
    until: Timestamp,
) -> Result<Option<Leased>, StoreError> {
    loop {
        let Some((lease, item, record)) = lock(leases).take_laden(view.kv(), domain, until)? else {
            return Ok(None);
        };
        match read(view.kv(), domain, item, lease, &record) {
            // It has ended meanwhile.
            Ok(None) => {}
            Ok(leased) => return Ok(leased),
            Err(error) => {
                lock(leases).give_back(domain, lease, std::iter::once(item));
                match error {
                    StoreError::Damaged(_) => {
                        set_aside(leases, view, domain, (item, record.tracking), &error, until)?;
                    }
                    error => return Err(error),
                }
            }
        }
    }
}

/// An item with its envelope, unless it has ended.
fn read<K: Kv>(
    kv: &K,
    domain: &Domain,
    item: ItemId,
    lease: LeaseId,
    record: &ItemRecord,
) -> Result<Option<Leased>, StoreError> {
    let body = keys::item_body(domain, item);
    let Some(envelope) = envelopes::read(kv, &body, record.bytes)? else {
        return match kv.get(&keys::item(domain, item))? {
            None => Ok(None),
            Some(_) => Err(StoreError::Damaged("a queued envelope lacks a part".into())),
        };
    };
    let ItemRecord { tracking, attempts, onward, .. } = *record;
    Ok(Some(Leased { item, lease, tracking, envelope, attempts, onward }))
}

impl Leases {
    fn take<K: Kv>(
        &mut self,
        kv: &K,
        domain: &Domain,
        window: Window,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<(LeaseId, Vec<(ItemId, ItemRecord)>), StoreError> {
        let held = self.begin(until);
        if let Some(error) = &self.refused {
            return Err(error.clone());
        }
        if kv.get(&keys::destination(domain))?.is_none() {
            self.lines.remove(domain);
            return Ok((held.lease, Vec::new()));
        }
        let line = self.lines.entry(domain.clone()).or_insert_with(|| Line::new(domain));
        line.lapse(now, until);
        let mut take = Take::new(kv, domain, window);
        let result = line.fill(&mut take, now);
        line.laden.extend(take.laden);
        Ok((held.lease, line.hand_out(take.taken, result, held)?))
    }

    /// Takes one item with attachments of those that were passed over.
    fn take_laden<K: Kv>(
        &mut self,
        kv: &K,
        domain: &Domain,
        until: Timestamp,
    ) -> Result<Option<(LeaseId, ItemId, ItemRecord)>, StoreError> {
        let held = self.begin(until);
        if let Some(error) = &self.refused {
            return Err(error.clone());
        }
        let Some(line) = self.lines.get_mut(domain) else { return Ok(None) };
        while let Some(item) = line.laden.first().copied() {
            let record = kv.get(&keys::item(domain, item))?;
            let record = record.map(|record| records::decode(&record)).transpose()?;
            line.laden.remove(&item);
            if let Some(record) = record {
                line.hold(item, held);
                return Ok(Some((held.lease, item, record)));
            }
        }
        Ok(None)
    }

    /// A lease that was never given out.
    const fn begin(&mut self, until: Timestamp) -> Held {
        self.count += 1;
        Held { lease: LeaseId(self.count), until }
    }

    /// Lengthens the lease of an item, if it is still this one.
    pub(crate) fn prolong(&mut self, domain: &Domain, item: ItemId, lease: LeaseId, until: Timestamp) {
        self.with(domain, |line| {
            if line.is_held(item, lease) {
                line.end(item);
                line.hold(item, Held { lease, until });
            }
        });
    }

    /// Whether the lease of an item is this one. It does not lapse before `until` then, so that what it comes to is durable
    /// before anybody else can take the item.
    pub(crate) fn keep(&mut self, domain: &Domain, item: ItemId, lease: LeaseId, until: Timestamp) -> bool {
        let Some(line) = self.lines.get_mut(domain) else { return false };
        let Some(held) = line.leased.get(&item).copied().filter(|held| held.lease == lease) else {
            return false;
        };
        line.end(item);
        line.hold(item, Held { until: held.until.max(until), ..held });
        true
    }

    /// Ends a lease that nobody makes use of.
    fn give_back(&mut self, domain: &Domain, lease: LeaseId, items: impl Iterator<Item = ItemId>) {
        self.with(domain, |line| {
            for item in items {
                if line.is_held(item, lease) && line.end(item) {
                    line.returned.insert(item);
                }
            }
        });
    }

    /// Keeps what was given back from being handed out again.
    fn set_aside(&mut self, domain: &Domain, item: ItemId, unread: Unread) {
        self.with(domain, |line| {
            // Whoever took it since meets the same.
            line.end(item);
            line.returned.remove(&item);
            line.laden.remove(&item);
            line.unreadable.insert(item, unread);
        });
    }

    /// Hands out nothing from now on.
    pub(crate) fn refuse(&mut self, error: StoreError) {
        self.refused = Some(error);
    }

    /// Whether somebody works on the item at `now`.
    pub(crate) fn is_leased(&self, domain: &Domain, item: ItemId, now: Timestamp) -> bool {
        self.until(domain, item).is_some_and(|until| until > now)
    }

    /// Until when the item was leased, whether or not that is over.
    pub(crate) fn until(&self, domain: &Domain, item: ItemId) -> Option<Timestamp> {
        Some(self.lines.get(domain)?.leased.get(&item)?.until)
    }

    /// Whether the item could not be read.
    pub(crate) fn is_unreadable(&self, domain: &Domain, item: ItemId) -> bool {
        self.lines.get(domain).is_some_and(|line| line.unreadable.contains_key(&item))
    }

    /// The same by what it is tracked by.
    pub(crate) fn is_unreadable_as(&self, domain: &Domain, id: TrackingId) -> bool {
        self.lines
            .get(domain)
            .is_some_and(|line| line.unreadable.values().any(|unread| unread.tracking == id))
    }

    /// Whether the item has attachments and waits to be given out by itself.
    pub(crate) fn is_passed_over(&self, domain: &Domain, item: ItemId) -> bool {
        self.lines.get(domain).is_some_and(|line| line.laden.contains(&item))
    }

    /// Follows what has become durable.
    pub(crate) fn follow(&mut self, effect: &Effect) {
        match effect {
            Effect::Ended(domain, item) => {
                self.with(domain, |line| {
                    line.end(*item);
                    line.returned.remove(item);
                    line.laden.remove(item);
                    line.unreadable.remove(item);
                });
            }
            Effect::Delayed(domain, item, not_before) => {
                self.with(domain, |line| {
                    line.end(*item);
                    line.returned.remove(item);
                    line.laden.remove(item);
                    let key = keys::delayed(domain, *not_before, *item);
                    if key < line.delayed {
                        line.delayed = key;
                    }
                });
            }
            Effect::Released(domain, item) => {
                self.with(domain, |line| {
                    if line.end(*item) {
                        line.returned.insert(*item);
                    }
                });
            }
            Effect::Emptied(domain) => {
                // What the same group has queued again may have been taken since it became durable.
                if self.lines.get(domain).is_some_and(|line| line.leased.is_empty()) {
                    self.lines.remove(domain);
                }
            }
            Effect::BucketEmptied(_) => {}
        }
    }

    fn with(&mut self, domain: &Domain, change: impl FnOnce(&mut Line)) {
        if let Some(line) = self.lines.get_mut(domain) {
            change(line);
        }
    }
}
