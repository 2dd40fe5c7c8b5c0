//! What readers see: durable state only.
//!
//! Between the writing of a batch and the end of its flush, the key-value store shows what a crash could still
//! undo. A device that saw entry 5 then, and after the crash found another envelope as entry 5, would take it for
//! one that it has. So the writer says beforehand what the keys that it is about to touch held, and a reader puts
//! that in the place of what it found. The reader looks there *after* it has read: whatever is no longer hidden by
//! then has become durable in between.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use super::StoreError;
use super::keys;
use super::kv::{Key, Kv};

/// What keys held before a batch: a value, or nothing.
pub(crate) type Before = BTreeMap<Key, Option<Bytes>>;

/// The durable state of a key-value store.
#[derive(Debug)]
pub(crate) struct View<K> {
    kv: Arc<K>,
    hidden: RwLock<Arc<Before>>,
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
        Self { kv, hidden: RwLock::default() }
    }

    /// What the view is of. Only the writer, between its batches, may take it for durable.
    pub(crate) fn kv(&self) -> &K {
        &self.kv
    }

    /// Shows `before` in the place of what its keys hold, until [`reveal`](Self::reveal).
    pub(crate) fn hide(&self, before: Before) {
        *self.hidden.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(before);
    }

    /// Everything is durable.
    pub(crate) fn reveal(&self) {
        self.hide(Before::new());
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let found = self.kv.get(key)?;
        Ok(match self.hidden().get(key) {
            Some(before) => before.clone(),
            None => found,
        })
    }

    /// About `limit` pairs with `start <= key < end`, ascending.
    pub(crate) fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Page, StoreError> {
        let mut pairs = self.kv.range(start, end, limit)?;
        let next = match pairs.last() {
            Some((last, _)) if pairs.len() >= limit => Some(keys::next(last)),
            _ => None,
        };
        let seen_until = next.as_deref().unwrap_or(end);
        let hidden = self.hidden();
        if start < seen_until {
            let mut hidden =
                hidden.range::<[u8], _>((Bound::Included(start), Bound::Excluded(seen_until))).peekable();
            if hidden.peek().is_some() {
                let mut durable: BTreeMap<_, _> = pairs.into_iter().collect();
                for (key, before) in hidden {
                    match before {
                        Some(value) => durable.insert(key.clone(), value.clone()),
                        None => durable.remove(key),
                    };
                }
                pairs = durable.into_iter().collect();
            }
        }
        Ok(Page { pairs, next })
    }

    fn hidden(&self) -> Arc<Before> {
        Arc::clone(&self.hidden.read().unwrap_or_else(PoisonError::into_inner))
    }
}
