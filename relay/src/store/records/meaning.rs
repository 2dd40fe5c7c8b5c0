//! What the fields of records mean: failure classes are kept by name, bindings without their mailbox.

use postrider_common::{Binding, FailureClass, MailboxId};
use serde_bytes::ByteArray;

use super::{BackoffRecord, BindingRecord, EndRecord, MetRecord, TrackingRecord};
use crate::store::{Backoff, Met, Tracking, TrackingEnd};

/// A slug that this version does not know was written by a later one; it is taken for a passing trouble.
pub(crate) fn class_of(slug: &str) -> FailureClass {
    slug.parse().unwrap_or(FailureClass::Unavailable)
}

impl From<Backoff> for BackoffRecord {
    fn from(backoff: Backoff) -> Self {
        Self {
            failing_since: backoff.failing_since,
            failures: backoff.failures,
            class: backoff.class.slug().into(),
            class_since: backoff.class_since,
            detail: backoff.detail,
            next_attempt: backoff.next_attempt,
        }
    }
}

impl From<BackoffRecord> for Backoff {
    fn from(record: BackoffRecord) -> Self {
        Self {
            failing_since: record.failing_since,
            failures: record.failures,
            class: class_of(&record.class),
            class_since: record.class_since,
            detail: record.detail,
            next_attempt: record.next_attempt,
        }
    }
}

impl From<MetRecord> for Met {
    fn from(record: MetRecord) -> Self {
        Self {
            class: class_of(&record.class),
            detail: record.detail,
            first: record.first,
            last: record.last,
            times: record.times,
        }
    }
}

impl From<TrackingEnd> for EndRecord {
    fn from(end: TrackingEnd) -> Self {
        match end {
            TrackingEnd::Stored => Self::Stored,
            TrackingEnd::Failed(class) => Self::Failed(class.slug().into()),
            TrackingEnd::Expired => Self::Expired,
        }
    }
}

impl EndRecord {
    /// How it ended, unless it goes on elsewhere.
    pub(crate) fn end(&self) -> Option<TrackingEnd> {
        match self {
            Self::Stored => Some(TrackingEnd::Stored),
            Self::Failed(class) => Some(TrackingEnd::Failed(class_of(class))),
            Self::Expired => Some(TrackingEnd::Expired),
            Self::Moved(_) => None,
        }
    }
}

impl From<&Binding> for BindingRecord {
    fn from(binding: &Binding) -> Self {
        Self {
            domain: binding.domain().clone(),
            serial: binding.serial(),
            signature: ByteArray::new(*binding.signature()),
        }
    }
}

impl BindingRecord {
    /// The statement, as the mailbox's it is under.
    pub(crate) fn of(&self, mailbox: &MailboxId) -> Binding {
        Binding::verified_before(*mailbox, self.domain.clone(), self.serial, self.signature.into_array())
    }

    /// Whether its signature is right.
    pub(crate) fn is_signed_by(&self, mailbox: &MailboxId) -> bool {
        Binding::verify(*mailbox, self.domain.clone(), self.serial, self.signature.into_array()).is_ok()
    }
}

impl From<TrackingRecord> for Tracking {
    fn from(record: TrackingRecord) -> Self {
        Self {
            destination: record.destination,
            queued_at: record.queued_at,
            attempts: record.attempts,
            reason: record.reason.as_deref().map(class_of),
            not_before: record.not_before,
            is_unreadable: false,
            end: record.end.and_then(|(end, at)| Some((end.end()?, at))),
        }
    }
}
