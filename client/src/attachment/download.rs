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
    /// fetched before an interruption is not fetched again. It is on stable storage when this succeeds.
    ///
    /// ```no_run
    /// # use postrider_client::{AttachmentError, Opened, Session};
    /// # async fn example(session: Session, opened: Opened) -> Result<(), AttachmentError> {
    /// for file in &opened.files {
    ///     let path = file.save(session.relay(), "downloads", &mut |_, _| {}).await?;
    ///     println!("{} is at {}", file.name, path.display());
    /// }
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
        let piece = u64::from(self.attachment.chunk_length - TAG_BYTES.min(self.attachment.chunk_length));
        if piece == 0 || self.attachment.length < self.length {
            return Err(AttachmentError::Damaged);
        }
        let path = unfinished.clone();
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
            let (start, length, path) = (u64::from(number) * piece, self.length, unfinished.clone());
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
        let (length, name) = (self.length, safe_name(&self.name));
        blocking(move || finish(&file, length, &unfinished, &directory, &name)).await
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
    use super::*;

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
