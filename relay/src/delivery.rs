//! Empties the outbound queue: one worker for each destination that has something waiting.
//!
//! Workers share the store, the outlook, and a budget of memory from which each needs nothing for its first batch, so
//! that a dead, slow or hostile destination delays no other. A worker leases what it sends and settles what was answered; if the process dies in between, the lease is gone with it
//! and the envelopes are sent again under the same ids. What an answer means is decided in [`queue`](crate::queue).
//!
//! Where several things have happened, they are looked at in a fixed order (`biased`), so that with the same time, the
//! same random bytes and the same answers everything comes out the same.

mod attempt;
mod greeting;
mod held;
mod moved;
mod transfer;
mod waiting;
mod wake;
mod worker;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use postrider_common::clock::SharedClock;
use postrider_common::random::{SharedRandom, fraction_of};
use postrider_common::supervisor::Supervisor;
use postrider_common::{Domain, Envelope, Failure, FailureClass, Outcome, Timestamp};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;

use crate::count::{ByClass, Counter};
use crate::queue::{Outlook, Turn};
use crate::store::{Change, Settlement, Store, StoreError, Verdict, Window};
use wake::Wake;
use worker::Worker;

/// The way to other relays.
pub trait Forward: fmt::Debug + Send + Sync + 'static {
    /// Whether policy lets envelopes go there at all.
    fn admit(&self, destination: &Domain) -> Result<(), Failure>;

    /// Offers envelopes to their destination: one outcome each, in order, or the failure of the whole attempt.
    /// It ends within [`Settings::attempt`].
    fn forward<'a>(
        &'a self,
        destination: &'a Domain,
        envelopes: &'a [Envelope],
    ) -> BoxFuture<'a, Result<Vec<Outcome>, Failure>>;

    /// Brings the attachments of an envelope ahead of it, as far as the destination lacks them. `progress` is called with
    /// every step: as long as that happens there is no end to the time that it may take. A failure concerns the
    /// destination.
    fn bring<'a>(
        &'a self,
        _destination: &'a Domain,
        _envelope: &'a Envelope,
        _progress: &'a (dyn Fn() + Send + Sync),
    ) -> BoxFuture<'a, Result<Brought, Failure>> {
        Box::pin(async { Ok(Brought::Whole) })
    }

    /// Shows a peer that we are there, so that it need not wait any longer.
    fn greet<'a>(&'a self, peer: &'a Domain) -> BoxFuture<'a, Result<(), Failure>>;

    /// What is said of a destination at present: where it is, and by what it is known. Another value means that
    /// something has changed; none, that it cannot be told.
    fn fingerprint<'a>(&'a self, destination: &'a Domain) -> BoxFuture<'a, Option<u64>>;
}

/// What came of bringing attachments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Brought {
    /// The destination has them, or does not want them: the envelope's outcome tells.
    Whole,
    /// It takes no more of them now. Other envelopes are not concerned.
    Later(Outcome),
    /// It fails at attachments. Envelopes without any are not concerned.
    NotNow(Failure),
}

/// How deliveries are carried out.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The most that one batch has,
    pub batch: Window,
    /// and how many envelopes while other destinations are served too: none waits behind a long batch of another's.
    pub shared_batch: usize,
    /// Batches under way to one destination.
    pub batches_in_flight: usize,
    /// The longest that one attempt takes. Leases are twice as long.
    pub attempt: Duration,
    /// How long a worker without work stays.
    pub idle: Duration,
    /// Memory for the batches under way, of all destinations together, beyond the first of each.
    pub in_flight_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch: Window { count: 256, bytes: 4 << 20 },
            shared_batch: 64,
            batches_in_flight: 8,
            attempt: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            in_flight_bytes: 64 << 20,
        }
    }
}

