//! The files of attachments in an export: in pieces, as records behind all those of the store.
//!
//! A piece's key is `ff`, the file's name (16) and where in the file it begins (8, big-endian), its value the bytes there.
//! The pieces of a file follow one another without a gap, so that the keys ascend as they do everywhere in an export.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::format::Writer;
use super::{Moved, TransferError, Unreadables};
use crate::attachments::Files;
use crate::store::kv::Key;
use crate::store::{FileId, StoreError};

/// Above every kind of record in a store.
const KIND: u8 = u8::MAX;
/// A few of them make a chunk.
const PIECE_BYTES: u64 = 256 << 10;

/// Adds files to an export, in the order of their names. How many there are, and how many of those that are wanted are not.
pub(super) fn write(
    files: &Files,
    unreadables: Unreadables,
    mut wanted: Vec<FileId>,
    writer: &mut Writer<impl Write>,
    mut told: impl FnMut(Moved),
) -> Result<(u64, u64), TransferError> {
    wanted.sort_unstable();
    let (mut found, mut missing) = (0, 0);
    for file in wanted {
        let failed = |error| unusable(&files.path(file), &error);
        let mut content = match files.readable(file) {
            Err(_) if unreadables == Unreadables::LeaveOut => {
                missing += 1;
                continue;
            }
            opened => opened.map_err(failed)?,
        };
        let (mut at, mut piece) = (0, Vec::new());
        loop {
            piece.clear();
            (&mut content).take(PIECE_BYTES).read_to_end(&mut piece).map_err(failed)?;
            if piece.is_empty() {
                break;
            }
            told(writer.put(&key(file, at), &piece)?);
            at += piece.len() as u64;
        }
        found += 1;
    }
    Ok((found, missing))
}

/// Makes the files again, in a directory that is made for them.
pub(super) struct Receiver {
    root: PathBuf,
    files: Option<Files>,
    /// The one that grows, and how long it is.
    open: Option<(FileId, File, u64)>,
    made: u64,
}

impl Receiver {
    pub(super) const fn new(root: PathBuf) -> Self {
        Self { root, files: None, open: None, made: 0 }
    }

    /// Whether it is a record's key that the store is to have.
    pub(super) fn is_piece(key: &[u8]) -> bool {
        key.first() == Some(&KIND)
    }

    /// Adds a piece; false if it is none, or not the one that follows.
    pub(super) fn put(&mut self, key: &[u8], bytes: &[u8]) -> Result<bool, StoreError> {
        let Some((file, at)) = parse(key) else { return Ok(false) };
        if at == 0 {
            self.end_file()?;
            let files = match &self.files {
                Some(files) => files,
                None => self.files.insert(Files::open(&self.root).map_err(|error| self.failed(error))?),
            };
            let made = files.writable(file).map_err(|error| self.failed(error))?;
            self.open = Some((file, made, 0));
        }
        let grown = match &mut self.open {
            Some((open, content, length)) if *open == file && *length == at => {
                *length += bytes.len() as u64;
                content.write_all(bytes)
            }
            _ => return Ok(false),
        };
        grown.map_err(|error| self.failed(error))?;
        Ok(true)
    }

    /// When all are on stable storage: how many there are.
    pub(super) fn finish(mut self) -> Result<u64, StoreError> {
        self.end_file()?;
        Ok(self.made)
    }

    fn end_file(&mut self) -> Result<(), StoreError> {
        if let Some((_, content, _)) = self.open.take() {
            content.sync_all().map_err(|error| self.failed(error))?;
            self.made += 1;
        }
        Ok(())
    }

    fn failed(&self, error: impl std::fmt::Display) -> StoreError {
        StoreError::Io(format!("{}: {error}", self.root.display()))
    }
}

fn key(file: FileId, at: u64) -> Key {
    Key::from_slice(&[&[KIND][..], &file.0, &at.to_be_bytes()].concat())
}

fn parse(key: &[u8]) -> Option<(FileId, u64)> {
    let (file, at) = key.strip_prefix(&[KIND])?.split_first_chunk::<16>()?;
    Some((FileId(*file), u64::from_be_bytes(at.try_into().ok()?)))
}

fn unusable(path: &Path, error: &io::Error) -> TransferError {
    StoreError::Io(format!("{}: {error}", path.display())).into()
}
