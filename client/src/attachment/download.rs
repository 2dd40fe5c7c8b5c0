//! A file is fetched from a relay.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::chunks::{TAG_BYTES, decrypt};
use super::{AttachedFile, AttachmentError, MAX_NAME_BYTES, Progress, at, blocking, cut, patiently, short};
use crate::Relay;

/// What is after a dot in a name and longer is no extension.
const MAX_EXTENSION: usize = 16;

impl AttachedFile {
    /// Fetches the file into a directory, under its own name or one like it, and never over another file. What was
    /// fetched before an interruption is not fetched again. It is on stable storage when this succeeds. Of a file that is
    /// [lost](AttachmentError::is_lost) nothing stays in the directory.
    ///
    /// ```no_run
    /// # use postrider_client::{AttachmentError, Opened, Session};
    /// # async fn example(session: Session, opened: Opened) -> Result<(), AttachmentError> {
    /// for file in &opened.files {
    ///     match file.save(session.relay(), "downloads", &mut |_, _| {}).await {
    ///         Ok(path) => println!("{} is at {}", file.name, path.display()),
    ///         Err(error) if error.is_lost() => println!("{} is lost: {error}", file.name),
    ///         Err(error) => return Err(error),
    ///     }
    /// }
    /// // Now the entry may be acknowledged.
    /// # Ok(())
    /// # }
    /// ```
    pub async fn save(
        &self,
        relay: &Relay,
        directory: impl Into<PathBuf>,
        progress: Progress<'_>,
    ) -> Result<PathBuf, AttachmentError> {
        let directory = directory.into();
        let unfinished = directory.join(format!(".{}.part", &self.attachment.id.to_string()[..26]));
        let fetched = self.fetch(relay, &unfinished, progress).await;
        let name = safe_name(&self.name);
        match fetched {
            Ok(file) => {
                let length = self.length;
                blocking(move || finish(&file, length, &unfinished, &directory, &name, hard_link)).await
            }
            Err(error) => {
                if error.is_lost() {
                    // There may be none; and of one that cannot be removed there is nothing better to say.
                    let _ = blocking(move || fs::remove_file(&unfinished).map_err(at(&unfinished))).await;
                }
                Err(error)
            }
        }
    }

    /// Fetches what is missing of it into a file that has not got its name yet.
    async fn fetch(
        &self,
        relay: &Relay,
        unfinished: &Path,
        progress: Progress<'_>,
    ) -> Result<File, AttachmentError> {
        let piece = self.piece().ok_or(AttachmentError::Damaged)?;
        let path = unfinished.to_owned();
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let opened = blocking(move || {
            let file = options.open(&path).map_err(at(&path))?;
            let has = file.metadata().map_err(at(&path))?.len();
            Ok((file, has))
        });
        let (mut file, has) = opened.await?;
        // A chunk that was not written whole is fetched again.
        let first = u32::try_from(has / piece).unwrap_or(0).min(self.attachment.chunks() - 1);
        for number in first..self.attachment.chunks() {
            let chunk = patiently(relay, || relay.chunk(&self.attachment, number)).await?;
            let (key, is_last) = (self.key.clone(), number + 1 == self.attachment.chunks());
            let (start, length, path) = (u64::from(number) * piece, self.length, unfinished.to_owned());
            file = blocking(move || {
                let plain = decrypt(&key, number, is_last, chunk)?;
                let wanted = usize::try_from(length.saturating_sub(start)).unwrap_or(usize::MAX);
                let plain = &plain[..plain.len().min(wanted)];
                file.write_all_at(plain, start).map_err(at(&path))?;
                Ok(file)
            })
            .await?;
            progress((start + piece).min(self.length), self.length);
        }
        Ok(file)
    }

    /// Bytes of the file in a chunk. `None`: what its sender says of it cannot be so.
    fn piece(&self) -> Option<u64> {
        let piece = self.attachment.chunk_length.checked_sub(TAG_BYTES).filter(|piece| *piece > 0)?;
        let tags = u64::from(TAG_BYTES) * u64::from(self.attachment.chunks());
        let content = self.attachment.length.checked_sub(tags)?;
        (self.attachment.is_possible() && self.length <= content).then_some(piece.into())
    }
}

/// Gives a file a second name, unless that is taken.
type Link = fn(&Path, &Path) -> io::Result<()>;

fn hard_link(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)
}

/// Gives the file its name, or one like it if there is a file with that, and makes it stay.
fn finish(
    file: &File,
    length: u64,
    unfinished: &Path,
    directory: &Path,
    name: &str,
    link: Link,
) -> Result<PathBuf, AttachmentError> {
    file.set_len(length).and_then(|()| file.sync_all()).map_err(at(unfinished))?;
    let mut number = 1_u32;
    loop {
        let path = directory.join(numbered(name, number));
        match rename_to_new(unfinished, &path, link) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(at(&path)(error)),
            Ok(()) => return settle(directory).map(|()| path).map_err(at(directory)),
        }
    }
}

