//! Items that are under way, and how that ends.

use postrider_common::{Envelope, FailureClass, Timestamp, TrackingId};

use super::{ItemId, Onward};

/// An item taken for delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// Which item,
    pub item: ItemId,
    /// and which lease of it: to settle it by.
    pub lease: LeaseId,
    /// What it is tracked by.
    pub tracking: TrackingId,
    /// What to deliver.
    pub envelope: Envelope,
    /// How often the destination has answered for this envelope before.
    pub attempts: u32,
    /// Present if it has followed a binding.
    pub onward: Option<Onward>,
}

/// One lease, of however many items. An item that is leased again, as an earlier lease has lapsed, is under another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

impl Leased {
    /// The end of this lease.
    pub const fn end(&self, verdict: Verdict) -> Settlement {
        Settlement { item: self.item, lease: self.lease, verdict }
    }
}

/// The end of one lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// Which item.
    pub item: ItemId,
    /// Whose word it is.
    pub lease: LeaseId,
    /// What became of it.
    pub verdict: Verdict,
}

impl Settlement {
    /// Whether it holds although somebody else may work on the item by now: the envelope is where it was to go, or
    /// queued for where it goes on, so that another try can only be told the same.
    pub const fn is_for_good(&self) -> bool {
        matches!(self.verdict, Verdict::Delivered | Verdict::Moved(_))
    }
}

/// What became of a leased item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The destination has it, durably.
    Delivered,
    /// It is given up.
    Failed(FailureClass),
    /// It is given up because of what it is, and kept aside for the operator.
    Quarantined(FailureClass),
    /// Its time was over.
    Expired,
    /// The destination answered for this envelope that it should come again.
    Retry {
        /// Why.
        reason: FailureClass,
        /// Not before this.
        not_before: Timestamp,
    },
    /// It was queued for where its mailbox has moved, and is tracked there under this id.
    Moved(TrackingId),
    /// The destination answered nothing about it. It goes back to its place; nothing is written.
    Released,
}
