//! The store over any key-value engine: it passes operations to the writer, and reads what is durable.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use postrider_common::random::{Random, SharedRandom, SystemRandom, bytes_of};
use postrider_common::secret::Secret;
use postrider_common::supervisor::Supervisor;
use postrider_common::wire::mailbox::Entry;
use postrider_common::{
    Attachment, AttachmentId, Binding, DeviceId, Domain, EntryId, Envelope, EnvelopeId, InviteId, MailboxId,
    Outcome, Timestamp, TrackingId,
};
use tokio::sync::{Semaphore, broadcast, oneshot};

use super::attachments::{Pinned, Pins};
use super::group::{Group, Rules};
use super::keys;
use super::kv::{Key, Kv, Write};
#[cfg(feature = "simulation")]
use super::lanes::Taker;
use super::lanes::{Job, Lanes, Load};
use super::leases::{self, Leases};
use super::marks::Marks;
use super::queue::lock;
use super::records;
use super::space::Space;
use super::view::View;
use super::writer::{Answerer, NAME, Slot, Writer};
use super::{
    Abandoned, Answer, AttachmentState, Backoff, Change, Chunk, Destination, DeviceState, Doomed, Enqueued,
    Expiry, Fetched, FileId, Invited, ItemId, LeaseId, Leased, MailboxState, Met, Offered, Permit,
    Quarantined, Queued, Rebound, Registration, SentOn, Settlement, Sizes, Statistics, Store, StoreError,
    StoreLimits, Tracking, Window,
};

/// How many KiB of envelopes wait for the writer before those who bring more have to wait themselves,
const WAITING_KIB: u32 = 64 << 10;
/// and what an operation with fewer counts for: there are at most 1,024 of them.
const LEAST_KIB: u32 = WAITING_KIB / 1024;
/// How many changes a receiver may lag behind.
const WATCHED_CHANGES: usize = 4096;

/// How an embedded store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How much it takes, and for how long.
    pub limits: StoreLimits,
    /// Memory for what was read from the disk.
    pub cache_bytes: u64,
    /// Free disk below which no new envelopes are taken. Zero: all of it may be used.
    pub reserve_bytes: u64,
    /// Of the parts that it is made of.
    pub sizes: Sizes,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: StoreLimits::default(),
            cache_bytes: 32 << 20,
            reserve_bytes: 256 << 20,
            sizes: Sizes::default(),
        }
    }
}

/// A store over the engine `K`.
///
/// When it is dropped, it waits for the writer to end what it was given.
pub(crate) struct Engine<K: Kv> {
    lanes: Arc<Lanes<K>>,
    waiting: Arc<Semaphore>,
    slot: Slot<K>,
    leases: Arc<Mutex<Leases>>,
    /// How many bindings were learnt: mostly none, and then nothing has to be read.
    learnt: Arc<AtomicU64>,
    pins: Pins,
    changes: broadcast::Sender<Change>,
    statistics: Arc<Statistics>,
    /// The writer's thread, if it has one.
    writer: Option<JoinHandle<()>>,
}

/// The engine, and the writer that somebody has to run.
pub(super) type Assembled<K> = (Engine<K>, Writer<K>);

impl<K: Kv> Engine<K> {
    /// Opens what is on `kv`, or makes it a store if it is empty.
    pub(crate) fn open(kv: Arc<K>, options: &Options, supervisor: &Supervisor) -> Result<Self, StoreError> {
        let (mut engine, writer) = Self::assemble(kv, options, supervisor, Arc::new(SystemRandom))?;
        let lanes = engine.lanes.taker();
        let writer = std::thread::Builder::new()
            .name(NAME.into())
            .spawn(move || writer.run(lanes))
            .map_err(|error| StoreError::Io(error.to_string()))?;
        engine.writer = Some(writer);
        Ok(engine)
    }

    /// The same without a thread.
    pub(super) fn assemble(
        kv: Arc<K>,
        options: &Options,
        supervisor: &Supervisor,
        random: SharedRandom,
    ) -> Result<Assembled<K>, StoreError> {
        let secret = prepare(&*kv, &*random)?;
        let learnt = Arc::new(AtomicU64::new(count_learnt(&*kv)?));
        let pins = Pins::default();
        let rules = Rules {
            marks: Marks::load(&*kv, secret, options.limits.mark_retention)?,
            limits: options.limits,
            space: Space::new(options.reserve_bytes),
            learnt: Arc::clone(&learnt),
            pins: pins.clone(),
            random,
            refused: None,
        };
        let view = Arc::new(View::new(kv));
        let slot = Arc::new(RwLock::new(Some(Arc::clone(&view))));
        let leases = Arc::new(Mutex::new(Leases::default()));
        let changes = broadcast::Sender::new(WATCHED_CHANGES);
        let statistics = Arc::new(Statistics::default());
        let writer = Writer {
            view,
            slot: Arc::clone(&slot),
            rules,
            leases: Arc::clone(&leases),
            changes: changes.clone(),
            statistics: Arc::clone(&statistics),
            supervisor: supervisor.clone(),
        };
        let engine = Self {
            lanes: Arc::new(Lanes::new()),
            waiting: Arc::new(Semaphore::new(WAITING_KIB as usize)),
            slot,
            leases,
            learnt,
            pins,
            changes,
            statistics,
            writer: None,
        };
        Ok((engine, writer))
    }

    /// What the writer is given to do.
    #[cfg(feature = "simulation")]
    pub(super) fn taker(&self) -> Taker<K> {
        self.lanes.taker()
    }

