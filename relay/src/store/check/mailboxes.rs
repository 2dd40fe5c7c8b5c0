//! Mailboxes, one after the other: their entries for each device, the envelopes, what they count, when they expire.

use std::collections::BTreeMap;

use postrider_common::{DeviceId, EntryId, MailboxId};

use super::{Checker, Flaw, record};
use crate::store::kv::Key;
use crate::store::pairs::Cursor;
use crate::store::records::{DeviceRecord, EntryRecord, MailboxRecord, RemainingRecord};
use crate::store::{StoreError, keys};

/// The kinds that a mailbox has, each at the next mailbox.
struct Cursors<'a> {
    mailboxes: Cursor<'a>,
    entries: Cursor<'a>,
    unclaimed: Cursor<'a>,
    remaining: Cursor<'a>,
    pieces: Cursor<'a>,
    devices: Cursor<'a>,
}

/// An entry, whichever devices wait for it.
struct Held {
    key: Key,
    record: EntryRecord,
    devices: u16,
}

impl<'a> Checker<'a> {
    pub(super) fn mailboxes(&mut self) -> Result<(), StoreError> {
        let mut cursors = Cursors {
            mailboxes: self.cursor(b'M'),
            entries: self.cursor(b'E'),
            unclaimed: self.cursor(b'U'),
            remaining: self.cursor(b'R'),
            pieces: self.cursor(b'B'),
            devices: self.cursor(keys::DEVICES),
        };
        let (mut indexed, mut devices) = (0, 0);
        while let Some(owner) = self.next_mailbox(&mut cursors)? {
            indexed += self.one_mailbox(&mut cursors, &owner, &mut devices)?;
        }
        self.index(keys::CONTACTS, devices, |checker, key| {
            let (mailbox, device) = keys::of_device(key)?;
            let record = record::<DeviceRecord>(checker.pairs, &keys::device(&mailbox, &device));
            let at = keys::first_number(key)?;
            Ok(record.is_some_and(|record| record.last_contact.as_secs() == at))
        })?;
        self.index(keys::ENTRY_EXPIRIES, indexed, |checker, key| {
            let (mailbox, entry) = keys::of_entry_expiry(key)?;
            let devices = record::<MailboxRecord>(checker.pairs, &keys::mailbox(&mailbox))
                .map_or(Vec::new(), |mailbox| mailbox.devices);
            let of_devices = devices.iter().map(|device| keys::entry(&mailbox, device, entry));
            let mut all = of_devices.chain([keys::unclaimed(&mailbox, entry)]);
            let at = keys::first_number(key)?;
            Ok(all.any(|key| {
                let entry = record::<EntryRecord>(checker.pairs, &key);
                entry.is_some_and(|entry| entry.expires_at.as_secs() == at)
            }))
        })
    }

    fn next_mailbox(&mut self, cursors: &mut Cursors<'a>) -> Result<Option<Key>, StoreError> {
        let Cursors { mailboxes, entries, unclaimed, remaining, pieces, devices } = cursors;
        let mut least: Option<Key> = None;
        for cursor in [mailboxes, entries, unclaimed, remaining, pieces, devices] {
            let owner = self.owner(cursor)?;
            least = [least, owner].into_iter().flatten().min();
        }
        Ok(least)
    }

    /// How many of its entries the index by time has.
    fn one_mailbox(
        &mut self,
        cursors: &mut Cursors<'a>,
        owner: &[u8],
        devices: &mut u64,
    ) -> Result<u64, StoreError> {
        let mailbox: [u8; 32] = owner.try_into().map_err(|_| StoreError::Damaged("no mailbox".into()))?;
        let mailbox = MailboxId::from_bytes(mailbox);
        let own = keys::mailbox(&mailbox);
        let found = self.next_if(&mut cursors.mailboxes, |key| *key == *own)?;
        let exists = found.is_some();
        let of_mailbox = found.and_then(|(key, value)| self.decode::<MailboxRecord>(&key, value));
        if exists {
            self.report.totals.mailboxes += 1;
        }
        let entries = self.entries(cursors, &mailbox, exists, of_mailbox.as_ref())?;
        self.remaining(&mut cursors.remaining, &mailbox, &entries)?;
        *devices += self.devices(&mut cursors.devices, &mailbox, of_mailbox.as_ref(), &own)?;

        let mut indexed = 0;
        let pieces = &mut cursors.pieces;
        let prefix = [b"B", owner].concat();
        for (entry, held) in &entries {
            let entry = EntryId(*entry);
            self.report.totals.entries += 1;
            let EntryRecord { expires_at, bytes, .. } = held.record;
            let body = keys::body(&mailbox, entry);
            if let Some(envelope) = self.envelope(pieces, &prefix, &body, bytes, &held.key)?
                && (*envelope.mailbox() != mailbox || envelope.expires_at() != expires_at)
            {
                self.flaw(Flaw::WrongEnvelope, &held.key);
            }
            let index = keys::entry_expiry(expires_at, &mailbox, entry);
            indexed += u64::from(self.is_indexed(&index, &held.key)?);
            if held.record.laden {
                self.is_indexed(&keys::attached(&mailbox, entry), &held.key)?;
            }
        }
        self.stray_pieces(pieces, &prefix)?;

        if let Some(record) = of_mailbox {
            self.own_binding(&mailbox, &record, &own)?;
            let bytes: u64 = entries.values().map(|held| u64::from(held.record.bytes)).sum();
            if (record.entries, record.bytes) != (entries.len() as u64, bytes) {
                self.flaw(Flaw::WrongCount, &own);
            }
            if entries.last_key_value().is_some_and(|(last, _)| *last >= record.next_entry) {
                self.flaw(Flaw::IdInUse, &own);
            }
        }
        Ok(indexed)
    }

