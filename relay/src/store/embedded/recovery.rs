//! Opening: which base is the current one, and what the journal has that it has not.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, RwLock};

use super::base::{self, Base};
use super::journal::{Journal, Position};
use super::memtable::{Change, Memtable};
use super::segment::{self, FIRST_FRAME, Segment};
use super::tables::Tables;
use super::{Shared, of_io, sync_directory};
use crate::store::engine::Options;
use crate::store::{Progress, Step, StoreError};

pub(super) const LOCK: &str = "lock";
pub(super) const JOURNAL: &str = "journal";
/// Names the directory of the base.
const CURRENT: &str = "CURRENT";
const CURRENT_UNFINISHED: &str = "CURRENT.new";
const BASE: &str = "base-";

/// Opens what is in `path`, or makes a store there.
pub(super) fn open(path: &Path, options: &Options, progress: &dyn Progress) -> Result<Shared, StoreError> {
    let sizes = options.sizes;
    let directory = path.join(JOURNAL);
    fs::create_dir_all(&directory).map_err(of_io)?;
    let lock = File::create(path.join(LOCK)).map_err(of_io)?;
    hold(&lock)?;
    sync_directory(path).map_err(of_io)?;
    let name = match current(path)? {
        Some(name) => name,
        None => {
            was_never_used(path)?;
            create(path, &directory, options)?
        }
    };
    let base = open_base(&path.join(&name), options.cache_bytes, progress)?;
    // Only now: if `CURRENT` is wrong, one of them is the store.
    for other in bases(path)?.into_iter().filter(|other| *other != name) {
        fs::remove_dir_all(path.join(other)).map_err(of_io)?;
    }
    let mut tables = Tables {
        active: Memtable::default(),
        frozen: None,
        base: Arc::new(base),
        segments: segments(&directory)?,
        unapplied: 0,
        freezes: 0,
    };
    delete_unneeded(&mut tables)?;
    let Replayed { newest, end, next_sequence, bytes } = replay(&mut tables, progress)?;
    if !newest.is_room(end)? {
        tracing::warn!(
            segment = newest.number(),
            byte = end,
            "the journal ends with a write that is not whole, which is cut away: a crash leaves one that was answered to nobody"
        );
    }
    newest.cut(end)?;
    newest.reserve(sizes.segment_bytes)?;
    let journal = Journal::new(&directory, sizes.segment_bytes, newest, next_sequence, bytes);
    Ok(Shared {
        path: path.to_owned(),
        sizes,
        cache_bytes: options.cache_bytes,
        reserve_bytes: options.reserve_bytes,
        journal: Mutex::new(journal),
        signal: Mutex::default(),
        changed: Condvar::new(),
        tables: RwLock::new(tables),
        _lock: lock,
    })
}

/// Has `lock` say that the store is in use, for as long as it is open.
pub(super) fn hold(lock: &File) -> Result<(), StoreError> {
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => StoreError::InUse,
        TryLockError::Error(error) => of_io(error),
    })
}

/// Opens the base in `directory`.
pub(super) fn open_base(
    directory: &Path,
    cache_bytes: u64,
    progress: &dyn Progress,
) -> Result<Base, StoreError> {
    let size = |path| fs::metadata(path).map_or(0, |file| file.len());
    let bytes = size(directory.join("db"));
    progress.at(Step::Base, 0, bytes);
    let base = Base::open(directory, cache_bytes)?;
    progress.at(Step::Base, bytes, bytes);
    Ok(base)
}

/// Makes `name` the current base. A crash leaves the one before or this one.
pub(super) fn point_to(path: &Path, name: &str) -> Result<(), StoreError> {
    let unfinished = path.join(CURRENT_UNFINISHED);
    let write = || {
        let mut file = File::create(&unfinished)?;
        file.write_all(name.as_bytes())?;
        file.sync_all()?;
        sync_directory(path)?;
        fs::rename(&unfinished, path.join(CURRENT))?;
        sync_directory(path)
    };
    write().map_err(of_io)
}

/// A name that no base has.
pub(super) fn next_base(path: &Path) -> Result<String, StoreError> {
    let numbers = bases(path)?.into_iter().filter_map(|name| name.strip_prefix(BASE)?.parse::<u64>().ok());
    Ok(format!("{BASE}{}", numbers.max().unwrap_or(0) + 1))
}

