//! What the relay keeps, and the one contract for keeping it.
//!
//! [`Store`] speaks the relay's language, so that an embedded engine and a distributed one can both serve it
//! natively. What every engine promises, and the conformance suite in `tests/` checks:
//!
//! * A write answers only when it is durable. Concurrent writes share a flush.
//! * Each deposited or enqueued envelope is one atomic step: all of it is there after a crash, or nothing.
//!   So is each settled item. A step concerns one mailbox or one destination, never two, and the attachments that the
//!   envelope names.
//! * A read shows durable state only.
//! * No operation's work grows with what it does not touch: nothing scans all mailboxes or a whole queue.
//! * An error means that nothing is promised: the write may or may not have happened. It never means success.
//!
//! Every operation is cancel-safe: dropping the future gives up the answer, not the write.

mod attachments;
mod bindings;
mod check;
mod chunks;
mod devices;
mod embedded;
mod engine;
mod envelopes;
mod expiry;
mod filter;
mod group;
mod history;
mod invites;
mod keys;
mod kv;
mod lanes;
mod leases;
mod mailboxes;
mod marks;
mod memory;
mod pairs;
mod progress;
mod quarantine;
mod queue;
mod records;
#[cfg(feature = "simulation")]
pub mod simulated;
mod space;
mod statistics;
mod steering;
#[cfg(test)]
mod tests;
mod tracking;
mod transfer;
mod types;
mod view;
mod writer;

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use postrider_common::supervisor::Supervisor;
use postrider_common::wire::mailbox::Entry;
use postrider_common::{
    Attachment, AttachmentId, Binding, DeviceId, Domain, EntryId, Envelope, EnvelopeId, InviteId, MailboxId,
    Outcome, Timestamp, TrackingId,
};
use tokio::sync::broadcast;

pub use attachments::Pinned;
pub use check::{Flaw, Found, Place, Report, Totals};
pub use embedded::{Sizes, check, open, open_with};
pub use engine::Options;
pub use envelopes::Unreadable;
pub use history::MET_ENTRIES;
pub use memory::MemoryDisk;
pub use progress::{Progress, Step};
pub use quarantine::QUARANTINE_ITEMS;
pub use statistics::Statistics;
pub use transfer::{Moved, TransferError, Unreadables, export, import};
pub use types::{
    Abandoned, AttachmentLimits, AttachmentState, Backoff, Change, Chunk, Destination, DeviceState, Doomed,
    Enqueued, Expiry, Fetched, FileId, Invited, ItemId, LeaseId, Leased, MailboxState, Met, Offered, Onward,
    Permit, Quarantined, Queued, Rebound, Registration, SentOn, Settlement, Source, StoreError, StoreLimits,
    Tracking, TrackingEnd, Verdict, Window,
};

/// A new store that is in memory only.
pub fn in_memory(limits: StoreLimits, supervisor: &Supervisor) -> Result<Arc<dyn Store>, StoreError> {
    MemoryDisk::new().open(limits, supervisor)
}

