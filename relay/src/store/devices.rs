//! A mailbox's devices, one record each: what it is called, and the day on which it was last here.
//!
//! What is needed with every envelope is in the mailbox's record; what is here changes at most once a day. An index by
//! that day leads to the devices that have been away for too long.

use postrider_common::{DeviceId, EntryId, MailboxId, Timestamp};

use super::group::Group;
use super::keys;
use super::kv::Kv;
use super::records::{self, DeviceRecord, MailboxRecord};
use super::view::View;
use super::{DeviceState, StoreError};

impl<K: Kv> Group<'_, K> {
    /// Notes a device that a mailbox has just got.
    pub(super) fn add_device(&mut self, mailbox: &MailboxId, device: &DeviceId, now: Timestamp) {
        let last_contact = day(now);
        self.put(keys::device(mailbox, device), &DeviceRecord { last_contact, name: Vec::new() });
        self.put(keys::contact(last_contact, mailbox, device), &());
    }

    /// The device was here today. Nothing happens if that is known, or there is no such device.
    pub(crate) fn note_contact(
        &mut self,
        mailbox: &MailboxId,
        device: &DeviceId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (key, today) = (keys::device(mailbox, device), day(now));
        let Some(record) = self.record::<DeviceRecord>(&key)? else { return Ok(()) };
        if record.last_contact == today {
            return Ok(());
        }
        self.remove(keys::contact(record.last_contact, mailbox, device));
        self.put(keys::contact(today, mailbox, device), &());
        self.put(key, &DeviceRecord { last_contact: today, ..record });
        Ok(())
    }

    /// Calls a device something; whether there is one.
    pub(crate) fn name_device(
        &mut self,
        mailbox: &MailboxId,
        device: &DeviceId,
        name: Vec<u8>,
    ) -> Result<bool, StoreError> {
        let key = keys::device(mailbox, device);
        let Some(record) = self.record::<DeviceRecord>(&key)? else { return Ok(false) };
        self.put(key, &DeviceRecord { name, ..record });
        Ok(true)
    }

    /// Removes a device from its mailbox, with what it has yet to acknowledge, and with the envelopes that nobody else
    /// waits for; how much waited for it, if there was one.
    pub(crate) fn remove_device(
        &mut self,
        mailbox: &MailboxId,
        device: &DeviceId,
    ) -> Result<Option<usize>, StoreError> {
        let key = keys::mailbox(mailbox);
        let record = self.record::<MailboxRecord>(&key)?;
        if !record.is_some_and(|record| record.devices.contains(device)) {
            return Ok(None);
        }
        let waiting = self.all(&keys::entries(mailbox, device))?;
        let waiting: Result<Vec<_>, _> =
            waiting.iter().map(|(key, _)| keys::last_number(key).map(EntryId)).collect();
        let waiting = waiting?;
        self.acknowledge(mailbox, device, &waiting)?;
        // Read again: what nobody waits for any more has changed its counts.
        if let Some(mut record) = self.record::<MailboxRecord>(&key)? {
            record.devices.retain(|other| other != device);
            let holds = record.entries > 0 && record.has_moved();
            self.put(key, &record);
            self.note_holding(mailbox, holds)?;
        }
        self.forget_device(mailbox, device)?;
        self.changes().devices_removed.insert((*mailbox, *device));
        Ok(Some(waiting.len()))
    }

    /// Whether the devices of a mailbox are kept from being here.
    pub(super) fn is_suspended(&self, mailbox: &MailboxId) -> Result<bool, StoreError> {
        let record = self.record::<MailboxRecord>(&keys::mailbox(mailbox))?;
        Ok(record.is_some_and(|record| record.suspended.is_some()))
    }

    /// Removes what is kept of a device beside its entries.
    pub(super) fn forget_device(&mut self, mailbox: &MailboxId, device: &DeviceId) -> Result<(), StoreError> {
        let key = keys::device(mailbox, device);
        if let Some(record) = self.record::<DeviceRecord>(&key)? {
            self.remove(key);
            self.remove(keys::contact(record.last_contact, mailbox, device));
        }
        Ok(())
    }
}

impl<K: Kv> View<K> {
    /// The devices of a mailbox, in the order in which they were registered; none if there is no such mailbox.
    pub(crate) fn devices(&self, mailbox: &MailboxId) -> Result<Vec<DeviceState>, StoreError> {
        let devices = self.mailbox_record(mailbox)?.map_or(Vec::new(), |record| record.devices);
        let state = |device: DeviceId| {
            let DeviceRecord { last_contact, name } = self
                .device_record(mailbox, &device)?
                .ok_or_else(|| StoreError::Damaged("a device has no record".into()))?;
            Ok(DeviceState { device, name, last_contact })
        };
        devices.into_iter().map(state).collect()
    }

    /// Those of some entries that a device has yet to acknowledge.
    pub(crate) fn unacknowledged(
        &self,
        mailbox: &MailboxId,
        device: &DeviceId,
        mut entries: Vec<EntryId>,
    ) -> Result<Vec<EntryId>, StoreError> {
        let mut failure = None;
        entries.retain(|entry| match self.get(&keys::entry(mailbox, device, *entry)) {
            Ok(found) => found.is_some(),
            Err(error) => {
                failure = Some(error);
                false
            }
        });
        failure.map_or(Ok(entries), Err)
    }

    /// Whether it is worth noting that the device is here.
    pub(crate) fn is_new_contact(
        &self,
        mailbox: &MailboxId,
        device: &DeviceId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let record = self.device_record(mailbox, device)?;
        Ok(record.is_some_and(|record| record.last_contact != day(now)))
    }

    fn device_record(
        &self,
        mailbox: &MailboxId,
        device: &DeviceId,
    ) -> Result<Option<DeviceRecord>, StoreError> {
        self.get(&keys::device(mailbox, device))?.map(|bytes| records::decode(&bytes)).transpose()
    }
}

/// The beginning of a day: more is not kept.
fn day(now: Timestamp) -> Timestamp {
    const DAY: u64 = 86_400;
    Timestamp::from_secs(now.as_secs() / DAY * DAY)
}