/// The delivery service. Clones share the workers.
#[derive(Debug, Clone)]
pub struct Delivery(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The relay's own.
    domain: Domain,
    store: Arc<dyn Store>,
    forward: Arc<dyn Forward>,
    clock: SharedClock,
    random: SharedRandom,
    supervisor: Supervisor,
    settings: Settings,
    workers: Mutex<HashMap<Domain, Arc<Wake>>>,
    outlook: Mutex<Outlook>,
    /// In KiB, what is left of [`Settings::in_flight_bytes`].
    budget: Arc<Semaphore>,
    /// Envelopes with attachments under way, of all destinations together.
    transfers: Arc<Semaphore>,
    counts: Counts,
}

/// What became of queued envelopes and of deliveries, since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Envelopes that their destination has taken.
    pub forwarded: Counter,
    /// Envelopes that were given up.
    pub failed: ByClass,
    /// Envelopes whose time was over when they were to be sent.
    pub expired: Counter,
    /// Deliveries that failed as a whole.
    pub failures: ByClass,
}

impl Counts {
    fn count(&self, verdicts: impl Iterator<Item = Verdict>) {
        for verdict in verdicts {
            match verdict {
                Verdict::Delivered => self.forwarded.add(1),
                Verdict::Failed(class) | Verdict::Quarantined(class) => self.failed.add(class, 1),
                Verdict::Expired => self.expired.add(1),
                Verdict::Retry { .. } | Verdict::Moved(_) | Verdict::Released => {}
            }
        }
    }
}

impl Delivery {
    /// Starts the service: at once for what the queue holds, and then for what it gets.
    pub fn start(
        domain: Domain,
        store: Arc<dyn Store>,
        forward: Arc<dyn Forward>,
        clock: SharedClock,
        random: SharedRandom,
        supervisor: &Supervisor,
        settings: Settings,
    ) -> Self {
        let delivery = Self(Arc::new(Shared {
            domain,
            store,
            forward,
            clock,
            random,
            supervisor: supervisor.clone(),
            settings,
            workers: Mutex::default(),
            outlook: Mutex::default(),
            budget: Arc::new(Semaphore::new(settings.in_flight_bytes / 1024)),
            transfers: Arc::new(Semaphore::new(transfer::ALL)),
            counts: Counts::default(),
        }));
        let service = delivery.clone();
        delivery.0.supervisor.spawn_service("delivery", async move { service.watch().await });
        let sender = delivery.clone();
        delivery.0.supervisor.spawn_service("held envelopes", async move { sender.send_held().await });
        delivery
    }

    /// The peer has proven that it is up: if it failed, it is tried at once.
    pub fn peer_is_up(&self, peer: &Domain) {
        // Without a worker it does not fail, or is due to be tried anyway. A stranger's call costs no more than this.
        if let Some(wake) = self.workers().get(peer) {
            wake.reset();
        }
    }

    /// Other relays are shown another certificate of ours: whoever refused the one of before is tried at once.
    pub fn our_certificate_has_changed(&self) {
        self.workers().values().for_each(|wake| wake.recertified());
    }

    /// An operator wants a destination to be tried at once: all that was held against it is forgotten.
    pub fn retry(&self, destination: &Domain) {
        self.wake_of(destination.clone()).forget();
    }

    /// Holds a destination back, or no longer. What is under way to it still ends; what comes for it is kept.
    pub async fn pause(&self, destination: &Domain, is_paused: bool) -> Result<(), StoreError> {
        let since = is_paused.then(|| self.0.clock.now());
        self.0.store.pause(destination.clone(), since).await?;
        self.wake_of(destination.clone()).steer();
        Ok(())
    }

    /// The clock was set back: whatever waits by the earlier time is tried at once.
    pub fn clock_was_set_back(&self) {
        self.workers().values().for_each(|wake| wake.reset());
    }

    /// What became of what was queued.
    pub fn counts(&self) -> &Counts {
        &self.0.counts
    }

    /// Whether nobody can be reached, so that the fault is this relay's own.
    pub fn fault_is_local(&self) -> bool {
        self.outlook().is_local()
    }

