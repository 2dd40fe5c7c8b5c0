//! `GET /federation/v1/hello`: what a relay is, and what it sees of the relay that asks.

use postrider_common::Domain;
use postrider_common::limits::EnvelopeLimits;
use serde::{Deserialize, Serialize};

/// The answer. Unknown fields are ignored, so that both sides may add some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Who answers.
    pub domain: Domain,
    /// The versions of the federation protocol that it speaks.
    pub versions: Vec<u32>,
    /// What it takes.
    pub limits: Limits,
    /// Its software, for instance `postrider/0.1.0`.
    pub software: String,
    /// What it sees of whoever asked.
    pub you: You,
    /// Its clock, in Unix seconds.
    pub time: u64,
}

/// What a relay takes from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of an envelope's body.
    pub body_bytes: u64,
    /// Bytes of an envelope's header.
    pub header_bytes: u64,
    /// Seconds that `expires_at` may lie ahead.
    pub lifetime_seconds: u64,
    /// Envelopes in a batch.
    pub batch_envelopes: u64,
    /// Bytes of a batch.
    pub batch_bytes: u64,
}

/// What the answering relay sees of the asking one. One that it does not accept gets no such document but a problem
/// that says why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct You {
    /// The domain that was proven.
    pub domain: Domain,
    /// The trust mode that proved it.
    pub trust: String,
    /// SHA-256 of the key, in lower-case hexadecimal.
    pub fingerprint: String,
    /// `accepted`.
    pub verdict: String,
}

impl From<&EnvelopeLimits> for Limits {
    fn from(limits: &EnvelopeLimits) -> Self {
        Self {
            body_bytes: limits.body as u64,
            header_bytes: limits.header as u64,
            lifetime_seconds: limits.lifetime.as_secs(),
            batch_envelopes: limits.batch_envelopes as u64,
            batch_bytes: limits.batch_bytes as u64,
        }
    }
}
