//! Taking a store elsewhere: all its records, and the attachments beside it, as one file, and back into an empty store of
//! any engine.
//!
//! The file is read and written in one pass and never held in memory. `transfer/format.rs` has its form. It has every
//! record there is: what waits, what is told of it, the marks and their key. So the marks go on recognising what comes
//! again, devices find their entries under the ids that they had, and whoever has the file has what a thief of the
//! disk would have.

mod files;
mod format;

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use postrider_common::supervisor::Supervisor;

use super::embedded::{EmbeddedKv, Offline, settle};
use super::engine::Options;
use super::kv::{Key, Kv, Write as Change};
use super::pairs::{Cursor, Pairs};
use super::records::{self, AttachmentRecord};
use super::{FileId, Progress, Step, StoreError, keys};
use crate::attachments::Files;
use files::{Receiver, Wanted};
use format::{Chunk, Reader, Writer};

/// What an import that has not ended adds to the name of the store's directory.
const UNFINISHED: &str = "import";
/// The directory of attachments, beside the store's.
pub(super) const ATTACHMENTS: &str = "attachments";
/// Bytes of records that share a flush.
const FLUSHED_TOGETHER: u64 = 4 << 20;

/// How much was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// Keys with their values.
    pub records: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Attachments whose files are among them, in pieces.
    pub attachments: u64,
    /// Attachments whose files are not there, or not as they were brought: left out, where that was asked for.
    pub missing: u64,
    /// Envelopes that cannot be read: left out, where that was asked for.
    pub unreadable: u64,
}

/// What an export does with what it cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadables {
    /// It fails.
    Refuse,
    /// It goes on without, and counts it.
    LeaveOut,
}

/// An export or an import failed. A store that was there is as it was.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The store that is read or made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An envelope or an attachment, which an export can leave out.
    #[error("{0}; all else is exported with --leave-out-unreadable")]
    Unreadable(#[source] StoreError),
    /// The file cannot be written.
    #[error("the export cannot be written: {0}")]
    Write(#[source] io::Error),
    /// The file cannot be read.
    #[error("the export cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The file is something else.
    #[error("this is no export of a store")]
    NoExport,
    /// The file was written by a newer version.
    #[error(
        "the export has form {form} with records of format {format}; this version reads forms up to {forms} and formats up to {formats}"
    )]
    TooNew {
        /// Of the file.
        form: u32,
        /// Of the records in it.
        format: u32,
        /// The newest form that this version reads.
        forms: u32,
        /// The newest format that this version reads.
        formats: u32,
    },
    /// The file is not what was written.
    #[error("the export is damaged at byte {at}: {what}")]
    Damaged {
        /// Where the part begins that is not whole.
        at: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The file ends before its end.
    #[error("the export is cut off at byte {at}: it was never finished, or not copied as a whole")]
    CutOff {
        /// Where the file ends.
        at: u64,
    },
    /// There is something where the store should be made.
    #[error("{} exists already and is left as it is: move it away, or name another data directory", .0.display())]
    Exists(PathBuf),
}

/// Writes everything in the store in `path`, which no relay may have open, and the attachments beside it into `out`.
/// Nothing of it is changed; the copy of the base that this needs is made in `scratch` and deleted at the end. To flush
/// `out` onto stable storage is the caller's.
pub fn export(
    path: &Path,
    scratch: &Path,
    out: impl Write,
    unreadables: Unreadables,
    progress: &dyn Progress,
) -> Result<Moved, TransferError> {
    let offline = Offline::open(path, scratch, progress)?;
    let source = Source { pairs: &offline, files: &Files::at(&attachments(path)), unreadables };
    write(&source, out, offline.about_bytes(), progress)
}

/// What is exported, and how.
struct Source<'a> {
    pairs: &'a dyn Pairs,
    files: &'a Files,
    unreadables: Unreadables,
}

/// Makes a store in the directory `path`, and attachments beside it, where there must be neither, out of what [`export`]
/// wrote; `of` is how many bytes that has, if it is known.
///
/// Both are made beside their places and get their names when they are whole and on stable storage, the store as the
/// last. If this fails, what it has made is deleted; if the process dies, what is there is refused by
/// [`open`](super::open) and deleted by the next import.
pub fn import(
    path: &Path,
    input: impl Read,
    of: u64,
    progress: &dyn Progress,
) -> Result<Moved, TransferError> {
    // The file first: if it is no export, nothing is made.
    let reader = Reader::new(input)?;
    let io = |error: io::Error| StoreError::Io(format!("{}: {error}", path.display()));
    let attachments = attachments(path);
    for place in [path, &attachments] {
        is_free(place)?;
    }
    let (unfinished, unfinished_attachments) = (beside(path), beside(&attachments));
    let options = Options { reserve_bytes: 0, ..Options::default() };
    if unfinished.exists() {
        // Fails while another import is at work there.
        let kv = EmbeddedKv::open(&unfinished, &options, &Supervisor::new(), &());
        if let Err(error @ StoreError::InUse) = kv {
            return Err(error.into());
        }
        drop(kv);
        fs::remove_dir_all(&unfinished).map_err(io)?;
    }
    match fs::remove_dir_all(&unfinished_attachments) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error).into()),
        _ => {}
    }
    DirBuilder::new().recursive(true).mode(0o700).create(&unfinished).map_err(io)?;
    let made = || -> Result<Moved, TransferError> {
        let kv = EmbeddedKv::open(&unfinished, &options, &Supervisor::new(), &())?;
        let receiver = Receiver::new(unfinished_attachments.clone());
        let moved = read(&kv, reader, receiver, of, progress)?;
        drop(kv);
        settle(&unfinished)?;
        if moved.attachments > 0 {
            fs::rename(&unfinished_attachments, &attachments).map_err(io)?;
        }
        fs::rename(&unfinished, path).map_err(io)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new("."))).and_then(|parent| parent.sync_all()).map_err(io)?;
        Ok(moved)
    };
    made().inspect_err(|_| {
        // What cannot be deleted is refused when the relay is started, or deleted by the next import.
        let _ = fs::remove_dir_all(&unfinished);
        let _ = fs::remove_dir_all(&unfinished_attachments);
    })
}

