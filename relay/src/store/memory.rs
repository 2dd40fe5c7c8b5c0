//! The engine that keeps everything in memory: for tests, and for relays that are simulated.
//!
//! Like a disk it loses what was not flushed when a store that is open on it dies.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use bytes::Bytes;
use postrider_common::supervisor::Supervisor;

use super::engine::{Engine, Options};
use super::kv::{Batch, Key, Kv, Write};
use super::{Store, StoreError, StoreLimits};

/// What stands for the disk: it outlives the stores that are opened on it, one after the other. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    content: Content,
    open: Arc<Mutex<Weak<MemoryKv>>>,
}

pub(super) type Content = Arc<RwLock<BTreeMap<Key, Bytes>>>;

impl MemoryDisk {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that has what `content` has, which it shares.
    #[cfg(test)]
    pub(super) fn of(content: Content) -> Self {
        Self { content, open: Arc::default() }
    }

    /// Opens the store that is on it. As with a directory, it is open once at a time.
    pub fn open(&self, limits: StoreLimits, supervisor: &Supervisor) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(Engine::open(self.take()?, &Options::in_memory(limits), supervisor)?))
    }

    /// How many keys of each kind there are; `docs/data-model.md` says which kinds.
    pub fn census(&self) -> BTreeMap<char, usize> {
        let mut kinds = BTreeMap::new();
        let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        for kind in content.keys().filter_map(|key| key.first()) {
            *kinds.entry(char::from(*kind)).or_default() += 1;
        }
        kinds
    }

    /// For the one store that may be open.
    pub(super) fn take(&self) -> Result<Arc<MemoryKv>, StoreError> {
        let kv = Arc::new(MemoryKv::new(Arc::clone(&self.content)));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.strong_count() > 0 {
            return Err(StoreError::InUse);
        }
        *open = Arc::downgrade(&kv);
        Ok(kv)
    }
}

#[derive(Debug)]
pub(super) struct MemoryKv {
    content: Content,
    /// Applied, and not flushed.
    pending: Mutex<Batch>,
}

impl MemoryKv {
    pub(super) fn new(content: Content) -> Self {
        Self { content, pending: Mutex::default() }
    }
}

impl Options {
    pub(super) fn in_memory(limits: StoreLimits) -> Self {
        Self { limits, ..Self::default() }
    }
}

impl Kv for MemoryKv {
    fn is_cold(&self) -> bool {
        false
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let map = self.content.read().unwrap_or_else(PoisonError::into_inner);
        Ok(map.get(key).cloned())
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Key, Bytes)>, StoreError> {
        if start >= end {
            return Ok(Vec::new());
        }
        let map = self.content.read().unwrap_or_else(PoisonError::into_inner);
        let pairs = map.range::<[u8], _>((Bound::Included(start), Bound::Excluded(end)));
        Ok(pairs.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).extend(batch);
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        let batch = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        let mut map = self.content.write().unwrap_or_else(PoisonError::into_inner);
        for (key, write) in batch {
            match write {
                Write::New(value) | Write::Put(value) => map.insert(key, value),
                Write::Remove => map.remove(&key),
            };
        }
        Ok(())
    }

    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }
}