/// The answer of a store's operation, to be awaited.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Mailboxes with their entries, and the outbound queue with its tracking records.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Makes a mailbox with its first device, as far as that is permitted, or adds a device to one that exists. Doing so
    /// again changes nothing.
    ///
    /// Entries that waited for a first device become that device's; a further device starts from now. An invite's use
    /// and the mailbox are one step: the only one that concerns something beside its mailbox.
    fn admit(
        &self,
        mailbox: MailboxId,
        device: DeviceId,
        permit: Permit,
        now: Timestamp,
    ) -> Answer<'_, Registration>;

    /// The same where everybody may.
    fn register(&self, mailbox: MailboxId, device: DeviceId, now: Timestamp) -> Answer<'_, Registration> {
        self.admit(mailbox, device, Permit::Everybody, now)
    }

    /// Keeps invites until their time is over. One that there is stays as it is.
    fn add_invites(&self, invites: Vec<Invited>) -> Answer<'_, ()>;

    /// Invites, also such as are used up, as many as that, in some order, after `after`.
    fn invites(&self, after: Option<InviteId>, count: usize) -> Answer<'_, Vec<Invited>>;

    /// Revokes an invite: nobody registers with it any more. Whether there was one.
    fn remove_invite(&self, id: InviteId) -> Answer<'_, bool>;

    /// Makes a mailbox without a device, which keeps what comes for the first one; whether it is new.
    fn make(&self, mailbox: MailboxId, now: Timestamp) -> Answer<'_, bool>;

    /// Closes a mailbox, or opens it again; whether there is one. A closed one registers no device, and what is deposited is
    /// rejected with `mailbox-refused`, unless it has moved. What is in it stays, and so do its devices, however long they
    /// are away: when it is opened, that is as if each were here.
    fn suspend(&self, mailbox: MailboxId, is_closed: bool, now: Timestamp) -> Answer<'_, bool>;

    /// Mailboxes with what is kept of them, as many as that, in the order of their ids, after `after`.
    fn mailboxes(&self, after: Option<MailboxId>, count: usize)
    -> Answer<'_, Vec<(MailboxId, MailboxState)>>;

    /// The devices of a mailbox, in the order in which they were registered.
    fn devices(&self, mailbox: MailboxId) -> Answer<'_, Vec<DeviceState>>;

    /// The bytes of the attachments that its envelopes name, of each as often as it is named.
    fn attached_bytes(&self, mailbox: MailboxId) -> Answer<'_, u64>;

    /// The device is here. Kept is the day, so that hardly any call writes.
    fn note_contact(&self, mailbox: MailboxId, device: DeviceId, now: Timestamp) -> Answer<'_, ()>;

    /// Calls a device something; whether there is one.
    fn name_device(&self, mailbox: MailboxId, device: DeviceId, name: Vec<u8>) -> Answer<'_, bool>;

    /// Removes a device, with what waited for it alone; whether there was one. Where the last one is removed, what comes
    /// from then on waits for the next first one.
    fn remove_device(&self, mailbox: MailboxId, device: DeviceId) -> Answer<'_, bool>;

    /// Deletes a mailbox with everything in it; whether there was one.
    fn unregister(&self, mailbox: MailboxId) -> Answer<'_, bool>;

    /// What is kept of a mailbox, if there is one.
    fn mailbox(&self, mailbox: MailboxId) -> Answer<'_, Option<MailboxState>>;

    /// Puts envelopes into the mailboxes that they are for: one outcome each, in order.
    ///
    /// `Stored`, `Duplicate` (its mark is kept for [`StoreLimits::mark_retention`] after the deposit, delivered or
    /// not), `Moved` if the mailbox is bound to another relay (`Retry` with `moved` if the envelope may be one of those
    /// that it holds), `Reject` with `no-such-mailbox` or `no-such-device`, or
    /// `Retry` with `mailbox-full`, or with `attachment-missing` if not every attachment is whole. The envelopes' own limits and times have been checked by the caller.
    fn deposit(&self, envelopes: Vec<Envelope>, now: Timestamp) -> Answer<'_, Vec<Outcome>>;

    /// As [`deposit`](Self::deposit), of what clients have submitted, `addressed` to this domain. Where a mailbox has come
    /// back to this relay, it is also a `Duplicate` if it was [enqueued](Self::enqueue) before and has arrived.
    fn deposit_submitted(
        &self,
        addressed: Domain,
        envelopes: Vec<Envelope>,
        now: Timestamp,
    ) -> Answer<'_, Vec<Outcome>>;

    /// The entries of a device after `after`, oldest first, as many as fit the window (at least one).
    /// Expired ones are left out. Entries stay until acknowledged.
    fn fetch(
        &self,
        mailbox: MailboxId,
        device: DeviceId,
        after: Option<EntryId>,
        window: Window,
        now: Timestamp,
    ) -> Answer<'_, Fetched>;

    /// The device has these entries. Once no device is left to have it, an envelope's bytes are deleted.
    /// Unknown entries are passed over; how many were known is the answer.
    fn acknowledge(&self, mailbox: MailboxId, device: DeviceId, entries: Vec<EntryId>) -> Answer<'_, usize>;

    /// Those of these entries that the device has yet to acknowledge, by what is durable: a look, before the writer is given
    /// what is none of its business.
    fn unacknowledged(
        &self,
        mailbox: MailboxId,
        device: DeviceId,
        entries: Vec<EntryId>,
    ) -> Answer<'_, Vec<EntryId>>;

    /// The owner of a mailbox of this relay's says where it is kept: here, or elsewhere. The higher serial counts. From
    /// then on, if it is elsewhere, nothing is deposited, and what is in the mailbox is held to be sent on.
    fn put_binding(&self, binding: Binding, is_here: bool) -> Answer<'_, Rebound>;

    /// Mailboxes that have moved away and hold something, as many as that, in some order, after `after`.
    fn holding(&self, after: Option<MailboxId>, count: usize) -> Answer<'_, Vec<MailboxId>>;

    /// What is held of a mailbox that has moved away, oldest first, as much as fits the window (at least one).
    /// Nothing of a mailbox that has not, or no longer.
    fn held(&self, mailbox: MailboxId, window: Window) -> Answer<'_, Vec<Entry>>;

    /// What was held under the binding with this serial is queued, durably: its entries are deleted, and are no
    /// duplicates any more. If another binding counts, nothing happens. A mailbox that holds nothing after that is no
    /// longer [holding](Self::holding).
    fn release_held(&self, mailbox: MailboxId, serial: u64, entries: Vec<Entry>) -> Answer<'_, ()>;

    /// Remembers until `until` where a mailbox of another relay's is kept, as the relay `told_by` has told; the answer is
    /// what counts of it, by the higher serial. At most [`StoreLimits::learnt_bindings`] are remembered; of mailboxes that
    /// are registered here, none.
    fn learn(&self, binding: Binding, told_by: Domain, until: Timestamp) -> Answer<'_, Binding>;

    /// What was learnt of the mailboxes of these addresses, each in its place. A relay speaks for addresses at its own
    /// domain only: an old binding that another one repeats does not lead these astray.
    fn learnt(&self, addresses: Vec<(MailboxId, Domain)>) -> Answer<'_, Vec<Option<Binding>>>;

    /// Queues envelopes that follow a binding: from its [`Source`] each is queued for a destination once, whatever becomes
    /// of it there, and whatever else is queued for it under the same mailbox and envelope id. One with
    /// [`SentOn::addressed`] is what is found from then on when it is [enqueued](Self::enqueue).
    fn enqueue_onward(
        &self,
        destination: Domain,
        envelopes: Vec<SentOn>,
        now: Timestamp,
    ) -> Answer<'_, Vec<Enqueued>>;

    /// Queues envelopes for another relay: one answer each, in order. The same mailbox and envelope id, `addressed` to the
    /// same domain again, gets the tracking id of the first time, wherever it would go now, unless that ended without the
    /// envelope having arrived: then it is queued anew.
    fn enqueue(
        &self,
        destination: Domain,
        addressed: Domain,
        envelopes: Vec<Envelope>,
        now: Timestamp,
    ) -> Answer<'_, Vec<Enqueued>>;

    /// Takes items of a destination for delivery until `until`, oldest first, as many as fit the window (at least
    /// one). A leased item is not leased again before the lease is settled or lapses. Items whose own retry time
    /// has not come are passed over, unless it is further ahead than any wait reaches, as after a clock was set back.
    /// Expired items are leased too: the caller settles them as such. A `now` that lies
    /// ahead takes what is due by then, and lapses what is leased until then.
    /// Items with attachments are passed over: those [`lease_laden`](Self::lease_laden) gives out from then on.
    fn lease(
        &self,
        destination: Domain,
        window: Window,
        now: Timestamp,
        until: Timestamp,
    ) -> Answer<'_, Vec<Leased>>;

    /// Takes one item with attachments, the oldest of those that [`lease`](Self::lease) has passed over. They take their
    /// time, and others need not wait for them.
    fn lease_laden(&self, destination: Domain, until: Timestamp) -> Answer<'_, Option<Leased>>;

    /// Lengthens an item's lease, if it has not lapsed.
    fn prolong(&self, destination: &Domain, item: ItemId, lease: LeaseId, until: Timestamp);

    /// A client is about to bring an attachment. What there is of it, or `None` if that id is another one's. It is kept
    /// for [`AttachmentLimits::retention`] after this and after each chunk, and then for as long as envelopes need it.
    fn reserve_attachment(
        &self,
        attachment: Attachment,
        now: Timestamp,
    ) -> Answer<'_, Option<AttachmentState>>;

    /// A peer is about to bring the attachments of an envelope for one of our mailboxes: the same, if that would take it.
    fn offer_attachments(
        &self,
        origin: Domain,
        mailbox: MailboxId,
        envelope: EnvelopeId,
        attachments: Vec<Attachment>,
        now: Timestamp,
    ) -> Answer<'_, Offered>;

    /// A chunk of the attachment with this file is on stable storage. `false`: the attachment is not there any more.
    fn put_chunk(&self, id: AttachmentId, file: FileId, chunk: Chunk, now: Timestamp) -> Answer<'_, bool>;

    /// One attachment.
    fn attachment(&self, id: AttachmentId) -> Answer<'_, Option<AttachmentState>>;

    /// The chunks of an attachment that are there, in order.
    fn chunks(&self, id: AttachmentId) -> Answer<'_, Vec<Chunk>>;

    /// The SHA-256 of one chunk, if it is there.
    fn chunk(&self, id: AttachmentId, number: u32) -> Answer<'_, Option<[u8; 32]>>;

    /// Keeps attachments while several envelopes with them are submitted: the first may be delivered before the last is
    /// taken.
    fn pin(&self, ids: Vec<AttachmentId>) -> Pinned;

    /// Gives up an attachment that no envelope needs.
    fn abandon_attachment(&self, id: AttachmentId) -> Answer<'_, Abandoned>;

    /// The bytes of all attachments' files. It looks at each one, and is for the start.
    fn attachment_bytes(&self) -> Answer<'_, u64>;

    /// Files of attachments that are to be deleted, after `after`, as many as that.
    fn doomed(&self, after: Option<FileId>, count: usize) -> Answer<'_, Vec<Doomed>>;

    /// These have been deleted.
    fn forget_doomed(&self, files: Vec<FileId>) -> Answer<'_, ()>;

    /// Ends leases, each with its verdict; which of those counted. One for an item that is gone does not, nor does one of
    /// a lease that has lapsed, since the item may be under another by now, unless it is
    /// [for good](Settlement::is_for_good).
    fn settle(
        &self,
        destination: Domain,
        settlements: Vec<Settlement>,
        now: Timestamp,
    ) -> Answer<'_, Vec<bool>>;

    /// Every destination that has items or a back-off, or is paused.
    fn destinations(&self) -> Answer<'_, Vec<Destination>>;

    /// One destination, if it has items or a back-off, or is paused.
    fn destination(&self, domain: Domain) -> Answer<'_, Option<Destination>>;

    /// Sets or clears a destination's back-off.
    fn put_backoff(&self, destination: Domain, backoff: Option<Backoff>) -> Answer<'_, ()>;

    /// The destination has failed: sets its back-off, and adds the failure to the [history](Self::history).
    fn fail(&self, destination: Domain, backoff: Backoff, now: Timestamp) -> Answer<'_, ()>;

    /// How a destination has failed lately, oldest first: the same in a row is one entry. The last [`MET_ENTRIES`] are
    /// kept, for [`StoreLimits::tracking_retention`] after the latest failure.
    fn history(&self, destination: Domain) -> Answer<'_, Vec<Met>>;

    /// What the destination has answered about one envelope so far, other than that it has it or never will, told as in the
    /// [history](Self::history); kept as long as its tracking record.
    fn answers(&self, id: TrackingId) -> Answer<'_, Vec<Met>>;

    /// Holds a destination back since then, or no longer. This only keeps it: whoever leases has to look.
    fn pause(&self, destination: Domain, since: Option<Timestamp>) -> Answer<'_, ()>;

    /// The items of a destination after `after`, oldest first, at most `count`.
    fn queued(
        &self,
        destination: Domain,
        after: Option<ItemId>,
        count: usize,
        now: Timestamp,
    ) -> Answer<'_, Vec<Queued>>;

    /// The same with their envelopes, as many as fit the window (at least one).
    fn queued_envelopes(
        &self,
        destination: Domain,
        after: Option<ItemId>,
        window: Window,
        now: Timestamp,
    ) -> Answer<'_, Vec<(Queued, Envelope)>>;

    /// Makes items due at once that have a later time of their own; how many those were. Leased ones are left.
    fn hasten(&self, destination: Domain, items: Vec<ItemId>, now: Timestamp) -> Answer<'_, usize>;

    /// Gives items up: their tracking says `dropped`. Leased ones are left, and unknown ones passed over; how many were
    /// given up.
    fn discard(&self, destination: Domain, items: Vec<ItemId>, now: Timestamp) -> Answer<'_, usize>;

    /// Deletes an envelope from quarantine; whether it was there.
    fn discard_quarantined(&self, destination: Domain, item: ItemId) -> Answer<'_, bool>;

    /// What became of a queued envelope, also at the destinations that it went on to.
    fn tracking(&self, id: TrackingId) -> Answer<'_, Option<Tracking>>;

    /// The envelopes of a destination that were [quarantined](Verdict::Quarantined), oldest first. The latest
    /// [`QUARANTINE_ITEMS`] are kept, each for [`StoreLimits::tracking_retention`].
    fn quarantined(&self, destination: Domain) -> Answer<'_, Vec<Quarantined>>;

    /// Deletes what is over at `now`: mailbox entries, queued items (their tracking says `expired`; leased ones
    /// are left to their lease), tracking records, what was quarantined or learnt,
    /// invites, marks, and devices that were away for longer than [`StoreLimits::device_idle`]. It does at most `budget` deletions, then says whether
    /// there is more.
    fn expire(&self, now: Timestamp, budget: usize) -> Answer<'_, Expiry>;

    /// What has become durable since: told after the flush, before or after the write's own answer. A receiver
    /// that falls behind misses changes (`Lagged`) and has to look everywhere.
    fn watch(&self) -> broadcast::Receiver<Change>;

    /// How it is doing.
    fn statistics(&self) -> &Statistics;

    /// Flushes and refuses everything from then on. Idempotent.
    fn close(&self) -> Answer<'_, ()>;
}