/// Which base `CURRENT` names, if it is there.
pub(super) fn current(path: &Path) -> Result<Option<String>, StoreError> {
    match fs::read(path.join(CURRENT)).map(String::from_utf8) {
        Ok(Ok(name)) if name.starts_with(BASE) && !name.contains('/') => Ok(Some(name)),
        Ok(_) => Err(StoreError::Damaged("CURRENT names no base".into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(of_io(error)),
    }
}

/// That without `CURRENT` there is nothing in `path` but what a creation has left that did not end; otherwise it is damage.
///
/// A base without a segment is no such thing, since [`create`] makes the segment first. Nor is a segment in which something
/// is, or that is not the first: a store that was used may have all it knows in its base.
pub(super) fn was_never_used(path: &Path) -> Result<(), StoreError> {
    if path.join("db").exists() {
        return Err(StoreError::Damaged("it was written by a version before the first release".into()));
    }
    let segments = segment::look(&path.join(JOURNAL))?.segments;
    if segments.is_empty() && !bases(path)?.is_empty() {
        return Err(StoreError::Damaged("CURRENT is missing, and so is the journal".into()));
    }
    for (number, found) in &segments {
        // Whatever has been written there, whole or not.
        let was_used = *number > Position::START.segment
            || !Segment::open_to_read(found, *number)?.is_room(FIRST_FRAME)?;
        if was_used {
            let bases = match &bases(path)?[..] {
                [] => "none".into(),
                bases => bases.join(" and "),
            };
            return Err(StoreError::Damaged(format!(
                "CURRENT is missing; it names the base, and there is {bases}"
            )));
        }
    }
    Ok(())
}

/// Makes an empty store. That `CURRENT` is there says that it is whole.
fn create(path: &Path, journal: &Path, options: &Options) -> Result<String, StoreError> {
    for unfinished in bases(path)? {
        fs::remove_dir_all(path.join(unfinished)).map_err(of_io)?;
    }
    for (_, found) in segment::list(journal)? {
        fs::remove_file(found).map_err(of_io)?;
    }
    let name = next_base(path)?;
    drop(Segment::create(journal, Position::START.segment, options.sizes.segment_bytes)?);
    drop(Base::create(&path.join(&name), options.cache_bytes, Position::START)?);
    point_to(path, &name)?;
    Ok(name)
}

/// The bases that there are, current or not.
pub(super) fn bases(path: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(of_io)? {
        let name = entry.map_err(of_io)?.file_name();
        names.extend(name.into_string().ok().filter(|name| name.starts_with(BASE)));
    }
    Ok(names)
}

/// Returns once nothing of this process has a file of the base in `path` open, so that the directory may be renamed.
pub(in crate::store) fn settle(path: &Path) -> Result<(), StoreError> {
    match current(path)? {
        Some(name) => base::await_previous_handle(&path.join(name).join("db")),
        None => Ok(()),
    }
}

fn segments(directory: &Path) -> Result<std::collections::BTreeMap<u64, Arc<Segment>>, StoreError> {
    let open = |(number, path): (u64, PathBuf)| Ok((number, Arc::new(Segment::open(&path, number)?)));
    segment::list(directory)?.into_iter().map(open).collect()
}

/// Deletes the segments that nothing needs any more.
fn delete_unneeded(tables: &mut Tables) -> Result<(), StoreError> {
    let (first, live) = (tables.base.position().segment, tables.base.state().live);
    let unneeded: Vec<_> = tables.segments.range(..first).map(|(number, _)| *number).collect();
    for number in unneeded.iter().filter(|number| !live.contains_key(number)) {
        if let Some(segment) = tables.segments.remove(number) {
            segment.delete()?;
        }
    }
    Ok(())
}

/// The end of the journal.
pub(super) struct Replayed {
    pub newest: Arc<Segment>,
    /// Where its last whole frame ends.
    pub end: u64,
    pub next_sequence: u64,
    /// What the base has not.
    pub bytes: u64,
}

/// Follows the journal from where the base has it, into the memtable. No file is changed.
///
/// Where the newest segment's frames end, a write may have been cut off: that was answered to nobody, and is to be cut
/// away. Anywhere else, what is not whole is damage.
pub(super) fn replay(tables: &mut Tables, progress: &dyn Progress) -> Result<Replayed, StoreError> {
    let Position { segment: first, mut offset, mut sequence } = tables.base.position();
    let missing = |number: u64| StoreError::Damaged(format!("segment {number:x} of the journal is missing"));
    let live = tables.base.state().live;
    if let Some(number) = live.keys().find(|number| !tables.segments.contains_key(number)) {
        return Err(missing(*number));
    }
    let mut newest = None;
    let (mut frames, mut bytes, mut read) = (0, 0, 0);
    let unapplied: Vec<_> = tables.segments.range(first..).map(|(_, segment)| Arc::clone(segment)).collect();
    let of = unapplied.iter().map(|segment| segment.end()).sum::<u64>().saturating_sub(offset);
    for (expected, segment) in (first..).zip(unapplied) {
        if segment.number() != expected {
            return Err(missing(expected));
        }
        if let Some(before) = newest.replace(Arc::clone(&segment)) {
            check_sealed(&before, offset)?;
            offset = FIRST_FRAME;
            read += FIRST_FRAME;
        }
        while let Some(frame) = segment.frame(offset, Some(sequence))? {
            for (key, slot) in frame.slots {
                tables.active.follow(Change { key, slot, is_new: false });
            }
            bytes += frame.end - offset;
            (offset, sequence) = (frame.end, sequence + 1);
            frames += 1;
            progress.at(Step::Journal, read + bytes, of);
        }
    }
    tables.unapplied = bytes;
    let newest = newest.ok_or_else(|| missing(first))?;
    if offset > newest.end() || newest.may_have_frame_after(offset) {
        return Err(broken(&newest, offset));
    }
    progress.at(Step::Journal, of, of);
    progress.replayed(frames, bytes);
    Ok(Replayed { newest, end: offset, next_sequence: sequence, bytes })
}

/// A segment that another one follows was cut off after its last frame.
fn check_sealed(segment: &Segment, end: u64) -> Result<(), StoreError> {
    if segment.end() == end { Ok(()) } else { Err(broken(segment, end)) }
}

fn broken(segment: &Segment, offset: u64) -> StoreError {
    StoreError::Damaged(format!("segment {:x} of the journal is broken at byte {offset}", segment.number()))
}
