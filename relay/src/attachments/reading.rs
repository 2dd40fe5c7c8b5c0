//! An attachment on its way from the disk, piece by piece.

use std::convert::Infallible;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use postrider_common::{Attachment, AttachmentId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::receiving::on_disk;
use super::{AttachmentError, Attachments, LEAST_BYTES_PER_SECOND, PIECE_BYTES, Shared};
use crate::telemetry::Seldom;

/// How long the next piece may not be asked for though the last ones are taken, slowly: the system asks for more when a third of
/// its buffer is free, which grows to 4 MiB, and HTTP and TLS have some of it too.
const UNSEEN: Duration = Duration::from_secs((2 << 20) / LEAST_BYTES_PER_SECOND);

/// A disk that fails does so for everybody who asks.
static SAID: Seldom = Seldom::new();

/// Bytes of an attachment as the body of a message. Reading goes on as they are asked for.
pub type Content = http_body_util::combinators::UnsyncBoxBody<Bytes, AttachmentError>;

/// A whole attachment, open to be read. It can be read to its end though it is deleted meanwhile.
#[derive(Debug)]
pub struct Reader {
    attachment: Attachment,
    file: Arc<File>,
    permit: Arc<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
}

/// A body that somebody takes, for as long as it is taken.
#[derive(Debug)]
struct Taken {
    pieces: AtomicU64,
    /// The file, and the permit to read it. Gone once it was given up.
    held: Mutex<Option<Held>>,
}

type Held = (Arc<File>, Arc<OwnedSemaphorePermit>);

impl Attachments {
    /// Opens an attachment of which every chunk is there, for a client.
    pub async fn read(&self, id: AttachmentId) -> Result<Reader, AttachmentError> {
        self.open_one(id, &self.0.reading).await
    }

    /// The same for another relay.
    pub async fn read_to_send(&self, id: AttachmentId) -> Result<Reader, AttachmentError> {
        self.open_one(id, &self.0.sending).await
    }

    async fn open_one(&self, id: AttachmentId, turns: &Arc<Semaphore>) -> Result<Reader, AttachmentError> {
        let state = self.state(id).await?;
        if !state.is_whole() {
            return Err(AttachmentError::Incomplete);
        }
        let permit = Arc::clone(turns).try_acquire_owned().map_err(|_| AttachmentError::Busy)?;
        let shared = Arc::clone(&self.0);
        let opened = on_disk(move || Ok(shared.files.readable(state.file)?)).await;
        match opened {
            Ok(file) => {
                let (file, permit) = (Arc::new(file), Arc::new(permit));
                Ok(Reader { attachment: state.attachment, file, permit, shared: Arc::clone(&self.0) })
            }
            // It was deleted since we looked.
            Err(_) if self.state(id).await == Err(AttachmentError::Unknown) => Err(AttachmentError::Unknown),
            Err(error) => {
                let path = self.0.files.path(state.file);
                if SAID.is_due(&error.to_string()) {
                    tracing::error!("an attachment cannot be read: {}: {error}", path.display());
                }
                Err(error)
            }
        }
    }
}

impl Reader {
    /// What it is.
    pub const fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// So many bytes from there on, which there are.
    pub fn bytes(&self, start: u64, length: u64) -> Content {
        StreamBody::new(pieces(self.taken(), None, start, length)).boxed_unsync()
    }

    /// The same for a client. Who takes nothing of them for as long as a chunk may pause on its way here gets no more:
    /// otherwise a few who stop in the middle would keep everybody else from reading. Whoever takes
    /// 16 KiB in a second never seems to have stopped.
    pub fn bytes_while_taken(&self, start: u64, length: u64) -> Content {
        let taken = self.taken();
        let (here, gone) = oneshot::channel();
        self.shared
            .supervisor
            .spawn("attachment", give_up(Arc::clone(&self.shared), Arc::clone(&taken), gone));
        StreamBody::new(pieces(taken, Some(here), start, length)).boxed_unsync()
    }

    fn taken(&self) -> Arc<Taken> {
        let held = Mutex::new(Some((Arc::clone(&self.file), Arc::clone(&self.permit))));
        Arc::new(Taken { pieces: AtomicU64::new(0), held })
    }
}

/// Watches over a body until it has gone, and takes the file away if nothing of it is taken.
async fn give_up(shared: Arc<Shared>, taken: Arc<Taken>, mut gone: oneshot::Receiver<Infallible>) {
    let stopping = shared.supervisor.stopping();
    tokio::pin!(stopping);
    let mut before = None;
    loop {
        let pieces = taken.pieces.load(Ordering::Acquire);
        if before.replace(pieces) == Some(pieces) {
            taken.held.lock().unwrap_or_else(PoisonError::into_inner).take();
            return;
        }
        tokio::select! {
            _ = &mut gone => return,
            () = &mut stopping => return,
            () = shared.clock.sleep(shared.settings.pause + UNSEEN) => {}
        }
    }
}

/// The pieces; `here` is what tells that they have gone.
fn pieces(
    taken: Arc<Taken>,
    here: Option<oneshot::Sender<Infallible>>,
    start: u64,
    length: u64,
) -> impl Stream<Item = Result<Frame<Bytes>, AttachmentError>> + Send + use<> {
    let begin = (taken, here, start, length);
    stream::try_unfold(begin, |(taken, here, at, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let held = taken.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (source, _permit) = held.ok_or(AttachmentError::Stalled)?;
        let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let piece = on_disk(move || {
            let mut piece = BytesMut::zeroed(bytes);
            source.read_exact_at(&mut piece, at)?;
            Ok(piece.freeze())
        });
        let piece = piece.await?;
        taken.pieces.fetch_add(1, Ordering::Release);
        let read = piece.len() as u64;
        Ok(Some((Frame::data(piece), (taken, here, at + read, left - read))))
    })
}
