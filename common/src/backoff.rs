//! How long to leave what fails alone.

use std::time::Duration;

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

/// The waits after the first failures, in order.
const STEPS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(30),
    minutes(1),
    minutes(2),
    minutes(5),
    minutes(10),
    minutes(15),
    minutes(30),
];
/// After the steps, while the destination has failed for less than [`FIRST_DAY`].
const HOURLY: Duration = minutes(60);
/// After that.
const SLOW: Duration = minutes(240);
const FIRST_DAY: Duration = minutes(24 * 60);
/// The longest `Retry-After` of a peer that is honoured.
pub const MAX_RETRY_AFTER: Duration = minutes(6 * 60);

/// The wait before the next attempt.
///
/// `failures` counts the consecutive ones, the latest included; `failing_for` is the time since the first of them;
/// `retry_after` is what the peer asked for, which lengthens the wait and never shortens it. `jitter` in `0.0..=1.0`
/// spreads the result over ±20 %, so that relays that lost the same peer do not return to it in step.
pub fn wait(failures: u32, failing_for: Duration, retry_after: Option<Duration>, jitter: f64) -> Duration {
    let step = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    let base = match STEPS.get(step) {
        Some(step) => *step,
        None if failing_for < FIRST_DAY => HOURLY,
        None => SLOW,
    };
    let spread = base.mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0));
    spread.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
}

/// A client's pause between two tries, of which the caller has decided how long it is at most: between half and all of it, as
/// `jitter` in `0.0..=1.0` says, so that the clients of a relay that was restarted do not return in step. Never less than
/// the relay `asked` for.
pub fn spread(longest: Duration, asked: Option<Duration>, jitter: f64) -> Duration {
    longest.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0)).max(asked.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_spread_and_come_no_sooner_than_they_are_asked_to() {
        let secs = Duration::from_secs;
        assert_eq!(spread(secs(8), None, 0.0), secs(4));
        assert_eq!(spread(secs(8), None, 1.0), secs(8));
        assert_eq!(spread(secs(8), None, 7.0), secs(8));
        assert_eq!(spread(secs(8), Some(secs(5)), 0.0), secs(5));
        assert_eq!(spread(secs(8), Some(secs(60)), 1.0), secs(60));
    }

    #[test]
    fn climbs_the_ladder() {
        let mut failing_for = Duration::ZERO;
        let mut waits = Vec::new();
        for failures in 1..=35 {
            let wait = wait(failures, failing_for, None, 0.5);
            waits.push(wait.as_secs());
            failing_for += wait;
        }
        assert_eq!(waits[..10], [5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600]);
        // 3,830 seconds of steps, then hourly until a day is over.
        assert_eq!(waits[9..32], [3600; 23]);
        assert_eq!(waits[32..], [14_400; 3]);
    }

    #[test]
    fn spreads_by_a_fifth_either_way() {
        assert_eq!(wait(4, Duration::ZERO, None, 0.0), Duration::from_secs(48));
        assert_eq!(wait(4, Duration::ZERO, None, 1.0), Duration::from_secs(72));
        assert_eq!(wait(4, Duration::ZERO, None, f64::INFINITY), Duration::from_secs(72));
    }

    #[test]
    fn honours_retry_after_within_reason() {
        let asked = |secs| wait(1, Duration::ZERO, Some(Duration::from_secs(secs)), 0.5).as_secs();
        assert_eq!(asked(1), 5);
        assert_eq!(asked(90), 90);
        assert_eq!(asked(u64::MAX), 6 * 3600);
    }
}
