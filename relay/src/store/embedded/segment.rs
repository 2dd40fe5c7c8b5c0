//! One file of the journal: a header, then frames.
//!
//! The header has 32 bytes: `postjrnl`, the layout's version (4), the segment's number (8), its salt (8) and the CRC-32
//! of these. A file gets its name only when its header is on the disk, and its full size beforehand, so that a flush
//! has no metadata to write. What follows the last frame is zeros; a segment that is full is cut off there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use postrider_common::secret::random_bytes;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::frame::{self, HEADER_BYTES, Home};
use super::memtable::{Location, Slot};
use super::{of_io, sync_directory};
use crate::failpoint::{self, Step};
use crate::store::StoreError;
use crate::store::kv::Key;

/// Where the first frame begins.
pub(super) const FIRST_FRAME: u64 = HEAD_BYTES as u64;
const HEAD_BYTES: usize = 32;
const MAGIC: &[u8; 8] = b"postjrnl";
const VERSION: u32 = 1;
const EXTENSION: &str = "journal";
pub(super) const UNFINISHED: &str = "new";
/// How much is searched at a time for what follows a broken frame.
const SEARCHED_BYTES: usize = 1 << 20;
/// What a disk gives back or not.
const SECTOR_BYTES: usize = 4096;

/// An open segment. It can be read for as long as somebody has it, deleted or not.
#[derive(Debug)]
pub(super) struct Segment {
    home: Home,
    path: PathBuf,
    file: File,
    /// Where the last whole frame ends.
    end: AtomicU64,
}

/// A frame that was read, whole.
#[derive(Debug)]
pub(super) struct Frame {
    pub slots: Vec<(Key, Slot)>,
    /// Where the next one begins.
    pub end: u64,
    pub sequence: u64,
}

