//! Mailboxes: registration, deposits, what devices fetch and acknowledge.
//!
//! An envelope is kept once, and once more in short for each device that has yet to acknowledge it.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_common::wire::mailbox::Entry;
use postrider_common::{DeviceId, Domain, EntryId, Envelope, FailureClass, MailboxId, Outcome, Timestamp};

use super::group::Group;
use super::keys;
use super::kv::{Key, Kv};
use super::records::{self, EntryRecord, MailboxRecord, MarkRecord, OwnBindingRecord, RemainingRecord};
use super::view::View;
use super::{Fetched, MailboxState, Permit, Registration, StoreError, Window};

/// When to try a full mailbox again: its devices have to come and fetch.
const FULL_FOR: Duration = Duration::from_secs(15 * 60);
/// When to try a mailbox again that has moved and whose entries are about to be sent on.
const GOING_FOR: Duration = Duration::from_secs(5);
/// When a peer is asked back that has sent an envelope without all of its attachments.
const MISSING_FOR: Duration = Duration::from_secs(5);
/// How many entries are looked at together.
const PAGE: usize = 64;

impl<K: Kv> Group<'_, K> {
    pub(crate) fn admit(
        &mut self,
        mailbox: &MailboxId,
        device: DeviceId,
        permit: Permit,
        now: Timestamp,
    ) -> Result<Registration, StoreError> {
        let key = keys::mailbox(mailbox);
        let Some(mut record) = self.record::<MailboxRecord>(&key)? else {
            match permit {
                Permit::Everybody => {}
                Permit::Nobody => return Ok(Registration::NotPermitted),
                Permit::Invite(id) => {
                    if let Err(refusal) = self.use_invite(&id, now)? {
                        return Ok(Registration::InviteRefused(refusal));
                    }
                }
            }
            self.add_mailbox(mailbox, vec![device], now)?;
            self.add_device(mailbox, &device, now);
            return Ok(Registration::Created);
        };
        if record.suspended.is_some() {
            return Ok(Registration::Suspended);
        }
        if record.devices.contains(&device) {
            return Ok(Registration::Unchanged);
        }
        if record.devices.len() >= self.rules.limits.devices {
            return Ok(Registration::TooManyDevices);
        }
        if record.devices.is_empty() {
            for (key, value) in self.all(&keys::unclaimed_of(mailbox))? {
                let entry = EntryId(keys::last_number(&key)?);
                self.remove(key);
                self.put_new(keys::entry(mailbox, &device, entry), value);
            }
        }
        record.devices.push(device);
        self.put(key, &record);
        self.add_device(mailbox, &device, now);
        Ok(Registration::DeviceAdded)
    }

    /// Makes a mailbox without a device; whether it is new.
    pub(crate) fn make(&mut self, mailbox: &MailboxId, now: Timestamp) -> Result<bool, StoreError> {
        if self.get(&keys::mailbox(mailbox))?.is_some() {
            return Ok(false);
        }
        self.add_mailbox(mailbox, Vec::new(), now)?;
        Ok(true)
    }

    fn add_mailbox(
        &mut self,
        mailbox: &MailboxId,
        devices: Vec<DeviceId>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let record = MailboxRecord {
            devices,
            entries: 0,
            bytes: 0,
            next_entry: self.first_id(now)?,
            suspended: None,
            binding: None,
        };
        self.put(keys::mailbox(mailbox), &record);
        // From now on its owner tells this relay where it is kept.
        self.forget_learnt(mailbox)
    }

    /// Closes a mailbox, or opens it again; whether there is one.
    pub(crate) fn suspend(
        &mut self,
        mailbox: &MailboxId,
        is_closed: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let key = keys::mailbox(mailbox);
        let Some(record) = self.record::<MailboxRecord>(&key)? else {
            return Ok(false);
        };
        if record.suspended.is_some() != is_closed {
            if !is_closed {
                // Meanwhile none of them could be here.
                for device in &record.devices {
                    self.note_contact(mailbox, device, now)?;
                }
            }
            self.put(key, &MailboxRecord { suspended: is_closed.then_some(now), ..record });
        }
        if is_closed {
            self.changes().suspended.insert(*mailbox);
        }
        Ok(true)
    }

    pub(crate) fn unregister(&mut self, mailbox: &MailboxId) -> Result<bool, StoreError> {
        let key = keys::mailbox(mailbox);
        let Some(record) = self.record::<MailboxRecord>(&key)? else {
            return Ok(false);
        };
        self.remove(key);
        self.note_holding(mailbox, false)?;
        self.raise_floor(record.next_entry)?;
        for device in &record.devices {
            self.forget_device(mailbox, device)?;
        }
        let mut entries = BTreeMap::new();
        for prefix in [keys::entries_of_mailbox(mailbox), keys::unclaimed_of(mailbox)] {
            for (key, value) in self.all(&prefix)? {
                let entry = EntryId(keys::last_number(&key)?);
                entries.insert(entry, records::decode::<EntryRecord>(&value)?);
                self.remove(key);
            }
        }
        for (entry, record) in entries {
            self.remove_envelope(mailbox, entry, record)?;
        }
        self.changes().removed.insert(*mailbox);
        Ok(true)
    }

    pub(crate) fn deposit(
        &mut self,
        submitted_to: Option<&Domain>,
        envelopes: &[Envelope],
        now: Timestamp,
    ) -> Result<Vec<Outcome>, StoreError> {
        let bytes = envelopes.iter().map(|envelope| envelope.encoded().len() as u64);
        self.rules.space.take(self.kv, bytes.sum(), now)?;
        envelopes.iter().map(|envelope| self.deposit_one(submitted_to, envelope, now)).collect()
    }

    fn deposit_one(
        &mut self,
        submitted_to: Option<&Domain>,
        envelope: &Envelope,
        now: Timestamp,
    ) -> Result<Outcome, StoreError> {
        let mailbox = envelope.mailbox();
        let key = keys::mailbox(mailbox);
        let Some(mut record) = self.record::<MailboxRecord>(&key)? else {
            return Ok(Outcome::reject(FailureClass::NoSuchMailbox));
        };
        let mark = self.rules.marks.of_deposit(mailbox, envelope.id());
        let is_marked = self.marked(mark)?.is_some();
        if let Some(OwnBindingRecord { binding, is_here: false }) = &record.binding {
            return Ok(match (is_marked, record.entries) {
                (false, _) => Outcome::Moved(Box::new(binding.of(mailbox))),
                (true, 0) => Outcome::Duplicate,
                // It may be one of those that are about to go. Whoever relies on that must not be what it goes with.
                (true, _) => Outcome::retry(FailureClass::Moved, GOING_FOR),
            });
        }
        if is_marked {
            return Ok(Outcome::Duplicate);
        }
        // It was elsewhere in between, and what its relay has taken from here has been there. What is still on its way comes
        // back, and is the duplicate then.
        if let (Some(addressed), Some(_)) = (submitted_to, &record.binding)
            && self.has_arrived(addressed, envelope)?
        {
            return Ok(Outcome::Duplicate);
        }
        if record.suspended.is_some() {
            return Ok(Outcome::reject(FailureClass::MailboxRefused));
        }
        let devices = match envelope.device() {
            None => record.devices.clone(),
            Some(device) if record.devices.contains(device) => vec![*device],
            Some(_) => return Ok(Outcome::reject(FailureClass::NoSuchDevice)),
        };
        let bytes = length(envelope)?;
        let limits = &self.rules.limits;
        if record.entries >= limits.mailbox_entries
            || record.bytes.saturating_add(bytes.into()) > limits.mailbox_bytes
        {
            return Ok(Outcome::retry(FailureClass::MailboxFull, FULL_FOR));
        }
        let entry = EntryId(record.next_entry);
        let laden = !envelope.attachments().is_empty();
        if laden {
            if !self.has_room(mailbox, envelope.attachments())? {
                return Ok(Outcome::retry(FailureClass::MailboxFull, FULL_FOR));
            }
            if !self.attach_to_entry(mailbox, entry, envelope)? {
                return Ok(Outcome::retry(FailureClass::AttachmentMissing, MISSING_FOR));
            }
        }

        record.next_entry += 1;
        record.entries += 1;
        record.bytes += u64::from(bytes);
        self.put(key, &record);
        self.put_mark(mark, MarkRecord { tracking: None }, now);
        let body = keys::body(mailbox, entry);
        for (number, piece) in (0..).zip(records::split(envelope)) {
            self.put_new(keys::piece(&body, number), piece);
        }
        let expires_at = envelope.expires_at();
        self.put_index(keys::entry_expiry(expires_at, mailbox, entry));
        let shared = devices.len() > 1;
        let short = records::encode(&EntryRecord { expires_at, bytes, shared, laden });
        if devices.is_empty() {
            self.put_new(keys::unclaimed(mailbox, entry), short.clone());
        }
        for device in &devices {
            self.put_new(keys::entry(mailbox, device, entry), short.clone());
        }
        if shared {
            let remaining = u16::try_from(devices.len()).unwrap_or(u16::MAX);
            self.put(keys::remaining(mailbox, entry), &RemainingRecord(remaining));
        }
        self.changes().deposited.insert(*mailbox);
        Ok(Outcome::Stored)
    }

    pub(crate) fn acknowledge(
        &mut self,
        mailbox: &MailboxId,
        device: &DeviceId,
        entries: &[EntryId],
    ) -> Result<usize, StoreError> {
        let mut known = 0;
        for &entry in entries {
            let key = keys::entry(mailbox, device, entry);
            let Some(record) = self.record::<EntryRecord>(&key)? else {
                continue;
            };
            known += 1;
            self.remove(key);
            if !record.shared {
                self.end_entry(mailbox, entry, record)?;
                continue;
            }
            let remaining = keys::remaining(mailbox, entry);
            match self.record::<RemainingRecord>(&remaining)? {
                None => self.end_entry(mailbox, entry, record)?,
                Some(RemainingRecord(..=2)) => self.remove(remaining),
                Some(RemainingRecord(count)) => self.put(remaining, &RemainingRecord(count - 1)),
            }
        }
        Ok(known)
    }

    /// Deletes an entry that is over, for whichever devices still had to have it.
    pub(crate) fn expire_entry(&mut self, mailbox: &MailboxId, entry: EntryId) -> Result<bool, StoreError> {
        let Some(record) = self.record::<MailboxRecord>(&keys::mailbox(mailbox))? else {
            return Ok(false);
        };
        let mut found = None;
        let of_devices = record.devices.iter().map(|device| keys::entry(mailbox, device, entry));
        for key in of_devices.chain([keys::unclaimed(mailbox, entry)]) {
            if let Some(record) = self.record::<EntryRecord>(&key)? {
                found = Some(record);
                self.remove(key);
            }
        }
        match found {
            Some(record) => self.end_entry(mailbox, entry, record).map(|()| true),
            None => Ok(false),
        }
    }

    /// Deletes an entry that no device has to have any more.
    fn end_entry(
        &mut self,
        mailbox: &MailboxId,
        entry: EntryId,
        record: EntryRecord,
    ) -> Result<(), StoreError> {
        self.remove_envelope(mailbox, entry, record)?;
        let key = keys::mailbox(mailbox);
        let mut of_mailbox: MailboxRecord =
            self.record(&key)?.ok_or_else(|| StoreError::Damaged("an entry has no mailbox".into()))?;
        of_mailbox.entries = of_mailbox.entries.saturating_sub(1);
        of_mailbox.bytes = of_mailbox.bytes.saturating_sub(record.bytes.into());
        self.put(key, &of_mailbox);
        Ok(())
    }

    fn remove_envelope(
        &mut self,
        mailbox: &MailboxId,
        entry: EntryId,
        record: EntryRecord,
    ) -> Result<(), StoreError> {
        self.remove_pieces(&keys::body(mailbox, entry), record.bytes)?;
        self.remove(keys::entry_expiry(record.expires_at, mailbox, entry));
        if record.shared {
            self.remove(keys::remaining(mailbox, entry));
        }
        if record.laden {
            self.detach_from_entry(mailbox, entry)?;
        }
        Ok(())
    }
}

