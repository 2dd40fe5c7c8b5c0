//! The file that keeps an identity: small JSON, readable by its owner only.
//!
//! ```json
//! {"postrider-identity": 1, "domain": "example.org", "mailbox_key": "…", "message_key": "…", "device": "…"}
//! ```
//! `mailbox_key` is the Ed25519 private key and `message_key` the X-Wing seed, both as 64 lower-case hexadecimal
//! digits. Unknown fields are ignored.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use postrider_common::secret::{Secret, random_bytes};
use postrider_common::{DeviceId, Domain};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::Identity;

const VERSION: u32 = 1;
/// More than any identity file has.
const MAX_BYTES: usize = 16 << 10;

/// Why an identity could not be saved or loaded. None of it changes by waiting; somebody has to look at the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file of that name exists; keys are never overwritten.
    #[error("{path} exists and is not overwritten")]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// The keys may have been read by others.
    #[error("{path} can be read by others (mode {mode:04o}); make it yours alone: chmod 600 {path}")]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file holds no identity.
    #[error("{path} is not an identity file: {reason}")]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Contents {
    #[serde(rename = "postrider-identity")]
    version: u32,
    #[zeroize(skip)]
    domain: Domain,
    mailbox_key: String,
    message_key: String,
    #[zeroize(skip)]
    device: DeviceId,
}

impl Identity {
    /// Writes the keys to a new file that only its owner can read.
    ///
    /// The file appears whole or not at all, and is on stable storage when this returns. One that exists is left
    /// as it is.
    ///
    /// ```no_run
    /// # use postrider_client::{Identity, IdentityError};
    /// # fn example() -> Result<Identity, Box<dyn std::error::Error>> {
    /// let me = match Identity::load("me.identity") {
    ///     Err(IdentityError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
    ///         let new = Identity::generate("example.org".parse()?);
    ///         new.save("me.identity")?;
    ///         new
    ///     }
    ///     loaded => loaded?,
    /// };
    /// # Ok(me)
    /// # }
    /// ```
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), IdentityError> {
        let path = path.as_ref();
        let contents = Contents {
            version: VERSION,
            domain: self.domain().clone(),
            mailbox_key: HEXLOWER.encode(Zeroizing::new(self.0.signing.to_bytes()).as_slice()),
            message_key: HEXLOWER.encode(self.0.seed.expose()),
            device: *self.device(),
        };
        // With room for all of it, so that no copy is left behind by a growing buffer.
        let mut text = Zeroizing::new(Vec::with_capacity(1024));
        serde_json::to_writer_pretty(&mut *text, &contents)
            .map_err(|error| failed("write", path)(error.into()))?;
        text.push(b'\n');
        write_new(path, &text)
    }

    /// Reads the keys back, unless others can read them too.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, IdentityError> {
        let path = path.as_ref();
        let file = File::open(path).map_err(failed("open", path))?;
        refuse_exposed(&file, path)?;
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1));
        let limit = MAX_BYTES as u64 + 1;
        file.take(limit).read_to_end(&mut text).map_err(failed("read", path))?;
        parse(&text).map_err(|reason| IdentityError::Format { path: path.into(), reason })
    }
}

fn parse(text: &[u8]) -> Result<Identity, String> {
    #[derive(Deserialize)]
    struct Version {
        #[serde(rename = "postrider-identity")]
        version: u32,
    }
    if text.len() > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    // The position, not the text that is there: that could be a key.
    let describe = |error: serde_json::Error| {
        format!("line {}, column {} is not as expected", error.line(), error.column())
    };
    let Version { version } = serde_json::from_slice(text).map_err(describe)?;
    if version != VERSION {
        return Err(format!("it has version {version}, and version {VERSION} is supported"));
    }
    let contents: Contents = serde_json::from_slice(text).map_err(describe)?;
    let signing = key(&contents.mailbox_key).ok_or("mailbox_key is not 64 lower-case hexadecimal digits")?;
    let seed = key(&contents.message_key).ok_or("message_key is not 64 lower-case hexadecimal digits")?;
    Ok(Identity::from_parts(contents.domain.clone(), &signing, seed, contents.device))
}

fn key(text: &str) -> Option<Secret<32>> {
    let bytes = Zeroizing::new(HEXLOWER.decode(text.as_bytes()).ok()?);
    bytes.as_array().map(|bytes| Secret::new(*bytes))
}

/// Writes beside `path`, makes that durable, then gives it its name. A link rather than a rename, because a rename
/// would replace a file that somebody made in the meantime.
fn write_new(path: &Path, text: &[u8]) -> Result<(), IdentityError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let draft = Draft(directory.join(format!(".postrider-{}", HEXLOWER.encode(&random_bytes::<8>()))));
    let mut file = create_private(&draft.0).map_err(failed("create a file beside", path))?;
    file.write_all(text).and_then(|()| file.sync_all()).map_err(failed("write", path))?;
    fs::hard_link(&draft.0, path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => IdentityError::Exists { path: path.into() },
        _ => failed("create", path)(error),
    })?;
    drop(draft);
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("write the directory of", path))
}

/// The file under its first name, which goes away however the writing ends.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        // It may not have been made yet; and there is nothing better to do about one that cannot be removed.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

#[cfg(unix)]
fn refuse_exposed(file: &File, path: &Path) -> Result<(), IdentityError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = file.metadata().map_err(failed("look at", path))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(IdentityError::Exposed { path: path.into(), mode }) }
}

/// Elsewhere a file takes its permissions from the user's directory.
#[cfg(not(unix))]
fn refuse_exposed(_file: &File, _path: &Path) -> Result<(), IdentityError> {
    Ok(())
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    move |source| IdentityError::Io { action, path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn identity() -> Identity {
        Identity::generate("example.org".parse().unwrap())
    }

    #[test]
    fn comes_back_as_it_was_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("me.identity");
        let saved = identity();
        saved.save(&path).unwrap();
        let loaded = Identity::load(&path).unwrap();
        assert_eq!((loaded.card(), loaded.device()), (saved.card(), saved.device()));
        assert_eq!(loaded.sign(b"x"), saved.sign(b"x"));
        assert_eq!(loaded.seed(), saved.seed());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn overwrites_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("me.identity");
        fs::write(&path, "precious").unwrap();
        let error = identity().save(&path).unwrap_err();
        assert!(matches!(error, IdentityError::Exists { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn refuses_a_file_that_others_can_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("me.identity");
        identity().save(&path).unwrap();
        for mode in [0o640, 0o604, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Identity::load(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn says_what_is_wrong_without_showing_a_key() {
        let text = |version: u32, key: &str| {
            let device = DeviceId::from_bytes([1; 32]);
            format!(
                "{{\"postrider-identity\":{version},\"domain\":\"example.org\",\"mailbox_key\":\"{key}\",\
                 \"message_key\":\"{key}\",\"device\":\"{device}\"}}"
            )
        };
        assert!(parse(text(1, &"ab".repeat(32)).as_bytes()).is_ok());
        for (text, expected) in [
            (text(2, ""), "it has version 2, and version 1 is supported"),
            (text(1, "abcd"), "mailbox_key is not 64 lower-case hexadecimal digits"),
            ("{\"abcd\"".into(), "line 1, column 7 is not as expected"),
            (" ".repeat(MAX_BYTES + 1), "it has more than 16384 bytes"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err(), expected);
        }
    }
}
