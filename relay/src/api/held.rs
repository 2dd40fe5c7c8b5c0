//! Bodies that hold something until they have been sent, or nobody wants them any more.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

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
    /// What the body has given and has yet to be handed on.
    rest: Bytes,
    _held: T,
}

/// The body, with what it is to hold.
pub(super) fn holding<T: Send + Unpin + 'static>(body: Reply, held: T) -> Reply {
    Held { body, rest: Bytes::new(), _held: held }.boxed_unsync()
}

/// An answer that is in memory as a whole. If it is a long one it takes one of its client's `turns` until it has been read, so
/// that what one client does not read is bounded; without one the client is asked back.
pub(super) fn in_memory(
    response: Response<Full<Bytes>>,
    turns: &Admissions,
    client: ClientAddress,
) -> Result<Response<Reply>, ApiError> {
    if response.body().size_hint().lower() <= SHORT {
        return Ok(short(response));
    }
    let turn = turns.admit(client).ok_or(ApiError::Unavailable)?;
    Ok(short(response).map(|body| holding(body, turn)))
}

impl<T: Unpin> Body for Held<T> {
    type Data = Bytes;
    type Error = AttachmentError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AttachmentError>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let length = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (of_body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower() + rest);
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
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
        let mut first = answer(one).unwrap().into_body();
        assert_eq!(first.size_hint().exact(), Some(bytes.len() as u64));
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap().len(), PIECE_BYTES);
        assert_eq!(answer(one).err(), Some(ApiError::Unavailable), "most of it is still here");
        assert!(answer(other).is_ok());
        let rest = first.collect().await.unwrap().to_bytes();
        assert_eq!(rest, bytes[PIECE_BYTES..]);
        assert!(answer(one).is_ok());
        let short = Response::new(Full::new(bytes.slice(..10)));
        let _held = answer(one).unwrap();
        assert!(in_memory(short, &turns, one).is_ok(), "what is short takes none");
    }
}
