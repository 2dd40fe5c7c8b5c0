//! Notices that somebody has set the machine's clock, and says so: everything that ends at a time goes by it.

use std::time::Duration;

use postrider_common::Timestamp;
use postrider_common::clock::SharedClock;
use postrider_common::supervisor::Supervisor;

use crate::delivery::Delivery;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(10);
/// A smaller difference is no step, but a clock that is being corrected.
const STEP: Duration = Duration::from_secs(120);

/// A step of the clock: by how much it is other than it would be by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Ahead(Duration),
    Back(Duration),
}

/// The clock beside the time that has passed.
#[derive(Debug, Clone, Copy)]
struct Reading {
    time: Timestamp,
    uptime: Duration,
}

impl Reading {
    fn of(clock: &SharedClock) -> Self {
        Self { time: clock.now(), uptime: clock.uptime() }
    }

    fn step_until(self, later: Self) -> Option<Step> {
        let expected = self.time + later.uptime.saturating_sub(self.uptime);
        let (ahead, back) = (later.time.since(expected), expected.since(later.time));
        match (ahead >= STEP, back >= STEP) {
            (true, _) => Some(Step::Ahead(ahead)),
            (_, true) => Some(Step::Back(back)),
            _ => None,
        }
    }
}

/// Looks again and again; each step is told once.
pub(super) async fn watch_clock(clock: SharedClock, delivery: Delivery, supervisor: Supervisor) {
    let stopping = supervisor.stopping();
    tokio::pin!(stopping);
    let mut before = Reading::of(&clock);
    loop {
        tokio::select! {
            biased;
            () = &mut stopping => return,
            () = clock.sleep(LOOK) => {}
        }
        let now = Reading::of(&clock);
        match before.step_until(now) {
            None => {}
            Some(Step::Ahead(by)) => tracing::warn!(
                seconds = by.as_secs(),
                "the machine's clock was set ahead, or the machine was asleep: what ends before the new time has ended; if \
                 it is wrong, set it right at once, for what has expired is deleted"
            ),
            Some(Step::Back(by)) => {
                tracing::warn!(
                    seconds = by.as_secs(),
                    "the machine's clock was set back: what ends at a time is kept that much longer, and every relay that is \
                     waited for is tried at once; if it is wrong, other relays may find this one's certificate or \
                     envelopes to be of another time"
                );
                delivery.clock_was_set_back();
            }
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(time: u64, uptime: u64) -> Reading {
        Reading { time: Timestamp::from_secs(time), uptime: Duration::from_secs(uptime) }
    }

    #[test]
    fn a_step_is_what_time_itself_does_not_explain() {
        let before = reading(1_000_000, 50);
        for (time, uptime, step) in [
            (1_000_010, 60, None),
            (1_000_129, 60, None),
            (1_000_130, 60, Some(Step::Ahead(STEP))),
            (999_891, 60, None),
            (999_890, 60, Some(Step::Back(STEP))),
            (1_086_410, 60, Some(Step::Ahead(Duration::from_secs(86_400)))),
            (913_610, 60, Some(Step::Back(Duration::from_secs(86_400)))),
            // A task that was not run for an hour has seen no step.
            (1_003_600, 3650, None),
        ] {
            assert_eq!(before.step_until(reading(time, uptime)), step, "{time} {uptime}");
        }
    }
}
