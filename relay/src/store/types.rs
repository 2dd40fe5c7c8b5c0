//! What goes into a store's operations and comes out of them.

mod leased;

use std::path::PathBuf;
use std::time::Duration;

use postrider_common::wire::mailbox::Entry;
use postrider_common::{
    Attachment, Binding, DeviceId, Domain, EntryId, Envelope, FailureClass, InviteId, InviteRefusal,
    MailboxId, Timestamp, TrackingId,
};
use serde::{Deserialize, Serialize};

pub use leased::{LeaseId, Leased, Settlement, Verdict};

/// How much one mailbox or destination may hold, and for how long marks and tracking records stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Envelopes in a mailbox.
    pub mailbox_entries: u64,
    /// Bytes of envelopes in a mailbox.
    pub mailbox_bytes: u64,
    /// Devices of a mailbox.
    pub devices: usize,
    /// Envelopes queued for one destination.
    pub queue_items: u64,
    /// Bytes of envelopes queued for one destination.
    pub queue_bytes: u64,
    /// How long after its deposit an envelope's repetition is recognised, at least.
    pub mark_retention: Duration,
    /// How long after its end a tracking record stays.
    pub tracking_retention: Duration,
    /// How long a device may be away before it is removed.
    pub device_idle: Duration,
    /// Bindings of other relays' mailboxes that are remembered.
    pub learnt_bindings: u64,
    /// Of attachments.
    pub attachments: AttachmentLimits,
}

/// How much one attachment and those of one mailbox may have, and how long one stays that nobody has submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachmentLimits {
    /// Bytes of one attachment. The store leaves this to its callers.
    pub bytes: u64,
    /// Bytes of the attachments in a mailbox.
    pub mailbox_bytes: u64,
    /// Bytes of all attachments. The store leaves this to its callers.
    pub total_bytes: u64,
    /// How long after its last chunk one stays that no envelope has been taken with.
    pub retention: Duration,
}

impl Default for StoreLimits {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            mailbox_entries: 10_000,
            mailbox_bytes: 256 << 20,
            devices: 16,
            queue_items: 1_000_000,
            queue_bytes: 4 << 30,
            mark_retention: 7 * DAY,
            tracking_retention: 7 * DAY,
            device_idle: 90 * DAY,
            learnt_bindings: 100_000,
            attachments: AttachmentLimits::DEFAULT,
        }
    }
}

impl AttachmentLimits {
    /// 100 MiB each, 2 GiB in a mailbox, 16 GiB in all; a day for one that nobody submits.
    pub const DEFAULT: Self = Self {
        bytes: 100 << 20,
        mailbox_bytes: 2 << 30,
        total_bytes: 16 << 30,
        retention: Duration::from_secs(86_400),
    };
}

/// How much to take at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Envelopes.
    pub count: usize,
    /// Bytes of envelopes. The first one is taken even if it is larger.
    pub bytes: usize,
}

/// By what right a mailbox may be made. Whoever adds a device to one that there is needs none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// Everybody may.
    Everybody,
    /// Whoever has an invite, of which that takes a use.
    Invite(InviteId),
    /// Nobody.
    Nobody,
}

/// An invite, as far as it is known here: not its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invited {
    /// Its name.
    pub id: InviteId,
    /// How many mailboxes may be made with it,
    pub uses: u32,
    /// and how many have been.
    pub used: u32,
    /// When its time is over.
    pub expires_at: Timestamp,
}

/// The answer to a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// The mailbox is new.
    Created,
    /// The mailbox existed; the device is new.
    DeviceAdded,
    /// Both existed.
    Unchanged,
    /// The mailbox has as many devices as it may.
    TooManyDevices,
    /// The mailbox is suspended.
    Suspended,
    /// There is no such mailbox, and nobody may make one.
    NotPermitted,
    /// There is no such mailbox, and the invite does not let anybody make one.
    InviteRefused(InviteRefusal),
}

/// What is kept of a mailbox, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxState {
    /// Its devices.
    pub devices: Vec<DeviceId>,
    /// Envelopes in it.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Where its owner has said that it is kept.
    pub binding: Option<Binding>,
    /// Whether that is at another relay.
    pub has_moved: bool,
    /// Since when an administrator has closed it: it takes nothing, and gives nothing.
    pub suspended: Option<Timestamp>,
}

