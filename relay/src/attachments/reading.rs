//! An attachment on its way from the disk, piece by piece.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use postrider_common::{Attachment, AttachmentId};
use tokio::sync::OwnedSemaphorePermit;

use super::receiving::on_disk;
use super::{AttachmentError, Attachments, PIECE_BYTES};

/// Bytes of an attachment as the body of a message. Reading goes on as they are asked for.
pub type Content = http_body_util::combinators::UnsyncBoxBody<Bytes, AttachmentError>;

/// A whole attachment, open to be read. It can be read to its end though it is deleted meanwhile.
#[derive(Debug)]
pub struct Reader {
    attachment: Attachment,
    file: Arc<File>,
    permit: Arc<OwnedSemaphorePermit>,
}

impl Attachments {
    /// Opens an attachment of which every chunk is there.
    pub async fn read(&self, id: AttachmentId) -> Result<Reader, AttachmentError> {
        let state = self.state(id).await?;
        if !state.is_whole() {
            return Err(AttachmentError::Incomplete);
        }
        let permit = Arc::clone(&self.0.reading).try_acquire_owned().map_err(|_| AttachmentError::Busy)?;
        let shared = Arc::clone(&self.0);
        let opened = on_disk(move || Ok(shared.files.readable(state.file)?)).await;
        match opened {
            Ok(file) => {
                let (file, permit) = (Arc::new(file), Arc::new(permit));
                Ok(Reader { attachment: state.attachment, file, permit })
            }
            // It was deleted since we looked.
            Err(_) if self.state(id).await == Err(AttachmentError::Unknown) => Err(AttachmentError::Unknown),
            Err(error) => {
                tracing::error!("an attachment cannot be read: {error}");
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
        StreamBody::new(pieces(self, start, length)).boxed_unsync()
    }
}

fn pieces(
    reader: &Reader,
    start: u64,
    length: u64,
) -> impl Stream<Item = Result<Frame<Bytes>, AttachmentError>> + Send + use<> {
    let begin = (Arc::clone(&reader.file), Arc::clone(&reader.permit), start, length);
    stream::try_unfold(begin, |(file, permit, at, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let source = Arc::clone(&file);
        let piece = on_disk(move || {
            let mut piece = BytesMut::zeroed(bytes);
            source.read_exact_at(&mut piece, at)?;
            Ok(piece.freeze())
        });
        let piece = piece.await?;
        let read = piece.len() as u64;
        Ok(Some((Frame::data(piece), (file, permit, at + read, left - read))))
    })
}
