//! Sizes and durations as people write them: `128 KiB`, `24 h`.

use std::time::Duration;

const SIZES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

const DAY_MILLIS: u64 = 86_400_000;
/// The first spelling of a length is the one that is written.
const DURATIONS: [(&str, u64); 7] = [
    ("days", DAY_MILLIS),
    ("day", DAY_MILLIS),
    ("d", DAY_MILLIS),
    ("h", 3_600_000),
    ("min", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Bytes from a number and a binary unit. The error completes the sentence "… is".
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    parse(text, &SIZES).ok_or_else(|| {
        format!("{text:?}, but must be a whole number with one of the units B, KiB, MiB, GiB, TiB, such as \"128 KiB\"")
    })
}

/// Bytes with the largest unit that divides them.
pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, &SIZES)
}

/// A duration from a number and a unit. The error completes the sentence "… is".
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    parse(text, &DURATIONS).map(Duration::from_millis).ok_or_else(|| {
        format!(
            "{text:?}, but must be a whole number with one of the units ms, s, min, h, days, such as \"30 s\""
        )
    })
}

/// A duration on a command line.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| format!("it is {error}"))
}

/// A duration with the largest unit that divides it.
pub(crate) fn show_duration(duration: Duration) -> String {
    show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATIONS)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text.get(digits.len()..)?.trim_start_matches(' ');
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

fn show(n: u64, units: &[(&str, u64)]) -> String {
    let fits = units.iter().find(|(_, factor)| n >= *factor && n.is_multiple_of(*factor)).or(units.last());
    match fits {
        Some(("days", factor)) if n == *factor => "1 day".to_owned(),
        Some((unit, factor)) => format!("{} {unit}", n / factor),
        None => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_show() {
        for (text, bytes, shown) in [
            ("128 KiB", 128 << 10, "128 KiB"),
            ("4MiB", 4 << 20, "4 MiB"),
            ("1 B", 1, "1 B"),
            ("1025 B", 1025, "1025 B"),
            ("2 TiB", 2 << 40, "2 TiB"),
            ("0 B", 0, "0 B"),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(show_size(bytes), shown);
        }
        for text in
            ["", "12", "KiB", "1 MB", "1.5 GiB", "-1 B", "1 kib", "1 KiB ", "16777216 TiB", "+1 B", "1 2 B"]
        {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations_read_and_show() {
        for (text, secs, shown) in [
            ("30 s", 30, "30 s"),
            ("60s", 60, "1 min"),
            ("10 min", 600, "10 min"),
            ("24 h", 86_400, "1 day"),
            ("30 days", 30 * 86_400, "30 days"),
            ("1 day", 86_400, "1 day"),
            ("36 h", 129_600, "36 h"),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(secs)), "{text}");
            assert_eq!(show_duration(Duration::from_secs(secs)), shown);
        }
        assert_eq!(parse_duration("250 ms"), Ok(Duration::from_millis(250)));
        for text in ["", "30", "5 m", "1 month", "1.5 h", "-1 s", "99999999999999999 days"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }
}
