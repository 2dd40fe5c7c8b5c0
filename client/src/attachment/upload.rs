//! A file is brought to a relay, in as many runs and processes as it takes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use futures_util::{StreamExt, stream};
use postrider_common::secret::Secret;
use postrider_common::wire::attachments::AttachmentStatus;
use postrider_common::{Attachment, AttachmentId};
use serde::{Deserialize, Serialize};

use super::chunks::{Plan, encrypt};
use super::{
    AttachedFile, AttachmentError, Progress, TOO_LARGE, UNKNOWN_ATTACHMENT, at, blocking, patiently, short,
};
use crate::{Error, Relay, Session};

/// How many chunks are on their way at a time.
const IN_FLIGHT: usize = 3;

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
    version: FileVersion,
    plan: Plan,
    key: Secret<32>,
    reserved: Option<AttachmentId>,
}

/// What another process needs to go on with an [`Upload`] for which [room was made](Upload::reserve): any form of serde's will
/// do. The key to the file is in it, so keep it as you keep keys, and no longer than until the envelope is submitted.
///
/// ```no_run
/// # use postrider_client::{AttachedFile, AttachmentError, SavedUpload, Session, Upload};
/// # async fn example(session: Session, kept: Option<SavedUpload>, keep: impl Fn(Option<SavedUpload>))
/// #     -> Result<AttachedFile, AttachmentError> {
/// // What an earlier process has kept, unless the file is another one by now.
/// let resumed = kept.and_then(|kept| Upload::resume("holiday.jpg", kept).ok());
/// let mut upload = match resumed {
///     Some(upload) => upload,
///     None => Upload::new("holiday.jpg")?,
/// };
/// upload.reserve_as(&session).await?;
/// keep(upload.saved());
/// upload.run_as(&session, &mut |done, of| println!("{done} of {of} bytes")).await
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SavedUpload {
    file: FileVersion,
    attachment: Attachment,
    #[serde(with = "hexadecimal")]
    key: Secret<32>,
}

/// What tells a file from what becomes of it when somebody writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct FileVersion {
    length: u64,
    /// Since 1970. `None`: the operating system does not say, or it was earlier.
    modified: Option<Duration>,
}

impl Upload {
    /// Looks at the file; nothing is sent yet.
    pub fn new(path: impl Into<PathBuf>) -> Result<Self, AttachmentError> {
        let path = path.into();
        let version = FileVersion::of(&path)?;
        let plan =
            Plan::of(version.length).ok_or_else(|| AttachmentError::TooLarge { path: path.clone() })?;
        Ok(Self { path, version, plan, key: Secret::random(), reserved: None })
    }

