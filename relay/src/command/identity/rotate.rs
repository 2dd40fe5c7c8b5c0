//! The next key, in a directory beside the current one.
//!
//! `identity-next/` has its certificate, its key, and since when it is announced. To use it, the two directories change
//! places in one step; the current one's then goes to `identity-previous/`. Whenever that is interrupted, there is a whole
//! identity in `identity/`, and none that was used is ever taken for the next one: since when it is announced stands in the
//! next one's directory only.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use postrider_common::Timestamp;
use postrider_federation::Identity;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

use super::IdentityCommandError;
use crate::config::{Config, pin};

/// Since when the key is announced, in Unix seconds.
const SINCE: &str = "announced-since";

/// A key that is announced and not used yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::command) struct Next {
    /// Its fingerprint.
    pub(in crate::command) pin: [u8; 32],
    /// Since when it is announced.
    pub(in crate::command) since: Timestamp,
}

fn current(config: &Config) -> PathBuf {
    config.data_dir.join("identity")
}

fn next(config: &Config) -> PathBuf {
    config.data_dir.join("identity-next")
}

/// Where the key is that was used before the current one.
pub(super) fn previous(config: &Config) -> PathBuf {
    config.data_dir.join("identity-previous")
}

impl Next {
    /// The next key, if there is one.
    pub(in crate::command) fn of(config: &Config) -> Result<Option<Self>, IdentityCommandError> {
        let directory = next(config);
        let (since, certificate) = (directory.join(SINCE), directory.join("certificate.pem"));
        let text = match fs::read_to_string(&since) {
            // Without it, there is an earlier identity that has not been put away yet, or nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| failed(&since, error))?,
        };
        let odd = |path: &Path, what: &str| failed(path, io::Error::other(what));
        let seconds = text.trim().parse().map_err(|_| odd(&since, "is no time"))?;
        let pem = fs::read(&certificate).map_err(|error| failed(&certificate, error))?;
        let leaf =
            CertificateDer::from_pem_slice(&pem).map_err(|_| odd(&certificate, "is no certificate"))?;
        let pin = pin(&leaf).map_err(|_| odd(&certificate, "is no certificate"))?;
        Ok(Some(Self { pin, since: Timestamp::from_secs(seconds) }))
    }

    /// Makes one, announced from `now` on.
    pub(super) fn make(config: &Config, now: Timestamp) -> Result<Self, IdentityCommandError> {
        if config.federation.identity.key_file != current(config).join("key.pem") {
            return Err(IdentityCommandError::Elsewhere(config.federation.identity.key_file.clone()));
        }
        let directory = next(config);
        make_room(config)?;
        put_away(config)?;
        let path = directory.clone();
        let generated = Identity::generate(&config.domain, now);
        let generated = generated.map_err(|error| IdentityCommandError::Identity { path, error })?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|error| failed(&directory, error))?;
        write(&directory.join("certificate.pem"), generated.certificate_pem.as_bytes(), 0o644)?;
        write(&directory.join("key.pem"), generated.key_pem.as_bytes(), 0o600)?;
        // The last one, when the others are there whatever happens: without it they are nothing.
        sync(&directory)?;
        write(&directory.join(SINCE), format!("{}\n", now.as_secs()).as_bytes(), 0o644)?;
        sync(&directory)?;
        sync(&config.data_dir)?;
        Self::of(config)?.ok_or_else(|| failed(&directory, io::Error::other("is not there")))
    }

    /// Puts it in the current one's place.
    pub(super) fn use_it(&self, config: &Config) -> Result<(), IdentityCommandError> {
        self.is_whole(config)?;
        STEPS.iter().try_for_each(|step| step(config))
    }

    /// What is put in the current one's place has to be an identity.
    fn is_whole(&self, config: &Config) -> Result<(), IdentityCommandError> {
        let directory = next(config);
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read(&path).map(Zeroizing::new).map_err(|error| failed(&path, error))
        };
        let (certificate, key) = (read("certificate.pem")?, read("key.pem")?);
        let identity = Identity::from_pem(&config.domain, &certificate, &key);
        let path = directory.clone();
        let identity = identity.map_err(|error| IdentityCommandError::Identity { path, error })?;
        if *identity.pin().as_bytes() == self.pin {
            return Ok(());
        }
        Err(failed(&directory, io::Error::other("has another key than a moment ago")))
    }
}

/// One of the things that have to be done for that.
type Step = fn(&Config) -> Result<(), IdentityCommandError>;

/// How the next one comes into the current one's place. After each step, and in the middle of it, the machine may lose its
/// power.
const STEPS: [Step; 5] = [
    // From an earlier change that was interrupted: it would go with the current one to the next one's place.
    |config| forget_announcement(&current(config)),
    exchange,
    |config| forget_announcement(&current(config)),
    make_room,
    put_away,
];

fn exchange(config: &Config) -> Result<(), IdentityCommandError> {
    let (current, next) = (current(config), next(config));
    renameat_with(CWD, &next, CWD, &current, RenameFlags::EXCHANGE)
        .map_err(|error| failed(&current, error.into()))?;
    sync(&config.data_dir)
}

/// Whether what is in the next one's place is an earlier identity.
fn has_earlier(config: &Config) -> bool {
    let next = next(config);
    next.join("key.pem").exists() && !next.join(SINCE).exists()
}

/// Makes room for an earlier identity, if there is one, where those are.
fn make_room(config: &Config) -> Result<(), IdentityCommandError> {
    let previous = previous(config);
    if !has_earlier(config) {
        return Ok(());
    }
    match fs::remove_dir_all(&previous) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&previous, error)),
        _ => Ok(()),
    }
}

/// Moves it there.
fn put_away(config: &Config) -> Result<(), IdentityCommandError> {
    let (next, previous) = (next(config), previous(config));
    if !has_earlier(config) {
        return Ok(());
    }
    fs::rename(&next, &previous).map_err(|error| failed(&previous, error))?;
    sync(&config.data_dir)
}

/// Takes the announcement away from an identity that is not the next one any more, however it came to have it.
fn forget_announcement(directory: &Path) -> Result<(), IdentityCommandError> {
    let since = directory.join(SINCE);
    match fs::remove_file(&since) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed.map_err(|error| failed(&since, error))?,
    }
    sync(directory)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), IdentityCommandError> {
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path);
    let written = options.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|error| failed(path, error))
}

fn sync(directory: &Path) -> Result<(), IdentityCommandError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(|error| failed(directory, error))
}

fn failed(path: &Path, error: io::Error) -> IdentityCommandError {
    IdentityCommandError::File { path: path.to_owned(), error }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Does the first of the steps, as if the machine had lost its power after them.
    pub(in crate::command::identity) fn interrupted(config: &Config, after: usize) {
        STEPS[..after].iter().try_for_each(|step| step(config)).unwrap();
    }

    pub(in crate::command::identity) const COUNT: usize = STEPS.len();
}
