//! Files that travel beside a message: encrypted, padded, brought and fetched in chunks.
//!
//! Like [`seal`](crate::seal), which carries the keys, this is a reference for apps that have no format of their own;
//! others use [`Relay::reserve_attachment`], [`Relay::put_chunk`] and [`Relay::chunk`].
//!
//! # Bytes
//! A file is padded with zeros to a length of which only the highest bits differ (Padmé: at most 12 % more), at least
//! 4 KiB. The result is divided into pieces of the chunk's length less 16 bytes, and each piece is encrypted by itself
//! with ChaCha20-Poly1305 under a key that is made for this file, without associated data. The nonce is seven zero
//! bytes, the number of the chunk (4, big-endian), and `01` for the last chunk or else `00`: so chunks can be neither
//! exchanged nor left out, nor can the file be cut off. Chunks have 4 MiB, and more for files above 16 GiB.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use postrider_common::limits::{MAX_CHUNK_BYTES, MAX_CHUNKS};
use postrider_common::secret::Secret;
use postrider_common::wire::attachments::AttachmentStatus;
use postrider_common::{Attachment, AttachmentId};

use crate::{Error, Relay, Session};

/// Bytes of a chunk of a file that is not too large for it.
const CHUNK_BYTES: u32 = 4 << 20;
/// What encryption adds to each chunk.
const TAG_BYTES: u32 = 16;
/// No file says that it is smaller than this.
const LEAST_BYTES: u64 = 4 << 10;
/// How many chunks are on their way at a time.
const IN_FLIGHT: usize = 3;
/// How often a chunk is tried, as long as waiting may help.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest name of a file.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// Told after each chunk: bytes that are done, and bytes in all.
pub type Progress<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

/// A file at a relay, and the key to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedFile {
    /// What its sender calls it. It is the sender's word, and no path.
    pub name: String,
    /// Its bytes, without padding and encryption.
    pub length: u64,
    pub(crate) attachment: Attachment,
    pub(crate) key: Secret<32>,
}

/// Why a file was not brought or fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachmentError {
    /// The relay, or the way there.
    #[error(transparent)]
    Relay(#[from] Error),
    /// A file of ours.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is another one than when it was begun with.
    #[error("{}: the file has changed while it was sent", .path.display())]
    Changed {
        /// Which.
        path: PathBuf,
    },
    /// It has more bytes than any attachment.
    #[error("{}: the file is too large for any relay", .path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// What the relay gave is not what the sender has encrypted.
    #[error("the attachment does not open: it was changed on its way")]
    Damaged,
}

impl AttachmentError {
    /// Whether the same can succeed later without anybody changing anything on this side.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Relay(error) if error.is_retryable())
    }

    /// When the relay asks to come back, if it said so.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Relay(error) => error.retry_after(),
            _ => None,
        }
    }
}

/// A file on its way to a relay.
///
/// ```no_run
/// # use postrider_client::{AttachedFile, AttachmentError, Session, Upload};
/// # async fn example(session: Session) -> Result<AttachedFile, AttachmentError> {
/// let mut upload = Upload::new("holiday.jpg")?;
/// loop {
///     match upload.run_as(&session, &mut |done, of| println!("{done} of {of} bytes")).await {
///         // It goes on where it stopped.
///         Err(error) if error.is_retryable() => {
///             tokio::time::sleep(error.retry_after().unwrap_or(std::time::Duration::from_secs(5))).await;
///         }
///         other => return other,
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Upload {
    path: PathBuf,
    length: u64,
    modified: Option<SystemTime>,
    plan: Plan,
    key: Secret<32>,
    reserved: Option<AttachmentId>,
}

/// How a file is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    /// With padding.
    padded: u64,
    /// Bytes of an encrypted chunk.
    chunk: u32,
}

impl Upload {
    /// Looks at the file; nothing is sent yet.
    pub fn new(path: impl Into<PathBuf>) -> Result<Self, AttachmentError> {
        let path = path.into();
        let (length, modified) = look(&path)?;
        let plan = Plan::of(length).ok_or_else(|| AttachmentError::TooLarge { path: path.clone() })?;
        Ok(Self { path, length, modified, plan, key: Secret::random(), reserved: None })
    }

