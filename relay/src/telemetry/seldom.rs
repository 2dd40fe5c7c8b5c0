//! The same words once a minute, so that what goes wrong with every request is heard and does not fill the log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often.
const EVERY: Duration = Duration::from_secs(60);

/// One place of the program that says something again and again.
#[derive(Debug)]
pub struct Seldom(Mutex<Option<(String, Instant)>>);

impl Seldom {
    /// Nothing was said so far.
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Whether these words are to be said now: they are others than the last ones, or those are a minute old.
    pub fn is_due(&self, words: &str) -> bool {
        self.is_due_at(words, Instant::now())
    }

    fn is_due_at(&self, words: &str, now: Instant) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.as_ref().is_some_and(|(last, at)| last == words && now.duration_since(*at) < EVERY) {
            return false;
        }
        *said = Some((words.to_owned(), now));
        true
    }
}

impl Default for Seldom {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute_and_something_else_at_once() {
        let (seldom, start) = (Seldom::new(), Instant::now());
        let is_due = |words, after| seldom.is_due_at(words, start + after);
        assert!(is_due("full", Duration::ZERO));
        assert!(!is_due("full", Duration::ZERO));
        assert!(!is_due("full", EVERY - Duration::from_millis(1)));
        assert!(is_due("full", EVERY));
        assert!(is_due("damaged", EVERY));
    }
}
