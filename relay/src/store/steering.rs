//! What an operator does with a queue: looks at it page by page, holds it back, makes items due, gives them up.

use std::sync::Mutex;

use bytes::Bytes;
use postrider_common::{Domain, Envelope, FailureClass, Timestamp};

use super::group::Group;
use super::keys;
use super::kv::Kv;
use super::leases::Leases;
use super::queue::lock;
use super::records::{self, ItemRecord, PauseRecord};
use super::view::View;
use super::{ItemId, Queued, StoreError, TrackingEnd, Window};

/// How many keys are looked at together.
const PAGE: usize = 64;

impl<K: Kv> Group<'_, K> {
    pub(crate) fn pause(&mut self, domain: &Domain, since: Option<Timestamp>) -> Result<(), StoreError> {
        let key = keys::pause(domain);
        match since {
            Some(since) => self.put(key, &PauseRecord { since }),
            None => {
                if self.get(&key)?.is_none() {
                    return Ok(());
                }
                self.remove(key);
            }
        }
        // What is paused is a destination, even if nothing waits for it yet; what is not may be none any more.
        let record = self.destination_or_new(domain, Timestamp::default())?;
        self.put_destination(domain, &record)
    }

    pub(crate) fn hasten(
        &mut self,
        domain: &Domain,
        items: &[ItemId],
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let mut hastened = 0;
        for item in items {
            let Some(record) = self.record::<ItemRecord>(&keys::item(domain, *item))? else { continue };
            if record.not_before.is_some_and(|due| due > now)
                && !lock(self.leases).is_leased(domain, *item, now)
            {
                self.delay_item(domain, *item, record, None, now)?;
                hastened += 1;
            }
        }
        if hastened > 0 {
            self.changes().enqueued.insert(domain.clone());
        }
        Ok(hastened)
    }

    pub(crate) fn discard(
        &mut self,
        domain: &Domain,
        items: &[ItemId],
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let mut discarded = 0;
        for item in items {
            if lock(self.leases).is_leased(domain, *item, now) {
                continue;
            }
            if let Some(record) = self.record::<ItemRecord>(&keys::item(domain, *item))? {
                let end = TrackingEnd::Failed(FailureClass::Dropped);
                self.end_item(domain, *item, record, end.into(), now)?;
                discarded += 1;
            }
        }
        Ok(discarded)
    }
}

impl<K: Kv> View<K> {
    pub(crate) fn paused(&self, domain: &Domain) -> Result<Option<Timestamp>, StoreError> {
        let bytes = self.get(&keys::pause(domain))?;
        bytes.map(|bytes| Ok(records::decode::<PauseRecord>(&bytes)?.since)).transpose()
    }

    pub(crate) fn queued(
        &self,
        domain: &Domain,
        after: Option<ItemId>,
        count: usize,
        now: Timestamp,
        leases: &Mutex<Leases>,
    ) -> Result<Vec<Queued>, StoreError> {
        let start = start(domain, after);
        let page = self.range(&start, &keys::end_of(&keys::items(domain)), count)?;
        page.pairs.iter().map(|(key, value)| shown(domain, key, value, now, leases)).collect()
    }

    pub(crate) fn queued_envelopes(
        &self,
        domain: &Domain,
        after: Option<ItemId>,
        window: Window,
        now: Timestamp,
        leases: &Mutex<Leases>,
    ) -> Result<Vec<(Queued, Envelope)>, StoreError> {
        let mut taken = Vec::new();
        let (mut next, mut bytes) = (Some(start(domain, after)), 0_usize);
        let end = keys::end_of(&keys::items(domain));
        while let Some(from) = next {
            let page = self.range(&from, &end, PAGE)?;
            for (key, value) in &page.pairs {
                let queued = shown(domain, key, value, now, leases)?;
                bytes = bytes.saturating_add(queued.bytes as usize);
                if !taken.is_empty() && (taken.len() >= window.count || bytes > window.bytes) {
                    return Ok(taken);
                }
                let body = keys::item_body(domain, queued.item);
                // Its pieces are gone before its record is: it has left the queue since, if it is not unreadable.
                if let Some(envelope) = self.envelope(&body, || key.clone(), queued.bytes)? {
                    taken.push((queued, envelope));
                }
            }
            next = page.next;
        }
        Ok(taken)
    }
}

fn start(domain: &Domain, after: Option<ItemId>) -> super::kv::Key {
    match after {
        Some(after) => keys::next(&keys::item(domain, after)),
        None => keys::items(domain),
    }
}

fn shown(
    domain: &Domain,
    key: &[u8],
    value: &Bytes,
    now: Timestamp,
    leases: &Mutex<Leases>,
) -> Result<Queued, StoreError> {
    let item = ItemId(keys::last_number(key)?);
    let record: ItemRecord = records::decode(value)?;
    let leases = lock(leases);
    Ok(Queued {
        item,
        tracking: record.tracking,
        expires_at: record.expires_at,
        bytes: record.bytes,
        attempts: record.attempts,
        not_before: record.not_before,
        leased: leases.is_leased(domain, item, now),
        unreadable: leases.is_unreadable(domain, item),
    })
}