    /// Has the writer run an operation.
    async fn write<T: Send + 'static>(
        &self,
        load: Load,
        operation: impl FnOnce(&mut Group<'_, K>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let kib = u32::try_from(load.bytes / 1024 + 1).unwrap_or(WAITING_KIB).clamp(LEAST_KIB, WAITING_KIB);
        let permit = Arc::clone(&self.waiting).acquire_many_owned(kib).await;
        let permit = permit.map_err(|_| self.ended())?;
        let (answer, answered) = oneshot::channel();
        let run = Box::new(move |group: &mut Group<'_, K>| {
            let result = group.step(operation);
            Box::new(move |durable: Result<(), StoreError>| {
                // Nobody waits any more: the write has happened all the same.
                let _ = answer.send(durable.and(result));
            }) as Answerer
        });
        self.lanes.put(Job { run, load, permit });
        answered.await.map_err(|_| self.ended())?
    }

    /// Reads what is durable: on the spot if it is in memory, and elsewhere, so that the runtime is not held up, if that is
    /// to be expected to take a disk's time.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View<K>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let view = self.slot.read().unwrap_or_else(PoisonError::into_inner).clone();
        let view = view.ok_or(StoreError::Closed)?;
        if !view.kv().is_cold() {
            return read(&view);
        }
        match tokio::task::spawn_blocking(move || read(&view)).await {
            Ok(result) => result,
            Err(error) => Err(StoreError::Io(format!("a read did not end: {error}"))),
        }
    }

    /// Why the writer does not answer.
    fn ended(&self) -> StoreError {
        if self.is_closed() { StoreError::Closed } else { StoreError::Io("the store's writer failed".into()) }
    }

    fn is_closed(&self) -> bool {
        self.slot.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// Checks the store's format, or gives an empty one its own; the key of the marks.
fn prepare<K: Kv>(kv: &K, random: &dyn Random) -> Result<Secret<32>, StoreError> {
    match kv.get(keys::FORMAT)? {
        Some(format) => {
            let found = records::decode_format(&format)?;
            if found > records::FORMAT {
                return Err(StoreError::TooNew { found, supported: records::FORMAT });
            }
            if found < records::FORMAT {
                return Err(StoreError::Damaged(
                    "it was written by a version before the first release".into(),
                ));
            }
            let secret = kv
                .get(keys::SECRET)?
                .ok_or_else(|| StoreError::Damaged("the key of the marks is missing".into()))?;
            records::decode(&secret).map(Secret::new)
        }
        None => {
            let secret: [u8; 32] = bytes_of(random);
            kv.apply(vec![
                (Key::from_slice(keys::FORMAT), Write::Put(records::encode_format())),
                (Key::from_slice(keys::SECRET), Write::Put(records::encode(&secret))),
            ])?;
            kv.flush()?;
            Ok(Secret::new(secret))
        }
    }
}

/// There are few enough to be counted when the store is opened.
fn count_learnt<K: Kv>(kv: &K) -> Result<u64, StoreError> {
    const PAGE: usize = 1024;
    let (mut count, mut start) = (0, Key::from_slice(&[keys::LEARNT_ENDS]));
    let end = keys::end_of(&start);
    loop {
        let page = kv.range(&start, &end, PAGE)?;
        count += page.len() as u64;
        match page.last() {
            Some((last, _)) if page.len() == PAGE => start = keys::next(last),
            _ => return Ok(count),
        }
    }
}

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

    fn suspend(&self, mailbox: MailboxId, since: Option<Timestamp>) -> Answer<'_, bool> {
        Box::pin(self.write(Load::SMALL, move |group| group.suspend(&mailbox, since)))
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
        Box::pin(self.write(Load::SMALL, move |group| group.remove_device(&mailbox, &device)))
    }

    fn unregister(&self, mailbox: MailboxId) -> Answer<'_, bool> {
        Box::pin(self.write(Load::SMALL, move |group| group.unregister(&mailbox)))
    }

    fn mailbox(&self, mailbox: MailboxId) -> Answer<'_, Option<MailboxState>> {
        Box::pin(self.read(move |view| view.mailbox(&mailbox)))
    }

    fn deposit(&self, envelopes: Vec<Envelope>, now: Timestamp) -> Answer<'_, Vec<Outcome>> {
        Box::pin(self.write(Load::taking(&envelopes), move |group| group.deposit(&envelopes, now)))
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

    fn enqueue(
        &self,
        destination: Domain,
        envelopes: Vec<Envelope>,
        now: Timestamp,
    ) -> Answer<'_, Vec<Enqueued>> {
        Box::pin(
            self.write(Load::taking(&envelopes), move |group| group.enqueue(&destination, &envelopes, now)),
        )
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
        Box::pin(self.read(move |view| leases::lease(&leases, view.kv(), &destination, window, now, until)))
    }

    fn lease_laden(&self, destination: Domain, until: Timestamp) -> Answer<'_, Option<Leased>> {
        let leases = Arc::clone(&self.leases);
        Box::pin(self.read(move |view| leases::lease_laden(&leases, view.kv(), &destination, until)))
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
        Box::pin(self.read(move |view| view.tracking(&id)))
    }

    fn quarantined(&self, destination: Domain) -> Answer<'_, Vec<Quarantined>> {
        Box::pin(self.read(move |view| view.quarantined(&destination)))
    }

    fn expire(&self, now: Timestamp, budget: usize) -> Answer<'_, Expiry> {
        Box::pin(self.write(Load::ending(budget), move |group| group.expire(now, budget)))
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

impl<K: Kv> Drop for Engine<K> {
    fn drop(&mut self) {
        self.lanes.hang_up();
        if let Some(writer) = self.writer.take() {
            // A panic of the writer's was told to the supervisor.
            let _ = writer.join();
        }
        *self.slot.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl<K: Kv> fmt::Debug for Engine<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("slot", &self.slot).finish_non_exhaustive()
    }
}