impl Segment {
    /// Makes a segment of `capacity` bytes. It is on the disk when this returns.
    pub(super) fn create(directory: &Path, number: u64, capacity: u64) -> Result<Self, StoreError> {
        let path = directory.join(format!("{number:016x}.{EXTENSION}"));
        let unfinished = path.with_extension(UNFINISHED);
        let salt: [u8; 8] = random_bytes();
        let create = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&unfinished)?;
            file.write_all(&header(number, salt))?;
            extend(&file, capacity)?;
            file.sync_all()?;
            std::fs::rename(&unfinished, &path)?;
            sync_directory(directory)?;
            Ok(file)
        };
        let file = create().map_err(of_io)?;
        Ok(Self { home: Home { segment: number, salt }, path, file, end: AtomicU64::new(FIRST_FRAME) })
    }

    /// Opens a segment. All of the file counts as frames until [`cut`](Self::cut) says otherwise.
    pub(super) fn open(path: &Path, number: u64) -> Result<Self, StoreError> {
        Self::of(OpenOptions::new().read(true).write(true).open(path).map_err(of_io)?, path, number)
    }

    /// The same for one that is not to be changed.
    pub(super) fn open_to_read(path: &Path, number: u64) -> Result<Self, StoreError> {
        Self::of(File::open(path).map_err(of_io)?, path, number)
    }

    fn of(file: File, path: &Path, number: u64) -> Result<Self, StoreError> {
        let mut found = [0; HEAD_BYTES];
        let damaged = || StoreError::Damaged(format!("segment {number:x} of the journal has no header"));
        file.read_exact_at(&mut found, 0).map_err(|_| damaged())?;
        let salt = found[20..28].try_into().map_err(|_| damaged())?;
        if found != header(number, salt) {
            return Err(damaged());
        }
        let end = AtomicU64::new(file.metadata().map_err(of_io)?.len());
        Ok(Self { home: Home { segment: number, salt }, path: path.to_owned(), file, end })
    }

    pub(super) const fn number(&self) -> u64 {
        self.home.segment
    }

    pub(super) const fn home(&self) -> Home {
        self.home
    }

    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Writes a frame at the end, onto stable storage.
    pub(super) fn append(&self, frame: &[u8]) -> Result<(), StoreError> {
        let end = self.end();
        self.write(frame, end).and_then(|()| self.file.sync_data()).map_err(of_io)?;
        self.end.store(end + frame.len() as u64, Ordering::Release);
        Ok(())
    }

    fn write(&self, frame: &[u8], at: u64) -> io::Result<()> {
        let mut written = 0;
        if cfg!(feature = "failpoints") {
            written = frame.len() / 2;
            self.file.write_all_at(&frame[..written], at)?;
            failpoint::reach(Step::HalfWritten);
        }
        self.file.write_all_at(&frame[written..], at + written as u64)?;
        failpoint::reach(Step::Written);
        Ok(())
    }

    /// Cuts the file off at `end`, where its last frame ends.
    pub(super) fn cut(&self, end: u64) -> Result<(), StoreError> {
        self.file.set_len(end).and_then(|()| self.file.sync_all()).map_err(of_io)?;
        self.end.store(end, Ordering::Release);
        Ok(())
    }

    /// Its last frame ends at `end`; the file is left as it is.
    pub(super) fn ends_at(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    /// Makes room behind the last frame again.
    pub(super) fn reserve(&self, capacity: u64) -> Result<(), StoreError> {
        if self.end() >= capacity {
            return Ok(());
        }
        extend(&self.file, capacity).and_then(|()| self.file.sync_all()).map_err(of_io)
    }

    /// Whether the bytes from `offset` to the end are zeros: room, and nothing that was written.
    pub(super) fn is_room(&self, offset: u64) -> Result<bool, StoreError> {
        let mut from = offset;
        while from < self.end() {
            let some = SEARCHED_BYTES.min(usize::try_from(self.end() - from).unwrap_or(SEARCHED_BYTES));
            let mut bytes = vec![0; some];
            // What cannot be read is no room.
            if self.file.read_exact_at(&mut bytes, from).is_err() || bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            from += some as u64;
        }
        Ok(true)
    }

    /// The value at `location`, which is in this segment, if it was put there under `key`.
    pub(super) fn read_of(&self, key: &[u8], location: Location) -> Result<Bytes, StoreError> {
        let mut expected = Vec::with_capacity(frame::PUT_BYTES + key.len());
        frame::begin_put(&mut expected, key, location.bytes)?;
        let mut found = vec![0; expected.len()];
        let is_there = u64::from(location.offset).checked_sub(found.len() as u64);
        let is_there = is_there.is_some_and(|at| self.file.read_exact_at(&mut found, at).is_ok());
        if is_there && found == expected {
            return self.read(location);
        }
        let place = format!("segment {:x} of the journal, byte {}", location.segment, location.offset);
        Err(StoreError::Damaged(format!("what should be there was put there under no such key ({place})")))
    }

    /// The value at `location`, which is in this segment.
    pub(super) fn read(&self, location: Location) -> Result<Bytes, StoreError> {
        let mut value = vec![0; location.bytes as usize];
        self.read_at(&mut value, location.offset.into())?;
        if crc32fast::hash(&value) == location.checksum {
            return Ok(value.into());
        }
        let place = format!("segment {:x} of the journal, byte {}", location.segment, location.offset);
        Err(StoreError::Damaged(format!("an envelope is not what was written ({place})")))
    }

    /// The frame at `offset`, if a whole one is there with the number `sequence`, or with any.
    pub(super) fn frame(&self, offset: u64, sequence: Option<u64>) -> Result<Option<Frame>, StoreError> {
        let len = self.end();
        let mut bytes = [0; HEADER_BYTES];
        let payload_at = offset + HEADER_BYTES as u64;
        if payload_at > len {
            return Ok(None);
        }
        self.read_at(&mut bytes, offset)?;
        let Some(header) = frame::header(&bytes, &self.home.salt) else {
            return Ok(None);
        };
        let end = payload_at + header.payload_bytes as u64;
        if end > len || sequence.is_some_and(|sequence| sequence != header.sequence) {
            return Ok(None);
        }
        let mut payload = vec![0; header.payload_bytes];
        self.read_at(&mut payload, payload_at)?;
        if !frame::is_whole(&bytes, &payload, &header) {
            return Ok(None);
        }
        let slots = frame::entries(&payload, self.number(), payload_at)?;
        Ok(Some(Frame { slots, end, sequence: header.sequence }))
    }

    /// Whether a whole frame may begin somewhere after `offset`: then what is broken there was followed by another
    /// frame, and did not break when a process or its machine stopped. Where something cannot be read, one may.
    pub(super) fn may_have_frame_after(&self, offset: u64) -> bool {
        self.search(offset, |all_read, at| match at {
            None => !all_read,
            Some(at) => !matches!(self.frame(at, None), Ok(None)),
        })
        .is_some()
    }

    /// Where the next frame begins after `offset` that is whole and can be read, whatever its number is.
    pub(super) fn frame_after(&self, offset: u64) -> Option<u64> {
        self.search(offset, |_, at| at.is_some_and(|at| matches!(self.frame(at, None), Ok(Some(_)))))
    }

    /// The first place after `offset` of which `is_it` says so. It is asked of each part, whether all of that could be read,
    /// and of each place in it where a frame would begin with this segment's salt.
    fn search(&self, offset: u64, is_it: impl Fn(bool, Option<u64>) -> bool) -> Option<u64> {
        let salt = self.home.salt;
        let (mut from, len) = (offset + 1, self.end());
        let zeros = vec![0; SEARCHED_BYTES];
        while from + HEADER_BYTES as u64 <= len {
            let some = SEARCHED_BYTES.min(usize::try_from(len - from).unwrap_or(SEARCHED_BYTES));
            let mut bytes = vec![0; some];
            let all_read = self.read_what_there_is(&mut bytes, from);
            if is_it(all_read, None) {
                return Some(from);
            }
            if bytes != zeros[..some] {
                for (at, window) in (from..).zip(bytes.windows(salt.len())) {
                    if window == salt && is_it(all_read, Some(at)) {
                        return Some(at);
                    }
                }
            }
            // The next part begins with what could be the start of a salt in this one.
            from += (some - (salt.len() - 1).min(some - 1)) as u64;
        }
        None
    }

    /// A place on the disk that cannot be read is damage to what is there, and not a disk that can do nothing.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> Result<(), StoreError> {
        self.file.read_exact_at(bytes, at).map_err(|error| {
            let number = self.number();
            let what = format!("segment {number:x} of the journal cannot be read at byte {at}: {error}");
            let is_damage = error.kind() == io::ErrorKind::UnexpectedEof
                || [Errno::IO, Errno::BADMSG, Errno::UCLEAN]
                    .map(Errno::raw_os_error)
                    .map(Some)
                    .contains(&error.raw_os_error());
            if is_damage { StoreError::Damaged(what) } else { StoreError::Io(what) }
        })
    }

    /// The same, with zeros for what cannot be read; whether all could.
    fn read_what_there_is(&self, bytes: &mut [u8], from: u64) -> bool {
        let mut all_read = true;
        if self.file.read_exact_at(bytes, from).is_err() {
            for (at, some) in (from..).step_by(SECTOR_BYTES).zip(bytes.chunks_mut(SECTOR_BYTES)) {
                if self.file.read_exact_at(some, at).is_err() {
                    some.fill(0);
                    all_read = false;
                }
            }
        }
        all_read
    }

    /// Deletes the file.
    pub(super) fn delete(&self) -> Result<(), StoreError> {
        std::fs::remove_file(&self.path).map_err(of_io)
    }
}

