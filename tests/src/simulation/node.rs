//! One simulated relay: what outlives its process, and its process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use postrider::core::{Core, Parts};
use postrider::delivery::Settings;
use postrider::store::simulated::{Broken, Simulated, Step, Steps};
use postrider::store::{MemoryDisk, Store, StoreError, StoreLimits, Window};
use postrider_common::Domain;
use postrider_common::limits::EnvelopeLimits;
use postrider_common::supervisor::Supervisor;
use tokio::time::{sleep, timeout};

use super::files::collect;
use super::ledger::Ledger;
use super::network::{Caller, Network};
use super::source::{SharedDice, SimulatedClock};

/// How long a relay that is told to stop waits for others, and then again for itself.
const DRAIN: Duration = Duration::from_secs(15);

/// A relay's machine: its disk, its clock, and the process that runs on it, or none.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) number: u8,
    pub(super) domain: Domain,
    pub(super) disk: MemoryDisk,
    pub(super) clock: Arc<SimulatedClock>,
    limits: StoreLimits,
    delivery: Settings,
    broken: Option<Broken>,
    dice: Arc<SharedDice>,
    ledger: Arc<Ledger>,
    /// At which step the process is to die, and how many times it is to reach that first.
    crash: Mutex<Option<(Step, u8)>>,
    life: Mutex<Option<Arc<Life>>>,
    /// Those of the last process's tasks of which it is not certain yet that they have ended.
    ending: Mutex<Vec<Supervisor>>,
}

/// A relay's process.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) core: Core,
    pub(super) store: Arc<dyn Store>,
    pub(super) supervisor: Supervisor,
    /// Whose only task is the store's writer, which outlives the others when a relay stops in order.
    writer: Supervisor,
    /// It takes no more requests.
    is_stopping: AtomicBool,
}

impl Node {
    pub(super) fn new(
        number: u8,
        clock: SimulatedClock,
        dice: SharedDice,
        broken: Option<Broken>,
        ledger: Arc<Ledger>,
    ) -> Option<Self> {
        let (limits, delivery) = dice.with(|dice| {
            let (small_mailbox, small_queue) = (dice.once_in(4), dice.once_in(6));
            let limits = StoreLimits {
                mailbox_entries: if small_mailbox { dice.between(2, 8) as u64 } else { 10_000 },
                queue_items: if small_queue { dice.between(3, 12) as u64 } else { 1_000_000 },
                ..StoreLimits::default()
            };
            let delivery = Settings {
                batch: Window { count: dice.between(1, 8), bytes: 1 << 20 },
                batches_in_flight: dice.between(1, 8),
                attempt: Duration::from_secs(90),
                ..Settings::default()
            };
            (limits, delivery)
        });
        Some(Self {
            number,
            domain: format!("r{number}.example").parse().ok()?,
            disk: MemoryDisk::new(),
            clock: Arc::new(clock),
            limits,
            delivery,
            broken,
            dice: Arc::new(dice),
            ledger,
            crash: Mutex::default(),
            life: Mutex::default(),
            ending: Mutex::default(),
        })
    }

    /// Its process, if it takes requests.
    pub(super) fn life(&self) -> Option<Arc<Life>> {
        lock(&self.life).clone().filter(|life| !life.is_stopping.load(Ordering::Relaxed))
    }

    /// Whether it has no process at all.
    pub(super) fn is_down(&self) -> bool {
        lock(&self.life).is_none()
    }

    /// Starts it, if it is down. Its peers are greeted, as by the daemon.
    pub(super) fn start(self: &Arc<Self>, network: &Arc<Network>, peers: &[Domain]) {
        if !self.is_down() {
            return;
        }
        *lock(&self.crash) = None;
        let (supervisor, writer) = (Supervisor::new(), Supervisor::new());
        let options = Simulated {
            limits: self.limits,
            random: self.dice.clone(),
            steps: Arc::new(Pauses(Arc::downgrade(self))),
            broken: self.broken,
        };
        let store = match self.disk.simulate(options, &writer) {
            Ok(store) => store,
            Err(error) => return self.ledger.store_failed(self.number, &error),
        };
        let core = Core::start(Parts {
            domain: self.domain.clone(),
            limits: EnvelopeLimits::default(),
            registration: postrider::config::RegistrationPolicy::Open,
            delivery: self.delivery,
            store: Arc::clone(&store),
            forward: Arc::new(Caller { network: Arc::downgrade(network), from: self.number }),
            clock: self.clock.clone(),
            random: self.dice.clone(),
            supervisor: supervisor.clone(),
        });
        core.expire(|| {});
        core.delivery().greet(peers.iter().filter(|peer| **peer != self.domain).cloned());
        self.ledger.note(format_args!("{} starts", self.number));
        let is_stopping = AtomicBool::new(false);
        let life = Arc::new(Life { core, store, supervisor, writer, is_stopping });
        let collecting = collect(self.number, Arc::clone(&life), Arc::clone(&self.ledger));
        life.supervisor.spawn("collector", collecting);
        *lock(&self.life) = Some(life);
    }

