//! What waits for the writer, and in which order it is taken.
//!
//! There are two lanes. A short operation, such as a lone envelope's, passes everything that is long or that nobody waits
//! for, and is at most one long operation away from its flush: a backlog of full batches does not move its latency. An
//! operation that nobody waits for, such as the end of a delivery, does not make a flush of its own at once. It waits a
//! little for others that need one anyway.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postrider_common::Envelope;
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

use super::StoreError;
use super::writer::Operation;

/// The most operations in a group.
const GROUP_JOBS: usize = 1024;
/// No operation is added to a group that has so many bytes of envelopes.
const GROUP_BYTES: usize = 4 << 20;
/// An operation on more envelopes is a long one,
const SHORT: usize = 16;
/// and a group with a short one has no long ones with more than this together, unless one has more by itself.
const BESIDE_SHORT: usize = 64;
/// As much as this is worth a flush, even if nobody waits for it.
const WORTH_A_FLUSH: usize = 64;
/// How long an operation waits for others when nobody waits for it: longer than one envelope that follows another takes to
/// come here, so that the end of the one shares the flush of the next, and does not make it wait for one of its own.
const PATIENCE: Duration = Duration::from_millis(5);

/// How much an operation has to do, and how soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    /// Envelopes that it is about.
    pub envelopes: usize,
    /// Their bytes, where they come with it.
    pub bytes: usize,
    /// Nobody waits for it.
    pub is_patient: bool,
}

impl Load {
    /// Of an operation on what is there, which somebody waits for.
    pub(crate) const SMALL: Self = Self { envelopes: 0, bytes: 0, is_patient: false };

    /// Of one that takes these.
    pub(crate) fn taking(envelopes: &[Envelope]) -> Self {
        let bytes = envelopes.iter().map(|envelope| envelope.encoded().len()).sum();
        Self { envelopes: envelopes.len(), bytes, is_patient: false }
    }

    /// Of one that ends so many envelopes, or fewer.
    pub(crate) const fn ending(envelopes: usize) -> Self {
        Self { envelopes, bytes: 0, is_patient: true }
    }

    const fn is_short(&self) -> bool {
        self.envelopes <= SHORT && !self.is_patient
    }
}

/// What the writer is given to do.
pub(crate) struct Job<K> {
    /// Runs it.
    pub run: Operation<K>,
    pub load: Load,
    /// Its share of what may wait. It is what bounds the lanes.
    pub permit: OwnedSemaphorePermit,
}

/// Answers whoever closes the store.
pub(crate) type Closing = oneshot::Sender<Result<(), StoreError>>;

/// The lanes to one writer.
pub(crate) struct Lanes<K> {
    state: Mutex<State<K>>,
    /// Wakes the writer that is a thread,
    signal: Condvar,
    /// and the one that is a task.
    notify: Notify,
}

struct State<K> {
    short: VecDeque<Job<K>>,
    /// Long ones, and those that nobody waits for.
    long: VecDeque<Job<K>>,
    /// Envelopes of those in `long`.
    waiting: usize,
    /// Whether one in `long` does not wait for others.
    is_pressing: bool,
    closing: Vec<Closing>,
    /// Nobody gives any more, or nobody takes any more.
    is_over: bool,
    /// Whether the writer sleeps until it is woken. Otherwise it works, or looks again before long.
    is_asleep: bool,
}

impl<K> Lanes<K> {
    pub(crate) fn new() -> Self {
        let state = State {
            short: VecDeque::new(),
            long: VecDeque::new(),
            waiting: 0,
            is_pressing: false,
            closing: Vec::new(),
            is_over: false,
            is_asleep: false,
        };
        Self { state: Mutex::new(state), signal: Condvar::new(), notify: Notify::new() }
    }

    /// Gives the writer something to do. It is dropped if the writer has gone.
    pub(crate) fn put(&self, job: Job<K>) {
        let mut state = self.lock();
        if state.is_ending() {
            return;
        }
        let wakes = !job.load.is_patient || state.is_asleep;
        if job.load.is_short() {
            state.short.push_back(job);
        } else {
            state.waiting += job.load.envelopes;
            state.is_pressing |= !job.load.is_patient;
            state.long.push_back(job);
        }
        let wakes = wakes || state.is_worth_a_flush();
        drop(state);
        if wakes {
            self.signal.notify_one();
        }
        self.notify.notify_one();
    }

    /// Tells the writer to end when it has done what it was given.
    pub(crate) fn close(&self, closing: Closing) {
        let mut state = self.lock();
        if !state.is_over {
            state.closing.push(closing);
        }
        drop(state);
        self.wake();
    }

    /// Nobody gives any more. The writer ends when it has done what it was given.
    pub(crate) fn hang_up(&self) {
        self.lock().is_over = true;
        self.wake();
    }