/// Never over another file: a link is not made then. Where the file system knows no links, like FAT and some that are shared in
/// a network, the name is taken with an empty file, and what is renamed takes the place of that.
fn rename_to_new(from: &Path, to: &Path, link: Link) -> io::Result<()> {
    match link(from, to) {
        Ok(()) => return fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
        // How it is said that there are none differs. What has another reason comes up once more below.
        Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).open(to)?;
    fs::rename(from, to).inspect_err(|_| {
        // It is ours, and empty.
        let _ = fs::remove_file(to);
    })
}

/// Makes the names in a directory stay, where the file system has a way to.
fn settle(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        settled => settled,
    }
}

/// The name for the first, second… file that is called so, no longer than names may be.
fn numbered(name: &str, number: u32) -> String {
    if number == 1 {
        return name.to_owned();
    }
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() && extension.len() <= MAX_EXTENSION => {
            (stem, format!(".{extension}"))
        }
        _ => (name, String::new()),
    };
    let end = format!(" ({number}){extension}");
    format!("{}{end}", cut(stem, MAX_NAME_BYTES - end.len()))
}

/// A name for a file in a directory of ours, as like the sender's as may be.
fn safe_name(name: &str) -> String {
    let harmless = |c: char| if c.is_control() || matches!(c, '/' | '\\' | ':') { '_' } else { c };
    let name: String = short(name).chars().map(harmless).collect();
    // Neither this directory nor the one above, and nothing that is hidden.
    let name = name.trim_start_matches('.').trim();
    if name.is_empty() { "attachment".into() } else { name.into() }
}

#[cfg(test)]
mod tests {
    use postrider_common::secret::Secret;
    use postrider_common::{Attachment, AttachmentId};

    use super::*;

    #[test]
    fn what_a_sender_says_of_a_file_is_believed_only_if_it_can_be_so() {
        let file = |bytes, chunk_length, length| AttachedFile {
            name: "x".into(),
            length,
            attachment: Attachment { id: AttachmentId::from_bytes([1; 32]), length: bytes, chunk_length },
            key: Secret::new([7; 32]),
        };
        assert_eq!(file(4096 + 16, 4 << 20, 4096).piece(), Some((4 << 20) - 16));
        assert_eq!(file(250, 116, 250 - 48).piece(), Some(100));
        for (bytes, chunk_length, length) in
            [(0, 116, 0), (250, 16, 0), (250, 0, 0), (250, 116, 250 - 47), (10, 116, 0), (250, u32::MAX, 1)]
        {
            assert_eq!(file(bytes, chunk_length, length).piece(), None, "{bytes} {chunk_length} {length}");
        }
    }

    /// Saves under a name, with links as `link` makes them.
    fn saved(directory: &Path, name: &str, link: Link) -> Vec<String> {
        let unfinished = directory.join(".x.part");
        fs::write(&unfinished, "content and more").unwrap();
        let file = OpenOptions::new().write(true).open(&unfinished).unwrap();
        let path = finish(&file, 7, &unfinished, directory, name, link).unwrap();
        assert_eq!(fs::read(path).unwrap(), b"content");
        let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn no_file_is_overwritten_whether_or_not_there_are_links() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        fs::write(directory.join("a.txt"), "precious").unwrap();
        assert_eq!(saved(directory, "a.txt", hard_link), ["a (2).txt", "a.txt"]);
        let third = saved(directory, "a.txt", |_, _| Err(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(third, ["a (2).txt", "a (3).txt", "a.txt"]);
        let other = saved(directory, "b", |_, _| Err(io::ErrorKind::Unsupported.into()));
        assert_eq!(other, ["a (2).txt", "a (3).txt", "a.txt", "b"]);
        assert_eq!(fs::read(directory.join("a.txt")).unwrap(), b"precious");
        assert_eq!(fs::read(directory.join("a (2).txt")).unwrap(), b"content");
    }

    #[test]
    fn what_cannot_be_named_leaves_nothing_empty_behind() {
        let directory = tempfile::tempdir().unwrap();
        let to = directory.path().join("a.txt");
        let missing = directory.path().join("missing");
        rename_to_new(&missing, &to, |_, _| Err(io::ErrorKind::Unsupported.into())).unwrap_err();
        assert!(!to.exists());
    }

    #[test]
    fn a_number_fits_into_the_longest_name() {
        assert_eq!(numbered("a.tar.gz", 2), "a.tar (2).gz");
        assert_eq!(numbered(".gz", 2), ".gz (2)");
        let long = "ü".repeat(125) + ".txt";
        assert_eq!(numbered(&long, 10), "ü".repeat(123) + " (10).txt");
        assert_eq!(numbered(&format!("a.{}", "x".repeat(253)), 2).len(), 255);
    }

    #[test]
    fn a_senders_name_leads_nowhere() {
        for (name, safe) in [
            ("holiday.jpg", "holiday.jpg"),
            ("../../etc/passwd", "_.._etc_passwd"),
            ("..", "attachment"),
            ("", "attachment"),
            (".bashrc", "bashrc"),
            ("a\nb\u{1b}[31m", "a_b_[31m"),
        ] {
            assert_eq!(safe_name(name), safe, "{name}");
        }
        assert_eq!(short(&"ü".repeat(200)).len(), 254);
    }
}
