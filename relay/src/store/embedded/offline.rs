//! A store that no relay has open, read as it lies there. Nothing in its directory is changed.
//!
//! The journal is read in place. The base is not: sled cannot open a database without writing to it. It makes missing
//! files (`config.rs`, `open_file`), zeroes what follows the last message that it finds whole and writes a new snapshot
//! (`pagecache/snapshot.rs`, `advance_snapshot`), and shortens its file (`pagecache/segment.rs`, `truncate`). So a copy
//! of its files is opened, in a directory for this alone, which is deleted at the end. Where the file system can, the
//! copy shares its blocks with the original.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;

use super::base::{self, Base};
use super::memtable::{Memtable, Slot};
use super::of_io;
use super::recovery::{self, Replayed};
use super::segment::{self, Segment};
use super::tables::Tables;
use crate::store::kv::Key;
use crate::store::pairs::{Pair, Pairs};
use crate::store::{Progress, Step, StoreError, keys};

/// Memory for what was read from the base.
const CACHE_BYTES: u64 = 64 << 20;

/// The store in a directory, in the state in which opening would find it.
pub(crate) struct Offline {
    /// `None` only while it is dropped.
    tables: Option<Tables>,
    scratch: TempDir,
    /// Bytes of the memtable's share of the journal.
    unapplied: u64,
    _lock: Option<File>,
}

/// Takes the lock of the store in `path`, which is there if it was ever open, and has it for as long as the file is open.
pub(super) fn hold(path: &Path) -> Result<Option<File>, StoreError> {
    match File::open(path.join(recovery::LOCK)) {
        Ok(lock) => recovery::hold(&lock).map(|()| Some(lock)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(of_io(error)),
    }
}

impl Offline {
    /// Reads the store in `path`, with its base copied into a new directory in `scratch`. Fails with
    /// [`StoreError::InUse`] while a relay has it open, and keeps any from opening it.
    pub(crate) fn open(path: &Path, scratch: &Path, progress: &dyn Progress) -> Result<Self, StoreError> {
        let lock = hold(path)?;
        Self::open_held(path, scratch, lock, progress)
    }

    /// The same for who has the lock.
    pub(super) fn open_held(
        path: &Path,
        scratch: &Path,
        lock: Option<File>,
        progress: &dyn Progress,
    ) -> Result<Self, StoreError> {
        let missing = || StoreError::Damaged("CURRENT is missing: the store was never finished".into());
        let Some(name) = recovery::current(path)? else {
            recovery::was_never_used(path)?;
            return Err(missing());
        };
        let base = path.join(&name);
        if !base.is_dir() {
            return Err(base::is_missing(&base));
        }
        let scratch = copied(&base, &name, scratch, progress)?;
        let base = recovery::open_base(&scratch.path().join(name), CACHE_BYTES, progress)?;
        let segments = segment::look(&path.join(recovery::JOURNAL))?.segments.into_iter();
        let open =
            |(number, path): (u64, PathBuf)| Ok((number, Arc::new(Segment::open_to_read(&path, number)?)));
        let segments = segments.map(open).collect::<Result<_, StoreError>>()?;
        let mut tables = Tables {
            active: Memtable::default(),
            frozen: None,
            base: Arc::new(base),
            segments,
            unapplied: 0,
            freezes: 0,
        };
        let Replayed { newest, end, bytes, .. } = recovery::replay(&mut tables, progress)?;
        newest.ends_at(end);
        Ok(Self { tables: Some(tables), scratch, unapplied: bytes, _lock: lock })
    }

    /// Bytes of keys and values, about.
    pub(crate) fn about_bytes(&self) -> u64 {
        let state = self.base().map(|base| base.state()).unwrap_or_default();
        state.bytes + state.live.values().sum::<u64>() + self.unapplied
    }

    pub(super) fn base(&self) -> Option<&Base> {
        self.tables.as_ref().map(|tables| &*tables.base)
    }

    /// By number.
    pub(super) fn segments(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.tables.iter().flat_map(|tables| tables.segments.values())
    }

    /// The first `limit` keys with `start <= key < end`, ascending, and where their values are.
    fn slots(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Key, Slot)>, StoreError> {
        let tables = self.tables.as_ref().ok_or(StoreError::Closed)?;
        let mut found = Vec::new();
        let mut from = Key::from_slice(start);
        while from.as_slice() < end && found.len() < limit {
            let bounds = (Bound::Included(from.as_slice()), Bound::Excluded(end));
            let recent: Vec<_> = tables.active.range(bounds).take(limit).collect();
            let mut until = match recent.last() {
                Some((last, _)) if recent.len() >= limit => keys::next(last),
                _ => Key::from_slice(end),
            };
            // So many that enough remain whatever the memtable has removed.
            let asked = limit + recent.len();
            let older = tables.base.range(&from, &until, asked)?;
            if let Some((last, _)) = older.last()
                && older.len() >= asked
            {
                until = keys::next(last);
            }
            let mut merged: BTreeMap<Key, Slot> = older.into_iter().collect();
            let recent = recent.into_iter().filter(|(key, _)| **key < until);
            merged.extend(recent.map(|(key, slot)| (key.clone(), slot.clone())));
            found.extend(merged.into_iter().filter(|(_, slot)| *slot != Slot::Removed));
            from = until;
        }
        found.truncate(limit);
        Ok(found)
    }

    fn read(&self, key: &[u8], slot: &Slot) -> Result<Option<Bytes>, StoreError> {
        let location = match slot {
            Slot::Removed => return Ok(None),
            Slot::Inline(value) => return Ok(Some(value.clone())),
            Slot::Stored(location) => location,
        };
        let segment = self.tables.as_ref().and_then(|tables| tables.segments.get(&location.segment));
        let missing =
            || StoreError::Damaged(format!("segment {:x} of the journal is missing", location.segment));
        segment.ok_or_else(missing)?.read_of(key, *location).map(Some)
    }
}

impl Pairs for Offline {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let tables = self.tables.as_ref().ok_or(StoreError::Closed)?;
        match tables.recent(key) {
            Some(slot) => self.read(key, slot),
            None => self.read(key, &tables.base.get(key)?.unwrap_or(Slot::Removed)),
        }
    }

    fn page(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        let mut pairs = Vec::new();
        for (key, slot) in self.slots(start, end, limit)? {
            match self.read(&key, &slot) {
                Ok(Some(value)) => pairs.push((key, Ok(value))),
                Ok(None) => {}
                Err(error) => pairs.push((key, Err(error))),
            }
        }
        Ok(pairs)
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        self.tables = None;
        // What sled still writes after its last handle has gone would otherwise outlive the directory.
        for base in fs::read_dir(self.scratch.path()).into_iter().flatten().flatten() {
            let _ = base::await_previous_handle(&base.path().join("db"));
        }
    }
}

