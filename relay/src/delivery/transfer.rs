//! An envelope with attachments on its way: first they, and then it, alone.
//!
//! That takes its time, and nothing waits for it: such envelopes are leased by themselves, a few at a time, and what was
//! queued later may be there earlier. When it is interrupted, by either side, the next attempt brings what is lacking.

use std::sync::Arc;
use std::time::Duration;

use postrider_common::{Domain, Failure, FailureClass, Outcome};
use tokio::sync::OwnedSemaphorePermit;

use super::attempt::{Attempt, attempt};
use super::{Brought, Shared};
use crate::store::Leased;

/// How many envelopes with attachments may be under way to one destination,
pub(super) const OF_ONE: usize = 2;
/// and to all.
pub(super) const ALL: usize = 32;
/// A lease is prolonged with each chunk, none of which takes so long.
pub(super) const LEASE: Duration = Duration::from_secs(3600);

/// Sends one, of which at most [`ALL`] have their permit.
pub(super) async fn transfer(
    shared: Arc<Shared>,
    destination: Domain,
    epoch: u64,
    item: Leased,
    permit: OwnedSemaphorePermit,
) -> Attempt {
    let brought = bring(&shared, &destination, &item).await;
    drop(permit);
    let result: Result<Vec<Option<Outcome>>, Failure> = match brought {
        Ok(Brought::Whole) => return attempt(shared, destination, epoch, vec![item], None).await,
        Ok(Brought::Later(outcome)) => Ok(vec![Some(outcome)]),
        Err(failure) => Err(failure),
    };
    Attempt { epoch, items: vec![item], result, _memory: None }
}

async fn bring(shared: &Shared, destination: &Domain, item: &Leased) -> Result<Brought, Failure> {
    if item.envelope.expires_at() <= shared.clock.now() {
        // Which the attempt finds out, too.
        return Ok(Brought::Whole);
    }
    let prolong = || shared.store.prolong(destination, item.item, item.lease, shared.clock.now() + LEASE);
    tokio::select! {
        biased;
        // What is there by then need not be brought again.
        () = shared.supervisor.stopping() => {
            Err(Failure::new(FailureClass::Unavailable, "this relay is shutting down"))
        }
        brought = shared.forward.bring(destination, &item.envelope, &prolong) => brought,
    }
}
