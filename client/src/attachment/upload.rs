//! A file is brought to a relay.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use futures_util::{StreamExt, stream};
use postrider_common::secret::Secret;
use postrider_common::wire::attachments::AttachmentStatus;
use postrider_common::{Attachment, AttachmentId};

use super::chunks::{Plan, encrypt};
use super::{AttachedFile, AttachmentError, Progress, at, blocking, patiently, short};
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
    length: u64,
    modified: Option<SystemTime>,
    plan: Plan,
    key: Secret<32>,
    reserved: Option<AttachmentId>,
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

fn look(path: &Path) -> Result<(u64, Option<SystemTime>), AttachmentError> {
    let metadata = fs::metadata(path).map_err(at(path))?;
    if metadata.is_file() {
        return Ok((metadata.len(), metadata.modified().ok()));
    }
    Err(at(path)(io::Error::other("it is no file")))
}
