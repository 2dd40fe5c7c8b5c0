//! What has outlived the memory: sled 0.34 with blocks of keys. The one file that names sled.
//!
//! sled splits a page of more than sixteen values and keeps some hundred bytes in memory for each page, so that
//! millions of small records would be slow and large in it. It gets blocks of them instead, each under `k` and
//! the bound that its keys do not come before; the first block's is empty. What the base knows of itself is under a zero
//! byte, and changes in one batch with the blocks.
//!
//! What sled does not do by itself, and what is done about it here:
//!
//! * On Linux its flush ends with `sync_file_range` (`pagecache/iobuf.rs`, `write_to_log`), which neither writes the
//!   file's metadata nor empties the drive's cache. [`Base::flush`] therefore adds an `fdatasync` of the file.
//! * A page over a quarter of a segment goes to a file of its own that sled never syncs (`pagecache/blob_io.rs`). A
//!   page has some twenty blocks at the most, so with segments of [`SEGMENT_BYTES`] there are no such files.
//! * Its file never shrinks: [`Base::copy_to`] writes what is alive into another one.
//! * Its cache has 256 parts, each of which looks at its size after every 64th look-up only (`lru.rs`): what is looked up
//!   once stays in memory for long.
//! * Its lock on the file is released some time after the last handle is dropped, by a thread of its own.
//!
//! A batch is atomic across a crash: `Tree::apply_batch` (`tree.rs`, `apply_batch_inner`) first reserves a manifest
//! in the log and, after the last write, fills in that write's position (`pagecache/reservation.rs`,
//! `mark_writebatch`); recovery stops in front of a manifest whose last position is not in the log
//! (`pagecache/iterator.rs`, "torn batch"). A reader sees a batch whole: each step of an iterator waits for its end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::block::{Builder, Entries, Found, Merged, USUAL_BYTES};
use super::journal::Position;
use super::memtable::{Location, Memtable, Slot};
use super::{of_io, sync_directory};
use crate::store::StoreError;
use crate::store::kv::Key;
use crate::store::records;

/// Fixed once a base is written. A page of at most a quarter of it is kept in the log.
const SEGMENT_BYTES: usize = 2 << 20;
/// How many blocks are changed in one batch.
const BATCH_BLOCKS: usize = 64;
const STATE: &[u8] = &[0];
const BLOCK: u8 = b'k';

/// What a base knows of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Bytes of its blocks and their keys.
    pub bytes: u64,
    /// Bytes of the values in each segment of the journal that it has locations of.
    pub live: BTreeMap<u64, u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StateRecord {
    segment: u64,
    offset: u64,
    sequence: u64,
    bytes: u64,
    live: Vec<(u64, u64)>,
}

impl records::Record for StateRecord {}

/// An ordered map from keys to slots, none of them removed ones. One thread changes it.
pub(super) struct Base {
    tree: sled::Db,
    log: File,
    directory: PathBuf,
    position: Mutex<Position>,
    state: Mutex<State>,
    retired: AtomicBool,
    /// A flush has failed.
    has_failed: AtomicBool,
}

impl Base {
    /// Makes an empty base for a journal that goes on at `position`.
    pub(super) fn create(directory: &Path, cache_bytes: u64, position: Position) -> Result<Self, StoreError> {
        let base = Self::with(directory, cache_bytes)?;
        *lock(&base.position) = position;
        let mut batch = sled::Batch::default();
        batch.insert(&[BLOCK], &[]);
        let state = State { bytes: 1, live: BTreeMap::new() };
        Self::put_state(&mut batch, position, &state);
        *lock(&base.state) = state;
        base.tree.apply_batch(batch).map_err(|error| base.failed(&error))?;
        base.flush()?;
        sync_directory(directory).map_err(of_io)?;
        Ok(base)
    }

    pub(super) fn open(directory: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        if !directory.is_dir() {
            return Err(is_missing(directory));
        }
        let base = Self::with(directory, cache_bytes)?;
        let found = base.tree.get(STATE).map_err(|error| base.failed(&error))?;
        let found = found.ok_or_else(|| base.damaged("it does not say what it has"))?;
        let StateRecord { segment, offset, sequence, bytes, live } = records::decode(&found)?;
        *lock(&base.position) = Position { segment, offset, sequence };
        *lock(&base.state) = State { bytes, live: live.into_iter().collect() };
        Ok(base)
    }