    /// Brings the file to a relay that takes envelopes from everybody, and does not learn who brings it. After an error it
    /// may be called again, and goes on where it stopped: what the relay has is not sent again. At most three chunks of
    /// 4 MiB are in memory.
    pub async fn run(
        &mut self,
        relay: &Relay,
        progress: Progress<'_>,
    ) -> Result<AttachedFile, AttachmentError> {
        let (length, chunk) = (self.plan.encrypted(), self.plan.chunk);
        self.carry(relay, || relay.reserve_attachment(length, chunk), progress).await
    }

    /// The same at a relay that takes envelopes from its members only: it is told whose session makes room for the file. To
    /// one that takes them from everybody the token is not shown.
    pub async fn run_as(
        &mut self,
        session: &Session,
        progress: Progress<'_>,
    ) -> Result<AttachedFile, AttachmentError> {
        let (length, chunk) = (self.plan.encrypted(), self.plan.chunk);
        self.carry(session.relay(), || session.reserve_attachment(length, chunk), progress).await
    }

    async fn carry<F>(
        &mut self,
        relay: &Relay,
        reserve: impl FnOnce() -> F,
        progress: Progress<'_>,
    ) -> Result<AttachedFile, AttachmentError>
    where
        F: Future<Output = Result<AttachmentStatus, Error>>,
    {
        if look(&self.path)? != (self.length, self.modified) {
            return Err(AttachmentError::Changed { path: self.path.clone() });
        }
        let status = match self.reserved {
            Some(id) => relay.attachment(id).await?,
            None => reserve().await?,
        };
        let attachment = status.attachment();
        self.reserved = Some(attachment.id);
        let missing: Vec<u32> = status.missing.iter().flat_map(|(first, last)| *first..=*last).collect();
        let bytes_of = |number| attachment.chunk(number).map_or(0, |(_, bytes)| u64::from(bytes));
        let mut done = attachment.length - missing.iter().map(|number| bytes_of(*number)).sum::<u64>();
        progress(done, attachment.length);
        let bring = |number| {
            let (this, attachment) = (&*self, &attachment);
            async move { this.bring(relay, attachment, number).await.map(|()| number) }
        };
        let mut brought = stream::iter(missing).map(bring).buffer_unordered(IN_FLIGHT);
        while let Some(number) = brought.next().await {
            done += bytes_of(number?);
            progress(done, attachment.length);
        }
        drop(brought);
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(AttachedFile {
            name: short(&name.unwrap_or_default()).to_owned(),
            length: self.length,
            attachment,
            key: self.key.clone(),
        })
    }

    async fn bring(
        &self,
        relay: &Relay,
        attachment: &Attachment,
        number: u32,
    ) -> Result<(), AttachmentError> {
        let (path, plan, length, key) = (self.path.clone(), self.plan, self.length, self.key.clone());
        let is_last = number + 1 == attachment.chunks();
        let chunk = blocking(move || {
            let file = File::open(&path).map_err(at(&path))?;
            let piece = plan.read(&file, number, length).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => AttachmentError::Changed { path: path.clone() },
                _ => at(&path)(error),
            })?;
            encrypt(&key, number, is_last, piece)
        });
        let chunk = chunk.await?;
        patiently(relay, || relay.put_chunk(attachment.id, number, chunk.clone())).await
    }
}

impl AttachedFile {
    /// What names it in an envelope.
    pub const fn attachment(&self) -> &Attachment {
        &self.attachment
    }

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

impl Plan {
    /// `None`: it is larger than any attachment.
    fn of(length: u64) -> Option<Self> {
        let padded = padme(length.max(LEAST_BYTES))?;
        let mut chunk = CHUNK_BYTES;
        while padded.div_ceil(u64::from(chunk - TAG_BYTES)) > MAX_CHUNKS.into() {
            chunk = chunk.checked_mul(2).filter(|chunk| *chunk <= MAX_CHUNK_BYTES)?;
        }
        Some(Self { padded, chunk })
    }

    fn piece(&self) -> u64 {
        u64::from(self.chunk - TAG_BYTES)
    }

    fn encrypted(&self) -> u64 {
        self.padded + u64::from(TAG_BYTES) * self.padded.div_ceil(self.piece())
    }

