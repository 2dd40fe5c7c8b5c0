//! The reserve of free disk, below which no new envelope is taken.
//!
//! Deleting needs space, too: a store that has filled the disk could neither be emptied nor opened again.

use std::time::Duration;

use postrider_common::Timestamp;

use super::StoreError;
use super::kv::Kv;

/// How long an answer of the file system's is believed,
const BELIEVED_FOR: Duration = Duration::from_secs(1);
/// and for how many bytes of envelopes.
const BELIEVED_BYTES: u64 = 1 << 20;

/// Whether there is room.
#[derive(Debug)]
pub(crate) struct Space {
    reserve: u64,
    asked_at: Option<Timestamp>,
    taken: u64,
    enough: bool,
}

impl Space {
    /// With `reserve` bytes to be left free; zero asks for nothing.
    pub(crate) const fn new(reserve: u64) -> Self {
        Self { reserve, asked_at: None, taken: 0, enough: true }
    }

    /// Fails with [`StoreError::Full`] if `bytes` more should not be taken.
    pub(crate) fn take<K: Kv>(&mut self, kv: &K, bytes: u64, now: Timestamp) -> Result<(), StoreError> {
        if self.reserve == 0 {
            return Ok(());
        }
        let believed = self.asked_at.is_some_and(|at| {
            now.since(at).max(at.since(now)) < BELIEVED_FOR && self.taken + bytes <= BELIEVED_BYTES
        });
        if !believed {
            let free = kv.free_bytes()?;
            let enough = free.is_none_or(|free| free >= self.reserve);
            if self.enough && !enough {
                tracing::error!(
                    free,
                    reserve = self.reserve,
                    "the disk is nearly full: no new envelopes are taken until more than `store.reserve` is free"
                );
            } else if enough && !self.enough {
                tracing::info!("there is room on the disk again: new envelopes are taken");
            }
            self.enough = enough;
            self.asked_at = Some(now);
            self.taken = 0;
        }
        self.taken += bytes;
        if self.enough { Ok(()) } else { Err(StoreError::Full) }
    }
}
