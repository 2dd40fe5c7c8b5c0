//! `postrider store`: the store of a relay that is stopped.

mod bar;
mod check;
mod transfer;

#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::place::Place;
use crate::config::ConfigErrors;
use crate::exit::Exit;
use crate::store::{StoreError, TransferError};

/// What to do with a store.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Verify every file and every record, those of attachments too, and report what is wrong.
    ///
    /// Nothing is changed, repaired or deleted; what the last crash left is only mentioned. The relay has to be stopped.
    /// A part of the store, its base, cannot be read without writing, so a copy of it is made and deleted again: about
    /// 200 bytes for each envelope and each mark, see `--scratch`.
    ///
    /// Exit code 65 if anything is wrong: one line for each kind of problem, with the first few places.
    Check(CheckArgs),
    /// Write everything in the store into one file, to back it up or to move it.
    ///
    /// Envelopes, queue, tracking, and the marks by which what comes again is recognised, with their key: treat the
    /// file like the store itself. It is made readable for its owner only. The relay's identity, its configuration and
    /// the key of its sessions are not in it. The store is not changed, and the relay has to be stopped; a copy of
    /// the base is made as for `check`.
    Export(ExportArgs),
    /// Make a store out of what `export` wrote.
    ///
    /// Only where there is none yet. The file is verified as it is read; the store appears when all of it is there and on
    /// the disk, or not at all.
    Import(ImportArgs),
}

/// For `store check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    place: Place,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
    /// Show the keys of records in full. They name mailboxes, devices and domains.
    #[arg(long)]
    verbose: bool,
    #[command(flatten)]
    scratch: Scratch,
}

/// For `store export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    scratch: Scratch,
    /// Go on where an envelope or an attachment cannot be read, and tell at the end how many were left out.
    ///
    /// Exit code 65 then; the file can be imported all the same, and `check` of what that makes tells what is missing.
    #[arg(long)]
    leave_out_unreadable: bool,
    /// The file to write, which must not exist; `-` for standard output.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// For `store import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    #[command(flatten)]
    place: Place,
    /// The file to read; `-` for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Where a copy of the base is made.
#[derive(Debug, Args)]
pub struct Scratch {
    /// Where to make the copy of the base [default: the system's temporary directory].
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreCommandError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// There is none.
    #[error("{} is no store", .0.display())]
    NoStore(PathBuf),
    /// It cannot be read, or is in use.
    #[error("{}: {error}", path.display())]
    Store {
        /// Where it is.
        path: PathBuf,
        /// Why.
        error: StoreError,
    },
    /// It was read, and this is wrong with it.
    #[error("{} has problems: {kinds} kinds of them", path.display())]
    Problems {
        /// Where it is.
        path: PathBuf,
        /// How many.
        kinds: usize,
    },
    /// All but this was exported.
    #[error("{}: left out since they cannot be read: {unreadable} envelopes, {missing} attachments", path.display())]
    LeftOut {
        /// Where the store is.
        path: PathBuf,
        /// How many envelopes.
        unreadable: u64,
        /// How many attachments.
        missing: u64,
    },
    /// It could not be written into a file, or read from one; or not all of it can be read.
    #[error("{}: {error}", file.display())]
    Transfer {
        /// Which file, or which store.
        file: PathBuf,
        /// Why.
        error: TransferError,
    },
    /// The file of an export cannot be made.
    #[error("{}: {error}", file.display())]
    Create {
        /// Which file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file of an export or an import.
    #[error("{}: {error}", file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// An export is no text.
    #[error("an export is not for a terminal: name a file, or send standard output to one")]
    Terminal,
    /// The result could not be told.
    #[error("the result cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl StoreCommandError {
    /// It is told of the store if that is what failed, and of the file otherwise.
    fn of(error: TransferError, store: &Path, file: &Path) -> Self {
        match error {
            TransferError::Store(error) => Self::Store { path: store.to_owned(), error },
            error @ TransferError::Unreadable(_) => Self::Transfer { file: store.to_owned(), error },
            error => Self::Transfer { file: file.to_owned(), error },
        }
    }

    /// What the process exits with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(errors) => errors.exit(),
            Self::NoStore(_) => Exit::Unavailable,
            Self::Problems { .. } | Self::LeftOut { .. } => Exit::Data,
            Self::Terminal => Exit::Usage,
            Self::Store { error, .. } | Self::Transfer { error: TransferError::Store(error), .. } => {
                Exit::for_store(error)
            }
            Self::Transfer { error, .. } => match error {
                TransferError::Exists(_) => Exit::CannotCreate,
                TransferError::Unreadable(error) => Exit::for_store(error),
                TransferError::Store(_) | TransferError::Write(_) | TransferError::Read(_) => Exit::Io,
                TransferError::NoExport
                | TransferError::TooNew { .. }
                | TransferError::Damaged { .. }
                | TransferError::CutOff { .. } => Exit::Data,
            },
            Self::Create { error, .. } => Exit::for_creating(error),
            Self::File { error, .. } => match error.kind() {
                io::ErrorKind::NotFound => Exit::Unavailable,
                _ => Exit::for_creating(error),
            },
            Self::Output(_) => Exit::Io,
        }
    }
}

/// Carries a command out. Its result goes to `out`, and `-` stands for `input` or `out`.
pub fn run(
    command: &StoreCommand,
    input: &mut dyn Read,
    out: &mut dyn Write,
) -> Result<(), StoreCommandError> {
    match command {
        StoreCommand::Check(args) => check::run(args, out),
        StoreCommand::Export(args) => transfer::export(args, out),
        StoreCommand::Import(args) => transfer::import(args, input, out),
    }
}

impl Place {
    /// The directory of the store, whether it is there or not.
    fn store(&self) -> Result<PathBuf, StoreCommandError> {
        Ok(self.data_dir()?.join("store"))
    }

    /// The same, if there is a store and all of it may be read.
    fn existing_store(&self) -> Result<PathBuf, StoreCommandError> {
        let store = self.store()?;
        match std::fs::read_dir(&store).map(|mut found| found.next().is_some()) {
            Ok(true) => readable(&store).map(|()| store),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(StoreCommandError::File { file: store, error })
            }
            _ => Err(StoreCommandError::NoStore(store)),
        }
    }
}

/// That every file may be read: otherwise it is told which one, and that nothing is wrong with the disk.
fn readable(directory: &Path) -> Result<(), StoreCommandError> {
    let told = |file: &Path, error: io::Error| match error.kind() {
        // A relay that has it open deletes files, and the lock says that it has.
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(StoreCommandError::File { file: file.to_owned(), error }),
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return told(directory, error),
    };
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(error) => return told(directory, error),
        };
        if path.is_dir() {
            readable(&path)?;
        } else if let Err(error) = std::fs::File::open(&path) {
            told(&path, error)?;
        }
    }
    Ok(())
}

impl Scratch {
    fn directory(&self) -> PathBuf {
        self.scratch.clone().unwrap_or_else(std::env::temp_dir)
    }
}
