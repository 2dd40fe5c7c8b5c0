//! One destination's worker: lease, send, settle, and wait when it fails.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use postrider_common::limits::MAX_ENVELOPE_BYTES;
use postrider_common::{Domain, Failure, FailureClass, Outcome, Timestamp};
use tokio::sync::OwnedSemaphorePermit;

use super::attempt::{Attempt, Stage, attempt};
use super::moved::Moves;
use super::transfer::{self, LadenPause, Turn, is_laden, transfer};
use super::waiting::Lookout;
use super::wake::{Signs, Wake};
use super::{Delivery, Shared};
use crate::queue::{
    Pace, Stance, after_failure, after_greeting, after_sign_of_life, forgotten_at, gives_up_destination,
    is_about_content, is_about_our_certificate, is_alarming, judge_answer, judge_failure, stance,
};
use crate::store::{Backoff, Leased, StoreError, Verdict, Window};
use crate::telemetry::Seldom;

/// How long a worker waits when its own store fails.
pub(super) const AFTER_STORE_ERROR: Duration = Duration::from_secs(1);

/// A store that fails does so for every worker.
static SAID: Seldom = Seldom::new();

/// The most bytes of a destination's first batch while other destinations have all of the common memory.
const LEAST_BATCH_BYTES: usize = 256 << 10;

pub(super) struct Worker {
    pub(super) delivery: Delivery,
    pub(super) destination: Domain,
    wake: Arc<Wake>,
    pace: Pace,
    pub(super) backoff: Option<Backoff>,
    /// Whether an operator holds the destination back.
    is_paused: bool,
    /// Why everything for the destination has failed, and since when, if its last failure was final. Not kept across a restart: after
    /// one, what there is waits for the next attempt, which is never far then.
    pub(super) given_up: Option<(FailureClass, Timestamp)>,
    /// Kept during a long wait.
    pub(super) lookout: Option<Lookout>,
    /// Counts the changes of the back-off: of several batches that one outage ends, only the first is a failure.
    epoch: u64,
    /// Batches that are on their way, or being settled.
    under_way: FuturesUnordered<BoxFuture<'static, Step>>,
    /// Envelopes with attachments, each by itself.
    transfers: FuturesUnordered<BoxFuture<'static, Attempt>>,
    turn: Turn,
    laden: LadenPause,
}

/// How far a batch that is under way has come.
pub(super) enum Step {
    /// It was sent, or could not be.
    Tried(Attempt),
    /// What came of it is durable, unless the store has failed.
    Settled(Result<(), StoreError>),
}

/// What the worker waits for, apart from being woken.
pub(super) enum Next {
    /// The end of a batch, as the window is full.
    Attempt,
    /// A time.
    At(Timestamp),
    /// An operator.
    Operator,
    /// Nothing is left to send: a while, and then its own end.
    Idle,
}

impl Worker {
    pub(super) fn new(delivery: Delivery, destination: Domain, wake: Arc<Wake>) -> Self {
        let pace = Pace::open(delivery.0.settings.batches_in_flight);
        Self {
            delivery,
            destination,
            wake,
            pace,
            backoff: None,
            is_paused: false,
            given_up: None,
            lookout: None,
            epoch: 0,
            under_way: FuturesUnordered::new(),
            transfers: FuturesUnordered::new(),
            turn: Turn::default(),
            laden: LadenPause::default(),
        }
    }

