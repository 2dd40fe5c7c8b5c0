//! What readers see: durable state, page by page.

use std::sync::Arc;

use bytes::Bytes;
use postrider_common::Envelope;

use super::kv::{Key, Kv};
use super::{Statistics, StoreError, Unreadable, envelopes, keys};

/// The durable state of a key-value store.
#[derive(Debug)]
pub(crate) struct View<K> {
    kv: Arc<K>,
    statistics: Arc<Statistics>,
}

/// A part of a range.
#[derive(Debug)]
pub(crate) struct Page {
    pub pairs: Vec<(Key, Bytes)>,
    /// Where to go on, unless the range has ended.
    pub next: Option<Key>,
}

impl<K: Kv> View<K> {
    pub(crate) const fn new(kv: Arc<K>, statistics: Arc<Statistics>) -> Self {
        Self { kv, statistics }
    }

    /// What the view is of.
    pub(crate) fn kv(&self) -> &K {
        &self.kv
    }

    /// The envelope of `bytes` bytes under `body`, which is there as long as `owner` is, if it can be read.
    pub(crate) fn envelope(
        &self,
        body: &[u8],
        owner: impl FnOnce() -> Key,
        bytes: u32,
    ) -> Result<Option<Envelope>, StoreError> {
        self.unreadable().leave_out(body, owner, envelopes::read(self.kv(), body, bytes))
    }

    /// The same by the number of its pieces.
    pub(crate) fn envelope_in(&self, body: &[u8], pieces: u16) -> Result<Option<Envelope>, StoreError> {
        let read = envelopes::assemble(self.kv(), body, pieces);
        self.unreadable().leave_out(body, || keys::piece(body, 0), read)
    }

    pub(crate) fn unreadable(&self) -> &Unreadable {
        &self.statistics.unreadable
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.kv.get(key)
    }

    /// The first `limit` pairs with `start <= key < end`, ascending.
    pub(crate) fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Page, StoreError> {
        let pairs = self.kv.range(start, end, limit)?;
        let next = match pairs.last() {
            Some((last, _)) if pairs.len() >= limit => Some(keys::next(last)),
            _ => None,
        };
        Ok(Page { pairs, next })
    }
}
