//! What is kept of an ACME server: `data/acme/<server>/`.
//!
//! `account.json` is the account with its key, `certificate.pem` the newest certificate with the key it is for, `state.json` when the
//! server may be asked again. Each is replaced as a whole and is on the disk before anything is built on it, so that a
//! relay that starts over and over neither loses an account nor asks for another certificate each time.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use instant_acme::AccountCredentials;
use postrider_common::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::config::{AcmeConfig, Credentials};
use crate::durable;

/// The directory of one server.
#[derive(Debug, Clone)]
pub(super) struct Files(PathBuf);

/// An account, as far as it is known here.
#[derive(Serialize, Deserialize)]
pub(super) struct Account {
    /// The address that the server was told.
    pub(super) contact: Option<String>,
    /// With its key.
    pub(super) credentials: AccountCredentials,
}

/// When the server may be asked, and for what. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// What was asked for: another wish starts afresh.
    pub(super) wish: String,
    /// When a certificate was issued last.
    pub(super) issued_at: u64,
    /// Failures in a row,
    pub(super) failures: u32,
    /// and what the last of them was.
    pub(super) failure: Option<String>,
    /// Nothing is asked for before, unless somebody is impatient,
    pub(super) not_before: u64,
    /// nor before this, which the server has asked for.
    pub(super) asked_until: u64,
    /// When the certificate is to be renewed.
    pub(super) renewal: Option<Renewal>,
}

/// When a certificate is to be renewed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Renewal {
    /// Which certificate: when its life began and ends.
    pub(super) life: (u64, u64),
    /// The window that the server suggests, if it does.
    pub(super) window: Option<(u64, u64)>,
    /// When to do it.
    pub(super) at: u64,
    /// When to ask the server about it again.
    pub(super) ask_at: u64,
}

/// A file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub struct FileError {
    path: PathBuf,
    error: io::Error,
}

/// The newest certificate that came from the server, with its key; `None` if there is none yet.
pub fn stored(data_dir: &Path, acme: &AcmeConfig) -> Result<Option<Credentials>, FileError> {
    Files::of(data_dir, acme).certificate()
}

impl Files {
    /// Those of a configuration's server. They need not be there.
    pub(super) fn of(data_dir: &Path, acme: &AcmeConfig) -> Self {
        let url = acme.directory.to_string();
        let name = url
            .trim_start_matches("https://")
            .replace(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-')), "_");
        Self(data_dir.join("acme").join(name))
    }

    pub(super) fn account(&self) -> Result<Option<Account>, FileError> {
        self.json("account.json")
    }

    pub(super) fn keep_account(&self, account: &Account) -> Result<(), FileError> {
        self.keep_json("account.json", account)
    }

    /// Puts an account that the server does not know any more aside.
    pub(super) fn forget_account(&self) -> Result<(), FileError> {
        let (path, aside) = (self.0.join("account.json"), self.0.join("account.unknown.json"));
        fs::rename(&path, aside).map_err(|error| FileError { path, error })
    }

    pub(super) fn state(&self) -> Result<State, FileError> {
        Ok(self.json("state.json")?.unwrap_or_default())
    }

    pub(super) fn keep_state(&self, state: &State) -> Result<(), FileError> {
        self.keep_json("state.json", state)
    }

    pub(super) fn certificate(&self) -> Result<Option<Credentials>, FileError> {
        let path = self.certificate_path();
        let Some(pem) = read(&path)? else { return Ok(None) };
        let read = Credentials::of_pem(&path, pem);
        read.map(Some).map_err(|error| FileError { path, error: io::Error::other(error) })
    }

    pub(super) fn keep_certificate(&self, certificate: &Credentials) -> Result<(), FileError> {
        self.keep("certificate.pem", &certificate.key_pem)
    }

    pub(super) fn certificate_path(&self) -> PathBuf {
        self.0.join("certificate.pem")
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, FileError> {
        let path = self.0.join(name);
        let Some(text) = read(&path)? else { return Ok(None) };
        let parsed = serde_json::from_slice(&text);
        // The parser's own words may quote what is in the file.
        parsed.map(Some).map_err(|error| FileError {
            path,
            error: io::Error::other(format!("is not what it should be, in line {}", error.line())),
        })
    }

    fn keep_json(&self, name: &str, value: &impl Serialize) -> Result<(), FileError> {
        let text = serde_json::to_vec_pretty(value).map(Zeroizing::new);
        let text = text.map_err(|error| FileError { path: self.0.join(name), error: error.into() })?;
        self.keep(name, &text)
    }

    fn keep(&self, name: &str, content: &[u8]) -> Result<(), FileError> {
        let path = self.0.join(name);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.and_then(|()| durable::replace(&path, content)).map_err(|error| FileError { path, error })
    }
}

impl State {
    /// When the server may be asked for a certificate.
    pub(super) fn earliest(&self, now: Timestamp) -> Timestamp {
        super::schedule::earliest(Timestamp::from_secs(self.not_before.max(self.asked_until)), now)
    }
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(Zeroizing::new(content))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError { path: path.to_owned(), error }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn acme(directory: &str) -> AcmeConfig {
        AcmeConfig {
            names: vec!["relay.a.example".parse().unwrap()],
            directory: directory.parse().unwrap(),
            contact: None,
            roots: None,
            is_for_relays: false,
        }
    }

    #[test]
    fn each_server_has_its_own_and_nobody_else_reads_them() {
        let data = tempfile::tempdir().unwrap();
        let [one, other] =
            ["https://ca.example/acme/one/directory", "https://ca.example:8443/acme/directory"]
                .map(|url| Files::of(data.path(), &acme(url)));
        assert_eq!(one.0, data.path().join("acme/ca.example_acme_one_directory"));
        assert_eq!(other.0, data.path().join("acme/ca.example_8443_acme_directory"));
        let state = State { wish: "relay.a.example".into(), failures: 3, not_before: 7, ..State::default() };
        one.keep_state(&state).unwrap();
        assert_eq!((one.state().unwrap(), other.state().unwrap()), (state, State::default()));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&one.0), mode(&one.0.join("state.json"))), (0o700, 0o600));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_what_is_in_it() {
        let data = tempfile::tempdir().unwrap();
        let files = Files::of(data.path(), &acme("https://ca.example/directory"));
        files.keep("account.json", b"{\n\"credentials\": \"a secret\"}").unwrap();
        files.keep("certificate.pem", b"a secret").unwrap();
        let said = [files.account().err().unwrap().to_string(), files.certificate().unwrap_err().to_string()];
        assert!(said[0].ends_with("account.json: is not what it should be, in line 2"), "{}", said[0]);
        assert!(said[1].ends_with("certificate.pem: no private key in PEM is in it"), "{}", said[1]);
    }
}
