//! Envelopes that their destination could neither read nor take: out of the queue, and kept for the operator.

use postrider_common::{Domain, FailureClass, Timestamp};

use super::group::Group;
use super::keys;
use super::kv::Kv;
use super::records::{self, ItemRecord, QuarantineRecord};
use super::view::View;
use super::{ItemId, Quarantined, StoreError};

/// How many envelopes of one destination are kept in quarantine: a few show what is wrong, and their bytes are bounded by
/// what one envelope may have. The oldest goes first.
pub const QUARANTINE_ITEMS: usize = 16;

impl<K: Kv> Group<'_, K> {
    /// Copies an item that is about to end.
    pub(crate) fn quarantine(
        &mut self,
        domain: &Domain,
        item: ItemId,
        record: &ItemRecord,
        class: FailureClass,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let kept = self.all(&keys::quarantine(domain))?;
        for (key, _) in kept.iter().take((kept.len() + 1).saturating_sub(QUARANTINE_ITEMS)) {
            self.end_quarantine(domain, ItemId(keys::last_number(key)?))?;
        }
        let (from, to) = (keys::item_body(domain, item), keys::quarantined_body(domain, item));
        for piece in 0..records::pieces(record.bytes)? {
            let bytes = self.get(&keys::piece(&from, piece))?.ok_or_else(lacks_a_part)?;
            self.put_new(keys::piece(&to, piece), bytes);
        }
        let until = now + self.rules.limits.tracking_retention;
        let kept = QuarantineRecord { class: class.slug().into(), at: now, until, bytes: record.bytes };
        self.put_new(keys::quarantined(domain, item), records::encode(&kept));
        self.put_index(keys::quarantine_end(until, domain, item));
        Ok(())
    }

    /// Deletes an envelope from quarantine; whether it was there.
    pub(crate) fn end_quarantine(&mut self, domain: &Domain, item: ItemId) -> Result<bool, StoreError> {
        let key = keys::quarantined(domain, item);
        let Some(record) = self.record::<QuarantineRecord>(&key)? else {
            return Ok(false);
        };
        self.remove(key);
        self.remove_pieces(&keys::quarantined_body(domain, item), record.bytes)?;
        self.detach(keys::attached_to_item(domain, item))?;
        self.remove(keys::quarantine_end(record.until, domain, item));
        Ok(true)
    }
}

impl<K: Kv> View<K> {
    pub(crate) fn quarantined(&self, domain: &Domain) -> Result<Vec<Quarantined>, StoreError> {
        let prefix = keys::quarantine(domain);
        let page = self.range(&prefix, &keys::end_of(&prefix), QUARANTINE_ITEMS + 1)?;
        let mut quarantined = Vec::new();
        for (key, value) in &page.pairs {
            let item = ItemId(keys::last_number(key)?);
            let record: QuarantineRecord = records::decode(value)?;
            let body = keys::quarantined_body(domain, item);
            // Its pieces are gone before its record is: it has left quarantine since, if it is not unreadable.
            let Some(envelope) = self.envelope(&body, || key.clone(), record.bytes)? else { continue };
            let class = records::class_of(&record.class);
            quarantined.push(Quarantined { item, envelope, class, at: record.at });
        }
        Ok(quarantined)
    }
}

fn lacks_a_part() -> StoreError {
    StoreError::Damaged("a queued envelope lacks a part".into())
}
