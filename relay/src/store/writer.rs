//! The one thread that writes: it runs whatever operations wait as one group, and answers them after one flush.
//!
//! A lone operation costs one flush. While it runs, others gather, and share the next one: that is how throughput
//! grows with concurrency.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use postrider_common::supervisor::Supervisor;
use tokio::sync::{OwnedSemaphorePermit, broadcast};
use tokio::time::Instant;

use super::group::{Changes, Finished, Group, Rules};
use super::keys;
use super::kv::Kv;
use super::lanes::{Job, Taker};
use super::leases::{Effect, Leases};
use super::queue::lock;
use super::view::View;
use super::{Change, Statistics, StoreError};
use crate::failpoint::{self, Step};

/// The thread's name, and the task's that the supervisor is told of.
pub(crate) const NAME: &str = "store-writer";

/// The place that the store's readers take their view from; empty once it is closed.
pub(crate) type Slot<K> = Arc<RwLock<Option<Arc<View<K>>>>>;
/// Answers an operation, once it is known whether its group is durable.
pub(crate) type Answerer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Runs in a group.
pub(crate) type Operation<K> = Box<dyn FnOnce(&mut Group<'_, K>) -> Answerer + Send>;

/// A group that was run, on its way to be durable.
pub(super) struct Staged {
    /// Its batch is written; if it had none, there is nothing to flush.
    written: bool,
    effects: Vec<Effect>,
    changes: Changes,
    pub(super) answers: Vec<Answerer>,
    permits: Vec<OwnedSemaphorePermit>,
}

/// Everything that the thread owns.
pub(crate) struct Writer<K> {
    pub view: Arc<View<K>>,
    pub slot: Slot<K>,
    pub rules: Rules,
    pub leases: Arc<Mutex<Leases>>,
    pub changes: broadcast::Sender<Change>,
    pub statistics: Arc<Statistics>,
    pub supervisor: Supervisor,
}

impl<K: Kv> Writer<K> {
    /// Works until it is told to close or nobody can give it work any more.
    pub(crate) fn run(mut self, lanes: Taker<K>) {
        while lanes.wait() {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.process(lanes.group()))) {
                // The answers that the panic took with it tell their callers so by their absence.
                let what = panic_message(&*panic);
                self.refuse(StoreError::Io(format!("the store's writer panicked: {what}")));
                self.supervisor.fail(NAME, format!("panicked: {what}"));
            }
        }
        self.end(lanes);
    }

    /// Every group was flushed before it was answered, so there is nothing left to flush.
    pub(super) fn end(mut self, lanes: Taker<K>) {
        let closing = lanes.end();
        *self.slot.write().unwrap_or_else(PoisonError::into_inner) = None;
        let result = self.rules.refused.take().map_or(Ok(()), Err);
        // Whoever is told that the store is closed may open it again: every handle goes first. An engine that has met a
        // disk that fails may not even end without a panic; the failure is what is told then.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(self)));
        for answer in closing {
            let _ = answer.send(result.clone());
        }
    }

    fn process(&mut self, jobs: impl Iterator<Item = Job<K>>) {
        let mut staged = self.stage(jobs);
        self.flush(&mut staged);
        self.conclude(staged);
    }

    /// Runs the operations, and writes what they come to. Nobody sees anything of it yet.
    pub(super) fn stage(&mut self, jobs: impl Iterator<Item = Job<K>>) -> Staged {
        let mut group = Group::new(self.view.kv(), &mut self.rules, &self.leases);
        let (mut answers, mut permits) = (Vec::new(), Vec::new());
        for Job { run, permit, .. } in jobs {
            answers.push(run(&mut group));
            permits.push(permit);
        }
        let Finished { batch, effects, changes } = group.finish();
        let mut staged = Staged { written: false, effects, changes, answers, permits };
        if self.rules.refused.is_none() && !batch.is_empty() {
            let written = self.view.kv().apply(batch);
            staged.written = self.check(written);
        }
        staged
    }

    /// Makes a group durable, and with that seen. If it fails, nobody ever sees anything of it.
    pub(super) fn flush(&mut self, staged: &mut Staged) {
        if staged.written {
            let began = Instant::now();
            let flushed = self.view.kv().flush();
            self.measure(began, staged.answers.len());
            staged.written = self.check(flushed);
        }
        if staged.written {
            failpoint::reach(Step::Flushed);
        }
    }

    /// Follows a durable group in memory, and answers its operations.
    pub(super) fn conclude(&mut self, staged: Staged) {
        let Staged { written: _, effects, changes, answers, permits } = staged;
        let result = self.rules.refused.clone().map_or(Ok(()), Err);
        if result.is_ok() {
            self.follow(&effects);
            self.tell(changes);
        }
        drop(permits);
        for answer in answers {
            answer(result.clone());
        }
        if let Err(error) = self.rules.marks.read_some(self.view.kv()) {
            tracing::warn!(%error, "marks of envelopes cannot be read");
        }
    }

    /// Whether a step on the disk succeeded. After one that did not, no further one is made.
    fn check(&mut self, done: Result<(), StoreError>) -> bool {
        match done {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(
                    "the store takes no more writes, since one has failed: {error}. What was accepted is kept; see to the \
                     disk, then restart the relay"
                );
                self.refuse(error);
                false
            }
        }
    }

    fn measure(&self, began: Instant, operations: usize) {
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.statistics.flushes.add(took);
        self.statistics.groups.add(operations as u64);
    }

    fn refuse(&mut self, error: StoreError) {
        lock(&self.leases).refuse(error.clone());
        self.statistics.fail(error.clone());
        self.rules.refused = Some(error);
    }

    fn follow(&mut self, effects: &[Effect]) {
        for effect in effects {
            lock(&self.leases).follow(effect);
            if let Effect::BucketEmptied(bucket) = effect {
                let start = keys::bucket(*bucket);
                // Unless the same group has marked something in it again.
                let left = self.view.kv().range(&start, &keys::end_of(&start), 1);
                if left.is_ok_and(|left| left.is_empty()) {
                    self.rules.marks.forget(*bucket);
                }
            }
        }
    }

    /// Nobody listening is no error.
    fn tell(&self, changes: Changes) {
        let deposited = changes.deposited.into_iter().map(Change::Deposited);
        let enqueued = changes.enqueued.into_iter().map(Change::Enqueued);
        let removed = changes.removed.into_iter().map(Change::Removed);
        let moved = changes.moved.into_iter().map(Change::Moved);
        let suspended = changes.suspended.into_iter().map(Change::Suspended);
        let devices = changes.devices_removed.into_iter();
        let devices = devices.map(|(mailbox, device)| Change::DeviceRemoved(mailbox, device));
        let closed = removed.chain(moved).chain(suspended).chain(devices);
        let doomed = changes.is_attachment_doomed.then_some(Change::Doomed);
        for change in deposited.chain(enqueued).chain(closed).chain(doomed) {
            let _ = self.changes.send(change);
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
