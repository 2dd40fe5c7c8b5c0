//! How much of anything one peer may bring, over all its connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use postrider_common::{Domain, FailureClass};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Busy;
use crate::policy::PeerLimits;

/// What is counted for each peer that has a request under way, and a little longer.
#[derive(Debug, Default)]
pub(super) struct Quotas(Mutex<HashMap<Domain, Known>>);

#[derive(Debug)]
struct Known {
    limits: PeerLimits,
    quota: Weak<Quota>,
    /// Kept for as long as the rate is not forgotten.
    bucket: Arc<Mutex<Bucket>>,
}

/// One peer's share. Requests of the peer hold it.
#[derive(Debug)]
pub(super) struct Quota {
    limits: PeerLimits,
    turns: Arc<Semaphore>,
    /// Of chunks of attachments, which take no turn from batches.
    chunk_turns: Arc<Semaphore>,
    bucket: Arc<Mutex<Bucket>>,
}

/// How many chunks of attachments one peer may bring at a time.
const CHUNKS: usize = 8;

/// Envelopes that may still come now.
#[derive(Debug, Default)]
struct Bucket {
    taken: f64,
    at: Duration,
}

/// From how many peers on those without a request are forgotten.
const REMEMBERED: usize = 1024;

impl Quotas {
    /// The share of `peer`. Other limits make it anew.
    pub(super) fn of(&self, peer: &Domain, limits: PeerLimits) -> Arc<Quota> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.retain(|_, known| known.quota.strong_count() > 0);
        }
        let before = known.get(peer).filter(|known| known.limits == limits);
        if let Some(quota) = before.and_then(|known| known.quota.upgrade()) {
            return quota;
        }
        let bucket = before.map_or_else(Arc::default, |known| Arc::clone(&known.bucket));
        let turns = Arc::new(Semaphore::new(limits.batches_in_flight.max(1)));
        let quota = Arc::new(Quota {
            limits,
            turns,
            chunk_turns: Arc::new(Semaphore::new(CHUNKS)),
            bucket: Arc::clone(&bucket),
        });
        known.insert(peer.clone(), Known { limits, quota: Arc::downgrade(&quota), bucket });
        quota
    }
}

impl Quota {
    /// Waits until fewer batches of this peer are under way than may be.
    pub(super) async fn turn(&self, patience: Duration) -> Result<OwnedSemaphorePermit, Busy> {
        turn_of(&self.turns, patience).await
    }

    /// The same of chunks.
    pub(super) async fn chunk_turn(&self, patience: Duration) -> Result<OwnedSemaphorePermit, Busy> {
        turn_of(&self.chunk_turns, patience).await
    }

    /// Counts a batch at the clock's uptime `now`. After a quiet time a second's worth may come at once, and a batch that
    /// is larger than that as well.
    pub(super) fn take(&self, envelopes: usize, now: Duration) -> Result<(), Busy> {
        let rate = f64::from(self.limits.envelopes_per_second.max(1));
        // No batch has so many that a float could not count them.
        let count = u32::try_from(envelopes).map_or(f64::MAX, f64::from);
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.saturating_sub(bucket.at).as_secs_f64();
        let taken = (bucket.taken - elapsed * rate).max(0.0);
        if taken > 0.0 && taken + count > rate {
            let wait = Duration::from_secs_f64(((taken + count - rate) / rate).clamp(0.0, 3600.0));
            return Err(Busy { reason: FailureClass::RateLimited, retry_after: wait });
        }
        *bucket = Bucket { taken: taken + count, at: now };
        Ok(())
    }
}

async fn turn_of(turns: &Arc<Semaphore>, patience: Duration) -> Result<OwnedSemaphorePermit, Busy> {
    let busy = Busy { reason: FailureClass::RateLimited, retry_after: Duration::from_secs(1) };
    match timeout(patience, Arc::clone(turns).acquire_owned()).await {
        // It is never closed.
        Ok(permit) => permit.map_err(|_| busy),
        Err(_) => Err(busy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PeerLimits = PeerLimits { batches_in_flight: 2, envelopes_per_second: 100 };

    fn peer() -> Domain {
        "a.example".parse().unwrap()
    }

    #[test]
    fn a_peer_has_its_rate_however_many_connections_it_has() {
        let quotas = Quotas::default();
        let take = |envelopes, millis| {
            let quota = quotas.of(&peer(), LIMITS);
            quota.take(envelopes, Duration::from_millis(millis)).map_err(|busy| busy.retry_after)
        };
        assert_eq!(take(60, 1000), Ok(()));
        assert_eq!(take(40, 1000), Ok(()));
        assert_eq!(take(50, 1000), Err(Duration::from_millis(500)));
        assert_eq!(take(50, 1500), Ok(()));
        assert_eq!(take(1, 1500), Err(Duration::from_millis(10)));
        assert_eq!(take(256, 2500), Ok(()), "more than a second's worth, after a quiet time");
        assert_eq!(take(1, 2500), Err(Duration::from_millis(1570)));
        let other = quotas.of(&"b.example".parse().unwrap(), LIMITS);
        assert_eq!(other.take(100, Duration::from_millis(2500)), Ok(()), "another peer has its own");
    }

    #[tokio::test]
    async fn a_batch_waits_for_its_turn() {
        let quotas = Quotas::default();
        let patience = Duration::from_millis(20);
        let quota = quotas.of(&peer(), LIMITS);
        let one = quota.turn(patience).await.unwrap();
        let _two = quotas.of(&peer(), LIMITS).turn(patience).await.unwrap();
        assert_eq!(quota.turn(patience).await.unwrap_err().reason, FailureClass::RateLimited);
        drop(one);
        assert!(quota.turn(patience).await.is_ok());
    }

    #[test]
    fn who_brings_nothing_is_forgotten() {
        let quotas = Quotas::default();
        let held = quotas.of(&peer(), LIMITS);
        for n in 0..3 * REMEMBERED {
            quotas.of(&format!("d{n}.example").parse().unwrap(), LIMITS);
        }
        assert!(quotas.0.lock().unwrap().len() <= REMEMBERED);
        assert!(Arc::ptr_eq(&held, &quotas.of(&peer(), LIMITS)));
    }
}