    fn with(directory: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        std::fs::create_dir_all(directory).map_err(of_io)?;
        await_previous_handle(&directory.join("db"))?;
        delete_unfinished_snapshots(directory).map_err(of_io)?;
        let tree = sled::Config::new()
            .path(directory)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(cache_bytes)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(None)
            .open()
            .map_err(|error| of_sled(directory, &error))?;
        let log = File::open(directory.join("db")).map_err(of_io)?;
        Ok(Self {
            tree,
            log,
            directory: directory.to_owned(),
            position: Mutex::new(Position::START),
            state: Mutex::default(),
            retired: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
        })
    }

    /// The base has everything of the journal that comes before.
    pub(super) fn position(&self) -> Position {
        *lock(&self.position)
    }

    /// Of its blocks and their keys.
    pub(super) fn bytes(&self) -> u64 {
        lock(&self.state).bytes
    }

    pub(super) fn state(&self) -> State {
        lock(&self.state).clone()
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Slot>, StoreError> {
        let (_, block) = self.block_of(key)?;
        let mut entries = Entries::new(&block);
        while let Some((found, slot)) = entries.next()? {
            if found >= key {
                return Ok((found == key).then(|| slot.slot()));
            }
        }
        Ok(None)
    }

    /// The first `limit` pairs with `start <= key < end`, ascending.
    pub(super) fn range(
        &self,
        start: &[u8],
        end: &[u8],
        limit: usize,
    ) -> Result<Vec<(Key, Slot)>, StoreError> {
        let mut pairs: Vec<(Key, Slot)> = Vec::new();
        let (bound, _) = self.block_of(start)?;
        for block in self.tree.range(bound..) {
            let (_, block) = block.map_err(|error| self.failed(&error))?;
            let mut entries = Entries::new(&block);
            while let Some((key, slot)) = entries.next()? {
                if key >= end || pairs.len() >= limit {
                    return Ok(pairs);
                }
                // A block that was divided meanwhile may show a key once more.
                if key >= start && pairs.last().is_none_or(|(last, _)| key > last.as_slice()) {
                    pairs.push((Key::from_slice(key), slot.slot()));
                }
            }
        }
        Ok(pairs)
    }

    /// Takes what a memtable has, in steps that are atomic each; whether all of it, or `stop` said to stop.
    /// Doing so again after a crash comes to the same.
    pub(super) fn take(&self, table: &Memtable, stop: impl Fn() -> bool) -> Result<bool, StoreError> {
        let position = self.position();
        let mut changes = table.iter().peekable();
        while changes.peek().is_some() {
            if stop() {
                return Ok(false);
            }
            let (mut batch, mut state) = (sled::Batch::default(), self.state());
            for _ in 0..BATCH_BLOCKS {
                let Some((key, _)) = changes.peek() else {
                    break;
                };
                let (bound, block) = self.block_of(key)?;
                let next = self.tree.get_gt(&bound).map_err(|error| self.failed(&error))?;
                let end = next.as_ref().map(|(next, _)| &next[1..]);
                let Some(merged) = merge(&block, &mut changes, end, &mut state)? else {
                    continue;
                };
                let mut blocks = merged.divide()?;
                state.bytes -= (bound.len() + block.len()) as u64;
                // The first block keeps its bound, even when nothing is left in it.
                if blocks.is_empty() && bound.len() == 1 {
                    blocks.push((Key::new(), Vec::new()));
                }
                if blocks.is_empty() {
                    batch.remove(&bound);
                }
                for (number, (first, block)) in blocks.into_iter().enumerate() {
                    let key = if number == 0 { bound.to_vec() } else { block_key(&first) };
                    state.bytes += (key.len() + block.len()) as u64;
                    batch.insert(key, block);
                }
            }
            Self::put_state(&mut batch, position, &state);
            self.tree.apply_batch(batch).map_err(|error| self.failed(&error))?;
            *lock(&self.state) = state;
        }
        Ok(true)
    }

    /// Says durably that everything before `position` has been taken.
    pub(super) fn advance(&self, position: Position) -> Result<(), StoreError> {
        // What it says must not reach the disk before what it speaks of.
        self.flush()?;
        let mut batch = sled::Batch::default();
        Self::put_state(&mut batch, position, &self.state());
        self.tree.apply_batch(batch).map_err(|error| self.failed(&error))?;
        self.flush()?;
        *lock(&self.position) = position;
        Ok(())
    }

    /// Writes everything into `new`, which is empty, onto stable storage; whether all of it, or `stop` said to stop.
    pub(super) fn copy_to(&self, new: &Self, stop: impl Fn() -> bool) -> Result<bool, StoreError> {
        let mut state = State { bytes: 0, live: self.state().live };
        let (mut bound, mut builder) = (vec![BLOCK], Builder::default());
        let (mut batch, mut blocks) = (sled::Batch::default(), 0);
        // Block by block, and not with one iterator: sled's cache lets go of a page when it has seen it looked up often
        // enough, and all of the base would be in memory after a walk.
        let mut found = Some(self.block_of(&[])?);
        while let Some((place, block)) = found {
            let mut entries = Entries::new(&block);
            while let Some((key, slot)) = entries.next()? {
                if builder.bytes() >= USUAL_BYTES {
                    let full = std::mem::take(&mut builder).finish();
                    state.bytes += (bound.len() + full.len()) as u64;
                    batch.insert(std::mem::replace(&mut bound, block_key(key)), full);
                    blocks += 1;
                }
                builder.push(key, slot)?;
            }
            if blocks >= BATCH_BLOCKS {
                new.tree.apply_batch(std::mem::take(&mut batch)).map_err(|error| new.failed(&error))?;
                blocks = 0;
                if stop() {
                    return Ok(false);
                }
            }
            found = self.tree.get_gt(&place).map_err(|error| self.failed(&error))?;
        }
        let last = builder.finish();
        state.bytes += (bound.len() + last.len()) as u64;
        batch.insert(bound, last);
        let position = self.position();
        Self::put_state(&mut batch, position, &state);
        new.tree.apply_batch(batch).map_err(|error| new.failed(&error))?;
        new.flush()?;
        *lock(&new.position) = position;
        *lock(&new.state) = state;
        sync_directory(&new.directory).map_err(of_io)?;
        Ok(true)
    }

    /// Shows every block in order, under the key that sled has it under.
    pub(super) fn each_block(&self, mut show: impl FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        for block in self.tree.range([BLOCK]..) {
            let (bound, block) = block.map_err(|error| self.failed(&error))?;
            show(&bound, &block);
        }
        Ok(())
    }

    /// The size of sled's file.
    pub(super) fn file_bytes(&self) -> Result<u64, StoreError> {
        self.log.metadata().map(|file| file.len()).map_err(of_io)
    }

    /// Deletes the directory once nobody reads from it any more.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// The block in which `key` is, if it is anywhere, and the key that sled has it under.
    fn block_of(&self, key: &[u8]) -> Result<(sled::IVec, sled::IVec), StoreError> {
        let found = self.tree.range(..=block_key(key)).next_back();
        let found = found.transpose().map_err(|error| self.failed(&error))?;
        let found = found.filter(|(bound, _)| bound.first() == Some(&BLOCK));
        found.ok_or_else(|| self.damaged("its first block is missing"))
    }

    fn failed(&self, error: &sled::Error) -> StoreError {
        of_sled(&self.directory, error)
    }

    fn damaged(&self, what: &str) -> StoreError {
        damaged(&self.directory, what)
    }

    fn put_state(batch: &mut sled::Batch, position: Position, state: &State) {
        let Position { segment, offset, sequence } = position;
        let live = state.live.iter().map(|(segment, bytes)| (*segment, *bytes)).collect();
        let record = StateRecord { segment, offset, sequence, bytes: state.bytes, live };
        batch.insert(STATE, &records::encode(&record)[..]);
    }

    fn flush(&self) -> Result<(), StoreError> {
        let flushed = self.tree.flush().map_err(|error| self.failed(&error));
        let flushed = flushed.and_then(|_| self.log.sync_data().map_err(of_io));
        self.has_failed.fetch_or(flushed.is_err(), Ordering::AcqRel);
        flushed
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        // sled panics if the disk fails it when its last handle goes. All that matters is in the journal.
        if self.has_failed.load(Ordering::Acquire) || self.log.sync_all().is_err() {
            std::mem::forget(self.tree.clone());
        }
        if self.retired.load(Ordering::Acquire) {
            // What is left of it is deleted when the store is opened again.
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

impl std::fmt::Debug for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Base").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// A block's entries with the changes to keys before `end`, which are taken off; nothing if they change nothing.
/// `state` follows the locations.
fn merge<'a: 'b, 'b>(
    block: &'b [u8],
    changes: &mut std::iter::Peekable<impl Iterator<Item = (&'a Key, &'a Slot)>>,
    end: Option<&[u8]>,
    state: &mut State,
) -> Result<Option<Merged<'b>>, StoreError> {
    let mut is_changed = false;
    let mut merged = Merged::default();
    let mut entries = Entries::new(block);
    while let Some((key, found)) = entries.next()? {
        while let Some((changed, slot)) = changes.next_if(|(changed, _)| changed.as_slice() < key) {
            is_changed |= put(&mut merged, changed, slot, state);
        }
        match changes.next_if(|(changed, _)| changed.as_slice() == key) {
            Some((changed, slot)) => {
                if let Found::Stored(location) = found {
                    forget(location, state);
                }
                put(&mut merged, changed, slot, state);
                is_changed = true;
            }
            None => merged.push(key, found),
        }
    }
    while let Some((changed, slot)) =
        changes.next_if(|(changed, _)| end.is_none_or(|end| changed.as_slice() < end))
    {
        is_changed |= put(&mut merged, changed, slot, state);
    }
    Ok(is_changed.then_some(merged))
}

/// Whether there is anything to put.
fn put<'a>(merged: &mut Merged<'a>, key: &[u8], slot: &'a Slot, state: &mut State) -> bool {
    if let Slot::Stored(location) = slot {
        *state.live.entry(location.segment).or_default() += u64::from(location.bytes);
    }
    Found::of(slot).map(|found| merged.push(key, found)).is_some()
}

fn forget(location: Location, state: &mut State) {
    if let Some(live) = state.live.get_mut(&location.segment) {
        *live = live.saturating_sub(location.bytes.into());
        if *live == 0 {
            state.live.remove(&location.segment);
        }
    }
}

fn block_key(key: &[u8]) -> Vec<u8> {
    let mut block_key = Vec::with_capacity(1 + key.len());
    block_key.push(BLOCK);
    block_key.extend_from_slice(key);
    block_key
}

/// Returns once an earlier handle of this process has let go of sled's own lock. No other process holds it: it
/// would hold the store's, too.
pub(super) fn await_previous_handle(log: &Path) -> Result<(), StoreError> {
    match File::open(log) {
        Ok(file) => file.lock().and_then(|()| file.unlock()).map_err(of_io),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(of_io(error)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `CURRENT` names a directory that is not there.
pub(super) fn is_missing(directory: &Path) -> StoreError {
    damaged(directory, "CURRENT names it, and it is not there")
}

fn damaged(directory: &Path, what: &str) -> StoreError {
    StoreError::Damaged(format!("{}: {what}", name_of(directory)))
}

/// The name of a base, as it is in the store's directory.
fn name_of(directory: &Path) -> String {
    directory.file_name().unwrap_or(directory.as_os_str()).to_string_lossy().into_owned()
}

fn of_sled(directory: &Path, error: &sled::Error) -> StoreError {
    match error {
        // What sled adds to that says nothing to anybody who does not know its code.
        sled::Error::Corruption { .. } | sled::Error::CollectionNotFound(_) => {
            damaged(directory, "a part of the base is not what was written")
        }
        sled::Error::Io(_) | sled::Error::Unsupported(_) | sled::Error::ReportableBug(_) => {
            StoreError::Io(format!("{}: {error}", name_of(directory)))
        }
    }
}

/// sled writes a snapshot whenever it opens, under a name that it takes for a finished one's if it died meanwhile or the
/// disk was full: it would then find its log damaged, which it is not. Without a snapshot it reads that.
fn delete_unfinished_snapshots(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
