//! How much one client address may ask for without saying who it is, how much one member may submit, and how often a mailbox
//! may be moved or changed.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

use super::problem::ApiError;

/// A token bucket for each client address, or for each of something else. Who has been quiet for long enough to have a full
/// one again is forgotten.
#[derive(Debug)]
pub(super) struct RateLimit<K: Hash + Eq + Clone> {
    buckets: DefaultKeyedRateLimiter<K>,
    burst: u32,
}

impl<K: Hash + Eq + Clone> RateLimit<K> {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let at_least_one = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(at_least_one(per_second)).allow_burst(at_least_one(burst));
        Self { buckets: DefaultKeyedRateLimiter::keyed(quota), burst: burst.max(1) }
    }

    /// Takes `count` from the bucket of `whom`. A count above the burst, which could never be had, empties it.
    pub(super) fn take(&self, whom: &K, count: usize) -> Result<(), ApiError> {
        let count = u32::try_from(count).unwrap_or(u32::MAX).min(self.burst);
        let Some(count) = NonZeroU32::new(count) else {
            return Ok(());
        };
        let limited = |wait| ApiError::RateLimited { retry_after: wait };
        match self.buckets.check_key_n(whom, count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => Err(limited(not_until.wait_time_from(DefaultClock::default().now()))),
            // Not reached: the count is at most the burst.
            Err(_) => Err(limited(Duration::from_secs(1))),
        }
    }

    pub(super) fn tidy(&self) {
        self.buckets.retain_recent();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::admission::ClientAddress;

    fn client(text: &str) -> ClientAddress {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn a_burst_is_allowed_and_then_refused_with_a_time() {
        let rate = RateLimit::new(1, 10);
        rate.take(&client("192.0.2.1"), 10).unwrap();
        let Err(ApiError::RateLimited { retry_after }) = rate.take(&client("192.0.2.1"), 5) else {
            panic!("the bucket is empty")
        };
        assert!(retry_after > Duration::from_secs(3) && retry_after <= Duration::from_secs(5));
        rate.take(&client("192.0.2.2"), 10).unwrap();
    }

    #[test]
    fn a_batch_above_the_burst_takes_all_of_it() {
        let rate = RateLimit::new(1, 10);
        rate.take(&client("192.0.2.1"), 256).unwrap();
        assert!(rate.take(&client("192.0.2.1"), 1).is_err());
    }
}
