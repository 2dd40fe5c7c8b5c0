//! The files of attachments in an export: in pieces, as records behind all those of the store.
//!
//! A piece's key is `ff`, the file's name (16) and where in the file it begins (8, big-endian), its value the bytes there.
//! The pieces of a file follow one another without a gap, so that the keys ascend as they do everywhere in an export.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

use postrider_common::AttachmentId;

use super::format::Writer;
use super::{Moved, Source, TransferError, Unreadables};
use crate::attachments::Files;
use crate::store::kv::Key;
use crate::store::records::AttachmentRecord;
use crate::store::{FileId, StoreError, chunks};

/// Above every kind of record in a store.
const KIND: u8 = u8::MAX;
/// A few of them make a chunk.
const PIECE_BYTES: u64 = 256 << 10;

/// A file, and what is to be in it.
pub(super) struct Wanted {
    pub(super) file: FileId,
    pub(super) id: AttachmentId,
    pub(super) record: AttachmentRecord,
}

/// Adds files to an export, in the order of their names. How many there are, and how many were left out since they are not
/// there, or not as they were brought.
pub(super) fn write(
    source: &Source<'_>,
    mut wanted: Vec<Wanted>,
    writer: &mut Writer<impl Write>,
    mut told: impl FnMut(Moved),
) -> Result<(u64, u64), TransferError> {
    wanted.sort_unstable_by_key(|wanted| wanted.file);
    let (mut found, mut missing) = (0, 0);
    for wanted in wanted {
        let mut content = match opened(source, &wanted) {
            Ok(content) => content,
            Err(_) if source.unreadables == Unreadables::LeaveOut => {
                missing += 1;
                continue;
            }
            Err(error) => return Err(TransferError::Unreadable(error)),
        };
        let (mut at, mut piece) = (0, Vec::new());
        loop {
            piece.clear();
            let read = (&mut content).take(PIECE_BYTES).read_to_end(&mut piece);
            let path = || source.files.path(wanted.file);
            read.map_err(|error| StoreError::Io(format!("{}: {error}", path().display())))?;
            if piece.is_empty() {
                break;
            }
            told(writer.put(&key(wanted.file, at), &piece)?);
            at += piece.len() as u64;
        }
        found += 1;
    }
    Ok((found, missing))
}

/// A file that has what it should, read once for that.
fn opened(source: &Source<'_>, wanted: &Wanted) -> Result<File, StoreError> {
    let path = source.files.path(wanted.file);
    let damaged = |what: String| StoreError::Damaged(format!("{}: {what}", path.display()));
    let file = source.files.readable(wanted.file).map_err(|error| damaged(error.to_string()))?;
    let digests = chunks::digests(source.pairs, &wanted.id)?;
    match chunks::wrong(&file, &wanted.record, &digests, |_| {}).first() {
        None => Ok(file),
        Some(chunk) => Err(damaged(format!("chunk {chunk} is not what was brought"))),
    }
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
            let made = files.writable(file, false).map_err(|error| self.failed(error))?;
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
