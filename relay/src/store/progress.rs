//! How far something that takes long with a store has come, for whoever waits for it.

use std::fmt;

/// What a store is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Opening: the base. Bytes of its files.
    Base,
    /// Opening: what the journal has and the base has not. Bytes of the journal, those that are reserved included.
    Journal,
    /// Copying the base to a place where it may be changed. Bytes of its files.
    Copying,
    /// Checking the frames of the journal. Bytes of its files.
    Frames,
    /// Checking the blocks of the base. Bytes of blocks.
    Blocks,
    /// Checking the records. Bytes of keys and values; how many there are is known only about.
    Records,
    /// Checking the files of attachments. Bytes of chunks; how many there will be is not known.
    Attachments,
    /// Writing records into a file. Bytes as for `Records`.
    Exporting,
    /// Reading them back into a store. Bytes of the file, if it is one.
    Importing,
}

/// Is told how far a [`Step`] has come. It is called often, and should answer quickly.
pub trait Progress: Sync {
    /// `done` of `of` bytes. Zero `of`: nobody knows how many there are.
    fn at(&self, step: Step, done: u64, of: u64);

    /// What the journal had and the base had not is in memory: so many frames and bytes.
    fn replayed(&self, frames: u64, bytes: u64) {
        let _ = (frames, bytes);
    }
}

/// For those who do not wait.
impl Progress for () {
    fn at(&self, _step: Step, _done: u64, _of: u64) {}
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "opening the base",
            Self::Journal => "reading the journal",
            Self::Copying => "copying the base",
            Self::Frames => "checking the journal",
            Self::Blocks => "checking the base",
            Self::Records => "checking the records",
            Self::Attachments => "checking attachments",
            Self::Exporting => "exporting",
            Self::Importing => "importing",
        })
    }
}
