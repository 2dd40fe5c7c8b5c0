//! An envelope with attachments on its way: first they, and then it, alone.
//!
//! That takes its time, and nothing waits for it: such envelopes are leased by themselves, a few at a time, and what was
//! queued later may be there earlier. When it is interrupted, by either side, the next attempt brings what is lacking.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use postrider_common::{Domain, Failure, FailureClass, Timestamp, backoff};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::attempt::{Attempt, Stage, attempt, is_tried_again};
use super::{Brought, Shared};
use crate::store::Leased;

/// How many envelopes with attachments may be under way to one destination,
pub(super) const OF_ONE: usize = 2;
/// and to all.
pub(super) const ALL: usize = 32;
/// A lease is prolonged with each chunk, none of which takes so long.
pub(super) const LEASE: Duration = Duration::from_secs(3600);

/// A destination's turn to send one, when there are as many as there may be: it waits in line for it.
#[derive(Default)]
pub(super) struct Turn {
    line: Option<BoxFuture<'static, Option<OwnedSemaphorePermit>>>,
    came: Option<OwnedSemaphorePermit>,
}

impl Turn {
    /// A permit, if it is there; else it is awaited.
    pub(super) fn take(&mut self, transfers: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        if self.came.is_some() || self.is_awaited() {
            return self.came.take();
        }
        let permit = Arc::clone(transfers).try_acquire_owned().ok();
        if permit.is_none() {
            let transfers = Arc::clone(transfers);
            self.line = Some(Box::pin(async move { transfers.acquire_owned().await.ok() }));
        }
        permit
    }

    pub(super) const fn is_awaited(&self) -> bool {
        self.line.is_some()
    }

    /// Waits until it has come.
    pub(super) async fn come(&mut self) {
        match &mut self.line {
            Some(line) => {
                self.came = line.await;
                self.line = None;
            }
            None => std::future::pending().await,
        }
    }

    /// Leaves one that has come to others.
    pub(super) fn give_back(&mut self) {
        self.came = None;
    }

    /// Waits no more.
    pub(super) fn pass(&mut self) {
        *self = Self::default();
    }
}

/// For how long no envelope with attachments is sent to a destination that fails at these. It ends with the worker, too.
#[derive(Debug, Default)]
pub(super) struct LadenPause {
    failures: u32,
    until: Option<Timestamp>,
}

impl LadenPause {
    /// Its end, if that is ahead: but no wait is longer than the longest, so one that is was counted on a clock that has been
    /// set back since.
    pub(super) fn until(&self, now: Timestamp) -> Option<Timestamp> {
        self.until.filter(|until| *until > now && until.since(now) <= backoff::MAX_RETRY_AFTER)
    }

    /// One more failure: by the ladder, and at least as long as was asked.
    pub(super) fn put_off(&mut self, failure: &Failure, now: Timestamp, jitter: f64) -> Timestamp {
        self.failures = self.failures.saturating_add(1);
        let until = now + backoff::wait(self.failures, Duration::ZERO, failure.retry_after, jitter);
        *self.until.insert(until)
    }

    /// It may be tried at once.
    pub(super) const fn end(&mut self) {
        self.until = None;
    }
}

/// Whether an item has attachments.
pub(super) fn is_laden(item: &Leased) -> bool {
    !item.envelope.attachments().is_empty()
}

/// Sends one, of which at most [`ALL`] have their permit.
pub(super) async fn transfer(
    shared: Arc<Shared>,
    destination: Domain,
    epoch: u64,
    item: Leased,
    permit: OwnedSemaphorePermit,
) -> Attempt {
    let brought = bring_after_all(&shared, &destination, &item).await;
    drop(permit);
    let (result, stage) = match brought {
        Ok(Brought::Whole) => return attempt(shared, destination, epoch, vec![item], None).await,
        Ok(Brought::Later(outcome)) => (Ok(vec![Some(outcome)]), Stage::Attachments),
        Ok(Brought::NotNow(failure)) => (Err(failure), Stage::Attachments),
        Err(failure) => (Err(failure), Stage::Connection),
    };
    Attempt { epoch, items: vec![item], result, stage, _memory: None }
}

/// A try, and further ones after short pauses if the peer may just be restarting.
async fn bring_after_all(shared: &Shared, destination: &Domain, item: &Leased) -> Result<Brought, Failure> {
    let mut tries = 0;
    loop {
        // When it last came further: how long a try took that has brought something says nothing.
        let last = AtomicU64::new(shared.clock.now().as_millis());
        match bring(shared, destination, item, &last).await {
            Err(failure) => {
                tries += 1;
                let last = Timestamp::from_millis(last.into_inner());
                if !is_tried_again(shared, &failure, tries, last).await {
                    return Err(failure);
                }
            }
            brought => return brought,
        }
    }
}

async fn bring(
    shared: &Shared,
    destination: &Domain,
    item: &Leased,
    last: &AtomicU64,
) -> Result<Brought, Failure> {
    if item.envelope.expires_at() <= shared.clock.now() {
        // Which the attempt finds out, too.
        return Ok(Brought::Whole);
    }
    let progress = || {
        let now = shared.clock.now();
        last.store(now.as_millis(), Ordering::Relaxed);
        shared.store.prolong(destination, item.item, item.lease, now + LEASE);
    };
    tokio::select! {
        biased;
        // What is there by then need not be brought again.
        () = shared.supervisor.stopping() => {
            Err(Failure::new(FailureClass::Unavailable, "this relay is shutting down"))
        }
        brought = shared.forward.bring(destination, &item.envelope, &progress) => brought,
    }
}