    /// One piece of a file of `length` bytes, with its part of the padding.
    fn read(&self, file: &File, number: u32, length: u64) -> io::Result<Vec<u8>> {
        let start = u64::from(number) * self.piece();
        let bytes = (self.padded - start).min(self.piece());
        let mut piece = vec![0; usize::try_from(bytes).unwrap_or(0)];
        let of_file = usize::try_from(length.saturating_sub(start).min(bytes)).unwrap_or(0);
        file.read_exact_at(&mut piece[..of_file], start)?;
        Ok(piece)
    }
}

/// The next length of which only the highest bits are not zero: so many that it has at most 12 % more.
fn padme(length: u64) -> Option<u64> {
    let exponent = length.checked_ilog2()?;
    let kept = exponent.checked_ilog2().map_or(0, |bits| bits + 1);
    let mask = (1_u64 << (exponent - kept.min(exponent))) - 1;
    length.checked_add(mask).map(|length| length & !mask)
}

fn nonce(number: u32, is_last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[7..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = is_last.into();
    Nonce::assume_unique_for_key(nonce)
}

fn cipher(key: &Secret<32>) -> Result<LessSafeKey, AttachmentError> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.expose());
    key.map(LessSafeKey::new).map_err(|_| AttachmentError::Damaged)
}

fn encrypt(
    key: &Secret<32>,
    number: u32,
    is_last: bool,
    mut piece: Vec<u8>,
) -> Result<Bytes, AttachmentError> {
    cipher(key)?
        .seal_in_place_append_tag(nonce(number, is_last), Aad::empty(), &mut piece)
        .map_err(|_| AttachmentError::Damaged)?;
    Ok(piece.into())
}

fn decrypt(key: &Secret<32>, number: u32, is_last: bool, chunk: Bytes) -> Result<Vec<u8>, AttachmentError> {
    let mut chunk = Vec::from(chunk);
    let opened = cipher(key)?.open_in_place(nonce(number, is_last), Aad::empty(), &mut chunk);
    let length = opened.map_err(|_| AttachmentError::Damaged)?.len();
    chunk.truncate(length);
    Ok(chunk)
}

/// Does what may be repeated until it succeeds or waiting does not help any more.
async fn patiently<T, F>(relay: &Relay, call: impl Fn() -> F) -> Result<T, AttachmentError>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut pause = FIRST_PAUSE;
    let mut tries = 1;
    loop {
        match call().await {
            Err(error) if error.is_retryable() && tries < TRIES => {
                tracing::debug!("a chunk is tried again: {error}");
                relay.sleep(pause.max(error.retry_after().unwrap_or_default())).await;
                (tries, pause) = (tries + 1, pause * 2);
            }
            done => return Ok(done?),
        }
    }
}

fn look(path: &Path) -> Result<(u64, Option<SystemTime>), AttachmentError> {
    let metadata = fs::metadata(path).map_err(at(path))?;
    if metadata.is_file() {
        return Ok((metadata.len(), metadata.modified().ok()));
    }
    Err(at(path)(io::Error::other("it is no file")))
}

fn at(path: &Path) -> impl Fn(io::Error) -> AttachmentError {
    let path = path.to_owned();
    move |source| AttachmentError::File { path: path.clone(), source }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AttachmentError> + Send + 'static,
) -> Result<T, AttachmentError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(AttachmentError::File { path: PathBuf::new(), source: io::Error::other(error) })
    })
}

/// As much of a name as fits.
pub(crate) fn short(name: &str) -> &str {
    let mut end = name.len().min(MAX_NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
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
    fn lengths_tell_little() {
        for (length, padded) in
            [(4096, 4096), (4097, 4352), (9 << 20, 9 << 20), ((9 << 20) + 1, 9_699_328), (1 << 30, 1 << 30)]
        {
            assert_eq!(padme(length), Some(padded), "{length}");
        }
        for length in (4096..2_000_000_u64).step_by(7919) {
            let padded = padme(length).unwrap();
            assert!(padded >= length && padded as f64 <= length as f64 * 1.12, "{length} {padded}");
        }
        assert_eq!(Plan::of(0).unwrap().encrypted(), 4096 + 16);
        assert_eq!(Plan::of(20 << 30).unwrap().chunk, 8 << 20);
        assert_eq!(Plan::of(u64::MAX), None);
    }

    #[test]
    fn chunks_keep_their_places() {
        let key = Secret::new([7; 32]);
        let chunk = encrypt(&key, 3, true, b"piece".to_vec()).unwrap();
        assert_eq!(decrypt(&key, 3, true, chunk.clone()).unwrap(), b"piece");
        for (number, is_last) in [(2, true), (3, false)] {
            assert!(decrypt(&key, number, is_last, chunk.clone()).is_err());
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
