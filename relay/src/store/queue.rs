//! The outbound queue: envelopes for other relays, until they are there or have failed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use postrider_common::{Domain, Envelope, FailureClass, Timestamp};

use super::group::Group;
use super::keys;
use super::kv::{Key, Kv};
use super::leases::{Effect, Leases};
use super::mailboxes::length;
use super::records::{self, DestinationRecord, EndRecord, ItemRecord, MarkRecord, TrackingRecord};
use super::tracking::new_tracking_id;
use super::view::View;
use super::{
    Backoff, Destination, Enqueued, ItemId, Onward, SentOn, Settlement, StoreError, TrackingEnd, Verdict,
};

/// What mailboxes that have moved hold gets no more than one part in so many of a destination's queue: whoever can fill
/// mailboxes and move them must not keep everybody else's envelopes out. It stays where it is meanwhile.
const HELD_SHARE: u64 = 2;
/// What is being settled does not lapse for so long: it has become durable by then, or the store has failed.
const SETTLING: Duration = Duration::from_secs(60);
/// How many keys are looked at together.
const PAGE: usize = 64;

impl<K: Kv> Group<'_, K> {
    pub(crate) fn enqueue(
        &mut self,
        domain: &Domain,
        addressed: &Domain,
        envelopes: &[Envelope],
        now: Timestamp,
    ) -> Result<Vec<Enqueued>, StoreError> {
        let bytes = envelopes.iter().map(|envelope| envelope.encoded().len() as u64);
        self.rules.space.take(self.kv, bytes.sum(), now)?;
        envelopes.iter().map(|envelope| self.enqueue_one(domain, addressed, envelope, now)).collect()
    }

    pub(crate) fn enqueue_onward(
        &mut self,
        domain: &Domain,
        envelopes: &[SentOn],
        now: Timestamp,
    ) -> Result<Vec<Enqueued>, StoreError> {
        let bytes = envelopes.iter().map(|sent_on| sent_on.envelope.encoded().len() as u64);
        self.rules.space.take(self.kv, bytes.sum(), now)?;
        envelopes.iter().map(|sent_on| self.enqueue_sent_on(domain, sent_on, now)).collect()
    }

    /// Whatever else waits for the destination under the same name does not count. It may end because what is sent on
    /// here is still where it was, and then neither would be left.
    fn enqueue_sent_on(
        &mut self,
        domain: &Domain,
        SentOn { envelope, addressed, onward, source }: &SentOn,
        now: Timestamp,
    ) -> Result<Enqueued, StoreError> {
        let mark = self.rules.marks.of_sent_on(domain, envelope.mailbox(), *source);
        if let Some(tracking) = self.tracked_by(mark)? {
            return Ok(Enqueued::Duplicate(tracking));
        }
        let enqueued = self.add_item(domain, envelope, Some(*onward), now)?;
        if let Enqueued::Queued(tracking) = enqueued {
            self.put_mark(mark, MarkRecord { tracking: Some(tracking) }, now);
            if let Some(addressed) = addressed {
                let mark = self.rules.marks.of_queued(addressed, envelope.mailbox(), envelope.id());
                self.mark_anew(mark, tracking, now)?;
            }
        }
        Ok(enqueued)
    }

    /// Whoever submits it again names the same address. Where that leads may have changed since.
    fn enqueue_one(
        &mut self,
        domain: &Domain,
        addressed: &Domain,
        envelope: &Envelope,
        now: Timestamp,
    ) -> Result<Enqueued, StoreError> {
        let mark = self.rules.marks.of_queued(addressed, envelope.mailbox(), envelope.id());
        if let Some(tracking) = self.queued_before(mark)? {
            return Ok(Enqueued::Duplicate(tracking));
        }
        let enqueued = self.add_item(domain, envelope, None, now)?;
        if let Enqueued::Queued(tracking) = enqueued {
            // The sender tries again what did not get there: that is a new beginning, with an id of its own.
            self.mark_anew(mark, tracking, now)?;
        }
        Ok(enqueued)
    }

    fn add_item(
        &mut self,
        domain: &Domain,
        envelope: &Envelope,
        onward: Option<Onward>,
        now: Timestamp,
    ) -> Result<Enqueued, StoreError> {
        let key = keys::destination(domain);
        let mut record = self.destination_or_new(domain, now)?;
        let bytes = length(envelope)?;
        let limits = &self.rules.limits;
        let share = if onward.is_some_and(|onward| onward.held.is_some()) { HELD_SHARE } else { 1 };
        if record.items >= limits.queue_items.div_ceil(share)
            || record.bytes.saturating_add(bytes.into()) > limits.queue_bytes / share
        {
            return Ok(Enqueued::QueueFull);
        }

        let item = ItemId(record.next_item);
        let laden = !envelope.attachments().is_empty();
        if laden && !self.attach(keys::attached_to_item(domain, item), envelope)? {
            return Ok(Enqueued::AttachmentMissing);
        }
        record.next_item += 1;
        record.items += 1;
        record.bytes += u64::from(bytes);
        self.put(key, &record);
        let tracking = new_tracking_id(domain, &*self.rules.random);
        let body = keys::item_body(domain, item);
        for (number, piece) in (0..).zip(records::split(envelope)) {
            self.put_new(keys::piece(&body, number), piece);
        }
        let expires_at = envelope.expires_at();
        self.put_index(keys::item_expiry(expires_at, domain, item));
        let of_item =
            ItemRecord { tracking, expires_at, bytes, attempts: 0, not_before: None, onward, laden };
        self.put_new(keys::item(domain, item), records::encode(&of_item));
        let of_tracking = TrackingRecord {
            destination: domain.clone(),
            queued_at: now,
            attempts: 0,
            reason: None,
            not_before: None,
            end: None,
        };
        self.put_new(keys::tracking(&tracking), records::encode(&of_tracking));
        self.changes().enqueued.insert(domain.clone());
        Ok(Enqueued::Queued(tracking))
    }

    pub(crate) fn settle(
        &mut self,
        domain: &Domain,
        settlements: &[Settlement],
        now: Timestamp,
    ) -> Result<Vec<bool>, StoreError> {
        let mut counted = Vec::with_capacity(settlements.len());
        for settlement @ Settlement { item, lease, verdict } in settlements {
            let is_held = lock(self.leases).keep(domain, *item, *lease, now + SETTLING);
            let record = self.record::<ItemRecord>(&keys::item(domain, *item))?;
            let record = record.filter(|_| is_held || settlement.is_for_good());
            counted.push(record.is_some());
            let Some(record) = record else { continue };
            match verdict {
                Verdict::Delivered => self.end_item(domain, *item, record, EndRecord::Stored, now)?,
                Verdict::Failed(class) => {
                    self.end_item(domain, *item, record, TrackingEnd::Failed(*class).into(), now)?;
                }
                Verdict::Quarantined(class) => {
                    self.quarantine(domain, *item, &record, *class, now)?;
                    // What it has attached is in quarantine with it.
                    let record = ItemRecord { laden: false, ..record };
                    self.end_item(domain, *item, record, TrackingEnd::Failed(*class).into(), now)?;
                }
                Verdict::Expired => self.end_item(domain, *item, record, EndRecord::Expired, now)?,
                Verdict::Moved(to) => self.end_item(domain, *item, record, EndRecord::Moved(*to), now)?,
                Verdict::Retry { reason, not_before } => {
                    self.note_answer(&record.tracking, *reason, now)?;
                    self.delay_item(domain, *item, record, Some(reason.slug()), *not_before)?;
                    self.changes().enqueued.insert(domain.clone());
                }
                Verdict::Released => {
                    self.then(Effect::Released(domain.clone(), *item));
                    self.changes().enqueued.insert(domain.clone());
                }
            }
        }
        Ok(counted)
    }

    /// Gives an item a time of its own, which the destination has asked for with an `answer`, or an operator without.
    pub(crate) fn delay_item(
        &mut self,
        domain: &Domain,
        item: ItemId,
        record: ItemRecord,
        answer: Option<&str>,
        not_before: Timestamp,
    ) -> Result<(), StoreError> {
        if let Some(earlier) = record.not_before {
            self.remove(keys::delayed(domain, earlier, item));
        }
        let record = ItemRecord {
            attempts: record.attempts.saturating_add(u32::from(answer.is_some())),
            not_before: Some(not_before),
            ..record
        };
        self.put(keys::item(domain, item), &record);
        self.put(keys::delayed(domain, not_before, item), &());
        let key = keys::tracking(&record.tracking);
        if let Some(tracking) = self.record::<TrackingRecord>(&key)? {
            let tracking = TrackingRecord {
                attempts: record.attempts,
                reason: answer.map(Into::into).or(tracking.reason),
                not_before: Some(not_before),
                ..tracking
            };
            self.put(key, &tracking);
        }
        self.then(Effect::Delayed(domain.clone(), item, not_before));
        Ok(())
    }

    /// Deletes an item that is over, unless it is leased; whether it did.
    pub(crate) fn expire_item(
        &mut self,
        domain: &Domain,
        item: ItemId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        if lock(self.leases).is_leased(domain, item, now) {
            return Ok(false);
        }
        match self.record::<ItemRecord>(&keys::item(domain, item))? {
            Some(record) => self.end_item(domain, item, record, EndRecord::Expired, now).map(|()| true),
            None => Ok(false),
        }
    }

    pub(crate) fn end_item(
        &mut self,
        domain: &Domain,
        item: ItemId,
        record: ItemRecord,
        end: EndRecord,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.remove(keys::item(domain, item));
        self.remove_pieces(&keys::item_body(domain, item), record.bytes)?;
        self.remove(keys::item_expiry(record.expires_at, domain, item));
        if let Some(not_before) = record.not_before {
            self.remove(keys::delayed(domain, not_before, item));
        }
        if record.laden {
            self.detach(keys::attached_to_item(domain, item))?;
        }
        let mut of_destination = self.destination_or_new(domain, now)?;
        of_destination.items = of_destination.items.saturating_sub(1);
        of_destination.bytes = of_destination.bytes.saturating_sub(record.bytes.into());
        self.then(Effect::Ended(domain.clone(), item));
        self.put_destination(domain, &of_destination)?;

        let key = keys::tracking(&record.tracking);
        if let Some(tracking) = self.record::<TrackingRecord>(&key)? {
            // Where it did not end by its time or here, the destination has been asked.
            let is_answered = !matches!(&end, EndRecord::Expired)
                && !matches!(&end, EndRecord::Failed(class) if class == FailureClass::Dropped.slug());
            let answered = u32::from(is_answered);
            // Where no answer for the envelope says why it is not there, its destination's failure does.
            let of_failure = of_destination.backoff.map(|backoff| backoff.class).filter(|_| !is_answered);
            let tracking = TrackingRecord {
                attempts: record.attempts.saturating_add(answered),
                reason: tracking.reason.or(of_failure),
                not_before: None,
                end: Some((end, now)),
                ..tracking
            };
            self.put(key, &tracking);
            let until = now + self.rules.limits.tracking_retention;
            self.put_index(keys::tracking_end(until, &record.tracking));
        }
        Ok(())
    }

    pub(crate) fn put_backoff(
        &mut self,
        domain: &Domain,
        backoff: Option<Backoff>,
    ) -> Result<(), StoreError> {
        let mut record = self.destination_or_new(domain, Timestamp::default())?;
        record.backoff = backoff.map(Into::into);
        self.put_destination(domain, &record)
    }

    pub(crate) fn destination_or_new(
        &mut self,
        domain: &Domain,
        now: Timestamp,
    ) -> Result<DestinationRecord, StoreError> {
        if let Some(record) = self.record(&keys::destination(domain))? {
            return Ok(record);
        }
        Ok(DestinationRecord { items: 0, bytes: 0, next_item: self.first_id(now)?, backoff: None })
    }

    /// Keeps the record as long as it says anything.
    pub(crate) fn put_destination(
        &mut self,
        domain: &Domain,
        record: &DestinationRecord,
    ) -> Result<(), StoreError> {
        let key = keys::destination(domain);
        if record.items == 0 {
            self.then(Effect::Emptied(domain.clone()));
            if record.backoff.is_none() && self.get(&keys::pause(domain))?.is_none() {
                self.raise_floor(record.next_item)?;
                self.remove(key);
                return Ok(());
            }
        }
        self.put(key, record);
        Ok(())
    }
}