/// Whether nothing is there that an import would mix with what it makes.
fn is_free(place: &Path) -> Result<(), TransferError> {
    match fs::read_dir(place).map(|mut found| found.next().is_some()) {
        Ok(false) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotADirectory => {
            Err(StoreError::Io(format!("{}: {error}", place.display())).into())
        }
        _ => Err(TransferError::Exists(place.to_owned())),
    }
}

/// What an import has left that did not end, if it was to become the store in `path`.
pub(super) fn unfinished(path: &Path) -> Option<PathBuf> {
    Some(beside(path)).filter(|unfinished| unfinished.exists() && !path.join("CURRENT").exists())
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension(UNFINISHED)
}

/// Where the attachments of a store are.
fn attachments(path: &Path) -> PathBuf {
    path.with_file_name(ATTACHMENTS)
}

/// Writes all pairs of any engine, and the files of the attachments that are among them.
fn write(
    source: &Source<'_>,
    out: impl Write,
    about_bytes: u64,
    progress: &dyn Progress,
) -> Result<Moved, TransferError> {
    let Source { pairs, unreadables, .. } = *source;
    let missing = || StoreError::Damaged("it does not say which format it has".into());
    let format = pairs.get(keys::FORMAT)?.ok_or_else(missing)?;
    let format = records::decode_format(&format)?;
    if format > records::FORMAT {
        return Err(StoreError::TooNew { found: format, supported: records::FORMAT }.into());
    }
    let mut writer = Writer::new(out, format)?;
    // No kind is as high.
    let mut cursor = Cursor::new(pairs, Key::new(), Key::from_slice(&[u8::MAX]));
    let (mut wanted, mut of) = (Vec::new(), about_bytes);
    let (mut unreadable, mut last_unreadable) = (0, None::<Key>);
    while let Some((key, value)) = cursor.next()? {
        let value = match value {
            // Pieces of an envelope follow one another.
            Err(StoreError::Damaged(_)) if unreadables == Unreadables::LeaveOut && keys::is_of_body(&key) => {
                let body = keys::body_of(&key);
                unreadable += u64::from(last_unreadable.as_deref() != Some(body));
                last_unreadable = Some(Key::from_slice(body));
                continue;
            }
            value => value.map_err(TransferError::Unreadable)?,
        };
        if key.first() == Some(&keys::ATTACHMENTS) {
            let record = records::decode::<AttachmentRecord>(&value)?;
            if record.bytes > 0 {
                of += record.bytes;
                wanted.push(Wanted { file: FileId(record.file), id: keys::of_attachment(&key)?, record });
            }
        }
        let moved = writer.put(&key, &value)?;
        progress.at(Step::Exporting, moved.bytes, of.max(moved.bytes));
    }
    let told = |moved: Moved| progress.at(Step::Exporting, moved.bytes, of.max(moved.bytes));
    let (attachments, missing) = files::write(source, wanted, &mut writer, told)?;
    Ok(Moved { attachments, missing, unreadable, ..writer.finish()? })
}

/// Reads everything into an engine that has nothing yet, and files that are made for it.
fn read<K: Kv>(
    kv: &K,
    mut reader: Reader<impl Read>,
    mut receiver: Receiver,
    of: u64,
    progress: &dyn Progress,
) -> Result<Moved, TransferError> {
    let mut unflushed = 0;
    while let Some(Chunk { mut batch, bytes }) = reader.next()? {
        let records = batch.iter().take_while(|(key, _)| !Receiver::is_piece(key)).count();
        for (key, piece) in batch.drain(records..) {
            let is_next = match &piece {
                Change::New(bytes) | Change::Put(bytes) => receiver.put(&key, bytes)?,
                Change::Remove => false,
            };
            if !is_next {
                let what = "the pieces of an attachment do not follow one another";
                return Err(TransferError::Damaged { at: reader.at(), what });
            }
        }
        unflushed += bytes;
        kv.apply(batch)?;
        if unflushed >= FLUSHED_TOGETHER {
            kv.flush()?;
            unflushed = 0;
        }
        progress.at(Step::Importing, reader.at(), of);
    }
    kv.flush()?;
    Ok(Moved { attachments: receiver.finish()?, ..reader.moved() })
}

#[cfg(test)]
mod tests;
