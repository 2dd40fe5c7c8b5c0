//! The thread that brings memory, base and journal back to what they need: one round after the other.
//!
//! 1. The frozen memtable goes into the base, which then says durably up to where it has the journal.
//! 2. Segments before that place in which nothing is alive are deleted.
//! 3. What is alive in segments that are mostly dead is put at the end of the journal, as if it had been written again;
//!    the next round finds them dead.
//! 4. A base whose file is mostly dead is copied into a new directory, to which `CURRENT` then points.
//!
//! Each step can be cut off anywhere: what was not said durably is done again.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use postrider_common::supervisor::Supervisor;

use super::base::Base;
use super::memtable::{Location, Slot};
use super::segment::{FIRST_FRAME, Segment};
use super::{Shared, of_io, recovery};
use crate::store::StoreError;
use crate::store::kv::{Batch, Key, Write};

/// The thread's name, and the task's that the supervisor is told of.
const NAME: &str = "store-checkpoint";
/// A segment is emptied when less than one of so many of its bytes is alive.
const DEAD_SHARE: u64 = 2;
/// The base is copied when its file is so many times larger than a copy would be.
const BASE_GROWTH: Growth = Growth { of: 3, over: 1 };
/// The same when nothing else is to be done: what has been emptied gives its space back soon.
const IDLE_GROWTH: Growth = Growth { of: 4, over: 3 };
/// The copy of a base gets one of so many parts of the cache while it is made.
const COPY_CACHE_SHARE: u64 = 8;
/// A copy's file is not expected to be more than so many times as large as what is in it.
const MOST_OVERHEAD: u64 = 3;
/// How many bytes are moved under one lock of the journal,
const MOVED_TOGETHER: usize = 1 << 20;
/// and in one round.
const MOVED_PER_ROUND: u64 = 128 << 20;

/// A ratio of two sizes.
#[derive(Clone, Copy)]
struct Growth {
    of: u64,
    over: u64,
}

/// What the thread is woken for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Something is to be moved into the base.
    Checkpoint,
    /// Nothing has happened for an interval.
    Idle,
}

/// What the thread remembers.
struct Checkpoints {
    shared: Arc<Shared>,
    /// Segments that cannot be read through. They are left as they are.
    unreadable: BTreeSet<u64>,
    copied: Copied,
}

/// What the last copy of the base has told about the next one.
#[derive(Clone, Copy)]
struct Copied {
    /// Bytes of its blocks and their keys,
    bytes: u64,
    /// and of its file.
    file_bytes: u64,
    /// A file that is not larger is not tried again, since it could not be copied.
    failed_at: u64,
}

impl Copied {
    /// Of no copy yet: a file is taken to be as large as what is in it.
    const NOTHING: Self = Self { bytes: 1, file_bytes: 1, failed_at: 0 };

    /// How large the file of a base with `bytes` bytes will be, by the one before. What a small one takes beside its
    /// bytes says little about larger ones.
    fn expected(&self, bytes: u64) -> u64 {
        let expected = u128::from(bytes) * u128::from(self.file_bytes) / u128::from(self.bytes.max(1));
        u64::try_from(expected).unwrap_or(u64::MAX).clamp(bytes, bytes.saturating_mul(MOST_OVERHEAD))
    }
}

/// Starts the thread.
pub(super) fn start(shared: Arc<Shared>, supervisor: Supervisor) -> Result<JoinHandle<()>, StoreError> {
    let mut checkpoints = Checkpoints { shared, unreadable: BTreeSet::new(), copied: Copied::NOTHING };
    let run = move || {
        let shared = Arc::clone(&checkpoints.shared);
        match catch_unwind(AssertUnwindSafe(|| checkpoints.run())) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(
                    "the store takes no more writes, since its journal cannot be worked off: {error}. What was accepted is \
                     kept; see to the disk, then restart the relay"
                );
                shared.fail(error);
            }
            Err(_) => {
                shared.fail(StoreError::Io("the store's checkpoints panicked".into()));
                supervisor.fail(NAME, "panicked".into());
            }
        }
    };
    std::thread::Builder::new().name(NAME.into()).spawn(run).map_err(of_io)
}

