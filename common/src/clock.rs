//! Time as a parameter.
//!
//! Rules ask a [`Clock`] what time it is and wait through it. The daemon passes [`SystemClock`]; tests pass a
//! [`ManualClock`] and move it, so that a day's back-off takes no day.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures_core::future::BoxFuture;
use tokio::sync::watch;

use crate::Timestamp;

/// What time it is, and a way to wait for a later one.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Now. It may jump either way when an administrator sets the machine's clock.
    fn now(&self) -> Timestamp;

    /// Completes once `duration` has passed on this clock. Dropping the future gives the wait up.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// A clock that is shared between tasks.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place where the machine's time comes in")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(0) + since
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock that stands still until it is moved. Clones share the time.
#[derive(Debug, Clone)]
pub struct ManualClock(watch::Sender<Timestamp>);

impl ManualClock {
    /// A clock that stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(watch::Sender::new(start))
    }

    /// Moves the clock forward and wakes whoever waited for a time that has now come.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|now| *now = *now + by);
    }

    /// Sets the clock, backwards too.
    pub fn set(&self, to: Timestamp) {
        self.0.send_replace(to);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.borrow()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut time = self.0.subscribe();
        let until = self.now() + duration;
        // This clock cannot be dropped before the wait ends: the future holds a clone of it.
        let clock = self.clone();
        Box::pin(async move {
            let _ = time.wait_for(|now| *now >= until).await;
            drop(clock);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_those_whose_time_has_come() {
        let clock = ManualClock::new(Timestamp::from_secs(1000));
        let (mut soon, mut late) =
            (clock.sleep(Duration::from_secs(5)), clock.sleep(Duration::from_secs(60)));
        clock.advance(Duration::from_secs(5));
        (&mut soon).await;
        assert!(futures_poll(&mut late).is_pending());
        clock.set(Timestamp::from_secs(2000));
        late.await;
        assert_eq!(clock.now(), Timestamp::from_secs(2000));
    }

    fn futures_poll(future: &mut BoxFuture<'static, ()>) -> std::task::Poll<()> {
        future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }
}