/// The segments in a directory, by number. What was not finished is deleted.
pub(super) fn list(directory: &Path) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let Listed { segments, unfinished } = look(directory)?;
    unfinished.into_iter().try_for_each(std::fs::remove_file).map_err(of_io)?;
    Ok(segments)
}

/// What is in a journal's directory.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// By number.
    pub segments: Vec<(u64, PathBuf)>,
    /// Made when the process or its machine stopped.
    pub unfinished: Vec<PathBuf>,
}

/// The files in a directory, none of which is changed.
pub(super) fn look(directory: &Path) -> Result<Listed, StoreError> {
    let mut listed = Listed::default();
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(listed),
        entries => entries.map_err(of_io)?,
    };
    for entry in entries {
        let path = entry.map_err(of_io)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension == Some(UNFINISHED) {
            listed.unfinished.push(path);
        } else if extension == Some(EXTENSION) {
            let number = path.file_stem().and_then(|stem| u64::from_str_radix(stem.to_str()?, 16).ok());
            let strange = || StoreError::Damaged("the journal has a file with a strange name".into());
            listed.segments.push((number.ok_or_else(strange)?, path));
        }
    }
    listed.segments.sort_unstable();
    Ok(listed)
}

fn header(number: u64, salt: [u8; 8]) -> [u8; HEAD_BYTES] {
    let mut header = [0; HEAD_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_be_bytes());
    header[12..20].copy_from_slice(&number.to_be_bytes());
    header[20..28].copy_from_slice(&salt);
    let checksum = crc32fast::hash(&header[..28]);
    header[28..].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// Gives a file its size, and the blocks for it where the file system can; without them, a flush takes longer.
fn extend(file: &File, capacity: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, capacity) {
        Ok(()) => Ok(()),
        Err(_) => file.set_len(capacity),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Then a start refuses the store, and cuts nothing away; a check looks for what it can read.
    #[test]
    fn where_something_cannot_be_read_there_may_be_a_frame() {
        let directory = tempfile::tempdir().unwrap();
        let segment = Segment::create(directory.path(), 1, 10_000).unwrap();
        assert!(!segment.may_have_frame_after(FIRST_FRAME));
        // From this file nothing can be read.
        let file = OpenOptions::new().write(true).open(&segment.path).unwrap();
        let segment = Segment { file, ..segment };
        segment.ends_at(10_000);
        assert!(segment.may_have_frame_after(FIRST_FRAME));
        assert_eq!(segment.frame_after(FIRST_FRAME), None);
        assert_eq!(segment.is_room(FIRST_FRAME), Ok(false));
        assert!(matches!(segment.frame(FIRST_FRAME, None), Err(StoreError::Io(_))));
    }
}
