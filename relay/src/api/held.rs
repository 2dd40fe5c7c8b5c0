//! A body that holds something until it has been sent, or nobody wants it any more.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};

use super::router::Reply;
use crate::attachments::AttachmentError;

struct Held<T> {
    body: Reply,
    _held: T,
}

/// The body, with what it is to hold.
pub(super) fn holding<T: Send + Unpin + 'static>(body: Reply, held: T) -> Reply {
    Held { body, _held: held }.boxed_unsync()
}

impl<T: Unpin> Body for Held<T> {
    type Data = Bytes;
    type Error = AttachmentError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AttachmentError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
