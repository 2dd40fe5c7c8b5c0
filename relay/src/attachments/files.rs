//! The files themselves: `ab/abcdef….` below one directory, by names that tell nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

use super::AttachmentError;
use crate::store::FileId;

/// The directory of all attachments.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    root: PathBuf,
}

impl Files {
    /// The directory is made if it is not there.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        make_directory(root)?;
        Ok(Self::at(root))
    }

    /// The directory as it is, to be read.
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Opens a file to write to it. It is made if it is not there, and then stays after a crash. One of which nothing is known
    /// to have been flushed may have been made by somebody who has yet to flush its directory, or could not.
    pub(crate) fn writable(&self, file: FileId, is_begun: bool) -> io::Result<File> {
        let path = self.path(file);
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        if is_begun {
            match options.open(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                opened => return opened,
            }
        }
        let folder = path.parent().unwrap_or(&self.root);
        make_directory(folder)?;
        sync_directory(&self.root)?;
        let made = options.create(true).truncate(false).open(&path)?;
        sync_directory(folder)?;
        Ok(made)
    }

    pub(crate) fn readable(&self, file: FileId) -> io::Result<File> {
        File::open(self.path(file))
    }

    /// Deletes a file for good, if there is one.
    pub(super) fn delete(&self, file: FileId) -> io::Result<()> {
        let path = self.path(file);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => sync_directory(path.parent().unwrap_or(&self.root)),
        }
    }

    /// What the file system has left for this process.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let state = rustix::fs::statvfs(&self.root)?;
        Ok(state.f_bavail.saturating_mul(state.f_frsize))
    }

    pub(crate) fn path(&self, file: FileId) -> PathBuf {
        let name = HEXLOWER.encode(&file.0);
        self.root.join(&name[..2]).join(name)
    }
}

/// Makes a directory that stays after a crash, if it is not there.
fn make_directory(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => path.parent().map_or(Ok(()), sync_directory),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

impl From<io::Error> for AttachmentError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Disk(error.to_string()),
        }
    }
}
