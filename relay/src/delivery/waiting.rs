//! A destination that is left alone: what is looked at meanwhile, and what becomes of envelopes for one that was given
//! up.

use std::time::Duration;

use postrider_common::backoff::MAX_RETRY_AFTER;
use postrider_common::{FailureClass, Timestamp};

use super::Shared;
use super::worker::{Next, Worker};
use crate::queue::shows_in_greeting;
use crate::store::{Leased, StoreError, Verdict};

/// How often it is looked whether something has changed about a destination that waits for longer than this.
const LOOK: Duration = Duration::from_secs(5 * 60);
/// How often a destination is greeted that waits for longer, about: together with [`LOOK`] and the time that a greeting
/// takes it is less than an hour.
const GREETING: Duration = Duration::from_secs(40 * 60);

/// What is watched during a long wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lookout {
    /// What was said of the destination when it failed last.
    seen: Option<u64>,
    look_at: Timestamp,
    greet_at: Timestamp,
}

impl Worker {
    /// Waits for the next attempt. In a long wait it looks now and then whether what failed is still what is there, and
    /// whether the peer is back: one that has nothing to say to us would be noticed hours later otherwise.
    pub(super) async fn wait(&mut self, until: Timestamp) -> Result<Next, StoreError> {
        let now = self.delivery.0.clock.now();
        if let Some(Lookout { look_at, .. }) = self.lookout
            && look_at > now
        {
            return Ok(Next::At(until.min(look_at)));
        }
        // What is under way is not held up by a look-up.
        if (self.lookout.is_none() && until.since(now) <= LOOK) || !self.is_quiet() {
            return Ok(Next::At(until));
        }
        let found = self.fingerprint().await;
        let Some(Lookout { seen, greet_at, .. }) = self.lookout else {
            self.lookout = Some(Lookout {
                seen: found,
                look_at: now + LOOK,
                greet_at: next_greeting(now, self.delivery.jitter()),
            });
            return Ok(Next::At(until.min(now + LOOK)));
        };
        if found.is_some() && found != seen {
            tracing::info!(peer = %self.destination, "what is published or configured about the peer has changed");
            self.set_backoff(None).await?;
            return Ok(Next::At(now));
        }
        let greet_at = if greet_at <= now { self.greet(now).await? } else { greet_at };
        self.lookout = Some(Lookout { seen, look_at: now + LOOK, greet_at });
        Ok(Next::At(until.min(now + LOOK)))
    }

    /// Greets the destination, if that can tell anything and something waits; when it is greeted again. Its answer comes
    /// through the worker's [`Wake`](super::wake::Wake).
    async fn greet(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        if self.backoff.as_ref().is_some_and(|backoff| shows_in_greeting(backoff.class)) {
            let state = self.delivery.0.store.destination(self.destination.clone()).await?;
            if state.is_some_and(|state| state.items > 0) {
                self.delivery.ask_whether_it_is_back(self.destination.clone());
            }
        }
        Ok(next_greeting(now, self.delivery.jitter()))
    }

    async fn fingerprint(&mut self) -> Option<u64> {
        let Shared { forward, supervisor, .. } = &*self.delivery.0;
        tokio::select! {
            biased;
            found = forward.fingerprint(&self.destination) => found,
            () = supervisor.stopping() => None,
        }
    }

    /// Fails whatever waits for a destination that was given up, a batch at a time, at last also what has a time of its
    /// own. What is held for mailboxes that have moved stays.
    pub(super) async fn give_up(
        &mut self,
        class: FailureClass,
        until: Timestamp,
    ) -> Result<Next, StoreError> {
        if !self.is_quiet() {
            return Ok(Next::Attempt);
        }
        let Shared { clock, store, settings, .. } = &*self.delivery.0;
        let now = clock.now();
        if let Some((_, since)) = &mut self.given_up {
            // Otherwise what is put back by a clock that was set back is found again.
            *since = now.min(*since);
        }
        let lease = |at| store.lease(self.destination.clone(), settings.batch, at, now + settings.attempt);
        let mut items = lease(now).await?;
        if items.is_empty() {
            // Up to what was put back since. With nothing under way, no lease is in force that looking so far ahead could end early.
            let since = self.given_up.map_or(now, |(_, since)| since);
            items = lease(since + MAX_RETRY_AFTER - Duration::from_millis(1)).await?;
        }
        if items.is_empty() {
            items = self.laden(now + settings.attempt).await?;
        }
        if items.is_empty() {
            self.delivery.note_nothing_waits(&self.destination);
            return Ok(Next::At(until));
        }
        let verdict = |item: &Leased| match item.envelope.expires_at() > now {
            true => Verdict::Failed(class),
            false => Verdict::Expired,
        };
        let verdicts = items.iter().map(verdict).collect();
        let verdicts = self.moves().spare_moved(&items, verdicts, now).await?;
        let settlements = items.iter().zip(verdicts).map(|(item, verdict)| {
            item.end(match verdict {
                // What is held stays, behind everything else, so that it is in nobody's way and not found again.
                Verdict::Retry { reason, .. } => Verdict::Retry { reason, not_before: now + MAX_RETRY_AFTER },
                verdict => verdict,
            })
        });
        self.delivery.settle(&self.destination, settlements.collect(), now).await?;
        Ok(Next::At(now))
    }

    /// As many envelopes with attachments as a batch may have, leased until then.
    async fn laden(&mut self, until: Timestamp) -> Result<Vec<Leased>, StoreError> {
        let Shared { store, settings, .. } = &*self.delivery.0;
        let (mut items, mut bytes) = (Vec::new(), 0);
        while items.len() < settings.batch.count && bytes < settings.batch.bytes {
            let Some(item) = store.lease_laden(self.destination.clone(), until).await? else { break };
            bytes += item.envelope.encoded().len();
            items.push(item);
        }
        Ok(items)
    }
}

fn next_greeting(now: Timestamp, jitter: f64) -> Timestamp {
    now + GREETING.mul_f64(0.8 + 0.4 * jitter)
}
