//! The end of the journal, where batches become durable.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame;
use super::memtable::Change;
use super::segment::{FIRST_FRAME, Segment};
use crate::store::StoreError;
use crate::store::kv::Batch;

/// A buffer that has grown larger for one frame is given back.
const KEPT_BUFFER: usize = 8 << 20;

/// A place between two frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// The segment's number,
    pub segment: u64,
    /// the byte in it,
    pub offset: u64,
    /// and the number of the frame that comes there.
    pub sequence: u64,
}

impl Position {
    /// Where the first frame of a new store goes.
    pub(super) const START: Self = Self { segment: 1, offset: FIRST_FRAME, sequence: 1 };
}

/// Appends frames to the newest segment, and begins another one when that is full.
#[derive(Debug)]
pub(super) struct Journal {
    directory: PathBuf,
    capacity: u64,
    newest: Arc<Segment>,
    next_sequence: u64,
    /// Bytes since the memtable was last frozen.
    unapplied: u64,
    buffer: Vec<u8>,
    /// After a failed write nobody knows what the newest segment ends with.
    broken: Option<StoreError>,
}

impl Journal {
    /// Goes on at the end of `newest`, with `unapplied` bytes that are not in the base.
    pub(super) fn new(
        directory: &Path,
        capacity: u64,
        newest: Arc<Segment>,
        next_sequence: u64,
        unapplied: u64,
    ) -> Self {
        let (directory, buffer) = (directory.to_owned(), Vec::new());
        Self { directory, capacity, newest, next_sequence, unapplied, buffer, broken: None }
    }

    /// Puts a batch onto stable storage; what that changes.
    pub(super) fn append(&mut self, batch: Batch) -> Result<Vec<Change>, StoreError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        self.write(batch).inspect_err(|error| self.broken = Some(error.clone()))
    }

    fn write(&mut self, batch: Batch) -> Result<Vec<Change>, StoreError> {
        let end = self.newest.end();
        if end > FIRST_FRAME && end + frame::size(&batch) as u64 > self.capacity {
            self.begin_segment()?;
        }
        let (home, end) = (self.newest.home(), self.newest.end());
        let changes = frame::encode(&mut self.buffer, batch, home, end, self.next_sequence)?;
        self.newest.append(&self.buffer)?;
        self.next_sequence += 1;
        self.unapplied += self.buffer.len() as u64;
        if self.buffer.capacity() > KEPT_BUFFER {
            self.buffer = Vec::new();
        }
        Ok(changes)
    }

    /// Begins another segment before the newest one is full.
    pub(super) fn rotate(&mut self) -> Result<(), StoreError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        self.begin_segment().inspect_err(|error| self.broken = Some(error.clone()))
    }

    fn begin_segment(&mut self) -> Result<(), StoreError> {
        self.newest.cut(self.newest.end())?;
        let next = Segment::create(&self.directory, self.newest.number() + 1, self.capacity)?;
        self.newest = Arc::new(next);
        Ok(())
    }

    pub(super) const fn newest(&self) -> &Arc<Segment> {
        &self.newest
    }

    pub(super) const fn unapplied(&self) -> u64 {
        self.unapplied
    }

    /// Where the next frame goes, as far as the newest segment has room. What is before it has been frozen.
    pub(super) fn freeze(&mut self) -> Position {
        self.unapplied = 0;
        let (segment, offset) = (self.newest.number(), self.newest.end());
        Position { segment, offset, sequence: self.next_sequence }
    }
}