/// What is kept of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceState {
    /// Which one.
    pub device: DeviceId,
    /// What its owner calls it, which only they can read. Empty if they have not said.
    pub name: Vec<u8>,
    /// The day on which it was last here, by its first second.
    pub last_contact: Timestamp,
}

/// The answer to a binding of a mailbox of this relay's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebound {
    /// It counts from now on.
    Bound,
    /// It is the one that counts already.
    Unchanged,
    /// One with this serial counts, which is not lower.
    Outdated(u64),
    /// There is no such mailbox.
    NoSuchMailbox,
}

/// Entries for one device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fetched {
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// Whether there are entries after these.
    pub more: bool,
}

/// The answer to one enqueued envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It waits in the queue.
    Queued(TrackingId),
    /// It was enqueued before; this is the id that it got then.
    Duplicate(TrackingId),
    /// The destination's queue is full.
    QueueFull,
    /// One of its attachments is not here, or not whole.
    AttachmentMissing,
}

/// An item's place in its destination's queue. Higher is later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId(pub u64);

/// How an envelope has come to be queued that has followed a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Onward {
    /// How many destinations have answered that its mailbox has moved, since it has last followed its owner.
    pub moves: u8,
    /// Present if it was in a mailbox here: the serial of the newest binding that its owner has given this relay and that it
    /// has followed. Nobody holds a tracking id of it, so it is not given up before its time is over.
    pub held: Option<u64>,
}

/// An envelope that follows a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentOn {
    /// The envelope.
    pub envelope: Envelope,
    /// Whoever submits it here again, to an address at this domain, is told what becomes of it now.
    pub addressed: Option<Domain>,
    /// How it comes to be sent on.
    pub onward: Onward,
    /// Where it was so far: from there it is queued for a destination once.
    pub source: Source,
}

/// Where an envelope was that follows a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// In the queue, for another destination.
    Item(TrackingId),
    /// In a mailbox here, which the binding with this serial has moved.
    Held {
        /// Its entry.
        entry: EntryId,
        /// The binding's serial.
        serial: u64,
    },
}

/// An envelope that its destination could neither read nor take, kept for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// What it was in the queue.
    pub item: ItemId,
    /// What was refused.
    pub envelope: Envelope,
    /// Why.
    pub class: FailureClass,
    /// When.
    pub at: Timestamp,
}

/// Why and until when a destination is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    /// Since when it has failed.
    pub failing_since: Timestamp,
    /// Consecutive failures.
    pub failures: u32,
    /// The class of the last one.
    pub class: FailureClass,
    /// Since when it has been that class.
    pub class_since: Timestamp,
    /// What happened, for an operator.
    pub detail: String,
    /// When the next attempt is due.
    pub next_attempt: Timestamp,
}

/// One destination's queue, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Which relay.
    pub domain: Domain,
    /// Items that wait or are leased.
    pub items: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Present while it fails.
    pub backoff: Option<Backoff>,
    /// When the first of the items with a retry time of their own is due, if there are any.
    pub next_retry: Option<Timestamp>,
    /// Since when an administrator holds it back, if one does.
    pub paused: Option<Timestamp>,
}

/// One item of a queue, without its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Which one.
    pub item: ItemId,
    /// What its sender asks by.
    pub tracking: TrackingId,
    /// When its time is over.
    pub expires_at: Timestamp,
    /// Of its envelope.
    pub bytes: u32,
    /// How often the destination has answered for it.
    pub attempts: u32,
    /// When it is due again, if it has a time of its own.
    pub not_before: Option<Timestamp>,
    /// Whether it is under way.
    pub leased: bool,
    /// Whether it could not be read when it was its turn. It is tried again when the store is opened again.
    pub unreadable: bool,
}

/// Failures of one kind in a row, or answers: the same class in the same words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// What was met.
    pub class: FailureClass,
    /// What happened, for an operator. Empty for what a destination answered about one envelope, which is a class only.
    pub detail: String,
    /// When it was met first,
    pub first: Timestamp,
    /// and last,
    pub last: Timestamp,
    /// and how often.
    pub times: u32,
}

