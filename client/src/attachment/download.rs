//! A file is fetched from a relay.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::chunks::{TAG_BYTES, decrypt};
use super::{AttachedFile, AttachmentError, Progress, at, blocking, patiently, short};
use crate::Relay;

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
                blocking(move || finish(&file, length, &unfinished, &directory, &name)).await
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

/// Gives the file its name, if there is none with it, and makes that stay.
fn finish(
    file: &File,
    length: u64,
    unfinished: &Path,
    directory: &Path,
    name: &str,
) -> Result<PathBuf, AttachmentError> {
    file.set_len(length).and_then(|()| file.sync_all()).map_err(at(unfinished))?;
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem, format!(".{extension}")),
        _ => (name, String::new()),
    };
    for number in 1_u32.. {
        let path = match number {
            1 => directory.join(name),
            _ => directory.join(format!("{stem} ({number}){extension}")),
        };
        match fs::hard_link(unfinished, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(at(&path)(error)),
            Ok(()) => {
                fs::remove_file(unfinished).map_err(at(unfinished))?;
                File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))?;
                return Ok(path);
            }
        }
    }
    Err(AttachmentError::Damaged)
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
