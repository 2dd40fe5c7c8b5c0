//! What the process exits with, after BSD's sysexits: a service manager and a script can tell a mistake in the
//! configuration from a disk that is full.

use std::io;
use std::process::{ExitCode, Termination};

use crate::store::StoreError;

/// How the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what was asked.
    Ok = 0,
    /// The command line is wrong.
    Usage = 64,
    /// The input is wrong: what was given to a command, or what is stored.
    Data = 65,
    /// Something that is needed is not there, such as a peer or the address to listen on.
    Unavailable = 69,
    /// A fault in the program.
    Software = 70,
    /// A file cannot be created.
    CannotCreate = 73,
    /// Reading or writing failed.
    Io = 74,
    /// It failed for now; trying again may help.
    TemporaryFailure = 75,
    /// The user that the process runs as may not do this.
    NoPermission = 77,
    /// The configuration is wrong.
    Config = 78,
}

impl Exit {
    /// The code itself.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// For a store that could not be opened or read.
    pub const fn for_store(error: &StoreError) -> Self {
        match error {
            StoreError::Damaged(_) | StoreError::TooNew { .. } => Self::Data,
            _ => Self::Io,
        }
    }

    /// For a file that could not be written.
    pub fn for_creating(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::NoPermission,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Io,
            _ => Self::CannotCreate,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_sysexits() {
        let all = [
            Exit::Ok,
            Exit::Usage,
            Exit::Data,
            Exit::Unavailable,
            Exit::Software,
            Exit::CannotCreate,
            Exit::Io,
            Exit::TemporaryFailure,
            Exit::NoPermission,
            Exit::Config,
        ];
        assert_eq!(all.map(Exit::code), [0, 64, 65, 69, 70, 73, 74, 75, 77, 78]);
    }
}
