//! How a store is doing, for whoever watches it.

use std::sync::OnceLock;

use super::{StoreError, Unreadable};
use crate::count::Histogram;

/// From a tenth of a millisecond to ten seconds, in nanoseconds.
const FLUSHES: &[u64] = &[
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
];
/// Operations.
const GROUPS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

/// What was measured and met since the store was opened.
#[derive(Debug)]
pub struct Statistics {
    /// How long it took to make a group durable, in nanoseconds.
    pub flushes: Histogram,
    /// How many operations a group had.
    pub groups: Histogram,
    /// What could not be read.
    pub unreadable: Unreadable,
    failure: OnceLock<StoreError>,
}

impl Statistics {
    /// The first failed write, after which there are no others.
    pub fn failure(&self) -> Option<&StoreError> {
        self.failure.get()
    }

    pub(super) fn fail(&self, error: StoreError) {
        // What comes after the first failure is its consequence.
        let _ = self.failure.set(error);
    }
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            flushes: Histogram::new(FLUSHES),
            groups: Histogram::new(GROUPS),
            unreadable: Unreadable::default(),
            failure: OnceLock::new(),
        }
    }
}
