//! What became of one envelope at one step.

use std::time::Duration;

use crate::{Binding, FailureClass};

/// The answer to one envelope: by the store to an edge, by a destination relay to the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is on stable storage. Custody has passed.
    Stored,
    /// It had been stored before. Custody has passed, and there is still one copy.
    Duplicate,
    /// The mailbox is kept elsewhere; the binding, once its signature checks out, says where.
    Moved(Box<Binding>),
    /// Not now. Custody stays with whoever asked.
    Retry {
        /// Why not.
        reason: FailureClass,
        /// When to ask again, at the earliest.
        after: Duration,
    },
    /// Not ever. The envelope has failed.
    Reject {
        /// Why not.
        reason: FailureClass,
    },
}

impl Outcome {
    /// A rejection.
    pub const fn reject(reason: FailureClass) -> Self {
        Self::Reject { reason }
    }

    /// A refusal for now.
    pub const fn retry(reason: FailureClass, after: Duration) -> Self {
        Self::Retry { reason, after }
    }
}
