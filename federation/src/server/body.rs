//! Reading a request's body under a limit of bytes, one of time, and a share of memory.

use std::error::Error;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Body;
use postrider_common::FailureClass;
use postrider_common::budget::{Exhausted, Share};

use super::answer::Refusal;
use super::{Busy, RETRY_SOON};

/// The whole body, if it has at most `limit` bytes and comes within `timeout`. One that announces more is refused before
/// it is read. Its memory is taken from `share` as it comes.
pub(super) async fn read<B>(
    body: B,
    limit: usize,
    timeout: Duration,
    share: &mut Share,
) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    match tokio::time::timeout(timeout, collect(body, limit, share)).await {
        Ok(read) => read,
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "request-timeout",
            format!("the body did not arrive within {} ms", timeout.as_millis()),
        )),
    }
}

async fn collect<B>(mut body: B, limit: usize, share: &mut Share) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(limit).min(limit);
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::malformed("the body ended early"))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        share
            .grow(data.len())
            .map_err(|Exhausted| Busy { reason: FailureClass::Unavailable, retry_after: RETRY_SOON })?;
        if whole.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        // Once, for all of it: the pages of what has not come yet are not in memory.
        whole.reserve(announced.saturating_sub(whole.len()));
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

fn too_large(limit: usize) -> Refusal {
    Refusal::too_large(format!("a batch has at most {limit} bytes"))
}
