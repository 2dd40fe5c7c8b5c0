//! Where a simulated relay has its time and its random bytes from.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use postrider_common::Timestamp;
use postrider_common::clock::Clock;
use postrider_common::random::Random;
use tokio::time::Instant;

use crate::dice::Dice;

/// When every run begins.
pub(super) const START: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A relay's clock: the runtime's time, which stands still while there is something to do and then goes to where there
/// is something again, plus or minus what somebody has set it by.
#[derive(Debug)]
pub(super) struct SimulatedClock {
    began: Instant,
    /// In milliseconds.
    set_by: AtomicI64,
    /// The most that it ever was.
    furthest: AtomicI64,
}

impl SimulatedClock {
    pub(super) const fn new(began: Instant) -> Self {
        Self { began, set_by: AtomicI64::new(0), furthest: AtomicI64::new(0) }
    }

    pub(super) fn set(&self, seconds: i32) {
        let by = i64::from(seconds) * 1000;
        let set_by = self.set_by.fetch_add(by, Ordering::Relaxed) + by;
        self.furthest.fetch_max(set_by, Ordering::Relaxed);
    }

    /// No time that it has shown is later.
    pub(super) fn latest(&self) -> Timestamp {
        let furthest = Duration::from_millis(self.furthest.load(Ordering::Relaxed).unsigned_abs());
        START + self.began.elapsed() + furthest
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        let by_runtime = START + self.began.elapsed();
        let set_by = self.set_by.load(Ordering::Relaxed);
        let distance = Duration::from_millis(set_by.unsigned_abs());
        if set_by < 0 { by_runtime - distance } else { by_runtime + distance }
    }

    fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// As on a machine: that the clock is set changes nothing about a wait.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Dice that several tasks roll, one after the other.
#[derive(Debug)]
pub(super) struct SharedDice(Mutex<Dice>);

impl SharedDice {
    pub(super) const fn new(dice: Dice) -> Self {
        Self(Mutex::new(dice))
    }

    pub(super) fn with<T>(&self, roll: impl FnOnce(&mut Dice) -> T) -> T {
        roll(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Random for SharedDice {
    fn fill(&self, bytes: &mut [u8]) {
        self.with(|dice| {
            for part in bytes.chunks_mut(8) {
                let rolled = dice.roll().to_be_bytes();
                part.copy_from_slice(&rolled[..part.len()]);
            }
        });
    }
}