    /// Runs until the destination has had nothing to send for a while, or the process stops; then batches that
    /// are under way still end and are settled, unless the peer takes too long about it. What was not settled is
    /// sent again after the next start, under the same ids.
    pub(super) async fn run(mut self) {
        let supervisor = &self.delivery.0.supervisor;
        let (stopping, hurrying) = (supervisor.stopping(), supervisor.hurrying());
        tokio::pin!(stopping, hurrying);
        self.load_state().await;
        loop {
            let is_stopping = self.delivery.0.supervisor.is_stopping();
            if is_stopping && self.is_quiet() {
                return;
            }
            let next = if is_stopping { Next::Attempt } else { self.fill_or_wait().await };
            let now = self.delivery.0.clock.now();
            let pause = match next {
                Next::Attempt | Next::Operator => Duration::MAX,
                Next::At(time) => time.since(now),
                Next::Idle => self.delivery.0.settings.idle,
            };
            tokio::select! {
                biased;
                () = &mut hurrying => return,
                () = self.turn.come() => {}
                Some(step) = self.under_way.next() => self.go_on(step).await,
                Some(attempt) = self.transfers.next() => self.go_on(Step::Tried(attempt)).await,
                () = self.wake.woken() => {}
                () = &mut stopping, if !is_stopping => {}
                () = self.delivery.0.clock.sleep(pause), if !matches!(next, Next::Attempt | Next::Operator) => {
                    if matches!(next, Next::Idle) && self.is_quiet() && !self.turn.is_awaited() {
                        return self.retire().await;
                    }
                }
            }
        }
    }

    /// Starts as many batches as the window allows, and says what to wait for.
    async fn fill(&mut self) -> Result<Next, StoreError> {
        self.follow_wake().await?;
        if self.is_paused {
            self.turn.pass();
            // What is under way ends as it would have. What is not sent is no sign of a fault.
            if self.is_quiet() {
                self.delivery.note_nothing_waits(&self.destination);
            }
            return Ok(Next::Operator);
        }
        let given_up = self.given_up.map(|(class, _)| class);
        let stance = stance(self.backoff.as_ref(), given_up, self.delivery.0.clock.now());
        if !matches!(stance, Stance::Try) {
            self.turn.pass();
        }
        match stance {
            Stance::Wait(until) => return self.wait(until).await,
            Stance::GiveUp(class, until) => return self.give_up(class, until).await,
            Stance::Try => {}
        }
        while self.under_way.len() < self.pace.batches() {
            let Some((window, memory)) = self.room() else { break };
            let items = self.lease(window).await?;
            if items.is_empty() {
                self.fill_transfers().await?;
                return self.next_item().await;
            }
            self.delivery.note_waiting(&self.destination);
            let is_all = is_certainly_all(&items, window);
            self.send(items, memory);
            // What has come since has woken the worker again.
            if is_all {
                self.fill_transfers().await?;
                return self.next_item().await;
            }
        }
        self.fill_transfers().await?;
        Ok(Next::Attempt)
    }

    /// Starts as many envelopes with attachments as there may be. While the destination fails, one is the probe.
    async fn fill_transfers(&mut self) -> Result<(), StoreError> {
        let Shared { store, clock, transfers, .. } = &*self.delivery.0;
        if self.laden.until(clock.now()).is_some() {
            self.turn.pass();
            return Ok(());
        }
        let is_probed = self.backoff.is_some() && !self.under_way.is_empty();
        while !is_probed && self.transfers.len() < self.pace.batches().min(transfer::OF_ONE) {
            let Some(permit) = self.turn.take(transfers) else { break };
            let until = clock.now() + transfer::LEASE;
            let Some(item) = store.lease_laden(self.destination.clone(), until).await? else { break };
            self.delivery.note_waiting(&self.destination);
            let shared = Arc::clone(&self.delivery.0);
            let transfer = transfer(shared, self.destination.clone(), self.epoch, item, permit);
            self.transfers.push(Box::pin(transfer));
        }
        Ok(())
    }

