//! What is said aloud about refused peers: enough to find a mistake, too little to fill a log with.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use postrider_common::Timestamp;

/// How often the same refusal is said.
const EVERY: Duration = Duration::from_secs(60);

/// How many different refusals are said in that time: a stranger can be refused in as many ways as it has names.
const MOST: usize = 32;

/// What was said lately, and how often it would have been said again.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<String, Said>>);

#[derive(Debug, Clone, Copy)]
struct Said {
    at: Timestamp,
    kept_back: u64,
}

impl Refusals {
    /// Whether a refusal is to be said now, and how many of the same words were kept back since the last time.
    pub(super) fn note(&self, words: &str, now: Timestamp) -> Option<u64> {
        // No code that can panic runs under this lock half way through a change.
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back does not silence it.
        let is_recent = |last: &Said| now >= last.at && now.since(last.at) < EVERY;
        if let Some(last) = said.get_mut(words) {
            if is_recent(last) {
                last.kept_back += 1;
                return None;
            }
            return Some(std::mem::replace(last, Said { at: now, kept_back: 0 }).kept_back);
        }
        if said.len() >= MOST {
            said.retain(|_, last| is_recent(last));
        }
        if said.len() >= MOST {
            return None;
        }
        said.insert(words.to_owned(), Said { at: now, kept_back: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[test]
    fn the_same_refusal_is_said_once_a_minute_with_a_count() {
        let refusals = Refusals::default();
        let note = |words, secs| refusals.note(words, START + Duration::from_secs(secs));
        assert_eq!(note("not listed", 0), Some(0));
        assert_eq!(note("not listed", 1), None);
        assert_eq!(note("not listed", 59), None);
        assert_eq!(note("another name", 2), Some(0));
        assert_eq!(note("not listed", 60), Some(2));
        assert_eq!(note("not listed", 61), None);
        assert_eq!(note("not listed", 0), Some(1), "after the clock was set back");
    }

    #[test]
    fn there_is_an_end_to_different_ones() {
        let refusals = Refusals::default();
        let said = |secs| {
            let now = START + Duration::from_secs(secs);
            (0..1000).filter(|n| refusals.note(&format!("{secs} {n}"), now).is_some()).count()
        };
        assert_eq!(said(0), MOST);
        assert_eq!(said(30), 0);
        assert_eq!(said(60), MOST);
        assert_eq!(refusals.0.lock().unwrap().len(), MOST);
    }
}
