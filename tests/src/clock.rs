//! A clock for relays that a test moves.

use std::time::Duration;

use futures_util::future::BoxFuture;
use postrider_common::Timestamp;
use postrider_common::clock::{Clock, ManualClock, SystemClock};

/// A clock that begins at the machine's time and moves when it is told to, except that pauses of a second or less take
/// no time: those between the quick tries of one attempt. Clones share the time.
#[derive(Debug, Clone)]
pub struct StandingClock(ManualClock);

impl StandingClock {
    /// One that stands at the machine's time.
    pub fn new() -> Self {
        Self(ManualClock::new(SystemClock.now()))
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        self.0.advance(by);
    }

    /// Sets it, backwards too.
    pub fn set(&self, to: Timestamp) {
        self.0.set(to);
    }
}

impl Default for StandingClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn uptime(&self) -> Duration {
        self.0.uptime()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        if duration <= Duration::from_secs(1) {
            return Box::pin(tokio::task::yield_now());
        }
        self.0.sleep(duration)
    }
}
