//! Reads request bodies within a size, a time, and a share of memory.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{Request, Version};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use postrider_common::budget::{Budget, Exhausted, Share};
use postrider_federation::pace::{Activity, OnItsWay};

use super::problem::ApiError;

/// The body of a client's request. While it is there, it is wanted; one that is dropped before its end is left unread.
#[derive(Debug)]
pub(super) struct RequestBody {
    incoming: Incoming,
    activity: Activity,
    wanted: Option<OnItsWay>,
    /// An answer before its end is the last one on the connection: HTTP/2 can do without the rest.
    is_alone: bool,
}

impl RequestBody {
    /// The request, whose body `activity` is told of.
    pub(super) fn of(request: Request<Incoming>, activity: &Activity) -> Request<Self> {
        let is_alone = request.version() <= Version::HTTP_11;
        request.map(|incoming| {
            let wanted = (!incoming.is_end_stream()).then(|| activity.busy());
            Self { incoming, activity: activity.clone(), wanted, is_alone }
        })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) || self.incoming.is_end_stream() {
            self.wanted = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if self.is_alone && self.wanted.is_some() {
            self.activity.leave_unread();
        }
    }
}

/// The memory and the time that bodies may take.
#[derive(Debug, Clone)]
pub(super) struct Bodies {
    budget: Budget,
    timeout: Duration,
}

/// A body that has been read, and its share of the memory until it is dropped.
#[derive(Debug)]
pub(super) struct ReadBody {
    pub(super) bytes: Bytes,
    _share: Share,
}

impl Bodies {
    pub(super) fn new(memory: usize, timeout: Duration) -> Self {
        Self { budget: Budget::new(memory), timeout }
    }

    /// Reads the whole body. What is declared larger than `limit` is refused before anything is read. Memory is taken
    /// as the body comes, so that what is announced and never sent keeps nobody else out.
    pub(super) async fn read(
        &self,
        request: Request<RequestBody>,
        limit: usize,
    ) -> Result<ReadBody, ApiError> {
        let declared = match request.headers().get(CONTENT_LENGTH) {
            None => 0,
            Some(value) => {
                let length: Option<usize> = value.to_str().ok().and_then(|text| text.parse().ok());
                // hyper has refused what is no number; what does not fit a usize is too large.
                length.filter(|length| *length <= limit).ok_or(ApiError::TooLarge { limit })?
            }
        };
        let mut share = self.budget.share();
        let collected = collect(request.into_body(), declared, limit, &mut share);
        let bytes = tokio::time::timeout(self.timeout, collected).await.map_err(|_| ApiError::SlowBody)??;
        Ok(ReadBody { bytes, _share: share })
    }
}

async fn collect(
    mut body: RequestBody,
    declared: usize,
    limit: usize,
    share: &mut Share,
) -> Result<Bytes, ApiError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::Malformed("the body ended early".into()))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > limit {
            return Err(ApiError::TooLarge { limit });
        }
        share.grow(data.len()).map_err(|Exhausted| ApiError::Unavailable)?;
        if whole.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        // Once, for all of it: the pages of what has not come yet are not in memory.
        whole.reserve(declared.saturating_sub(whole.len()));
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// Whether the body is what the call takes.
pub(super) fn expect_type(request: &Request<RequestBody>, expected: &'static str) -> Result<(), ApiError> {
    let given = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // A parameter such as `; charset=utf-8` does not change the type.
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(expected) {
        Ok(())
    } else {
        Err(ApiError::UnsupportedMediaType { expected })
    }
}
