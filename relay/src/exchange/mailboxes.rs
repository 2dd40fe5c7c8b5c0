//! What concerns one mailbox: registration, devices, connections, and where it has gone.

use postrider_common::{Binding, DeviceId, Domain, EntryId, InviteId, InviteRefusal, MailboxId};

use super::Exchange;
use crate::config::RegistrationPolicy;
use crate::hub::{Attendance, Connection, Ending};
use crate::store::{DeviceState, Fetched, MailboxState, Permit, Rebound, Registration, StoreError, Window};

/// Why an owner's request about a mailbox was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailboxError {
    /// It is not registered here.
    #[error("the mailbox is not registered at this relay")]
    NoSuchMailbox,
    /// It has no such device.
    #[error("the device is not registered for the mailbox")]
    NoSuchDevice,
    /// It has as many devices as it may.
    #[error("the mailbox has as many devices as it may")]
    TooManyDevices,
    /// Nobody registers a mailbox here by themselves.
    #[error("nobody registers a mailbox here by themselves")]
    RegistrationClosed,
    /// It takes an invite to register a mailbox here.
    #[error("it takes an invite to register a mailbox here")]
    InviteNeeded,
    /// The invite does not let anybody in.
    #[error("the invite is not accepted: {0}")]
    InviteRefused(InviteRefusal),
    /// An administrator has closed it.
    #[error("the mailbox is suspended")]
    Suspended,
    /// It is kept at another relay.
    #[error("the mailbox has moved to {0}")]
    Moved(Domain),
    /// A binding with this serial counts.
    #[error("a binding with the serial {0} counts")]
    Outdated(u64),
    /// This relay exchanges nothing with that domain.
    #[error("this relay does not exchange envelopes with that domain")]
    DomainRefused,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Exchange {
    /// Registers a device's mailbox, as far as the policy lets anybody do so, or the device.
    pub async fn register(
        &self,
        mailbox: MailboxId,
        device: DeviceId,
        invite: Option<InviteId>,
    ) -> Result<bool, MailboxError> {
        let (permit, otherwise) = match (self.registration, invite) {
            (RegistrationPolicy::Open, _) => (Permit::Everybody, MailboxError::InviteNeeded),
            (RegistrationPolicy::Invite, Some(invite)) => {
                (Permit::Invite(invite), MailboxError::InviteNeeded)
            }
            (RegistrationPolicy::Invite, None) => (Permit::Nobody, MailboxError::InviteNeeded),
            (RegistrationPolicy::Closed, _) => (Permit::Nobody, MailboxError::RegistrationClosed),
        };
        match self.store.admit(mailbox, device, permit, self.clock.now()).await? {
            Registration::Created => Ok(true),
            Registration::DeviceAdded | Registration::Unchanged => Ok(false),
            Registration::TooManyDevices => Err(MailboxError::TooManyDevices),
            Registration::Suspended => Err(MailboxError::Suspended),
            Registration::NotPermitted => Err(otherwise),
            Registration::InviteRefused(refusal) => Err(MailboxError::InviteRefused(refusal)),
        }
    }

    /// Deletes a mailbox with everything in it, and closes its connections.
    pub async fn unregister(&self, mailbox: MailboxId) -> Result<(), MailboxError> {
        let existed = self.store.unregister(mailbox).await?;
        self.hub.disconnect(&mailbox, Ending::Deleted);
        if existed { Ok(()) } else { Err(MailboxError::NoSuchMailbox) }
    }

    /// The devices of a mailbox of ours, also of one that has moved.
    pub async fn devices(&self, mailbox: MailboxId) -> Result<Vec<DeviceState>, MailboxError> {
        self.mailbox(mailbox).await?;
        Ok(self.store.devices(mailbox).await?)
    }

    /// Removes a device with what waits for it alone, and closes its connections; whether there was one.
    pub async fn remove_device(&self, mailbox: MailboxId, device: DeviceId) -> Result<bool, MailboxError> {
        let existed = self.store.remove_device(mailbox, device).await?;
        self.hub.disconnect_device(&mailbox, &device);
        Ok(existed)
    }

    /// Calls a device something that only its owner can read; whether there is one.
    pub async fn name_device(
        &self,
        mailbox: MailboxId,
        device: DeviceId,
        name: Vec<u8>,
    ) -> Result<bool, MailboxError> {
        Ok(self.store.name_device(mailbox, device, name).await?)
    }

    /// An administrator makes a mailbox for somebody who has yet to come; whether it is new.
    pub async fn make_mailbox(&self, mailbox: MailboxId) -> Result<bool, StoreError> {
        self.store.make(mailbox, self.clock.now()).await
    }

    /// An administrator closes a mailbox, and with it its connections, or opens it again.
    pub async fn suspend(&self, mailbox: MailboxId, is_closed: bool) -> Result<(), MailboxError> {
        let existed = self.store.suspend(mailbox, is_closed, self.clock.now()).await?;
        if is_closed {
            self.hub.disconnect(&mailbox, Ending::Suspended);
        }
        if existed { Ok(()) } else { Err(MailboxError::NoSuchMailbox) }
    }

    /// Whether whoever has the mailbox's key may ask for anything: not while it is suspended.
    pub async fn admissible(&self, mailbox: MailboxId) -> Result<(), MailboxError> {
        match self.store.mailbox(mailbox).await? {
            Some(state) => open(state).map(|_| ()),
            None => Ok(()),
        }
    }

    /// What is kept of a mailbox of ours, also of one that has moved, if it is open and has this device: what is the owner's is
    /// for those who have not been removed.
    pub async fn registered(
        &self,
        mailbox: MailboxId,
        device: DeviceId,
    ) -> Result<MailboxState, MailboxError> {
        of_device(open(self.mailbox(mailbox).await?)?, &device)
    }

    /// Whether it has moved, and its devices have gone in time: none of them is seen here any more.
    pub async fn is_left(&self, mailbox: MailboxId) -> Result<bool, MailboxError> {
        let state = open(self.mailbox(mailbox).await?)?;
        Ok(state.has_moved && state.devices.is_empty())
    }

    /// What is kept of a mailbox that has not moved, so that its owner may do what members may.
    pub async fn member(&self, mailbox: MailboxId, device: DeviceId) -> Result<MailboxState, MailboxError> {
        let state = open(self.mailbox(mailbox).await?)?;
        if let (true, Some(binding)) = (state.has_moved, &state.binding) {
            return Err(MailboxError::Moved(binding.domain().clone()));
        }
        of_device(state, &device)
    }

    /// The owner says where a mailbox of ours is kept from now on. What is in it is sent on to there.
    pub async fn bind(&self, binding: Binding) -> Result<(), MailboxError> {
        let (mailbox, is_here) = (*binding.mailbox(), *binding.domain() == self.domain);
        if !is_here {
            self.forward.admit(binding.domain()).map_err(|_| MailboxError::DomainRefused)?;
        }
        match self.store.put_binding(binding, is_here).await? {
            Rebound::Bound | Rebound::Unchanged => {}
            Rebound::Outdated(serial) => return Err(MailboxError::Outdated(serial)),
            Rebound::NoSuchMailbox => return Err(MailboxError::NoSuchMailbox),
        }
        if !is_here {
            self.hub.disconnect(&mailbox, Ending::Moved);
        }
        Ok(())
    }

    /// What is kept of a mailbox of ours, also of one that has moved.
    pub async fn mailbox(&self, mailbox: MailboxId) -> Result<MailboxState, MailboxError> {
        self.store.mailbox(mailbox).await?.ok_or(MailboxError::NoSuchMailbox)
    }

    /// Connects a registered device: from then on its connection is woken when something comes.
    pub async fn connect(
        &self,
        mailbox: MailboxId,
        device: DeviceId,
        attendance: Attendance,
    ) -> Result<Connection, MailboxError> {
        // Joined before the look, so that a removal that comes in between is heard.
        let connection = self.hub.connect(mailbox, device, attendance);
        self.member(mailbox, device).await?;
        connection.admit();
        self.note_contact(mailbox, device).await;
        Ok(connection)
    }

    /// The device is here. For whoever stays connected, this is to be called once a day.
    pub async fn note_contact(&self, mailbox: MailboxId, device: DeviceId) {
        // A store that takes no more writes still gives what it has.
        if let Err(error) = self.store.note_contact(mailbox, device, self.clock.now()).await {
            tracing::debug!("the day of a contact is not kept: {error}");
        }
    }

    /// What waits for a device.
    pub async fn fetch(
        &self,
        mailbox: MailboxId,
        device: DeviceId,
        after: Option<EntryId>,
        window: Window,
    ) -> Result<Fetched, StoreError> {
        let fetched = self.store.fetch(mailbox, device, after, window, self.clock.now()).await?;
        self.counts.delivered.add(fetched.entries.len());
        Ok(fetched)
    }

    /// The device has these entries.
    pub async fn acknowledge(
        &self,
        mailbox: MailboxId,
        device: DeviceId,
        entries: Vec<EntryId>,
    ) -> Result<(), StoreError> {
        let count = self.store.acknowledge(mailbox, device, entries).await?;
        self.counts.acknowledged.add(count);
        tracing::debug!(count, "deleted");
        Ok(())
    }

    /// The same of entries that the device may not have been given: what it has not, the writer is not troubled with. Whether
    /// there were any that it had.
    pub async fn acknowledge_any(
        &self,
        mailbox: MailboxId,
        device: DeviceId,
        entries: Vec<EntryId>,
    ) -> Result<bool, StoreError> {
        let waiting = self.store.unacknowledged(mailbox, device, entries).await?;
        if waiting.is_empty() {
            return Ok(false);
        }
        self.acknowledge(mailbox, device, waiting).await?;
        Ok(true)
    }
}

fn open(state: MailboxState) -> Result<MailboxState, MailboxError> {
    if state.suspended.is_some() { Err(MailboxError::Suspended) } else { Ok(state) }
}

fn of_device(state: MailboxState, device: &DeviceId) -> Result<MailboxState, MailboxError> {
    if state.devices.contains(device) { Ok(state) } else { Err(MailboxError::NoSuchDevice) }
}
