//! `postrider store export` and `import`: the files and the words around them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::bar::Bar;
use super::{ExportArgs, ImportArgs, StoreCommandError};
use crate::store::{self, Moved, Unreadables};

/// Stands for standard input or output.
const STANDARD: &str = "-";

pub(super) fn export(args: &ExportArgs, out: &mut dyn Write) -> Result<(), StoreCommandError> {
    let path = args.place.existing_store()?;
    let (scratch, file) = (args.scratch.directory(), &args.file);
    let bar = Bar::default();
    let failed = |error| StoreCommandError::of(error, &path, file);
    let unreadables = if args.leave_out_unreadable { Unreadables::LeaveOut } else { Unreadables::Refuse };
    if *file == *Path::new(STANDARD) {
        if io::stdout().is_terminal() {
            return Err(StoreCommandError::Terminal);
        }
        let exported = store::export(&path, &scratch, out, unreadables, &bar).map_err(failed)?;
        return is_all(exported, path);
    }
    let of_file = |error| StoreCommandError::File { file: file.clone(), error };
    let mut options = OpenOptions::new();
    let written = options.write(true).create_new(true).mode(0o600).open(file).map_err(|error| {
        let error = match error.kind() {
            io::ErrorKind::AlreadyExists => {
                io::Error::new(error.kind(), "it exists already and is left as it is")
            }
            _ => error,
        };
        StoreCommandError::Create { file: file.clone(), error }
    })?;
    let exported = store::export(&path, &scratch, &written, unreadables, &bar)
        .map_err(failed)
        .and_then(|moved| written.sync_all().and_then(|()| sync_parent(file)).map(|()| moved).map_err(of_file))
        // Half an export would be recognised as such; better is none.
        .inspect_err(|_| drop(fs::remove_file(file)))?;
    drop(bar);
    told("exported", exported, file, out)?;
    is_all(exported, path)
}

fn is_all(exported: Moved, path: PathBuf) -> Result<(), StoreCommandError> {
    match exported {
        Moved { missing: 0, unreadable: 0, .. } => Ok(()),
        Moved { missing, unreadable, .. } => Err(StoreCommandError::LeftOut { path, unreadable, missing }),
    }
}

pub(super) fn import(
    args: &ImportArgs,
    input: &mut dyn Read,
    out: &mut dyn Write,
) -> Result<(), StoreCommandError> {
    let path = args.place.store()?;
    let file = &args.file;
    let bar = Bar::default();
    let imported = if *file == *Path::new(STANDARD) {
        store::import(&path, input, 0, &bar)
    } else {
        let of_file = |error| StoreCommandError::File { file: file.clone(), error };
        let read = File::open(file).map_err(of_file)?;
        let bytes = read.metadata().map_err(of_file)?.len();
        store::import(&path, &read, bytes, &bar)
    };
    let imported = imported.map_err(|error| StoreCommandError::of(error, &path, file))?;
    drop(bar);
    told("imported", imported, &path, out)
}

fn told(what: &str, moved: Moved, to: &Path, out: &mut dyn Write) -> Result<(), StoreCommandError> {
    let Moved { records, bytes, attachments, .. } = moved;
    writeln!(
        out,
        "{}: {what} {records} records, {bytes} bytes, with {attachments} attachments",
        to.display()
    )?;
    Ok(())
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