/// What became of a queued envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracking {
    /// Where it is going.
    pub destination: Domain,
    /// When it was queued.
    pub queued_at: Timestamp,
    /// How often the destination has answered for it.
    pub attempts: u32,
    /// The last reason to come again.
    pub reason: Option<FailureClass>,
    /// When it is due again, if the destination asked for a later time.
    pub not_before: Option<Timestamp>,
    /// Whether it could not be read when it was its turn.
    pub is_unreadable: bool,
    /// How and when it ended, once it has.
    pub end: Option<(TrackingEnd, Timestamp)>,
}

/// How a queued envelope ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackingEnd {
    /// The destination has it.
    Stored,
    /// Given up.
    Failed(FailureClass),
    /// Its time was over.
    Expired,
}

/// What one round of expiry did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expiry {
    /// Entries deleted from mailboxes unread.
    pub entries: usize,
    /// Items deleted from the queue undelivered.
    pub items: usize,
    /// Devices that were away for too long.
    pub devices: usize,
    /// Whether the budget ended before the work did.
    pub more: bool,
}

/// The name of an attachment's file: random, so that it tells nothing about the attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub [u8; 16]);

/// One attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentState {
    /// What it is.
    pub attachment: Attachment,
    /// Where its bytes are.
    pub file: FileId,
    /// How many of its chunks there are.
    pub present: u32,
    /// Whether an envelope here needs it.
    pub is_in_use: bool,
    /// Which relay brings it; none: a client.
    pub origin: Option<Domain>,
    /// How long it is kept if no envelope is taken with it.
    pub until: Timestamp,
}

impl AttachmentState {
    /// Whether every chunk is there.
    pub fn is_whole(&self) -> bool {
        self.present == self.attachment.chunks()
    }
}

/// A chunk that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// From 0.
    pub number: u32,
    /// SHA-256 of its bytes.
    pub digest: [u8; 32],
}

/// The answer to a peer that is about to send an envelope's attachments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offered {
    /// What there is of each so far.
    Wanted(Vec<AttachmentState>),
    /// The envelope would not be taken, or has been: its outcome says why.
    NotNeeded,
    /// The mailbox has not room for them.
    Full,
    /// One of them is just being brought by somebody else, or is known as another one.
    Busy,
}

/// The answer to whoever gives an attachment up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abandoned {
    /// It is gone.
    Done,
    /// An envelope needs it.
    InUse,
    /// There is none with this id.
    Unknown,
}

/// A file to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doomed {
    /// Which.
    pub file: FileId,
    /// Its bytes.
    pub bytes: u64,
}

/// Something has become durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A mailbox got entries.
    Deposited(MailboxId),
    /// A destination got items, or items came due again.
    Enqueued(Domain),
    /// A mailbox was removed.
    Removed(MailboxId),
    /// A mailbox was suspended.
    Suspended(MailboxId),
    /// A device was removed from its mailbox.
    DeviceRemoved(MailboxId, DeviceId),
    /// A mailbox has moved to another relay.
    Moved(MailboxId),
    /// Files of attachments are to be deleted.
    Doomed,
}

/// A store could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk is too full for new envelopes. Reading, acknowledging and deleting still work.
    #[error("the disk is nearly full")]
    Full,
    /// The disk failed.
    #[error("the store's disk failed: {0}")]
    Io(String),
    /// What was read makes no sense.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// It was written by a newer version.
    #[error("the store has format {found}; this version reads formats up to {supported}")]
    TooNew {
        /// What the store says.
        found: u32,
        /// What this version knows.
        supported: u32,
    },
    /// Another process has it open.
    #[error("the store is in use by another process")]
    InUse,
    /// It is to come out of an import, which did not end.
    #[error("an import was not finished: repeat it, or delete {} to begin with an empty store", .0.display())]
    HalfImported(PathBuf),
    /// It was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// What a sender is told.
    pub const fn class(&self) -> FailureClass {
        match self {
            Self::Full => FailureClass::StorageFull,
            Self::Io(_)
            | Self::Damaged(_)
            | Self::TooNew { .. }
            | Self::InUse
            | Self::HalfImported(_)
            | Self::Closed => FailureClass::Unavailable,
        }
    }
}
