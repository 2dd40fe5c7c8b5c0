//! A store in memory whose writer goes step by step: for simulations, with the feature `simulation` only.
//!
//! Everything is as in any other store, but for two things. The writer is a task and not a thread, so that with
//! all the others it takes its turns on one thread, in an order that can be repeated. And before each of its steps it asks
//! [`Steps`], which may let time pass, so that others act while a group is half done, or never answer, because the
//! relay has died there: then what was not flushed is gone with it.
//!
//! A rule can be broken on purpose, to see that a simulation notices.

mod broken;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use postrider_common::random::SharedRandom;
use postrider_common::supervisor::Supervisor;

use super::engine::{Engine, Options};
use super::kv::{Batch, Key, Kv};
use super::lanes::Taker;
use super::memory::MemoryKv;
use super::writer::{NAME, Writer};
use super::{MemoryDisk, Store, StoreError, StoreLimits};

pub use broken::Broken;

/// A step of the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// An operation has come, and with those that have come until this step is over it will be run.
    Taken,
    /// A group of operations was run, and what it comes to is written, and not flushed.
    Written,
    /// It is on stable storage. Nobody was told yet.
    Flushed,
}

/// Says when the writer goes on.
pub trait Steps: std::fmt::Debug + Send + Sync + 'static {
    /// The writer is at `step`, and goes on when this completes.
    fn reach(&self, step: Step) -> BoxFuture<'_, ()>;
}

/// How a simulated store is opened.
#[derive(Debug)]
pub struct Simulated {
    /// How much it takes, and for how long.
    pub limits: StoreLimits,
    /// What its identifiers are made of.
    pub random: SharedRandom,
    /// When its writer goes on.
    pub steps: Arc<dyn Steps>,
    /// Which rule it breaks, if any.
    pub broken: Option<Broken>,
}

impl MemoryDisk {
    /// Opens the store that is on it; the writer is a task of `supervisor`.
    pub fn simulate(
        &self,
        options: Simulated,
        supervisor: &Supervisor,
    ) -> Result<Arc<dyn Store>, StoreError> {
        let Simulated { limits, random, steps, broken } = options;
        let kv = Arc::new(SimulatedKv { kv: self.take()?, broken });
        let (engine, writer) = Engine::assemble(kv, &Options::in_memory(limits), supervisor, random)?;
        let answers_early = broken == Some(Broken::AnswersBeforeFlush);
        supervisor.spawn(NAME, run(writer, engine.taker(), steps, answers_early));
        Ok(Arc::new(engine))
    }
}

/// What [`Writer::run`] does, with a pause before each step.
async fn run(
    mut writer: Writer<SimulatedKv>,
    lanes: Taker<SimulatedKv>,
    steps: Arc<dyn Steps>,
    answers_early: bool,
) {
    while lanes.come().await {
        steps.reach(Step::Taken).await;
        let mut staged = writer.stage(lanes.group());
        if answers_early {
            staged.answers.drain(..).for_each(|answer| answer(Ok(())));
        }
        steps.reach(Step::Written).await;
        writer.flush(&mut staged);
        steps.reach(Step::Flushed).await;
        writer.conclude(staged);
    }
    writer.end(lanes);
}

#[derive(Debug)]
struct SimulatedKv {
    kv: Arc<MemoryKv>,
    broken: Option<Broken>,
}

impl Kv for SimulatedKv {
    fn is_cold(&self) -> bool {
        self.kv.is_cold()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.kv.get(key)
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Key, Bytes)>, StoreError> {
        self.kv.range(start, end, limit)
    }

    fn apply(&self, mut batch: Batch) -> Result<(), StoreError> {
        if let Some(broken) = self.broken {
            broken.distort(&self.kv, &mut batch)?;
        }
        self.kv.apply(batch)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.kv.flush()
    }

    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.kv.free_bytes()
    }
}