impl Checkpoints {
    /// Until the store is closed.
    fn run(&mut self) -> Result<(), StoreError> {
        while let Some(work) = self.shared.await_work() {
            if work == Work::Idle {
                self.copy_base(IDLE_GROWTH)?;
                continue;
            }
            loop {
                self.shared.freeze();
                if !self.shared.checkpoint()? {
                    return Ok(());
                }
                self.shared.leave_dead_segment()?;
                self.shared.delete_dead_segments()?;
                if !self.empty_segments()? {
                    break;
                }
            }
            self.copy_base(BASE_GROWTH)?;
        }
        Ok(())
    }

    /// Moves what is alive out of segments that are mostly dead; whether anything was moved.
    fn empty_segments(&mut self) -> Result<bool, StoreError> {
        let base = Arc::clone(&self.shared.tables().base);
        let (applied, live) = (base.position().segment, base.state().live);
        let of = |number: u64| live.get(&number).copied().unwrap_or_default();
        let mut mostly_dead: Vec<_> = {
            let tables = self.shared.tables();
            let sealed = tables.segments.range(..applied).map(|(_, segment)| Arc::clone(segment));
            sealed.filter(|segment| of(segment.number()) * DEAD_SHARE < segment.end()).collect()
        };
        mostly_dead.retain(|segment| !self.unreadable.contains(&segment.number()));
        mostly_dead.sort_by_key(|segment| of(segment.number()));
        let mut moved = 0;
        for segment in mostly_dead {
            if moved >= MOVED_PER_ROUND || self.shared.is_stopping() {
                break;
            }
            match self.shared.empty(&segment, &base) {
                Ok(bytes) => moved += bytes,
                Err(StoreError::Damaged(what)) => {
                    tracing::error!(segment = segment.number(), %what, "a segment of the journal is damaged");
                    self.unreadable.insert(segment.number());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(moved > 0)
    }

    /// Copies the base if it has grown so much and the disk has room for a copy.
    ///
    /// Until `CURRENT` points to the copy, nothing depends on it: that it cannot be made costs space, and no more.
    fn copy_base(&mut self, growth: Growth) -> Result<(), StoreError> {
        let base = Arc::clone(&self.shared.tables().base);
        let expected = self.copied.expected(base.bytes()).max(self.copied.failed_at);
        let least = expected.saturating_mul(growth.of) / growth.over;
        let Ok(file_bytes) = base.file_bytes() else { return Ok(()) };
        if file_bytes <= least.max(self.shared.sizes.base_bytes) {
            return Ok(());
        }
        match self.shared.copy(&base) {
            Ok(Some((name, copy))) => {
                recovery::point_to(&self.shared.path, &name)?;
                let copied_bytes = copy.file_bytes().unwrap_or(file_bytes);
                self.copied = Copied { bytes: copy.bytes(), file_bytes: copied_bytes, failed_at: 0 };
                self.shared.write_tables().base = Arc::new(copy);
                base.retire();
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "the store's base could not be copied, and keeps more of the disk than it needs");
                // Not again before it has grown as much as after a copy.
                self.copied.failed_at = file_bytes;
            }
        }
        Ok(())
    }
}

impl Shared {
    /// Waits until a memtable is frozen, or the interval is over; nothing once the store is closed.
    fn await_work(&self) -> Option<Work> {
        let mut signal = self.signal();
        loop {
            if signal.stop {
                return None;
            }
            if self.tables().frozen.is_some() {
                return Some(Work::Checkpoint);
            }
            let waited = self.changed.wait_timeout(signal, self.sizes.interval);
            let (next, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            signal = next;
            if timeout.timed_out() && !signal.stop {
                let has_frames = self.tables().unapplied > 0;
                return Some(if has_frames { Work::Checkpoint } else { Work::Idle });
            }
        }
    }

    /// A copy of `base` with its name, on stable storage, unless there is no room for it or the store is closed.
    fn copy(&self, base: &Base) -> Result<Option<(String, Base)>, StoreError> {
        if !self.has_room_for(base)? {
            return Ok(None);
        }
        let name = recovery::next_base(&self.path)?;
        let directory = self.path.join(&name);
        // It is only written, block after block, while the cache of the base that it is copied from is full.
        let copy = Base::create(&directory, self.cache_bytes / COPY_CACHE_SHARE, base.position())?;
        match base.copy_to(&copy, || self.is_stopping()) {
            Ok(true) => {
                drop(copy);
                Ok(Some((name, Base::open(&directory, self.cache_bytes)?)))
            }
            Ok(false) => {
                copy.retire();
                Ok(None)
            }
            Err(error) => {
                copy.retire();
                Err(error)
            }
        }
    }

    /// Whether a copy of `base` leaves half of the reserve: on a full disk the copy would fail, and the journal with it.
    fn has_room_for(&self, base: &Base) -> Result<bool, StoreError> {
        // sled's file may be larger than what is in it.
        let needed = base.bytes().saturating_mul(2).saturating_add(self.reserve_bytes / 2);
        Ok(self.free_bytes()? >= needed)
    }

    fn is_stopping(&self) -> bool {
        self.signal().stop
    }

    /// No more writes.
    pub(super) fn fail(&self, error: StoreError) {
        self.signal().failed = Some(error);
        self.changed.notify_all();
    }

    /// Freezes what there is, unless a memtable is frozen already.
    fn freeze(&self) {
        let mut journal = super::lock(&self.journal);
        let mut tables = self.write_tables();
        if tables.frozen.is_none() && tables.unapplied > 0 {
            tables.freeze(journal.freeze());
        }
    }

    /// Moves the frozen memtable into the base; false if the store was closed meanwhile.
    fn checkpoint(&self) -> Result<bool, StoreError> {
        let (frozen, base) = {
            let tables = self.tables();
            (tables.frozen.clone(), Arc::clone(&tables.base))
        };
        let Some(frozen) = frozen else {
            return Ok(!self.is_stopping());
        };
        if !base.take(&frozen.table, || self.is_stopping())? {
            return Ok(false);
        }
        base.advance(frozen.position)?;
        self.write_tables().frozen = None;
        drop(self.signal());
        self.changed.notify_all();
        Ok(true)
    }

    /// Begins another segment if the newest one is mostly dead and the base has all of it: it can go then.
    fn leave_dead_segment(&self) -> Result<(), StoreError> {
        let mut journal = super::lock(&self.journal);
        let (base, has_all) = {
            let tables = self.tables();
            (Arc::clone(&tables.base), tables.frozen.is_none() && tables.unapplied == 0)
        };
        let (number, end) = (journal.newest().number(), journal.newest().end());
        let live = base.state().live.get(&number).copied().unwrap_or_default();
        if !has_all || end <= FIRST_FRAME || live * DEAD_SHARE >= end {
            return Ok(());
        }
        journal.rotate()?;
        self.write_tables().add(journal.newest(), 0, Vec::new());
        base.advance(journal.freeze())
    }

    /// Deletes the segments that neither the base nor a restart needs.
    fn delete_dead_segments(&self) -> Result<(), StoreError> {
        let mut tables = self.write_tables();
        let (applied, live) = (tables.base.position().segment, tables.base.state().live);
        let of_base = tables.segments.range(..applied).map(|(number, _)| *number);
        let dead: Vec<_> = of_base.filter(|number| !live.contains_key(number)).collect();
        let dead: Vec<_> = dead.iter().filter_map(|number| tables.segments.remove(number)).collect();
        drop(tables);
        dead.iter().try_for_each(|segment| segment.delete())
    }

    /// Writes what is alive in a segment once more; how many bytes that were.
    fn empty(&self, segment: &Segment, base: &Base) -> Result<u64, StoreError> {
        let mut moved = 0;
        let (mut together, mut bytes) = (Vec::new(), 0);
        let mut offset = FIRST_FRAME;
        while offset < segment.end() && !self.is_stopping() {
            let broken = || StoreError::Damaged(format!("a frame is broken at byte {offset}"));
            let frame = segment.frame(offset, None)?.ok_or_else(broken)?;
            for (key, slot) in frame.slots {
                let Slot::Stored(location) = slot else {
                    continue;
                };
                if base.get(&key)? == Some(Slot::Stored(location)) {
                    bytes += location.bytes as usize;
                    together.push((key, location));
                }
            }
            offset = frame.end;
            if bytes >= MOVED_TOGETHER || offset >= segment.end() {
                moved += self.put_again(segment, std::mem::take(&mut together))?;
                bytes = 0;
            }
        }
        Ok(moved)
    }

    fn put_again(&self, segment: &Segment, values: Vec<(Key, Location)>) -> Result<u64, StoreError> {
        let mut journal = super::lock(&self.journal);
        let mut batch = Batch::new();
        let mut bytes = 0;
        for (key, location) in values {
            // What was written or removed since, the base does not know yet.
            if self.tables().recent(&key).is_none() {
                bytes += u64::from(location.bytes);
                batch.push((key, Write::Put(segment.read(location)?)));
            }
        }
        if !batch.is_empty() {
            self.commit(&mut journal, batch)?;
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::embedded::{EmbeddedKv, Sizes};
    use crate::store::engine::Options;

    /// The name of the base that is current after a base worth copying was looked at.
    fn current_after_a_copy_is_due(reserve_bytes: u64) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        let sizes = Sizes { base_bytes: 1, interval: Duration::from_secs(3600), ..Sizes::default() };
        let options = Options { reserve_bytes, sizes, ..Options::default() };
        let kv = EmbeddedKv::open(directory.path(), &options, &Supervisor::new(), &()).unwrap();
        let shared = Arc::clone(&kv.shared);
        let mut checkpoints = Checkpoints { shared, unreadable: BTreeSet::new(), copied: Copied::NOTHING };
        checkpoints.copy_base(IDLE_GROWTH).unwrap();
        recovery::current(directory.path()).unwrap()
    }

    #[test]
    fn a_copy_is_expected_to_be_as_the_last_one_was() {
        assert_eq!(Copied::NOTHING.expected(7), 7);
        let last = Copied { bytes: 1000, file_bytes: 1500, failed_at: 0 };
        assert_eq!((last.expected(100), last.expected(3000)), (150, 4500), "also of one that has shrunk");
        let small = Copied { bytes: 1, file_bytes: 4 << 20, failed_at: 0 };
        assert_eq!(small.expected(1000), 3000);
    }

    #[test]
    fn a_base_is_copied_only_where_the_disk_has_room_for_it() {
        assert_eq!(current_after_a_copy_is_due(0).as_deref(), Some("base-2"));
        assert_eq!(current_after_a_copy_is_due(u64::MAX).as_deref(), Some("base-1"));
    }

    #[test]
    fn a_base_that_cannot_be_copied_stops_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        std::fs::create_dir(&path).unwrap();
        let sizes = Sizes { base_bytes: 1, ..Sizes::default() };
        let options = Options { reserve_bytes: 0, sizes, ..Options::default() };
        let shared = Arc::new(recovery::open(&path, &options, &()).unwrap());
        let mut checkpoints =
            Checkpoints { shared: Arc::clone(&shared), unreadable: BTreeSet::new(), copied: Copied::NOTHING };
        let never_enough = Growth { of: 0, over: 1 };
        let before = Arc::clone(&shared.tables().base);
        let elsewhere = directory.path().join("elsewhere");
        std::fs::rename(&path, &elsewhere).unwrap();
        assert_eq!(checkpoints.copy_base(never_enough), Ok(()));
        assert!(Arc::ptr_eq(&before, &shared.tables().base));

        std::fs::rename(&elsewhere, &path).unwrap();
        assert_eq!(checkpoints.copy_base(never_enough), Ok(()));
        assert!(!Arc::ptr_eq(&before, &shared.tables().base));
    }
}