impl<K: Kv> View<K> {
    pub(crate) fn mailbox(&self, mailbox: &MailboxId) -> Result<Option<MailboxState>, StoreError> {
        Ok(self.mailbox_record(mailbox)?.map(|record| state(mailbox, record)))
    }

    /// Mailboxes after `after`, as many as that.
    pub(crate) fn mailboxes(
        &self,
        after: Option<MailboxId>,
        count: usize,
    ) -> Result<Vec<(MailboxId, MailboxState)>, StoreError> {
        let prefix = [keys::MAILBOXES];
        let start = match after {
            Some(after) => keys::next(&keys::mailbox(&after)),
            None => Key::from_slice(&prefix),
        };
        let page = self.range(&start, &keys::end_of(&prefix), count)?;
        let one = |(key, value): &(Key, bytes::Bytes)| {
            let mailbox = keys::of_holding(key)?;
            Ok((mailbox, state(&mailbox, records::decode(value)?)))
        };
        page.pairs.iter().map(one).collect()
    }

    pub(crate) fn fetch(
        &self,
        mailbox: &MailboxId,
        device: &DeviceId,
        after: Option<EntryId>,
        window: Window,
        now: Timestamp,
    ) -> Result<Fetched, StoreError> {
        let mut fetched = Fetched::default();
        let mut bytes = 0_usize;
        let prefix = keys::entries(mailbox, device);
        let end = keys::end_of(&prefix);
        let mut start = Some(match after {
            Some(after) => keys::next(&keys::entry(mailbox, device, after)),
            None => prefix,
        });
        while let Some(from) = start {
            let page = self.range(&from, &end, PAGE)?;
            for (key, value) in &page.pairs {
                let record: EntryRecord = records::decode(value)?;
                if record.expires_at <= now {
                    continue;
                }
                let with = bytes.saturating_add(record.bytes as usize);
                let taken = fetched.entries.len();
                if taken > 0 && (taken >= window.count || with > window.bytes) {
                    fetched.more = true;
                    return Ok(fetched);
                }
                let id = EntryId(keys::last_number(key)?);
                let body = keys::body(mailbox, id);
                // There for as long as any device has yet to acknowledge it.
                let owner = || keys::entry_expiry(record.expires_at, mailbox, id);
                match self.envelope(&body, owner, record.bytes)? {
                    Some(envelope) => {
                        fetched.entries.push(Entry::new(id, envelope));
                        bytes = with;
                    }
                    // It was acknowledged while we looked, or it is unreadable.
                    None if self.get(key)?.is_none() => {}
                    None => self.unreadable().note(
                        &body,
                        &owner(),
                        &StoreError::Damaged("a part of it is missing".into()),
                    ),
                }
            }
            start = page.next;
        }
        Ok(fetched)
    }
}

fn state(mailbox: &MailboxId, record: MailboxRecord) -> MailboxState {
    let binding = record.binding.as_ref().map(|own| own.binding.of(mailbox));
    let has_moved = record.has_moved();
    let MailboxRecord { devices, entries, bytes, suspended, .. } = record;
    MailboxState { devices, entries, bytes, binding, has_moved, suspended }
}

/// An envelope's bytes as the store counts them.
pub(crate) fn length(envelope: &Envelope) -> Result<u32, StoreError> {
    u32::try_from(envelope.encoded().len())
        .map_err(|_| StoreError::Damaged("an envelope is larger than any may be".into()))
}
