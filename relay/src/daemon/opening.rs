//! What is said while the store opens.
//!
//! That takes a moment, unless a relay was killed in the middle of much work: then a part of the journal is read first.
//! Whoever watches the log should see that it is under way, and how far.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use postrider_common::Timestamp;
use postrider_common::clock::SharedClock;

use crate::store::{Progress, Step};

/// Nothing is said of what takes less,
const PATIENCE: Duration = Duration::from_secs(1);
/// and then a line so often.
const EVERY: Duration = Duration::from_secs(2);

/// Writes to the log, now and then.
pub(super) struct Told {
    clock: SharedClock,
    begun: Timestamp,
    /// When to say something next.
    due: Mutex<Timestamp>,
}

impl Told {
    pub(super) fn new(clock: SharedClock) -> Self {
        let begun = clock.now();
        Self { clock, begun, due: Mutex::new(begun + PATIENCE) }
    }
}

impl Progress for Told {
    fn at(&self, step: Step, done: u64, of: u64) {
        let now = self.clock.now();
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= *due {
            *due = now + EVERY;
            tracing::info!(bytes = done, of, "the store is opening: {step}");
        }
    }

    fn replayed(&self, frames: u64, bytes: u64) {
        let took = self.clock.now().since(self.begun);
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(frames, bytes, milliseconds, "the store is open: this was read of its journal");
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Arc;

    use postrider_common::clock::ManualClock;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that are logged while each step of 10 bytes takes so long.
    fn logged(each: Duration) -> Vec<String> {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        tracing::subscriber::with_default(subscriber.finish(), || {
            let clock = ManualClock::new(Timestamp::from_secs(1000));
            let told = Told::new(Arc::new(clock.clone()));
            for done in 0..=10 {
                told.at(Step::Journal, done * 10, 100);
                clock.advance(each);
            }
            told.replayed(7, 100);
        });
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line[line.find("the store").unwrap()..].to_owned()).collect()
    }

    #[test]
    fn what_is_quick_is_one_line_and_what_is_slow_a_line_every_two_seconds() {
        let end = "the store is open: this was read of its journal frames=7 bytes=100";
        assert_eq!(logged(Duration::from_millis(50)), [format!("{end} milliseconds=550")]);
        let line = |bytes: u32| format!("the store is opening: reading the journal bytes={bytes} of=100");
        let slow = logged(Duration::from_millis(700));
        let expected = [line(20), line(50), line(80), format!("{end} milliseconds=7700")];
        assert_eq!(slow, expected);
    }
}
