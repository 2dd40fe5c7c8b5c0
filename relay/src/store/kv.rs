//! The small part of a key-value store that an engine is made of: ordered keys, atomic batches, one flush.

use std::fmt;

use bytes::Bytes;

use super::StoreError;

/// An ordered byte string; `keys.rs` says which there are.
pub(crate) type Key = Vec<u8>;

/// What a batch does: a value to put under the key, or `None` to delete it. Each key at most once.
pub(crate) type Batch = Vec<(Key, Option<Bytes>)>;

/// An ordered map on stable storage. One thread writes; any number read at the same time.
///
/// Between [`apply`](Self::apply) and [`flush`](Self::flush) readers may see none, some or all of the batch:
/// [`View`](super::view::View) is what hides that.
pub(crate) trait Kv: fmt::Debug + Send + Sync + 'static {
    /// Whether a read may wait for a disk.
    const BLOCKING: bool;

    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// The first `limit` pairs with `start <= key < end`, ascending.
    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Key, Bytes)>, StoreError>;

    /// Writes a batch. After a crash all of it is there or nothing.
    fn apply(&self, batch: Batch) -> Result<(), StoreError>;

    /// Returns once everything applied before is on stable storage.
    fn flush(&self) -> Result<(), StoreError>;

    /// Bytes that the file system has left for this process; `None` where there is no such bound.
    fn free_bytes(&self) -> Result<Option<u64>, StoreError>;
}