/// A copy of the files in `directory`, under `name` in a new directory in `scratch`.
fn copied(
    directory: &Path,
    name: &str,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<TempDir, StoreError> {
    let named = |error: io::Error| StoreError::Io(format!("{}: {error}", scratch.display()));
    let needed = size(directory).map_err(of_io)?;
    let free = rustix::fs::statvfs(scratch).map_err(|error| named(error.into()))?;
    let free = free.f_bavail.saturating_mul(free.f_frsize);
    if free < needed {
        let (needed, free) = (needed.div_ceil(1 << 20), free >> 20);
        let scratch = scratch.display();
        return Err(StoreError::Io(format!(
            "a copy of the base takes {needed} MiB, and {scratch} has {free} MiB: name another directory with --scratch"
        )));
    }
    let copy = tempfile::Builder::new().prefix("postrider-").tempdir_in(scratch).map_err(named)?;
    let (mut done, target) = (0, copy.path().join(name));
    fs::create_dir(&target).map_err(named)?;
    copy_into(directory, &target, &mut |bytes| {
        done += bytes;
        progress.at(Step::Copying, done, needed.max(done));
    })
    .map_err(named)?;
    Ok(copy)
}

fn copy_into(from: &Path, to: &Path, copied: &mut dyn FnMut(u64)) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy_into(&entry.path(), &target, copied)?;
        } else {
            copied(fs::copy(entry.path(), target)?);
        }
    }
    Ok(())
}

/// What a directory takes on the disk.
fn size(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { size(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}