    /// Ends the lanes: what waits is dropped, and what comes. Those who wait for the end.
    fn end(&self) -> Vec<Closing> {
        let mut state = self.lock();
        state.is_over = true;
        let dropped = (std::mem::take(&mut state.short), std::mem::take(&mut state.long));
        let closing = std::mem::take(&mut state.closing);
        drop(state);
        drop(dropped);
        closing
    }

    /// For the one writer.
    pub(crate) fn taker(self: &Arc<Self>) -> Taker<K> {
        Taker(Arc::clone(self))
    }

    fn wake(&self) {
        self.signal.notify_one();
        self.notify.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's end of the lanes. When it is dropped, nobody waits for an answer that never comes.
#[derive(Debug)]
pub(crate) struct Taker<K>(Arc<Lanes<K>>);

impl<K> Taker<K> {
    /// Waits until there is something to do, and with something that nobody waits for a little longer. False: the end.
    pub(crate) fn wait(&self) -> bool {
        let mut state = self.0.lock();
        let mut has_waited = false;
        loop {
            if let Some(goes_on) = state.verdict() {
                return goes_on;
            }
            if !has_waited {
                let waited = self.0.signal.wait_timeout(state, PATIENCE);
                let (next, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                (state, has_waited) = (next, timeout.timed_out());
            } else if !state.long.is_empty() {
                return true;
            } else {
                state.is_asleep = true;
                state = self.0.signal.wait(state).unwrap_or_else(PoisonError::into_inner);
                (state.is_asleep, has_waited) = (false, false);
            }
        }
    }

    /// The same for a writer that is a task, and without patience.
    #[cfg(feature = "simulation")]
    pub(crate) async fn come(&self) -> bool {
        loop {
            {
                let state = self.0.lock();
                if let Some(goes_on) = state.verdict() {
                    return goes_on;
                }
                if !state.long.is_empty() {
                    return true;
                }
            }
            self.0.notify.notified().await;
        }
    }

    /// The next group, which takes in what comes while it is run.
    pub(crate) fn group(&self) -> Gathering<'_, K> {
        Gathering { lanes: &self.0, short: 0, long: 0, long_envelopes: 0, bytes: 0 }
    }

    /// Takes nothing more. Those who wait for the end.
    pub(crate) fn end(self) -> Vec<Closing> {
        self.0.end()
    }
}

impl<K> Drop for Taker<K> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<K> State<K> {
    /// Whether to go on with a group or to end, if one of them is to be done now.
    fn verdict(&self) -> Option<bool> {
        if !self.short.is_empty() || self.is_worth_a_flush() {
            return Some(true);
        }
        self.is_ending().then_some(!self.long.is_empty())
    }

    fn is_ending(&self) -> bool {
        self.is_over || !self.closing.is_empty()
    }

    const fn is_worth_a_flush(&self) -> bool {
        self.is_pressing || self.waiting >= WORTH_A_FLUSH
    }

    fn take_long(&mut self) -> Option<Job<K>> {
        let job = self.long.pop_front()?;
        self.waiting -= job.load.envelopes;
        if self.long.is_empty() {
            self.is_pressing = false;
        }
        Some(job)
    }
}

/// A group that is being run.
pub(crate) struct Gathering<'a, K> {
    lanes: &'a Lanes<K>,
    short: usize,
    long: usize,
    long_envelopes: usize,
    bytes: usize,
}

impl<K> Gathering<'_, K> {
    /// Short ones leave room for one long one, so that those come to their turn however many short ones there are.
    fn takes_short(&self, state: &State<K>) -> bool {
        let leaves_room = self.short < GROUP_JOBS / 2 && self.bytes < GROUP_BYTES / 2;
        !state.short.is_empty() && (leaves_room || self.long > 0 || state.long.is_empty())
    }

    fn takes_long(&self, state: &State<K>) -> bool {
        let Some(next) = state.long.front() else { return false };
        self.short == 0 || self.long == 0 || self.long_envelopes + next.load.envelopes <= BESIDE_SHORT
    }
}

impl<K> Iterator for Gathering<'_, K> {
    type Item = Job<K>;

    fn next(&mut self) -> Option<Job<K>> {
        if self.short + self.long >= GROUP_JOBS || self.bytes >= GROUP_BYTES {
            return None;
        }
        let mut state = self.lanes.lock();
        let job = if self.takes_short(&state) {
            self.short += 1;
            state.short.pop_front()?
        } else if self.takes_long(&state) {
            self.long += 1;
            let job = state.take_long()?;
            self.long_envelopes += job.load.envelopes;
            job
        } else {
            return None;
        };
        self.bytes += job.load.bytes;
        Some(job)
    }
}

impl<K> fmt::Debug for Lanes<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Lanes")
            .field("short", &state.short.len())
            .field("long", &state.long.len())
            .field("is_over", &state.is_over)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