    /// Its process dies at once.
    pub(super) fn die(&self) {
        let Some(life) = lock(&self.life).take() else { return };
        self.ledger.note(format_args!("{} dies", self.number));
        self.ledger.books().counts.crashes += 1;
        self.end(&life);
    }

    /// Its process will die at a step of its writer's.
    pub(super) fn die_at(&self, step: Step, time: u8) {
        *lock(&self.crash) = Some((step, time));
    }

    /// It is not to die any more.
    pub(super) fn spare(&self) {
        *lock(&self.crash) = None;
    }

    /// It stops as the daemon does: no new requests, then what is under way ends, then the store is closed.
    pub(super) async fn stop(&self) {
        let Some(life) = self.life() else { return };
        self.ledger.note(format_args!("{} stops", self.number));
        life.is_stopping.store(true, Ordering::Relaxed);
        life.supervisor.stop();
        if timeout(DRAIN, life.supervisor.finished()).await.is_err() {
            life.supervisor.hurry();
            if timeout(DRAIN, life.supervisor.finished()).await.is_err() {
                self.ledger.violation(format!("relay {} does not end", self.number));
            }
        }
        let closed = life.store.close().await;
        // It may have died over that.
        if lock(&self.life).take().is_some() {
            if let Err(error) = closed {
                self.ledger.store_failed(self.number, &error);
            }
            self.end(&life);
        }
    }

    /// Waits until nothing is left of the process before, nor of what that did not flush.
    pub(super) async fn bury(&self) {
        let ending = std::mem::take(&mut *lock(&self.ending));
        for supervisor in ending {
            supervisor.finished().await;
        }
    }

    fn end(&self, life: &Life) {
        self.check(life);
        life.supervisor.kill();
        life.writer.kill();
        lock(&self.ending).extend([life.supervisor.clone(), life.writer.clone()]);
    }

    /// A task that ended by itself is a fault of the relay's.
    pub(super) fn check(&self, life: &Life) {
        for supervisor in [&life.supervisor, &life.writer] {
            if let Some(failure) = supervisor.failure() {
                self.ledger.violation(format!("relay {}: {failure}", self.number));
            }
        }
    }

    /// When its process is to die at `step`, this is where.
    fn reach(&self, step: Step) {
        let mut crash = lock(&self.crash);
        match &mut *crash {
            Some((at, times)) if *at == step => *times = times.saturating_sub(1),
            _ => return,
        }
        if matches!(*crash, Some((_, 0))) {
            *crash = None;
            drop(crash);
            self.ledger.note(format_args!("{} is at {step:?}", self.number));
            self.die();
        }
    }
}

/// Lets others act, and sometimes time pass, between the steps of a relay's writer.
#[derive(Debug)]
struct Pauses(Weak<Node>);

impl Steps for Pauses {
    fn reach(&self, step: Step) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Some(node) = self.0.upgrade() else { return };
            let pause = node.dice.with(|dice| match dice.below(10) {
                0..=5 => Duration::ZERO,
                6..=8 => dice.millis(1, 4),
                _ => dice.millis(5, 60),
            });
            if pause.is_zero() {
                tokio::task::yield_now().await;
            } else {
                sleep(pause).await;
            }
            node.reach(step);
            // If that was the end, this task does not come back from here.
            tokio::task::yield_now().await;
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A store that has failed under a relay that is alive.
pub(super) fn is_failure(error: &StoreError) -> bool {
    *error != StoreError::Closed
}
