//! The engine on a disk: a journal, a table in memory, and a base.
//!
//! * **Journal** ([`journal`], [`segment`], [`frame`]): each group of operations is one checksummed frame at the end
//!   of a file, and durable after one `fdatasync`. The bodies of envelopes stay there until they are deleted.
//! * **Memtable** ([`memtable`]): what the journal has and the base has not. Most envelopes come and go within it.
//! * **Base** ([`base`], [`block`]): the keys that have outlived a memtable, and where in the journal their values are.
//! * **Checkpoint** ([`checkpoint`]): a thread that moves a memtable that is full, or that has waited long enough, into
//!   the base, deletes segments without anything alive, moves what is alive out of those that are mostly dead, and
//!   copies the base when it is mostly dead itself.
//! * **Opening** ([`recovery`]): the base as it is, and the frames of the journal that it does not have.
//!
//! `docs/data-model.md` has the layout of every file, and what a crash between any two writes leaves.

mod base;
mod block;
mod check;
mod checkpoint;
mod frame;
mod journal;
mod memtable;
mod offline;
mod recovery;
mod segment;
mod tables;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use postrider_common::supervisor::Supervisor;

pub use self::check::check;
use self::journal::Journal;
pub(crate) use self::offline::Offline;
pub(super) use self::recovery::settle;
use self::tables::Tables;
use super::engine::{Engine, Options};
use super::kv::{Batch, Key, Kv};
use super::{Progress, Store, StoreError, transfer};

/// A journal of so many bytes at most, which was written not long ago, is taken to be in the system's file cache still.
const WARM_BYTES: u64 = 256 << 20;

/// Sizes of the embedded engine's parts. Tests make them small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Of a segment of the journal.
    pub segment_bytes: u64,
    /// Of the table in memory that is moved into the base when it is full. There may be two.
    pub memtable_bytes: usize,
    /// Of the journal, for one such table: opening reads them. So much may wait twice.
    pub unapplied_bytes: u64,
    /// The base is copied when its file is larger and most of it is not in use any more.
    pub base_bytes: u64,
    /// How long something waits to be moved into the base, about, if little happens.
    pub interval: Duration,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            segment_bytes: 32 << 20,
            memtable_bytes: 24 << 20,
            unapplied_bytes: 256 << 20,
            base_bytes: 32 << 20,
            interval: Duration::from_secs(15),
        }
    }
}

/// Opens the store in the directory `path`, which is made if it does not exist.
///
/// Fails with [`StoreError::InUse`] while another process, or another part of this one, has it open, and with
/// [`StoreError::TooNew`] if a later version wrote it. It blocks on the disk. If one of the store's threads ever
/// panics, `supervisor` is told.
pub fn open(path: &Path, options: &Options, supervisor: &Supervisor) -> Result<Arc<dyn Store>, StoreError> {
    open_with(path, options, supervisor, &())
}

/// The same, telling `progress` how far it has come: after a crash there is up to [`Sizes::unapplied_bytes`] of the
/// journal to read, and twice that if the disk was slow then.
pub fn open_with(
    path: &Path,
    options: &Options,
    supervisor: &Supervisor,
    progress: &dyn Progress,
) -> Result<Arc<dyn Store>, StoreError> {
    if let Some(unfinished) = transfer::unfinished(path) {
        return Err(StoreError::HalfImported(unfinished));
    }
    let kv = EmbeddedKv::open(path, options, supervisor, progress)?;
    Ok(Arc::new(Engine::open(Arc::new(kv), options, supervisor)?))
}

/// The engine. When it is dropped, its thread stops after the step that it is in.
pub(crate) struct EmbeddedKv {
    shared: Arc<Shared>,
    /// Applied, and not flushed: readers see nothing of it.
    pending: Mutex<Batch>,
    checkpoints: Option<JoinHandle<()>>,
}