    /// How many of the mailbox's devices the index of contacts has.
    fn devices(
        &mut self,
        cursor: &mut Cursor<'a>,
        mailbox: &MailboxId,
        of_mailbox: Option<&MailboxRecord>,
        own: &[u8],
    ) -> Result<u64, StoreError> {
        let prefix = keys::devices_of(mailbox);
        let (mut found, mut indexed) = (0, 0);
        while let Some((key, value)) = self.next_if(cursor, |key| key.starts_with(&prefix))? {
            let (_, device) = keys::of_device(&key)?;
            if of_mailbox.is_none_or(|mailbox| !mailbox.devices.contains(&device)) {
                self.flaw(Flaw::WrongDevice, &key);
            }
            found += 1;
            let Some(record) = self.decode::<DeviceRecord>(&key, value) else { continue };
            let contact = keys::contact(record.last_contact, mailbox, &device);
            indexed += u64::from(self.is_indexed(&contact, &key)?);
        }
        if of_mailbox.is_some_and(|mailbox| mailbox.devices.len() > found) {
            self.flaw(Flaw::WrongDevice, own);
        }
        Ok(indexed)
    }

    fn entries(
        &mut self,
        cursors: &mut Cursors<'a>,
        mailbox: &MailboxId,
        exists: bool,
        record: Option<&MailboxRecord>,
    ) -> Result<BTreeMap<u64, Held>, StoreError> {
        let mut entries = BTreeMap::new();
        let of_devices = keys::entries_of_mailbox(mailbox);
        while let Some((key, value)) =
            self.next_if(&mut cursors.entries, |key| key.starts_with(&of_devices))?
        {
            let device = key[of_devices.len()..].first_chunk().map(|bytes| DeviceId::from_bytes(*bytes));
            if record.is_some_and(|mailbox| device.is_none_or(|device| !mailbox.devices.contains(&device))) {
                self.flaw(Flaw::WrongDevice, &key);
            }
            let found = self.decode(&key, value);
            self.hold(&mut entries, key, found, exists)?;
        }
        let unclaimed = keys::unclaimed_of(mailbox);
        while let Some((key, value)) =
            self.next_if(&mut cursors.unclaimed, |key| key.starts_with(&unclaimed))?
        {
            if record.is_some_and(|mailbox| !mailbox.devices.is_empty()) {
                self.flaw(Flaw::WrongDevice, &key);
            }
            let found = self.decode(&key, value);
            self.hold(&mut entries, key, found, exists)?;
        }
        Ok(entries)
    }

    fn hold(
        &mut self,
        entries: &mut BTreeMap<u64, Held>,
        key: Key,
        record: Option<EntryRecord>,
        exists: bool,
    ) -> Result<(), StoreError> {
        if !exists {
            self.flaw(Flaw::WithoutOwner, &key);
        }
        let (id, Some(record)) = (keys::last_number(&key)?, record) else {
            return Ok(());
        };
        match entries.get_mut(&id) {
            None => {
                entries.insert(id, Held { key, record, devices: 1 });
            }
            Some(held) => {
                held.devices += 1;
                let told = |record: &EntryRecord| (record.bytes, record.expires_at, record.laden);
                if told(&held.record) != told(&record) {
                    self.flaw(Flaw::WrongEnvelope, &key);
                }
                held.record.shared &= record.shared;
            }
        }
        Ok(())
    }

    fn remaining(
        &mut self,
        cursor: &mut Cursor<'a>,
        mailbox: &MailboxId,
        entries: &BTreeMap<u64, Held>,
    ) -> Result<(), StoreError> {
        let first = keys::remaining(mailbox, EntryId(0));
        let prefix = &first[..first.len() - 8];
        let mut counts = BTreeMap::new();
        while let Some((key, value)) = self.next_if(cursor, |key| key.starts_with(prefix))? {
            let record = self.decode::<RemainingRecord>(&key, value);
            let id = keys::last_number(&key)?;
            counts.insert(id, ());
            let held = entries.get(&id).map(|held| held.devices);
            let is_shared = entries.get(&id).is_some_and(|held| held.record.shared);
            if record.is_some_and(|record| held != Some(record.0) || record.0 < 2 || !is_shared) {
                self.flaw(Flaw::WrongRemaining, &key);
            }
        }
        for (id, held) in entries.iter().filter(|(_, held)| held.devices > 1) {
            if !counts.contains_key(id) {
                self.flaw(Flaw::WrongRemaining, &held.key);
            }
        }
        Ok(())
    }
}
