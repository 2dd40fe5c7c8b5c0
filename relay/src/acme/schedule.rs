//! When a certificate is asked for: pure rules.

use std::time::Duration;

use postrider_common::Timestamp;

/// The waits after the first failures in a row. A public server takes five failed checks of a name an hour, and no more.
const STEPS: [Duration; 6] = [minutes(5), minutes(15), minutes(30), minutes(60), minutes(120), minutes(240)];
/// After that.
const SLOWEST: Duration = minutes(480);
/// The longest that a server's wish to be left alone is honoured: the limits of public ones are for a week.
pub(super) const LONGEST: Duration = minutes(7 * 24 * 60);

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

/// How long the server is left alone after so many failures in a row, the latest included. `asked` is what it said itself,
/// which lengthens the wait and never shortens it; `jitter` in `0.0..=1.0` lengthens the rest by a fifth at most.
pub(super) fn wait(failures: u32, asked: Option<Duration>, jitter: f64) -> Duration {
    let step = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    let base = STEPS.get(step).copied().unwrap_or(SLOWEST);
    base.mul_f64(1.0 + 0.2 * jitter.clamp(0.0, 1.0)).max(asked.unwrap_or_default().min(LONGEST))
}

/// When to renew a certificate of which the server says nothing: when two thirds of its life are over, or up to a
/// twelfth of it later.
pub(super) fn by_lifetime((from, until): (Timestamp, Timestamp), jitter: f64) -> Timestamp {
    let life = until.since(from);
    from + life * 2 / 3 + life.mul_f64(jitter.clamp(0.0, 1.0) / 12.0)
}

/// When to renew a certificate for which the server suggests this window (RFC 9773): anywhere in it, and never so late that
/// the certificate is over.
pub(super) fn in_window((start, end): (Timestamp, Timestamp), until: Timestamp, jitter: f64) -> Timestamp {
    let drawn = start + end.since(start).mul_f64(jitter.clamp(0.0, 1.0));
    drawn.min(until - minutes(60))
}

/// When the server may be asked at the earliest, as far as what was noted goes: a clock that has been set back since does
/// not make it longer than the longest wait.
pub(super) fn earliest(noted: Timestamp, now: Timestamp) -> Timestamp {
    if noted.since(now) > LONGEST { now } else { noted }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = minutes(24 * 60);

    #[test]
    fn no_more_than_four_attempts_fall_into_the_first_hour() {
        let waits: Vec<_> = (1..=8).map(|failures| wait(failures, None, 0.0).as_secs() / 60).collect();
        assert_eq!(waits, [5, 15, 30, 60, 120, 240, 480, 480]);
        assert_eq!(wait(1, None, 1.0), minutes(6));
    }

    #[test]
    fn what_the_server_asks_for_is_honoured_within_reason() {
        assert_eq!(wait(1, Some(Duration::from_secs(30)), 0.0), minutes(5));
        assert_eq!(wait(1, Some(DAY), 0.0), DAY);
        assert_eq!(wait(1, Some(30 * DAY), 0.0), 7 * DAY);
    }

    #[test]
    fn a_certificate_is_renewed_when_two_thirds_of_its_life_are_over() {
        let from = Timestamp::from_secs(1_800_000_000);
        for days in [90, 45, 6] {
            let life = (from, from + DAY * days);
            assert_eq!(by_lifetime(life, 0.0), from + DAY * days * 2 / 3);
            assert_eq!(by_lifetime(life, 1.0), from + DAY * days * 3 / 4);
        }
    }

    #[test]
    fn a_window_is_drawn_from_evenly_and_not_beyond_the_end() {
        let start = Timestamp::from_secs(1_800_000_000);
        let (end, until) = (start + DAY * 2, start + DAY * 30);
        assert_eq!(in_window((start, end), until, 0.0), start);
        assert_eq!(in_window((start, end), until, 0.5), start + DAY);
        assert_eq!(in_window((start, start + DAY * 60), until, 1.0), until - minutes(60));
        assert_eq!(in_window((end, start), until, 1.0), end, "a window that ends before it begins");
    }

    #[test]
    fn a_clock_that_was_set_back_holds_nothing_up() {
        let now = Timestamp::from_secs(1_800_000_000);
        assert_eq!(earliest(now + DAY * 7, now), now + DAY * 7);
        assert_eq!(earliest(now + DAY * 8, now), now);
        assert_eq!(earliest(now - DAY, now), now - DAY);
    }
}
