//! Time as a parameter.
//!
//! Rules ask a [`Clock`] what time it is and wait through it. The daemon passes [`SystemClock`]; tests pass a
//! [`ManualClock`] and move it, so that a day's back-off takes no day.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, UNIX_EPOCH};

use futures_core::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Timestamp;

/// What time it is, and a way to wait for a later one.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Now. It may jump either way when an administrator sets the machine's clock.
    fn now(&self) -> Timestamp;

    /// How much time has passed since some moment before: what nobody sets. Compared with [`now`](Self::now) it shows
    /// that somebody has. A clock that is never set need not say it.
    fn uptime(&self) -> Duration {
        self.now().since(Timestamp::default())
    }

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

    fn uptime(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock that stands still until it is moved. Clones share the time.
///
/// Whoever sleeps does so for as long as the clock moves forward, by itself or because it was set: setting it back wakes
/// nobody and lengthens no sleep, as with the machine's.
#[derive(Debug, Clone)]
pub struct ManualClock(watch::Sender<Hands>);

#[derive(Debug, Clone, Copy)]
struct Hands {
    now: Timestamp,
    /// What [`ManualClock::advance`] has added up to.
    uptime: Duration,
    /// The same with every step forward.
    slept: Duration,
}

impl ManualClock {
    /// A clock that stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(watch::Sender::new(Hands { now: start, uptime: Duration::ZERO, slept: Duration::ZERO }))
    }

    /// Moves the clock forward and wakes whoever waited for a time that has now come.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|hands| {
            hands.now = hands.now + by;
            hands.uptime += by;
            hands.slept += by;
        });
    }

    /// Sets the clock, backwards too, while no time passes.
    pub fn set(&self, to: Timestamp) {
        self.0.send_modify(|hands| {
            hands.slept += to.since(hands.now);
            hands.now = to;
        });
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.0.borrow().now
    }

    fn uptime(&self) -> Duration {
        self.0.borrow().uptime
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut hands = self.0.subscribe();
        let until = hands.borrow().slept.saturating_add(duration);
        // This clock cannot be dropped before the wait ends: the future holds a clone of it.
        let clock = self.clone();
        Box::pin(async move {
            let _ = hands.wait_for(|hands| hands.slept >= until).await;
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

    #[tokio::test]
    async fn setting_a_clock_is_not_the_passing_of_time() {
        let clock = ManualClock::new(Timestamp::from_secs(1000));
        clock.set(Timestamp::from_secs(5000));
        let mut sleep = clock.sleep(Duration::from_secs(60));
        clock.set(Timestamp::from_secs(10));
        assert!(futures_poll(&mut sleep).is_pending());
        assert_eq!((clock.now(), clock.uptime()), (Timestamp::from_secs(10), Duration::ZERO));
        clock.advance(Duration::from_secs(60));
        sleep.await;
        assert_eq!((clock.now(), clock.uptime()), (Timestamp::from_secs(70), Duration::from_secs(60)));
    }

    fn futures_poll(future: &mut BoxFuture<'static, ()>) -> std::task::Poll<()> {
        future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }
}
