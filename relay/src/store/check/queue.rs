//! Destinations, one after the other: their items, the envelopes, what they count, what is due when, what is told of
//! it, and what is in quarantine.

use postrider_common::{Domain, TrackingId};

use super::{Checker, Flaw, record};
use crate::store::kv::Key;
use crate::store::pairs::Cursor;
use crate::store::records::{
    DestinationRecord, HistoryRecord, ItemRecord, PauseRecord, QuarantineRecord, TrackingRecord,
};
use crate::store::{ItemId, StoreError, keys};

/// The kinds that a destination has, each at the next one.
struct Cursors<'a> {
    destinations: Cursor<'a>,
    items: Cursor<'a>,
    pieces: Cursor<'a>,
    delayed: Cursor<'a>,
    quarantined: Cursor<'a>,
    quarantined_pieces: Cursor<'a>,
    pauses: Cursor<'a>,
    histories: Cursor<'a>,
}

/// How many records the indexes and the tracking records should come to.
#[derive(Default)]
struct Expected {
    item_expiries: u64,
    quarantine_ends: u64,
    history_ends: u64,
    /// Tracking records of envelopes that wait.
    waiting: u64,
}

impl<'a> Checker<'a> {
    pub(super) fn queue(&mut self) -> Result<(), StoreError> {
        let mut cursors = Cursors {
            destinations: self.cursor(keys::DESTINATIONS),
            items: self.cursor(b'Q'),
            pieces: self.cursor(b'P'),
            delayed: self.cursor(b'L'),
            quarantined: self.cursor(b'K'),
            quarantined_pieces: self.cursor(b'k'),
            pauses: self.cursor(b'H'),
            histories: self.cursor(b'h'),
        };
        let mut expected = Expected::default();
        while let Some(owner) = self.next_destination(&mut cursors)? {
            self.one_destination(&mut cursors, &owner, &mut expected)?;
        }
        self.index(keys::ITEM_EXPIRIES, expected.item_expiries, |checker, key| {
            let (domain, item) = keys::of_item_expiry(key)?;
            let item = record::<ItemRecord>(checker.pairs, &keys::item(&domain, item));
            let at = keys::first_number(key)?;
            Ok(item.is_some_and(|item| item.expires_at.as_secs() == at))
        })?;
        self.index(keys::QUARANTINE_ENDS, expected.quarantine_ends, |checker, key| {
            let (domain, item) = keys::of_item_expiry(key)?;
            let kept = record::<QuarantineRecord>(checker.pairs, &keys::quarantined(&domain, item));
            let at = keys::first_number(key)?;
            Ok(kept.is_some_and(|kept| kept.until.as_millis() == at))
        })?;
        self.index(keys::HISTORY_ENDS, expected.history_ends, |checker, key| {
            let domain = keys::of_history_end(key)?;
            let history = record::<HistoryRecord>(checker.pairs, &keys::history(&domain));
            let at = keys::first_number(key)?;
            Ok(history.and_then(|history| history.until).is_some_and(|until| until.as_millis() == at))
        })?;
        self.answers()?;
        self.tracking(expected.waiting)
    }

    fn next_destination(&mut self, cursors: &mut Cursors<'a>) -> Result<Option<Key>, StoreError> {
        let Cursors { destinations, items, pieces, delayed, .. } = cursors;
        let Cursors { quarantined, quarantined_pieces, pauses, histories, .. } = cursors;
        let mut least: Option<Key> = None;
        for cursor in
            [destinations, items, pieces, delayed, quarantined, quarantined_pieces, pauses, histories]
        {
            let owner = self.owner(cursor)?;
            least = [least, owner].into_iter().flatten().min();
        }
        Ok(least)
    }

    fn one_destination(
        &mut self,
        cursors: &mut Cursors<'a>,
        owner: &[u8],
        expected: &mut Expected,
    ) -> Result<(), StoreError> {
        let own = [&[keys::DESTINATIONS], owner].concat();
        let domain = keys::of_destination(&own)?;
        let found = self.next_if(&mut cursors.destinations, |key| key == own)?;
        let exists = found.is_some();
        let record = found.and_then(|(key, value)| self.decode::<DestinationRecord>(&key, value));
        if exists {
            self.report.totals.destinations += 1;
        }
        let (mut items, mut bytes, mut last) = (0, 0, None);
        let (of_items, of_pieces) = (keys::items(&domain), [b"P", owner].concat());
        while let Some((key, value)) = self.next_if(&mut cursors.items, |key| key.starts_with(&of_items))? {
            items += 1;
            let item = ItemId(keys::last_number(&key)?);
            last = Some(item);
            if !exists {
                self.flaw(Flaw::WithoutOwner, &key);
            }
            let Some(record) = self.decode::<ItemRecord>(&key, value) else { continue };
            bytes += u64::from(record.bytes);
            let body = keys::item_body(&domain, item);
            if let Some(envelope) =
                self.envelope(&mut cursors.pieces, &of_pieces, &body, record.bytes, &key)?
                && envelope.expires_at() != record.expires_at
            {
                self.flaw(Flaw::WrongEnvelope, &key);
            }
            self.item(&domain, item, &key, &record, expected)?;
        }
        self.report.totals.items += items;
        self.stray_pieces(&mut cursors.pieces, &of_pieces)?;
        self.delayed(&mut cursors.delayed, &domain)?;
        self.quarantined(cursors, &domain, owner, expected)?;
        if let Some((key, value)) = self.next_if(&mut cursors.pauses, |key| key.get(1..) == Some(owner))? {
            self.decode::<PauseRecord>(&key, value);
            if !exists {
                self.flaw(Flaw::WithoutOwner, &key);
            }
        }
        self.history(&mut cursors.histories, &domain, expected)?;
        if let Some(record) = record {
            if (record.items, record.bytes) != (items, bytes) {
                self.flaw(Flaw::WrongCount, &own);
            }
            if last.is_some_and(|last| last.0 >= record.next_item) {
                self.flaw(Flaw::IdInUse, &own);
            }
        }
        Ok(())
    }

