//! Bodies that hold something until they have been sent, or nobody wants them any more.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, SizeHint};

use super::SHORT;
use super::problem::ApiError;
use super::router::{Reply, short};
use crate::admission::{Admissions, ClientAddress};
use crate::attachments::AttachmentError;

/// What is handed on of an answer at a time. Of a larger piece nobody would know how much has been sent.
const PIECE_BYTES: usize = 16 << 10;

struct Held<T> {
    body: Reply,
    _held: T,
}

/// Bytes that go out in pieces.
struct Pieces(Bytes);

/// The body, with what it is to hold.
pub(super) fn holding<T: Send + Unpin + 'static>(body: Reply, held: T) -> Reply {
    Held { body, _held: held }.boxed_unsync()
}

/// An answer that is in memory as a whole. If it is a long one it takes one of its client's `turns` until it has been read, so
/// that what one client does not read is bounded; without one the client is asked back.
pub(super) async fn in_memory(
    response: Response<Full<Bytes>>,
    turns: &Admissions,
    client: ClientAddress,
) -> Result<Response<Reply>, ApiError> {
    if response.body().size_hint().lower() <= SHORT {
        return Ok(short(response));
    }
    let turn = turns.admit(client).ok_or(ApiError::Unavailable)?;
    let (head, body) = response.into_parts();
    let Ok(whole) = body.collect().await;
    let body = Pieces(whole.to_bytes()).map_err(|never| match never {}).boxed_unsync();
    Ok(Response::from_parts(head, holding(body, turn)))
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

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let length = self.0.len().min(PIECE_BYTES);
        let piece = self.0.split_to(length);
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    #[tokio::test]
    async fn a_long_answer_takes_a_turn_until_it_has_been_read() {
        let turns = Admissions::new(usize::MAX, 1);
        let [one, other] = [1, 2].map(|n| IpAddr::from(Ipv4Addr::new(192, 0, 2, n)).into());
        let bytes = Bytes::from(vec![7; 100 << 10]);
        let answer = |client| in_memory(Response::new(Full::new(bytes.clone())), &turns, client);
        let mut first = answer(one).await.unwrap().into_body();
        assert_eq!(first.size_hint().exact(), Some(bytes.len() as u64));
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap().len(), PIECE_BYTES);
        assert_eq!(answer(one).await.err(), Some(ApiError::Unavailable), "most of it is still here");
        assert!(answer(other).await.is_ok());
        let rest = first.collect().await.unwrap().to_bytes();
        assert_eq!(rest, bytes[PIECE_BYTES..]);
        assert!(answer(one).await.is_ok());
        let short = Response::new(Full::new(bytes.slice(..10)));
        let _held = answer(one).await.unwrap();
        assert!(in_memory(short, &turns, one).await.is_ok(), "what is short takes none");
    }
}