    /// Starts a worker wherever the queue gets something.
    async fn watch(self) {
        let stopping = self.0.supervisor.stopping();
        tokio::pin!(stopping);
        // Subscribed before the first look, so that nothing falls between the two.
        let mut changes = self.0.store.watch();
        self.look_everywhere().await;
        loop {
            tokio::select! {
                biased;
                () = &mut stopping => return,
                change = changes.recv() => match change {
                    Ok(Change::Enqueued(destination)) => self.nudge(destination),
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => self.look_everywhere().await,
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    async fn look_everywhere(&self) {
        loop {
            match self.0.store.destinations().await {
                Ok(destinations) => {
                    // A back-off without items has a worker too: it is there to hear that the peer is up.
                    let waiting = destinations
                        .into_iter()
                        .filter(|destination| destination.items > 0 || destination.backoff.is_some());
                    return waiting.for_each(|destination| self.nudge(destination.domain));
                }
                Err(error) => {
                    tracing::error!("the queue cannot be read: {error}");
                    tokio::select! {
                        biased;
                        () = self.0.clock.sleep(worker::AFTER_STORE_ERROR) => {}
                        () = self.0.supervisor.stopping() => return,
                    }
                }
            }
        }
    }

    /// Wakes the destination's worker, or starts one.
    fn nudge(&self, destination: Domain) {
        self.wake_of(destination).nudge();
    }

    /// What wakes the destination's worker, which is started if there is none.
    fn wake_of(&self, destination: Domain) -> Arc<Wake> {
        let mut workers = self.workers();
        if let Some(wake) = workers.get(&destination) {
            return Arc::clone(wake);
        }
        let wake = Arc::new(Wake::default());
        workers.insert(destination.clone(), Arc::clone(&wake));
        drop(workers);
        let worker = Worker::new(self.clone(), destination, Arc::clone(&wake));
        self.0.supervisor.spawn("delivery to a destination", worker.run());
        wake
    }

    /// A destination has failed since `since`; whether the fault is our own.
    fn note_failed(&self, destination: &Domain, class: FailureClass, since: Timestamp) -> bool {
        let now = self.0.clock.now();
        let mut outlook = self.outlook();
        let turn = outlook.failed(destination, class, since, now);
        let is_local = outlook.is_local();
        drop(outlook);
        self.follow(turn);
        is_local
    }

    fn note_succeeded(&self, destination: &Domain) {
        let turn = self.outlook().succeeded(destination, self.0.clock.now());
        self.follow(turn);
    }

    fn note_waiting(&self, destination: &Domain) {
        self.outlook().waits(destination);
    }

    fn note_nothing_waits(&self, destination: &Domain) {
        let turn = self.outlook().forget(destination);
        self.follow(turn);
    }

    fn follow(&self, turn: Option<Turn>) {
        match turn {
            None => {}
            Some(Turn::Local) => tracing::error!(
                "no other relay for which something waits can be found or connected to: check this relay's network, \
                 its firewall and its DNS servers; everything is kept and tried again every minute"
            ),
            Some(Turn::Over(waiting)) => {
                tracing::info!("another relay was reached again: the fault here is over");
                for destination in waiting {
                    self.peer_is_up(&destination);
                }
            }
        }
    }

    /// Ends leases, and counts how: not what comes too late to matter.
    async fn settle(
        &self,
        destination: &Domain,
        settlements: Vec<Settlement>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let verdicts: Vec<_> = settlements.iter().map(|settlement| settlement.verdict).collect();
        let counted = self.0.store.settle(destination.clone(), settlements, now).await?;
        let verdicts = verdicts.into_iter().zip(counted);
        self.0.counts.count(verdicts.filter_map(|(verdict, has_counted)| has_counted.then_some(verdict)));
        Ok(())
    }

    /// Takes a worker off the list. What is enqueued from now on starts a new one; what was before, the caller
    /// looks for after this.
    fn retire(&self, destination: &Domain) {
        self.workers().remove(destination);
    }

    /// From 0 to 1: so that relays that failed together do not come again together.
    fn jitter(&self) -> f64 {
        fraction_of(&*self.0.random)
    }

    fn outlook(&self) -> MutexGuard<'_, Outlook> {
        // As below.
        self.0.outlook.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn workers(&self) -> MutexGuard<'_, HashMap<Domain, Arc<Wake>>> {
        // No code that can panic runs under this lock half way through a change.
        self.0.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
