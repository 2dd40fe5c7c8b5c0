//! How it stands with automatic certificates, for those who watch the relay.

use std::sync::{Arc, Mutex, PoisonError};

use postrider_common::{Domain, Timestamp};

/// What is told of it. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Standing(Arc<Mutex<Option<Told>>>);

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What certificates are for.
    pub names: Vec<Domain>,
    /// The host that they come from.
    pub server: String,
    /// When the last one was issued.
    pub issued_at: Option<Timestamp>,
    /// When one is asked for next.
    pub next_attempt: Timestamp,
    /// Failures in a row since.
    pub failures: u32,
    /// What the last of them was.
    pub failure: Option<String>,
}

impl Standing {
    /// How it stands; `None` if nobody wants automatic certificates, or nothing was looked at yet.
    pub fn told(&self) -> Option<Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It stands like this from now on.
    pub(super) fn tell(&self, told: Option<Told>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }
}