    /// Whether nothing is under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.under_way.is_empty() && self.transfers.is_empty()
    }

    async fn follow_wake(&mut self) -> Result<(), StoreError> {
        let Signs { is_up, is_forgiven, has_answered, is_recertified, is_steered } = self.wake.take();
        if is_steered {
            let state = self.delivery.0.store.destination(self.destination.clone()).await;
            match state {
                Ok(state) => self.is_paused = state.is_some_and(|state| state.paused.is_some()),
                Err(error) => {
                    self.wake.steer();
                    return Err(error);
                }
            }
        }
        let is_told = is_up || is_forgiven || has_answered || is_recertified;
        if is_told {
            self.laden.end();
        }
        let Some(backoff) = self.backoff.clone().filter(|_| is_told) else {
            return Ok(());
        };
        let now = self.delivery.0.clock.now();
        let after = match (is_forgiven, is_up) {
            (true, _) => None,
            (_, true) => after_sign_of_life(backoff, now),
            _ if is_recertified && is_about_our_certificate(backoff.class) => None,
            _ if has_answered => Some(after_greeting(backoff, now)),
            _ => Some(backoff),
        };
        if after != self.backoff {
            tracing::info!(peer = %self.destination, "the peer is tried at once");
            self.set_backoff(after).await?;
        }
        Ok(())
    }

    /// How much the next batch may have, and its part of the common memory. The first batch needs none, so that
    /// destinations that are slow take nothing from the others but speed.
    fn room(&self) -> Option<(Window, Option<OwnedSemaphorePermit>)> {
        let Shared { settings, budget, .. } = &*self.delivery.0;
        let is_alone = self.delivery.workers().len() == 1;
        let most =
            if is_alone { settings.batch.count } else { settings.shared_batch.min(settings.batch.count) };
        let full = Window { count: self.pace.envelopes(most), ..settings.batch };
        match Arc::clone(budget).try_acquire_many_owned(kib(full.bytes)) {
            Ok(memory) => Some((full, Some(memory))),
            Err(_) if self.under_way.is_empty() => {
                Some((Window { bytes: full.bytes.min(LEAST_BATCH_BYTES), ..full }, None))
            }
            Err(_) => None,
        }
    }

    async fn fill_or_wait(&mut self) -> Next {
        let filled = self.fill().await;
        // A turn that has come and is not needed now is somebody else's.
        self.turn.give_back();
        match filled {
            Ok(next) => next,
            Err(error) => {
                if SAID.is_due(&error.to_string()) {
                    tracing::error!("the queue cannot be served: {error}");
                }
                Next::At(self.delivery.0.clock.now() + AFTER_STORE_ERROR)
            }
        }
    }

    async fn lease(&mut self, window: Window) -> Result<Vec<Leased>, StoreError> {
        let now = self.delivery.0.clock.now();
        let until = now + self.delivery.0.settings.attempt * 2;
        self.delivery.0.store.lease(self.destination.clone(), window, now, until).await
    }

    /// Nothing can be leased now: when can it?
    async fn next_item(&mut self) -> Result<Next, StoreError> {
        let state = self.delivery.0.store.destination(self.destination.clone()).await?;
        let is_empty = state.as_ref().is_none_or(|state| state.items == 0);
        if is_empty {
            self.turn.pass();
        }
        if self.is_quiet() && !self.turn.is_awaited() {
            self.delivery.note_nothing_waits(&self.destination);
        }
        let now = self.delivery.0.clock.now();
        let due = state.and_then(|state| state.next_retry);
        let laden = self.laden.until(now).filter(|_| !is_empty);
        if let Some(due) = due.into_iter().chain(laden).min() {
            return Ok(Next::At(due));
        }
        if let Some(backoff) = self.backoff.as_ref().filter(|_| self.is_quiet()) {
            // What is there and cannot be leased can be before long: its lease lapses, or the disk gives it back.
            let until =
                if is_empty { forgotten_at(backoff) } else { now + self.delivery.0.settings.attempt * 2 };
            if until > now {
                return Ok(Next::At(until));
            }
            self.set_backoff(None).await?;
        }
        Ok(Next::Idle)
    }

    fn send(&mut self, items: Vec<Leased>, mut memory: Option<OwnedSemaphorePermit>) {
        if let Some(memory) = &mut memory {
            let bytes = items.iter().map(|item| item.envelope.encoded().len()).sum();
            let unused = memory.num_permits().saturating_sub(kib(bytes) as usize);
            drop(memory.split(unused));
        }
        let shared = Arc::clone(&self.delivery.0);
        let attempt = attempt(shared, self.destination.clone(), self.epoch, items, memory);
        self.under_way.push(Box::pin(async { Step::Tried(attempt.await) }));
    }

    async fn go_on(&mut self, step: Step) {
        let done = match step {
            Step::Tried(attempt) => self.settle(attempt).await,
            Step::Settled(done) => done,
        };
        if let Err(error) = done {
            // The leases lapse by themselves; what was delivered is offered again and answered as a duplicate.
            if SAID.is_due(&error.to_string()) {
                tracing::error!("a delivery cannot be settled: {error}");
            }
            self.delivery.0.clock.sleep(AFTER_STORE_ERROR).await;
        }
    }

    /// Begins to make durable what came of a batch. The next one does not wait for that: the store takes its time about
    /// what nobody waits for.
    async fn settle(&mut self, attempt: Attempt) -> Result<(), StoreError> {
        let now = self.delivery.0.clock.now();
        let Attempt { epoch, items, result, stage, _memory } = attempt;
        let verdicts: Vec<Verdict> = match result {
            Ok(outcomes) => {
                if outcomes.iter().any(Option::is_some) {
                    self.note_success().await?;
                }
                if stage == Stage::Attachments || items.iter().any(is_laden) {
                    self.laden = LadenPause::default();
                }
                let followed = self.moves().follow_answers(&items, &outcomes, now).await?;
                let judge = |(item, outcome): (&Leased, &Option<_>)| match (followed.get(&item.item), outcome)
                {
                    (Some(verdict), _) => *verdict,
                    (None, Some(outcome)) => {
                        judge_answer(outcome, &item.envelope, item.attempts, now, self.delivery.jitter())
                    }
                    (None, None) => Verdict::Expired,
                };
                items.iter().zip(&outcomes).map(judge).collect()
            }
            // The peer is well: it has refused what was sent. Batches become smaller until the one envelope that it
            // does not take is alone, and that one has failed.
            Err(failure) if is_about_content(failure.class) => match items.len() {
                1 => vec![Verdict::Quarantined(failure.class)],
                count => {
                    self.pace.shrink(count);
                    vec![Verdict::Released; count]
                }
            },
            // That we stop is no failure of the peer's.
            Err(_) if self.delivery.0.supervisor.is_stopping() => vec![Verdict::Released; items.len()],
            // As a probe it says that the destination still fails; otherwise others find out how that is.
            Err(failure) if stage == Stage::Attachments && self.backoff.is_none() => {
                let until = self.laden.put_off(&failure, now, self.delivery.jitter());
                self.delivery.0.counts.failures.add(failure.class, 1);
                let (peer, class, detail) = (&self.destination, failure.class.slug(), &failure.detail);
                let wait = until.since(now).as_secs();
                tracing::warn!(%peer, class, "attachments cannot be brought, next attempt in {wait} s: {detail}");
                // By itself, too: it may be what the peer fails at.
                let again = Outcome::retry(failure.class, Duration::ZERO);
                let judge = |item: &Leased| {
                    judge_answer(&again, &item.envelope, item.attempts, now, self.delivery.jitter())
                };
                items.iter().map(judge).collect()
            }
            Err(failure) => {
                if epoch == self.epoch {
                    self.note_failure(&failure, now).await?;
                }
                let verdict = match &self.backoff {
                    Some(backoff) => judge_failure(&failure, backoff, now),
                    None => Verdict::Released,
                };
                vec![verdict; items.len()]
            }
        };
        let verdicts = self.moves().spare_moved(&items, verdicts, now).await?;
        let ends = items.iter().zip(verdicts);
        let settlements = ends.map(|(item, verdict)| item.end(verdict)).collect();
        let (delivery, destination) = (self.delivery.clone(), self.destination.clone());
        self.under_way.push(Box::pin(async move {
            Step::Settled(delivery.settle(&destination, settlements, now).await)
        }));
        Ok(())
    }

    pub(super) const fn moves(&self) -> Moves<'_> {
        Moves { delivery: &self.delivery, destination: &self.destination }
    }

    async fn note_success(&mut self) -> Result<(), StoreError> {
        self.pace.widen();
        self.delivery.note_succeeded(&self.destination);
        if self.backoff.is_some() {
            tracing::info!(peer = %self.destination, "deliveries succeed again");
            self.set_backoff(None).await?;
        }
        Ok(())
    }

    async fn note_failure(&mut self, failure: &Failure, now: Timestamp) -> Result<(), StoreError> {
        self.delivery.0.counts.failures.add(failure.class, 1);
        let since = self.backoff.as_ref().map_or(now, |backoff| backoff.failing_since);
        let is_local = self.delivery.note_failed(&self.destination, failure.class, since);
        let backoff = after_failure(self.backoff.as_ref(), failure, is_local, now, self.delivery.jitter());
        self.tell(failure, &backoff, now);
        self.pace.close();
        let is_final = matches!(judge_failure(failure, &backoff, now), Verdict::Failed(_));
        self.change_backoff(Some(backoff.clone()));
        self.delivery.0.store.fail(self.destination.clone(), backoff, now).await?;
        self.given_up = (is_final && gives_up_destination(failure.class)).then_some((failure.class, now));
        Ok(())
    }

    fn tell(&self, failure: &Failure, backoff: &Backoff, now: Timestamp) {
        let (peer, class, failures) = (&self.destination, failure.class.slug(), backoff.failures);
        let (wait, detail) = (backoff.next_attempt.since(now).as_secs(), &failure.detail);
        let is_new = self.backoff.as_ref().is_none_or(|before| before.class != failure.class);
        if is_new && is_alarming(failure.class) {
            tracing::error!(%peer, class, failures, "delivery failed, next attempt in {wait} s: {detail}");
        } else {
            tracing::warn!(%peer, class, failures, "delivery failed, next attempt in {wait} s: {detail}");
        }
    }

    pub(super) async fn set_backoff(&mut self, backoff: Option<Backoff>) -> Result<(), StoreError> {
        self.change_backoff(backoff.clone());
        self.delivery.0.store.put_backoff(self.destination.clone(), backoff).await
    }

    fn change_backoff(&mut self, backoff: Option<Backoff>) {
        self.epoch += 1;
        (self.given_up, self.lookout) = (None, None);
        self.backoff = backoff;
    }

    /// A back-off outlives a restart: a failing peer is not met with everything at once. So does an operator's pause.
    async fn load_state(&mut self) {
        match self.delivery.0.store.destination(self.destination.clone()).await {
            Ok(state) => {
                self.is_paused = state.as_ref().is_some_and(|state| state.paused.is_some());
                let has_items = state.as_ref().is_some_and(|state| state.items > 0);
                self.backoff = state.and_then(|state| state.backoff);
                if let Some(backoff) = self.backoff.as_ref().filter(|_| has_items && !self.is_paused) {
                    self.delivery.note_failed(&self.destination, backoff.class, backoff.failing_since);
                }
            }
            Err(error) => {
                if SAID.is_due(&error.to_string()) {
                    tracing::error!("a back-off cannot be read: {error}");
                }
                // To be read with the next look.
                self.wake.steer();
            }
        }
        if self.backoff.is_some() {
            self.pace.close();
        }
    }

    /// Takes this worker off the list. If something came between its last look and that, a new one goes on.
    async fn retire(self) {
        self.delivery.retire(&self.destination);
        let state = self.delivery.0.store.destination(self.destination.clone()).await;
        let is_empty = state.is_ok_and(|state| state.is_none_or(|state| state.items == 0));
        if !is_empty {
            self.delivery.nudge(self.destination.clone());
        }
    }
}

/// Whether a lease of `window` that got these has left nothing behind: it had room for any envelope more.
fn is_certainly_all(items: &[Leased], window: Window) -> bool {
    let bytes: usize = items.iter().map(|item| item.envelope.encoded().len()).sum();
    items.len() < window.count && bytes + MAX_ENVELOPE_BYTES <= window.bytes
}

/// In the unit of the common memory, rounded up.
fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}
