//! What a command that ends too early leaves for the next: how a file is encrypted that is partly at the relay. It is beside the
//! identity, and for its owner alone.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use postrider_client::SavedUpload;
use postrider_common::clock::{Clock, SystemClock};
use postrider_common::{Address, Timestamp};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// More than a note has.
const MAX_BYTES: usize = 16 << 10;
/// When a note is of no use any more: a relay keeps what no envelope was submitted with for a day.
const OLD: Duration = Duration::from_secs(2 * 86_400);

/// One file's note. While there is one in memory no other command has it: two messages are not to share an attachment.
#[derive(Debug)]
pub(super) struct Note {
    path: PathBuf,
    file: File,
}

impl Note {
    /// The note of a file on its way to a relay for somebody, empty if there was none. None, if it cannot be had.
    pub(super) fn open(identity: &Path, relay: &str, to: &Address, file: &Path) -> Option<Self> {
        let (directory, prefix) = place(identity)?;
        sweep(directory, &prefix);
        let file = fs::canonicalize(file).ok()?;
        let mut digest = Sha256::new_with_prefix((relay.len() as u64).to_be_bytes());
        digest.update(relay);
        // Two recipients are not to be told by what they fetch that it is the same.
        digest.update(to.to_string());
        digest.update([0]);
        digest.update(file.as_os_str().as_bytes());
        let mut name = prefix;
        name.push(HEXLOWER.encode(&digest.finalize()[..16]));
        let note = Self::lock(directory.join(name));
        note.inspect_err(|error| tracing::debug!("how far a file is cannot be kept: {error}")).ok()
    }

    fn lock(path: PathBuf) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        file.try_lock()?;
        Ok(Self { path, file })
    }

    /// What is in it, if that is of any use.
    pub(super) fn read(&self) -> Option<SavedUpload> {
        // With room for all of it, so that no copy is left behind by a growing buffer.
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_BYTES));
        (&self.file).take(MAX_BYTES as u64).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Where that fails there is nothing to go on with, which is no reason to stop.
    pub(super) fn write(&mut self, saved: &SavedUpload) {
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_BYTES));
        let written = serde_json::to_writer(&mut *text, saved).map_err(io::Error::from).and_then(|()| {
            self.file.set_len(0)?;
            self.file.rewind()?;
            self.file.write_all(&text)?;
            self.file.sync_data()
        });
        if let Err(error) = written {
            tracing::debug!("how far a file is cannot be kept: {error}");
            // What is there in part must not pass for all of it.
            let _ = self.file.set_len(0);
        }
    }

    /// Emptied first: another command may have it open already, and wait for nothing.
    pub(super) fn remove(self) {
        let removed = self.file.set_len(0).and_then(|()| fs::remove_file(&self.path));
        if let Err(error) = removed {
            tracing::debug!("the note of a file cannot be removed: {error}");
        }
    }
}

/// The directory of an identity's notes, and what their names begin with.
fn place(identity: &Path) -> Option<(&Path, OsString)> {
    let directory = match identity.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut prefix = OsString::from(".");
    prefix.push(identity.file_name()?);
    prefix.push(".upload-");
    Some((directory, prefix))
}

/// Removes notes that nobody has come back to in time.
fn sweep(directory: &Path, prefix: &OsString) {
    let now = SystemClock.now();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_note = entry.file_name().as_bytes().starts_with(prefix.as_bytes());
        let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let modified = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let is_old = modified.is_some_and(|time| now.since(Timestamp::from_millis(0) + time) > OLD);
        if is_note
            && is_old
            && let Ok(note) = Note::lock(entry.path())
        {
            note.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use postrider_common::MailboxId;

    use super::*;

    fn saved() -> SavedUpload {
        let key = "07".repeat(32);
        let json = format!(
            r#"{{"file":{{"length":10,"modified":null}},"key":"{key}",
            "attachment":{{"id":"mbqwey3emvtgo2djnjvwy3lon5yhc4ttor2xm53ypf5hw7d5pz7q","length":4112,"chunk_length":4194304}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn recipient(n: u8) -> Address {
        Address { mailbox: MailboxId::from_bytes([n; 32]), domain: "b.example".parse().unwrap() }
    }

    fn names(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).filter(|name| name.contains("upload")).collect()
    }

    #[test]
    fn a_note_is_for_one_command_at_a_time_and_for_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let (identity, file) = (directory.path().join("me.identity"), directory.path().join("a file"));
        fs::write(&file, "x").unwrap();
        let (bob, carol) = (recipient(1), recipient(2));
        let open = |relay| Note::open(&identity, relay, &bob, &file);
        let mut note = open("https://a.example").unwrap();
        assert!(note.read().is_none(), "nothing is known yet");
        note.write(&saved());
        note.write(&saved());
        assert!(open("https://a.example").is_none(), "another command has it");
        open("https://b.example").unwrap().remove();
        Note::open(&identity, "https://a.example", &carol, &file).unwrap().remove();
        let mode = fs::metadata(&note.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(note);
        let note = open("https://a.example").unwrap();
        let kept = serde_json::to_value(note.read().unwrap()).unwrap();
        assert_eq!(kept, serde_json::to_value(saved()).unwrap());
        note.remove();
        assert_eq!(names(directory.path()), [""; 0]);
        assert!(
            Note::open(&directory.path().join("no/identity"), "https://a.example", &bob, &file).is_none()
        );
    }

    #[test]
    fn notes_that_nobody_comes_back_to_are_swept_away() {
        let directory = tempfile::tempdir().unwrap();
        let (identity, file) = (directory.path().join("me.identity"), directory.path().join("a file"));
        fs::write(&file, "x").unwrap();
        let bob = recipient(1);
        let open = |relay| Note::open(&identity, relay, &bob, &file).unwrap();
        let age = |note: &Note, days: u64| {
            let then = SystemClock.now().as_secs() - days * 86_400;
            note.file.set_modified(UNIX_EPOCH + Duration::from_secs(then)).unwrap();
        };
        let (old, used, young) =
            (open("https://a.example"), open("https://b.example"), open("https://c.example"));
        age(&old, 3);
        age(&used, 3);
        age(&young, 1);
        drop((old, young));
        open("https://d.example").remove();
        assert_eq!(names(directory.path()).len(), 2, "the old one is gone, unless it is in use");
        drop(used);
    }
}
