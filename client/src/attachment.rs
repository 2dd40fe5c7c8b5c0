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

mod chunks;
mod download;
mod upload;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postrider_common::Attachment;
use postrider_common::backoff::spread;
use postrider_common::random::{SystemRandom, fraction_of};
use postrider_common::secret::Secret;

use crate::{Error, Relay};

pub use upload::{SavedUpload, Upload};

/// How often a chunk is tried, as long as waiting may help.
const TRIES: u32 = 6;
/// The first pause between two tries, at most.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// How a relay says that it has no such attachment, or no longer.
const UNKNOWN_ATTACHMENT: &str = "unknown-attachment";
/// How it says that an attachment is longer than it takes.
const TOO_LARGE: &str = "too-large";
/// How it says that an attachment is shorter than its sender says.
const NO_SUCH_BYTES: &str = "range-not-satisfiable";
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

impl AttachedFile {
    /// What names it in an envelope.
    pub const fn attachment(&self) -> &Attachment {
        &self.attachment
    }
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
    /// It has more bytes than an attachment may have, at this relay or at any.
    #[error("{}: the file is larger than the relay takes", .path.display())]
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

    /// Whether a file that was to be fetched is lost: it does not open, or the relay has it no more. What is wrong with the
    /// way to the relay, or with a disk of ours, says nothing of that.
    ///
    /// Nobody can fetch it then, however often they try. Acknowledge the entry that it came with, or it comes again.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Damaged => true,
            Self::Relay(error) => matches!(error.slug(), Some(UNKNOWN_ATTACHMENT | NO_SUCH_BYTES)),
            _ => false,
        }
    }
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
                relay.sleep(spread(pause, error.retry_after(), fraction_of(&SystemRandom))).await;
                (tries, pause) = (tries + 1, pause * 2);
            }
            done => return Ok(done?),
        }
    }
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
    cut(name, MAX_NAME_BYTES)
}

/// The whole characters among the first bytes.
fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
