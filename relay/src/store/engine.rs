//! The store over any key-value engine: it passes operations to the writer, and reads what is durable.

mod opening;
mod operations;

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use postrider_common::random::{SharedRandom, SystemRandom};
use postrider_common::supervisor::Supervisor;
use tokio::sync::{Semaphore, broadcast, oneshot};

use self::opening::{count_learnt, prepare};
use super::attachments::Pins;
use super::group::{Group, Rules};
use super::kv::Kv;
#[cfg(feature = "simulation")]
use super::lanes::Taker;
use super::lanes::{Job, Lanes, Load};
use super::leases::Leases;
use super::marks::Marks;
use super::space::Space;
use super::view::View;
use super::writer::{Answerer, NAME, Slot, Writer};
use super::{Change, Sizes, Statistics, StoreError, StoreLimits};

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
        let statistics = Arc::new(Statistics::default());
        let view = Arc::new(View::new(kv, Arc::clone(&statistics)));
        let slot = Arc::new(RwLock::new(Some(Arc::clone(&view))));
        let leases = Arc::new(Mutex::new(Leases::default()));
        let changes = broadcast::Sender::new(WATCHED_CHANGES);
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
