//! Walking through what is in a store, page by page, for those who only look: checking it, taking it elsewhere.

use std::collections::VecDeque;

use bytes::Bytes;

use super::kv::{Key, Kv};
use super::{StoreError, keys};

/// How many pairs are looked at together. A value has about 16 KiB at the most.
const PAGE: usize = 64;

/// A pair, or what is wrong with its value.
pub(crate) type Pair = (Key, Result<Bytes, StoreError>);

/// Ordered pairs that nobody changes meanwhile.
pub(crate) trait Pairs {
    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// The first `limit` pairs with `start <= key < end`, ascending. A value that cannot be read is an error in its
    /// own place; an error of the whole says that the keys cannot be read.
    fn page(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError>;
}

impl<K: Kv> Pairs for K {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Kv::get(self, key)
    }

    fn page(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        Ok(self.range(start, end, limit)?.into_iter().map(|(key, value)| (key, Ok(value))).collect())
    }
}

/// A place in a range of pairs.
pub(crate) struct Cursor<'a> {
    pairs: &'a dyn Pairs,
    /// Where the next page begins, unless this one is the last.
    from: Option<Key>,
    end: Key,
    page: VecDeque<Pair>,
}

impl<'a> Cursor<'a> {
    /// In front of the pairs with `start <= key < end`.
    pub(crate) fn new(pairs: &'a dyn Pairs, start: Key, end: Key) -> Self {
        Self { pairs, from: Some(start), end, page: VecDeque::new() }
    }

    /// The key of the next pair, if there is another.
    pub(crate) fn head(&mut self) -> Result<Option<&Key>, StoreError> {
        self.fill()?;
        Ok(self.page.front().map(|(key, _)| key))
    }

    /// The next pair, if there is another.
    pub(crate) fn next(&mut self) -> Result<Option<Pair>, StoreError> {
        self.fill()?;
        Ok(self.page.pop_front())
    }

    fn fill(&mut self) -> Result<(), StoreError> {
        if self.page.is_empty()
            && let Some(from) = self.from.take()
        {
            self.page = self.pairs.page(&from, &self.end, PAGE)?.into();
            if self.page.len() >= PAGE {
                self.from = self.page.back().map(|(last, _)| keys::next(last));
            }
        }
        Ok(())
    }
}