/// What the writer, the readers and the thread of the checkpoints share. Locks are taken in the order of the fields.
struct Shared {
    path: PathBuf,
    sizes: Sizes,
    cache_bytes: u64,
    reserve_bytes: u64,
    journal: Mutex<Journal>,
    signal: Mutex<Signal>,
    /// A memtable was frozen or has gone, or `signal` has changed.
    changed: Condvar,
    tables: RwLock<Tables>,
    /// Goes last: whoever gets it finds nothing of this store in use.
    _lock: File,
}

#[derive(Debug, Default)]
struct Signal {
    stop: bool,
    /// Why nothing is written any more.
    failed: Option<StoreError>,
}

impl EmbeddedKv {
    pub(super) fn open(
        path: &Path,
        options: &Options,
        supervisor: &Supervisor,
        progress: &dyn Progress,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(recovery::open(path, options, progress)?);
        let checkpoints = checkpoint::start(Arc::clone(&shared), supervisor.clone())?;
        Ok(Self { shared, pending: Mutex::default(), checkpoints: Some(checkpoints) })
    }
}

impl Kv for EmbeddedKv {
    fn is_cold(&self) -> bool {
        let tables = self.shared.tables();
        let newest = (tables.segments.len() as u64).saturating_mul(self.shared.sizes.segment_bytes);
        // sled keeps about twice as much in memory as what is in it.
        newest > WARM_BYTES || tables.base.bytes().saturating_mul(2) > self.shared.cache_bytes
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.shared.get(key)
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Key, Bytes)>, StoreError> {
        self.shared.range(start, end, limit)
    }

    fn keys(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Key>, StoreError> {
        self.shared.keys(start, end, limit)
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.shared.await_room()?;
        lock(&self.pending).extend(batch);
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        let batch = std::mem::take(&mut *lock(&self.pending));
        if batch.is_empty() {
            return self.shared.signal().failed.clone().map_or(Ok(()), Err);
        }
        self.shared.commit(&mut lock(&self.shared.journal), batch)
    }

    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.shared.free_bytes().map(Some)
    }
}

impl Drop for EmbeddedKv {
    fn drop(&mut self) {
        self.shared.signal().stop = true;
        self.shared.changed.notify_all();
        if let Some(checkpoints) = self.checkpoints.take() {
            // A panic of the thread's was told to the supervisor.
            let _ = checkpoints.join();
        }
    }
}

impl Shared {
    /// Makes a batch durable, then visible.
    fn commit(&self, journal: &mut Journal, batch: Batch) -> Result<(), StoreError> {
        let changes = journal.append(batch)?;
        let mut tables = self.write_tables();
        tables.add(journal.newest(), journal.unapplied(), changes);
        if tables.is_full(&self.sizes) && tables.frozen.is_none() {
            tables.freeze(journal.freeze());
            drop(tables);
            // Whoever looked before has begun to wait by the time that this is locked.
            drop(self.signal());
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Waits while the memtable is full, or has much of the journal, and the one before it is still on its way into the base.
    fn await_room(&self) -> Result<(), StoreError> {
        let mut signal = self.signal();
        loop {
            if let Some(error) = &signal.failed {
                return Err(error.clone());
            }
            if !self.tables().is_crowded(&self.sizes) {
                return Ok(());
            }
            signal = self.changed.wait(signal).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn free_bytes(&self) -> Result<u64, StoreError> {
        let state = rustix::fs::statvfs(&self.path).map_err(|error| of_io(error.into()))?;
        Ok(state.f_bavail.saturating_mul(state.f_frsize))
    }

    fn signal(&self) -> MutexGuard<'_, Signal> {
        lock(&self.signal)
    }

    fn tables(&self) -> std::sync::RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_tables(&self) -> std::sync::RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for EmbeddedKv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedKv").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the names in a directory survive.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` wants")]
fn of_io(error: io::Error) -> StoreError {
    StoreError::Io(error.to_string())
}