    /// What it is called in the message: the file's own name.
    pub fn name(&self) -> String {
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned());
        short(&name.unwrap_or_default()).to_owned()
    }

    /// The bytes that a relay has to take, with padding and encryption: compare them with
    /// [`RelayLimits::attachment_bytes`](crate::RelayLimits::attachment_bytes).
    pub fn attachment_bytes(&self) -> u64 {
        self.plan.encrypted()
    }

    /// Goes on with what another process has [saved](Self::saved). The file must be the same, and what was kept of it must be
    /// of use to this version: otherwise the error is [`AttachmentError::Changed`], and the upload begins [anew](Self::new).
    pub fn resume(path: impl Into<PathBuf>, saved: SavedUpload) -> Result<Self, AttachmentError> {
        let upload = Self::new(path)?;
        let SavedUpload { file, attachment, key } = saved;
        if file != upload.version || !upload.plan.is_of(&attachment) {
            return Err(AttachmentError::Changed { path: upload.path });
        }
        Ok(Self { key, reserved: Some(attachment.id), ..upload })
    }

    /// Makes room for the file at a relay that takes envelopes from everybody, unless that was done: so that there is something
    /// to [save](Self::saved) before the first byte is sent. [`run`](Self::run) does it by itself otherwise.
    pub async fn reserve(&mut self, relay: &Relay) -> Result<(), AttachmentError> {
        self.at_relay(Way::Anybody(relay)).await.map(drop)
    }

    /// The same at a relay that takes envelopes from its members only, for [`run_as`](Self::run_as).
    pub async fn reserve_as(&mut self, session: &Session) -> Result<(), AttachmentError> {
        self.at_relay(Way::Member(session)).await.map(drop)
    }

    /// What it takes to [go on](Self::resume) in another process. How far it is need not be in it: the relay is asked. `None`
    /// while there is no room for the file at the relay. A run that has had to begin anew has something else to save.
    pub fn saved(&self) -> Option<SavedUpload> {
        let attachment = self.plan.attachment(self.reserved?);
        Some(SavedUpload { file: self.version, attachment, key: self.key.clone() })
    }

    /// Brings the file to a relay that takes envelopes from everybody, and does not learn who brings it. After an error it
    /// may be called again, and goes on where it stopped: what the relay has is not sent again. If the relay has let go of it
    /// meanwhile, it begins anew. At most three chunks of 4 MiB are in memory.
    pub async fn run(
        &mut self,
        relay: &Relay,
        progress: Progress<'_>,
    ) -> Result<AttachedFile, AttachmentError> {
        self.carry(Way::Anybody(relay), progress).await
    }

    /// The same at a relay that takes envelopes from its members only: it is told whose session makes room for the file. To
    /// one that takes them from everybody the token is not shown.
    pub async fn run_as(
        &mut self,
        session: &Session,
        progress: Progress<'_>,
    ) -> Result<AttachedFile, AttachmentError> {
        self.carry(Way::Member(session), progress).await
    }

    /// Gives up what the relay has of it, if no envelope was submitted with it. Otherwise the relay keeps it for another day.
    pub async fn abandon(&mut self, relay: &Relay) -> Result<(), AttachmentError> {
        let Some(id) = self.reserved else { return Ok(()) };
        match patiently(relay, || relay.abandon_attachment(id)).await {
            Err(error) if !is_forgotten(&error) => return Err(error),
            _ => self.begin_anew(),
        }
        Ok(())
    }

    async fn carry(&mut self, way: Way<'_>, progress: Progress<'_>) -> Result<AttachedFile, AttachmentError> {
        match self.bring(way, &mut *progress).await {
            // It was there a moment ago.
            Err(error) if is_forgotten(&error) => {
                self.begin_anew();
                self.bring(way, progress).await
            }
            done => done,
        }
    }

    /// Under another key: the file may be another one by now, and a key is for one.
    fn begin_anew(&mut self) {
        tracing::debug!("the relay has nothing of the attachment any more");
        self.reserved = None;
        self.key = Secret::random();
    }

    /// What the relay has of it, once there is room for it.
    async fn at_relay(&mut self, way: Way<'_>) -> Result<AttachmentStatus, AttachmentError> {
        let (relay, plan) = (way.relay(), self.plan);
        let known = match self.reserved {
            Some(id) => Some(patiently(relay, || relay.attachment(id)).await),
            None => None,
        };
        let status = match known {
            Some(Err(error)) if is_forgotten(&error) => {
                self.begin_anew();
                None
            }
            Some(known) => Some(known?),
            None => None,
        };
        let status = match status {
            Some(status) => status,
            None => patiently(relay, || way.reserve(plan)).await.map_err(|error| match error {
                AttachmentError::Relay(error) if error.slug() == Some(TOO_LARGE) => {
                    AttachmentError::TooLarge { path: self.path.clone() }
                }
                other => other,
            })?,
        };
        if !self.plan.is_of(&status.attachment()) {
            return Err(Error::protocol("it is about an attachment of another length").into());
        }
        self.reserved = Some(status.id);
        Ok(status)
    }

    async fn bring(&mut self, way: Way<'_>, progress: Progress<'_>) -> Result<AttachedFile, AttachmentError> {
        if FileVersion::of(&self.path)? != self.version {
            return Err(AttachmentError::Changed { path: self.path.clone() });
        }
        let (relay, status) = (way.relay(), self.at_relay(way).await?);
        let attachment = status.attachment();
        let chunks = attachment.chunks();
        let missing = status.missing.iter().flat_map(|(first, last)| *first..=(*last).min(chunks - 1));
        // No more than there are, whatever the relay says.
        let missing: Vec<u32> = missing.take(chunks as usize).collect();
        let bytes_of = |number| attachment.chunk(number).map_or(0, |(_, bytes)| u64::from(bytes));
        let left = missing.iter().map(|number| bytes_of(*number)).sum();
        let mut done = attachment.length.saturating_sub(left);
        progress(done, attachment.length);
        let bring = |number| {
            let (this, attachment) = (&*self, &attachment);
            async move { this.bring_chunk(relay, attachment, number).await.map(|()| number) }
        };
        let mut brought = stream::iter(missing).map(bring).buffer_unordered(IN_FLIGHT);
        while let Some(number) = brought.next().await {
            done += bytes_of(number?);
            progress(done, attachment.length);
        }
        drop(brought);
        let (name, length) = (self.name(), self.version.length);
        Ok(AttachedFile { name, length, attachment, key: self.key.clone() })
    }

    async fn bring_chunk(
        &self,
        relay: &Relay,
        attachment: &Attachment,
        number: u32,
    ) -> Result<(), AttachmentError> {
        let (path, plan, key) = (self.path.clone(), self.plan, self.key.clone());
        let length = self.version.length;
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

/// Who makes room for a file at its relay.
#[derive(Clone, Copy)]
enum Way<'a> {
    /// Nobody is told.
    Anybody(&'a Relay),
    /// A member, who says so.
    Member(&'a Session),
}

impl<'a> Way<'a> {
    fn relay(self) -> &'a Relay {
        match self {
            Self::Anybody(relay) => relay,
            Self::Member(session) => session.relay(),
        }
    }

    async fn reserve(self, plan: Plan) -> Result<AttachmentStatus, Error> {
        match self {
            Self::Anybody(relay) => relay.reserve_attachment(plan.encrypted(), plan.chunk).await,
            Self::Member(session) => session.reserve_attachment(plan.encrypted(), plan.chunk).await,
        }
    }
}

impl FileVersion {
    fn of(path: &Path) -> Result<Self, AttachmentError> {
        let metadata = fs::metadata(path).map_err(at(path))?;
        if !metadata.is_file() {
            return Err(at(path)(io::Error::other("it is no file")));
        }
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Self { length: metadata.len(), modified })
    }
}

/// Whether the relay no longer knows what room was made for.
fn is_forgotten(error: &AttachmentError) -> bool {
    matches!(error, AttachmentError::Relay(error) if error.slug() == Some(UNKNOWN_ATTACHMENT))
}

/// A key as text.
mod hexadecimal {
    use data_encoding::HEXLOWER;
    use postrider_common::secret::Secret;
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(key: &Secret<32>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(HEXLOWER.encode(key.expose())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret<32>, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().map(Zeroizing::new);
        let key = bytes.and_then(|bytes| Some(Secret::new(*bytes.as_array()?)));
        key.ok_or_else(|| serde::de::Error::custom("a key has 64 hexadecimal digits"))
    }
}