impl<K: Kv> View<K> {
    pub(crate) fn destinations(&self, leases: &Mutex<Leases>) -> Result<Vec<Destination>, StoreError> {
        let mut destinations = Vec::new();
        let mut start = Some(Key::from_slice(&[keys::DESTINATIONS]));
        let end = keys::end_of(&[keys::DESTINATIONS]);
        while let Some(from) = start {
            let page = self.range(&from, &end, PAGE)?;
            for (key, value) in &page.pairs {
                let domain = keys::of_destination(key)?;
                destinations.push(self.destination_of(domain, value, leases)?);
            }
            start = page.next;
        }
        Ok(destinations)
    }

    pub(crate) fn destination(
        &self,
        domain: Domain,
        leases: &Mutex<Leases>,
    ) -> Result<Option<Destination>, StoreError> {
        let bytes = self.get(&keys::destination(&domain))?;
        bytes.map(|bytes| self.destination_of(domain, &bytes, leases)).transpose()
    }

    fn destination_of(
        &self,
        domain: Domain,
        record: &[u8],
        leases: &Mutex<Leases>,
    ) -> Result<Destination, StoreError> {
        let record: DestinationRecord = records::decode(record)?;
        Ok(Destination {
            next_retry: self.next_retry(&domain, leases)?,
            paused: self.paused(&domain)?,
            domain,
            items: record.items,
            bytes: record.bytes,
            backoff: record.backoff.map(Into::into),
        })
    }

    /// When the first delayed item is due that nobody works on.
    fn next_retry(&self, domain: &Domain, leases: &Mutex<Leases>) -> Result<Option<Timestamp>, StoreError> {
        let prefix = keys::delayed_of(domain);
        let end = keys::end_of(&prefix);
        let mut start = Some(prefix);
        while let Some(from) = start {
            let page = self.range(&from, &end, PAGE)?;
            for (key, _) in &page.pairs {
                let item = ItemId(keys::last_number(key)?);
                let leases = lock(leases);
                let is_taken = leases.until(domain, item).is_some() || leases.is_passed_over(domain, item);
                if !is_taken && !leases.is_unreadable(domain, item) {
                    return keys::due_of_delayed(key).map(Some);
                }
            }
            start = page.next;
        }
        Ok(None)
    }
}

pub(crate) fn lock(leases: &Mutex<Leases>) -> std::sync::MutexGuard<'_, Leases> {
    leases.lock().unwrap_or_else(PoisonError::into_inner)
}
