//! Makes files and directories, and takes them away again unless told to keep them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::InitError;

/// What was made so far. Dropped without [`Undo::keep`], it removes all of it, and nothing else.
#[derive(Debug, Default)]
pub(super) struct Undo {
    made: Vec<Made>,
}

#[derive(Debug)]
enum Made {
    Dir(PathBuf),
    File(PathBuf),
}

impl Undo {
    /// Makes a directory that only this user can enter. Its parent has to exist.
    pub(super) fn make_dir(&mut self, path: &Path) -> Result<(), InitError> {
        DirBuilder::new().mode(0o700).create(path).map_err(|error| failed(path, error))?;
        self.made.push(Made::Dir(path.to_owned()));
        Ok(())
    }

    /// Makes a file that was not there, durably.
    pub(super) fn make_file(&mut self, path: &Path, content: &[u8], mode: u32) -> Result<(), InitError> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .map_err(|error| failed(path, error))?;
        self.made.push(Made::File(path.to_owned()));
        let written = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| sync_parent(path));
        written.map_err(|error| failed(path, error))
    }

    /// Everything stays.
    pub(super) fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for made in self.made.iter().rev() {
            // What cannot be removed now could be made a moment ago; there is nothing better to do than to go on.
            let _ = match made {
                Made::Dir(path) => fs::remove_dir(path),
                Made::File(path) => fs::remove_file(path),
            };
        }
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn failed(path: &Path, source: io::Error) -> InitError {
    match source.kind() {
        io::ErrorKind::AlreadyExists => InitError::Exists(path.to_owned()),
        _ => InitError::Create { path: path.to_owned(), source },
    }
}
