//! One batch on its way: sent, perhaps a few times in short order, and what came of it.

use std::sync::Arc;
use std::time::Duration;

use postrider_common::{Domain, Envelope, Failure, FailureClass, Outcome, Timestamp};
use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use crate::failpoint::{self, Step};
use crate::queue::quick_try;
use crate::store::Leased;

/// A batch that was sent, and what came of it: an outcome for each item, or none where its time was over before.
pub(super) struct Attempt {
    pub(super) epoch: u64,
    pub(super) items: Vec<Leased>,
    pub(super) result: Result<Vec<Option<Outcome>>, Failure>,
    /// How far it has come.
    pub(super) stage: Stage,
    /// Its part of the common memory. A first batch may have none.
    pub(super) _memory: Option<OwnedSemaphorePermit>,
}

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// What goes ahead of an envelope does not get through to the destination,
    Connection,
    /// or is not taken there.
    Attachments,
    Envelopes,
}

/// Sends what is not over.
pub(super) async fn attempt(
    shared: Arc<Shared>,
    destination: Domain,
    epoch: u64,
    items: Vec<Leased>,
    memory: Option<OwnedSemaphorePermit>,
) -> Attempt {
    let now = shared.clock.now();
    let living = items.iter().filter(|item| item.envelope.expires_at() > now);
    let envelopes: Vec<_> = living.map(|item| item.envelope.clone()).collect();
    let result =
        if envelopes.is_empty() { Ok(Vec::new()) } else { offer(&shared, &destination, &envelopes).await };
    let result = result.map(|outcomes| with_expired(&items, outcomes, now));
    Attempt { epoch, items, result, stage: Stage::Envelopes, _memory: memory }
}

/// A try, and further ones after short pauses if the peer may just be restarting.
async fn offer(
    shared: &Shared,
    destination: &Domain,
    envelopes: &[Envelope],
) -> Result<Vec<Outcome>, Failure> {
    let mut tries = 0;
    loop {
        let began = shared.clock.now();
        let failure = match shared.forward.forward(destination, envelopes).await {
            Ok(outcomes) => {
                failpoint::reach(Step::Forwarded);
                return Ok(outcomes);
            }
            Err(failure) => failure,
        };
        tries += 1;
        if !is_tried_again(shared, &failure, tries, began).await {
            return Err(failure);
        }
    }
}

/// Waits a moment if what began then and has failed so many times may just be the peer's restart; whether it may.
pub(super) async fn is_tried_again(shared: &Shared, failure: &Failure, tries: u32, began: Timestamp) -> bool {
    let Some(pause) = quick_try(failure, tries, shared.clock.now().since(began)) else { return false };
    tokio::select! {
        biased;
        () = shared.clock.sleep(pause) => true,
        () = shared.supervisor.stopping() => false,
    }
}

/// Outcomes for all items, given those for the living ones; `None` for those whose time was over. An outcome that
/// the peer left out leaves its envelope in our custody.
fn with_expired(items: &[Leased], outcomes: Vec<Outcome>, now: Timestamp) -> Vec<Option<Outcome>> {
    let mut outcomes = outcomes.into_iter();
    let missing = Outcome::retry(FailureClass::RemoteFailed, Duration::ZERO);
    items
        .iter()
        .map(|item| {
            (item.envelope.expires_at() > now).then(|| outcomes.next().unwrap_or_else(|| missing.clone()))
        })
        .collect()
}