    /// What belongs to an item elsewhere.
    fn item(
        &mut self,
        domain: &Domain,
        item: ItemId,
        key: &[u8],
        record: &ItemRecord,
        expected: &mut Expected,
    ) -> Result<(), StoreError> {
        let index = keys::item_expiry(record.expires_at, domain, item);
        expected.item_expiries += u64::from(self.is_indexed(&index, key)?);
        if record.laden {
            self.is_indexed(&keys::attached_to_item(domain, item), key)?;
        }
        if let Some(not_before) = record.not_before {
            self.is_indexed(&keys::delayed(domain, not_before, item), key)?;
        }
        let tracking = self::record::<TrackingRecord>(self.pairs, &keys::tracking(&record.tracking));
        let agrees = tracking.is_some_and(|tracking| {
            tracking.end.is_none()
                && tracking.destination == *domain
                && tracking.attempts == record.attempts
                && tracking.not_before == record.not_before
        });
        if agrees {
            expected.waiting += 1;
        } else {
            self.flaw(Flaw::WrongTracking, key);
        }
        Ok(())
    }

    fn delayed(&mut self, cursor: &mut Cursor<'a>, domain: &Domain) -> Result<(), StoreError> {
        let prefix = keys::delayed_of(domain);
        while let Some((key, value)) = self.next_if(cursor, |key| key.starts_with(&prefix))? {
            self.decode::<()>(&key, value);
            let item = ItemId(keys::last_number(&key)?);
            let item = record::<ItemRecord>(self.pairs, &keys::item(domain, item));
            if item.and_then(|item| item.not_before) != Some(keys::due_of_delayed(&key)?) {
                self.flaw(Flaw::StrayIndex, &key);
            }
        }
        Ok(())
    }

    fn quarantined(
        &mut self,
        cursors: &mut Cursors<'a>,
        domain: &Domain,
        owner: &[u8],
        expected: &mut Expected,
    ) -> Result<(), StoreError> {
        let (prefix, of_pieces) = (keys::quarantine(domain), [b"k", owner].concat());
        let Cursors { quarantined, quarantined_pieces: pieces, .. } = cursors;
        while let Some((key, value)) = self.next_if(quarantined, |key| key.starts_with(&prefix))? {
            self.report.totals.quarantined += 1;
            let Some(record) = self.decode::<QuarantineRecord>(&key, value) else { continue };
            let item = ItemId(keys::last_number(&key)?);
            let body = keys::quarantined_body(domain, item);
            self.envelope(pieces, &of_pieces, &body, record.bytes, &key)?;
            let index = keys::quarantine_end(record.until, domain, item);
            expected.quarantine_ends += u64::from(self.is_indexed(&index, &key)?);
        }
        self.stray_pieces(pieces, &of_pieces)
    }

    /// How the destination has failed, which outlives its queue.
    fn history(
        &mut self,
        cursor: &mut Cursor<'a>,
        domain: &Domain,
        expected: &mut Expected,
    ) -> Result<(), StoreError> {
        let own = keys::history(domain);
        if let Some((key, value)) = self.next_if(cursor, |key| *key == *own)?
            && let Some(record) = self.decode::<HistoryRecord>(&key, value)
        {
            match record.until {
                Some(until) => {
                    let index = keys::history_end(until, domain);
                    expected.history_ends += u64::from(self.is_indexed(&index, &key)?);
                }
                None => self.flaw(Flaw::NotIndexed, &key),
            }
        }
        Ok(())
    }

    /// What was answered about envelopes, which goes with their tracking records.
    fn answers(&mut self) -> Result<(), StoreError> {
        let mut cursor = self.cursor(b'a');
        while let Some((key, value)) = self.next_formed(&mut cursor)? {
            self.decode::<HistoryRecord>(&key, value);
            let tracking = keys::tracking(&keys::of_tracking_end(&key)?);
            if record::<TrackingRecord>(self.pairs, &tracking).is_none() {
                self.flaw(Flaw::WrongTracking, &key);
            }
        }
        Ok(())
    }

    /// Those of the envelopes that wait were looked at with them, and there are so many. The others have ended, and an
    /// index says until when they are kept.
    fn tracking(&mut self, waiting: u64) -> Result<(), StoreError> {
        let (mut open, mut ended) = (0_u64, 0_u64);
        let mut cursor = self.cursor(b'T');
        while let Some((key, value)) = self.next_formed(&mut cursor)? {
            self.report.totals.tracking += 1;
            match self.decode::<TrackingRecord>(&key, value) {
                Some(record) if record.end.is_some() => ended += 1,
                Some(_) => open += 1,
                None => {}
            }
        }
        self.report.add_count(Flaw::WrongTracking, open.saturating_sub(waiting));
        let mut indexed = 0;
        let mut cursor = self.cursor(keys::TRACKING_ENDS);
        while let Some((key, value)) = self.next_formed(&mut cursor)? {
            self.decode::<()>(&key, value);
            let id: TrackingId = keys::of_tracking_end(&key)?;
            let tracking = record::<TrackingRecord>(self.pairs, &keys::tracking(&id));
            if tracking.is_some_and(|tracking| tracking.end.is_some()) {
                indexed += 1;
            } else {
                self.flaw(Flaw::StrayIndex, &key);
            }
        }
        self.report.add_count(Flaw::NotIndexed, ended.saturating_sub(indexed));
        Ok(())
    }
}
