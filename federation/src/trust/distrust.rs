//! Why a chain proves nothing: the facts, and a sentence that is made of them.

use postrider_common::{Domain, Failure, FailureClass, Timestamp};

use super::TrustMode;
use crate::certificate::{Pin, Presented};

/// A verdict against a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{class}: {detail}")]
pub struct Distrust {
    /// What kind.
    pub class: FailureClass,
    /// Who was to be proven.
    pub domain: Domain,
    /// By which mode.
    pub mode: TrustMode,
    /// What would have been accepted.
    pub expected: Expected,
    /// What came instead, if it can be read at all.
    pub presented: Option<Box<Presented>>,
    /// One sentence for an operator, with both.
    pub detail: String,
}

/// What would have been accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// A certificate at all, or one that can be used.
    Anything,
    /// One of these keys: pinned, or in TLSA records.
    Keys(Vec<Pin>),
    /// An issuer among these.
    Issuers(Vec<String>),
    /// One of these names.
    Names(Vec<String>),
    /// To be valid at this time.
    ValidAt(Timestamp),
    /// To be meant for one of these usages.
    Usages(Vec<&'static str>),
}

impl From<Distrust> for Failure {
    fn from(distrust: Distrust) -> Self {
        Self::new(distrust.class, distrust.detail)
    }
}
