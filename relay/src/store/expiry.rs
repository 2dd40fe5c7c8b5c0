//! Deleting what is over. Each kind has an index by time, so that only what is over is looked at.

use postrider_common::Timestamp;

use super::group::Group;
use super::keys;
use super::kv::{Key, Kv};
use super::leases::Effect;
use super::{Expiry, StoreError};

/// How many keys are looked at together.
const PAGE: usize = 256;

impl<K: Kv> Group<'_, K> {
    pub(crate) fn expire(&mut self, now: Timestamp, budget: usize) -> Result<Expiry, StoreError> {
        let mut left = budget;
        let entries = self.expire_entries(now, &mut left)?;
        let items = self.expire_items(now, &mut left)?;
        let devices = self.expire_devices(now, &mut left)?;
        let more = self.expire_tracking(now, &mut left)?
            | self.expire_quarantine(now, &mut left)?
            | self.expire_history(now, &mut left)?
            | self.expire_learnt(now, &mut left)?
            | self.expire_invites(now, &mut left)?
            | self.expire_attachments(now, &mut left)?
            | self.expire_marks(now, &mut left)?;
        Ok(Expiry {
            entries: entries.deleted,
            items: items.deleted,
            devices: devices.deleted,
            more: entries.more | items.more | devices.more | more,
        })
    }

    fn expire_entries(&mut self, now: Timestamp, left: &mut usize) -> Result<Round, StoreError> {
        let end = keys::after_secs(keys::ENTRY_EXPIRIES, now);
        self.round(&[keys::ENTRY_EXPIRIES], &end, left, |group, key| {
            let (mailbox, entry) = keys::of_entry_expiry(&key)?;
            let deleted = group.expire_entry(&mailbox, entry)?;
            group.remove(key);
            Ok(usize::from(deleted))
        })
    }

    fn expire_items(&mut self, now: Timestamp, left: &mut usize) -> Result<Round, StoreError> {
        let end = keys::after_secs(keys::ITEM_EXPIRIES, now);
        self.round(&[keys::ITEM_EXPIRIES], &end, left, |group, key| {
            let (domain, item) = keys::of_item_expiry(&key)?;
            group.expire_item(&domain, item, now).map(usize::from)
        })
    }

    fn expire_tracking(&mut self, now: Timestamp, left: &mut usize) -> Result<bool, StoreError> {
        let end = keys::after_millis(keys::TRACKING_ENDS, now);
        let round = self.round(&[keys::TRACKING_ENDS], &end, left, |group, key| {
            let id = keys::of_tracking_end(&key)?;
            let answers = keys::answers(&id);
            // Most envelopes have none, and a trace of what never was would cost more than this look.
            if group.get(&answers)?.is_some() {
                group.remove(answers);
            }
            group.remove(key);
            match group.tracked_on_until(&id, now)? {
                Some(until) => group.put_index(keys::tracking_end(until, &id)),
                None => group.remove(keys::tracking(&id)),
            }
            Ok(1)
        })?;
        Ok(round.more)
    }

    fn expire_quarantine(&mut self, now: Timestamp, left: &mut usize) -> Result<bool, StoreError> {
        let end = keys::after_millis(keys::QUARANTINE_ENDS, now);
        let round = self.round(&[keys::QUARANTINE_ENDS], &end, left, |group, key| {
            let (domain, item) = keys::of_item_expiry(&key)?;
            group.end_quarantine(&domain, item)?;
            group.remove(key);
            Ok(1)
        })?;
        Ok(round.more)
    }

    fn expire_history(&mut self, now: Timestamp, left: &mut usize) -> Result<bool, StoreError> {
        let end = keys::after_millis(keys::HISTORY_ENDS, now);
        let round = self.round(&[keys::HISTORY_ENDS], &end, left, |group, key| {
            group.remove(keys::history(&keys::of_history_end(&key)?));
            group.remove(key);
            Ok(1)
        })?;
        Ok(round.more)
    }

    fn expire_learnt(&mut self, now: Timestamp, left: &mut usize) -> Result<bool, StoreError> {
        let end = keys::after_millis(keys::LEARNT_ENDS, now);
        let round = self.round(&[keys::LEARNT_ENDS], &end, left, |group, key| {
            group.forget_learnt(&keys::of_learnt_end(&key)?)?;
            group.remove(key);
            Ok(1)
        })?;
        Ok(round.more)
    }

    /// A device counts with all that waits for it, which is bounded by what a mailbox holds. Those of a suspended mailbox stay:
    /// they could not be here if they would.
    fn expire_devices(&mut self, now: Timestamp, left: &mut usize) -> Result<Round, StoreError> {
        let since = now - self.rules.limits.device_idle;
        let end = keys::after_secs(keys::CONTACTS, since);
        self.round(&[keys::CONTACTS], &end, left, |group, key| {
            let (mailbox, device) = keys::of_device(&key)?;
            if group.is_suspended(&mailbox)? {
                return Ok(0);
            }
            let removed = group.remove_device(&mailbox, &device)?;
            group.remove(key);
            Ok(removed.map_or(0, |waiting| waiting.saturating_add(1)))
        })
    }

    fn expire_invites(&mut self, now: Timestamp, left: &mut usize) -> Result<bool, StoreError> {
        let end = keys::after_millis(keys::INVITE_ENDS, now);
        let round = self.round(&[keys::INVITE_ENDS], &end, left, |group, key| {
            group.remove_invite(&keys::of_invite(&key)?)?;
            Ok(1)
        })?;
        Ok(round.more)
    }

    fn expire_attachments(&mut self, now: Timestamp, left: &mut usize) -> Result<bool, StoreError> {
        let end = keys::after_millis(keys::ATTACHMENT_ENDS, now);
        let round = self.round(&[keys::ATTACHMENT_ENDS], &end, left, |group, key| {
            group.expire_attachment(&keys::of_attachment(&key)?).map(usize::from)
        })?;
        Ok(round.more)
    }

    fn expire_marks(&mut self, now: Timestamp, left: &mut usize) -> Result<bool, StoreError> {
        for bucket in self.rules.marks.over(now) {
            let start = keys::bucket(bucket);
            let end = keys::end_of(&start);
            let round = self.round(&start, &end, left, |group, key| {
                group.remove(key);
                Ok(1)
            })?;
            if round.more {
                return Ok(true);
            }
            self.then(Effect::BucketEmptied(bucket));
        }
        Ok(false)
    }

    /// Gives `delete` the keys of a range until so much was deleted as is `left`. It says how much that was for each.
    fn round(
        &mut self,
        start: &[u8],
        end: &[u8],
        left: &mut usize,
        mut delete: impl FnMut(&mut Self, Key) -> Result<usize, StoreError>,
    ) -> Result<Round, StoreError> {
        let mut round = Round::default();
        let mut start = Key::from_slice(start);
        loop {
            let page = self.range(&start, end, PAGE)?;
            let is_last = page.len() < PAGE;
            for (key, _) in page {
                if *left == 0 {
                    round.more = true;
                    return Ok(round);
                }
                start = keys::next(&key);
                let deleted = delete(self, key)?;
                round.deleted += usize::from(deleted > 0);
                *left = left.saturating_sub(deleted);
            }
            if is_last {
                return Ok(round);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Round {
    deleted: usize,
    more: bool,
}
