//! The small part of a key-value store that an engine is made of: ordered keys, atomic batches, one flush.

use std::fmt;

use bytes::Bytes;
use smallvec::SmallVec;

use super::StoreError;

/// An ordered byte string; `keys.rs` says which there are. All but those with a long domain fit without an allocation,
/// and lie where they are compared.
pub(crate) type Key = SmallVec<[u8; 80]>;

/// What a batch does, in the order of the keys, of which it has each once.
pub(crate) type Batch = Vec<(Key, Write)>;

/// What is done under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
    /// Puts a value under a key under which nothing has ever been: an engine need not remember that it is removed, if it
    /// has not kept it anywhere yet.
    New(Bytes),
    /// Puts a value in the place of whatever is there.
    Put(Bytes),
    /// Removes what is there, if anything is.
    Remove,
}

/// An ordered map on stable storage. One thread writes; any number read at the same time.
///
/// Readers see a batch once it is durable: all of it from one moment on, at the end of its [`flush`](Self::flush). A
/// device that saw entry 5 earlier, and after a crash found another envelope as entry 5, would take it for one that it
/// has.
pub(crate) trait Kv: fmt::Debug + Send + Sync + 'static {
    /// Whether a read has to be expected to wait for a disk. Otherwise what it needs is most likely in memory.
    fn is_cold(&self) -> bool;

    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// The first `limit` pairs with `start <= key < end`, ascending.
    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Key, Bytes)>, StoreError>;

    /// The same without the values, which may be such as cannot be read.
    fn keys(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Key>, StoreError> {
        Ok(self.range(start, end, limit)?.into_iter().map(|(key, _)| key).collect())
    }

    /// Begins to write a batch. After a crash all of it is there or nothing.
    fn apply(&self, batch: Batch) -> Result<(), StoreError>;

    /// Returns once everything applied before is on stable storage, and seen.
    fn flush(&self) -> Result<(), StoreError>;

    /// Bytes that the file system has left for this process; `None` where there is no such bound.
    fn free_bytes(&self) -> Result<Option<u64>, StoreError>;
}

impl Write {
    /// The value that is there from then on.
    pub(crate) const fn value(&self) -> Option<&Bytes> {
        match self {
            Self::New(value) | Self::Put(value) => Some(value),
            Self::Remove => None,
        }
    }
}
