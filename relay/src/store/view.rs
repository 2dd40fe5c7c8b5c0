//! What readers see: durable state, page by page.

use std::sync::Arc;

use bytes::Bytes;

use super::StoreError;
use super::keys;
use super::kv::{Key, Kv};

/// The durable state of a key-value store.
#[derive(Debug)]
pub(crate) struct View<K> {
    kv: Arc<K>,
}

/// A part of a range.
#[derive(Debug)]
pub(crate) struct Page {
    pub pairs: Vec<(Key, Bytes)>,
    /// Where to go on, unless the range has ended.
    pub next: Option<Key>,
}

impl<K: Kv> View<K> {
    pub(crate) fn new(kv: Arc<K>) -> Self {
        Self { kv }
    }

    /// What the view is of.
    pub(crate) fn kv(&self) -> &K {
        &self.kv
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
