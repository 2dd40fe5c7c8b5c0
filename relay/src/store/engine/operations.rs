//! Which operation of the store is a write, which a read, and how much each gives the writer to do.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use postrider_common::wire::mailbox::Entry;
use postrider_common::{
    Attachment, AttachmentId, Binding, DeviceId, Domain, EntryId, Envelope, EnvelopeId, InviteId, MailboxId,
    Outcome, Timestamp, TrackingId,
};
use tokio::sync::{broadcast, oneshot};

use super::Engine;
use crate::store::attachments::Pinned;
use crate::store::kv::Kv;
use crate::store::lanes::Load;
use crate::store::leases;
use crate::store::queue::lock;
use crate::store::view::View;
use crate::store::{
    Abandoned, Answer, AttachmentState, Backoff, Change, Chunk, Destination, DeviceState, Doomed, Enqueued,
    Expiry, Fetched, FileId, Invited, ItemId, LeaseId, Leased, MailboxState, Met, Offered, Permit,
    Quarantined, Queued, Rebound, Registration, SentOn, Settlement, Statistics, Store, Tracking, Window,
};

impl<K: Kv> Store for Engine<K> {
    fn admit(
        &self,
        mailbox: MailboxId,
        device: DeviceId,
        permit: Permit,
        now: Timestamp,
    ) -> Answer<'_, Registration> {
        Box::pin(self.write(Load::SMALL, move |group| group.admit(&mailbox, device, permit, now)))
    }

    fn add_invites(&self, invites: Vec<Invited>) -> Answer<'_, ()> {
        Box::pin(self.write(Load::ending(invites.len()), move |group| group.add_invites(&invites)))
    }

    fn invites(&self, after: Option<InviteId>, count: usize) -> Answer<'_, Vec<Invited>> {
        Box::pin(self.read(move |view| view.invites(after, count)))
    }

    fn remove_invite(&self, id: InviteId) -> Answer<'_, bool> {
        Box::pin(self.write(Load::SMALL, move |group| group.remove_invite(&id)))
    }

    fn make(&self, mailbox: MailboxId, now: Timestamp) -> Answer<'_, bool> {
        Box::pin(self.write(Load::SMALL, move |group| group.make(&mailbox, now)))
    }

    fn suspend(&self, mailbox: MailboxId, is_closed: bool, now: Timestamp) -> Answer<'_, bool> {
        Box::pin(self.write(Load::SMALL, move |group| group.suspend(&mailbox, is_closed, now)))
    }

    fn mailboxes(
        &self,
        after: Option<MailboxId>,
        count: usize,
    ) -> Answer<'_, Vec<(MailboxId, MailboxState)>> {
        Box::pin(self.read(move |view| view.mailboxes(after, count)))
    }

    fn devices(&self, mailbox: MailboxId) -> Answer<'_, Vec<DeviceState>> {
        Box::pin(self.read(move |view| view.devices(&mailbox)))
    }

    fn attached_bytes(&self, mailbox: MailboxId) -> Answer<'_, u64> {
        Box::pin(self.read(move |view| view.attached_bytes(&mailbox)))
    }

    fn note_contact(&self, mailbox: MailboxId, device: DeviceId, now: Timestamp) -> Answer<'_, ()> {
        Box::pin(async move {
            if !self.read(move |view| view.is_new_contact(&mailbox, &device, now)).await? {
                return Ok(());
            }
            self.write(Load::SMALL, move |group| group.note_contact(&mailbox, &device, now)).await
        })
    }

    fn name_device(&self, mailbox: MailboxId, device: DeviceId, name: Vec<u8>) -> Answer<'_, bool> {
        Box::pin(self.write(Load::SMALL, move |group| group.name_device(&mailbox, &device, name)))
    }

    fn remove_device(&self, mailbox: MailboxId, device: DeviceId) -> Answer<'_, bool> {
        Box::pin(self.write(Load::SMALL, move |group| Ok(group.remove_device(&mailbox, &device)?.is_some())))
    }

    fn unregister(&self, mailbox: MailboxId) -> Answer<'_, bool> {
        Box::pin(self.write(Load::SMALL, move |group| group.unregister(&mailbox)))
    }

    fn mailbox(&self, mailbox: MailboxId) -> Answer<'_, Option<MailboxState>> {
        Box::pin(self.read(move |view| view.mailbox(&mailbox)))
    }

    fn deposit(&self, envelopes: Vec<Envelope>, now: Timestamp) -> Answer<'_, Vec<Outcome>> {
        Box::pin(self.write(Load::taking(&envelopes), move |group| group.deposit(None, &envelopes, now)))
    }

    fn deposit_submitted(
        &self,
        addressed: Domain,
        envelopes: Vec<Envelope>,
        now: Timestamp,
    ) -> Answer<'_, Vec<Outcome>> {
        let load = Load::taking(&envelopes);
        Box::pin(self.write(load, move |group| group.deposit(Some(&addressed), &envelopes, now)))
    }

    fn fetch(
        &self,
        mailbox: MailboxId,
        device: DeviceId,
        after: Option<EntryId>,
        window: Window,
        now: Timestamp,
    ) -> Answer<'_, Fetched> {
        Box::pin(self.read(move |view| view.fetch(&mailbox, &device, after, window, now)))
    }

    fn acknowledge(&self, mailbox: MailboxId, device: DeviceId, entries: Vec<EntryId>) -> Answer<'_, usize> {
        Box::pin(
            self.write(Load::ending(entries.len()), move |group| {
                group.acknowledge(&mailbox, &device, &entries)
            }),
        )
    }

    fn unacknowledged(
        &self,
        mailbox: MailboxId,
        device: DeviceId,
        entries: Vec<EntryId>,
    ) -> Answer<'_, Vec<EntryId>> {
        Box::pin(self.read(move |view| view.unacknowledged(&mailbox, &device, entries)))
    }

    fn enqueue(
        &self,
        destination: Domain,
        addressed: Domain,
        envelopes: Vec<Envelope>,
        now: Timestamp,
    ) -> Answer<'_, Vec<Enqueued>> {
        let load = Load::taking(&envelopes);
        Box::pin(self.write(load, move |group| group.enqueue(&destination, &addressed, &envelopes, now)))
    }

    fn put_binding(&self, binding: Binding, is_here: bool) -> Answer<'_, Rebound> {
        Box::pin(self.write(Load::SMALL, move |group| group.put_binding(&binding, is_here)))
    }

    fn holding(&self, after: Option<MailboxId>, count: usize) -> Answer<'_, Vec<MailboxId>> {
        Box::pin(self.read(move |view| view.holding(after, count)))
    }

    fn held(&self, mailbox: MailboxId, window: Window) -> Answer<'_, Vec<Entry>> {
        Box::pin(self.read(move |view| view.held(&mailbox, window)))
    }

    fn release_held(&self, mailbox: MailboxId, serial: u64, entries: Vec<Entry>) -> Answer<'_, ()> {
        let load = Load::ending(entries.len());
        Box::pin(self.write(load, move |group| group.release_held(&mailbox, serial, &entries)))
    }

    fn learn(&self, binding: Binding, told_by: Domain, until: Timestamp) -> Answer<'_, Binding> {
        Box::pin(self.write(Load::SMALL, move |group| group.learn(&binding, told_by, until)))
    }

    fn learnt(&self, addresses: Vec<(MailboxId, Domain)>) -> Answer<'_, Vec<Option<Binding>>> {
        Box::pin(async move {
            if self.learnt.load(Relaxed) == 0 {
                return Ok(vec![None; addresses.len()]);
            }
            self.read(move |view| view.learnt(&addresses)).await
        })
    }

    fn enqueue_onward(
        &self,
        destination: Domain,
        envelopes: Vec<SentOn>,
        now: Timestamp,
    ) -> Answer<'_, Vec<Enqueued>> {
        let bytes = envelopes.iter().map(|sent_on| sent_on.envelope.encoded().len()).sum();
        let load = Load { bytes, ..Load::ending(envelopes.len()) };
        Box::pin(self.write(load, move |group| group.enqueue_onward(&destination, &envelopes, now)))
    }

    fn lease(
        &self,
        destination: Domain,
        window: Window,
        now: Timestamp,
        until: Timestamp,
    ) -> Answer<'_, Vec<Leased>> {
        let leases = Arc::clone(&self.leases);
        Box::pin(self.read(move |view| leases::lease(&leases, view, &destination, window, now, until)))
    }

    fn lease_laden(&self, destination: Domain, until: Timestamp) -> Answer<'_, Option<Leased>> {
        let leases = Arc::clone(&self.leases);
        Box::pin(self.read(move |view| leases::lease_laden(&leases, view, &destination, until)))
    }

    fn prolong(&self, destination: &Domain, item: ItemId, lease: LeaseId, until: Timestamp) {
        lock(&self.leases).prolong(destination, item, lease, until);
    }

    fn reserve_attachment(
        &self,
        attachment: Attachment,
        now: Timestamp,
    ) -> Answer<'_, Option<AttachmentState>> {
        Box::pin(self.write(Load::SMALL, move |group| group.reserve(&attachment, None, now)))
    }

    fn offer_attachments(
        &self,
        origin: Domain,
        mailbox: MailboxId,
        envelope: EnvelopeId,
        attachments: Vec<Attachment>,
        now: Timestamp,
    ) -> Answer<'_, Offered> {
        Box::pin(
            self.write(Load::SMALL, move |group| {
                group.offer(&origin, &mailbox, &envelope, &attachments, now)
            }),
        )
    }

    fn put_chunk(&self, id: AttachmentId, file: FileId, chunk: Chunk, now: Timestamp) -> Answer<'_, bool> {
        Box::pin(
            self.write(Load::SMALL, move |group| group.put_chunk(&id, file, chunk.number, chunk.digest, now)),
        )
    }

    fn attachment(&self, id: AttachmentId) -> Answer<'_, Option<AttachmentState>> {
        Box::pin(self.read(move |view| view.attachment(&id)))
    }

    fn chunks(&self, id: AttachmentId) -> Answer<'_, Vec<Chunk>> {
        Box::pin(self.read(move |view| view.chunks(&id)))
    }

    fn chunk(&self, id: AttachmentId, number: u32) -> Answer<'_, Option<[u8; 32]>> {
        Box::pin(self.read(move |view| view.chunk(&id, number)))
    }

    fn pin(&self, ids: Vec<AttachmentId>) -> Pinned {
        self.pins.pin(ids)
    }

    fn abandon_attachment(&self, id: AttachmentId) -> Answer<'_, Abandoned> {
        Box::pin(self.write(Load::SMALL, move |group| group.abandon(&id)))
    }

    fn attachment_bytes(&self) -> Answer<'_, u64> {
        Box::pin(self.read(View::attachment_bytes))
    }

    fn doomed(&self, after: Option<FileId>, count: usize) -> Answer<'_, Vec<Doomed>> {
        Box::pin(self.read(move |view| view.doomed(after, count)))
    }

    fn forget_doomed(&self, files: Vec<FileId>) -> Answer<'_, ()> {
        Box::pin(self.write(Load::ending(files.len()), move |group| {
            files.into_iter().for_each(|file| group.forget_doomed(file));
            Ok(())
        }))
    }

    fn settle(
        &self,
        destination: Domain,
        settlements: Vec<Settlement>,
        now: Timestamp,
    ) -> Answer<'_, Vec<bool>> {
        Box::pin(self.write(Load::ending(settlements.len()), move |group| {
            group.settle(&destination, &settlements, now)
        }))
    }

    fn destinations(&self) -> Answer<'_, Vec<Destination>> {
        let leases = Arc::clone(&self.leases);
        Box::pin(self.read(move |view| view.destinations(&leases)))
    }

    fn destination(&self, domain: Domain) -> Answer<'_, Option<Destination>> {
        let leases = Arc::clone(&self.leases);
        Box::pin(self.read(move |view| view.destination(domain, &leases)))
    }

    fn put_backoff(&self, destination: Domain, backoff: Option<Backoff>) -> Answer<'_, ()> {
        Box::pin(self.write(Load::SMALL, move |group| group.put_backoff(&destination, backoff)))
    }

    fn fail(&self, destination: Domain, backoff: Backoff, now: Timestamp) -> Answer<'_, ()> {
        Box::pin(self.write(Load::SMALL, move |group| group.fail(&destination, backoff, now)))
    }

    fn history(&self, destination: Domain) -> Answer<'_, Vec<Met>> {
        Box::pin(self.read(move |view| view.history(&destination)))
    }

    fn answers(&self, id: TrackingId) -> Answer<'_, Vec<Met>> {
        Box::pin(self.read(move |view| view.answers(&id)))
    }

    fn pause(&self, destination: Domain, since: Option<Timestamp>) -> Answer<'_, ()> {
        Box::pin(self.write(Load::SMALL, move |group| group.pause(&destination, since)))
    }

    fn queued(
        &self,
        destination: Domain,
        after: Option<ItemId>,
        count: usize,
        now: Timestamp,
    ) -> Answer<'_, Vec<Queued>> {
        let leases = Arc::clone(&self.leases);
        Box::pin(self.read(move |view| view.queued(&destination, after, count, now, &leases)))
    }

    fn queued_envelopes(
        &self,
        destination: Domain,
        after: Option<ItemId>,
        window: Window,
        now: Timestamp,
    ) -> Answer<'_, Vec<(Queued, Envelope)>> {
        let leases = Arc::clone(&self.leases);
        Box::pin(self.read(move |view| view.queued_envelopes(&destination, after, window, now, &leases)))
    }

    fn hasten(&self, destination: Domain, items: Vec<ItemId>, now: Timestamp) -> Answer<'_, usize> {
        Box::pin(self.write(Load::ending(items.len()), move |group| group.hasten(&destination, &items, now)))
    }

    fn discard(&self, destination: Domain, items: Vec<ItemId>, now: Timestamp) -> Answer<'_, usize> {
        Box::pin(self.write(Load::ending(items.len()), move |group| group.discard(&destination, &items, now)))
    }

    fn discard_quarantined(&self, destination: Domain, item: ItemId) -> Answer<'_, bool> {
        Box::pin(self.write(Load::SMALL, move |group| group.end_quarantine(&destination, item)))
    }

    fn tracking(&self, id: TrackingId) -> Answer<'_, Option<Tracking>> {
        let leases = Arc::clone(&self.leases);
        Box::pin(self.read(move |view| view.tracking(&id, &leases)))
    }

    fn quarantined(&self, destination: Domain) -> Answer<'_, Vec<Quarantined>> {
        Box::pin(self.read(move |view| view.quarantined(&destination)))
    }

    fn expire(&self, now: Timestamp, budget: usize) -> Answer<'_, Expiry> {
        Box::pin(async move {
            let expired = self.write(Load::ending(budget), move |group| group.expire(now, budget)).await?;
            if !expired.more && self.statistics.unreadable.count() > 0 {
                let forget = |view: &View<K>| {
                    view.unreadable().forget_gone(view.kv());
                    Ok(())
                };
                // That it cannot be found out changes nothing of what has expired.
                let _ = self.read(forget).await;
            }
            Ok(expired)
        })
    }

    fn watch(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            self.lanes.close(answer);
            // Where the writer has gone, somebody else has closed the store.
            answered.await.unwrap_or(Ok(()))
        })
    }
}
