//! Attachments that come ahead of their envelope.

use std::fmt;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use postrider_common::limits::MAX_ATTACHMENTS;
use postrider_common::wire::attachments::{AttachmentOffer, CONTENT_DIGEST, parse_content_digest};
use postrider_common::{AttachmentId, Failure, FailureClass};

use super::answer::{self, Answer, Refusal};
use super::request::Session;
use super::{RETRY_SOON, body};
use crate::ATTACHMENTS_PATH;
use crate::policy::PeerLimits;
use crate::trust::PeerId;

/// More than an offer of as many attachments as there may be has.
const MAX_OFFER_BYTES: usize = 8 << 10;

/// A chunk that a peer brings.
pub struct IncomingChunk {
    /// Of which attachment.
    pub id: AttachmentId,
    /// Which one.
    pub number: u32,
    /// What its SHA-256 has to be.
    pub digest: [u8; 32],
    /// Its bytes, as they come.
    pub body: Incoming,
}

/// Why a chunk was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkRefused {
    /// The attachment was not offered, or has gone since, or has no such chunk.
    Unknown,
    /// That chunk is there already, with other bytes.
    Differs,
    /// The bytes are not those that were announced.
    Wrong,
    /// They did not come in time.
    Slow,
    /// There is no room for it, for that long at least.
    Full(Duration),
    /// It is on its way already, or too much else is.
    Busy,
}

/// The attachment and the number in the path of a chunk.
pub(super) fn chunk_in(path: &str) -> Option<(AttachmentId, u32)> {
    let (id, rest) = path.strip_prefix(ATTACHMENTS_PATH)?.strip_prefix('/')?.split_once('/')?;
    Some((id.parse().ok()?, rest.strip_prefix("chunks/")?.parse().ok()?))
}

impl Session {
    pub(super) async fn offered(
        &self,
        peer: &PeerId,
        limits: PeerLimits,
        request: Request<Incoming>,
    ) -> Result<Answer, Refusal> {
        let config = &self.shared.config;
        if request.headers().get(CONTENT_TYPE).is_none_or(|given| given != "application/json") {
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "an offer is of the type application/json",
            ));
        }
        let quota = self.shared.quotas.of(peer.domain(), limits);
        quota.take(1, self.shared.clock.uptime())?;
        let mut share = self.shared.bodies.share();
        let body = body::read(request.into_body(), MAX_OFFER_BYTES, config.body_timeout, &mut share).await?;
        let offer: AttachmentOffer = serde_json::from_slice(&body)
            .map_err(|error| Refusal::malformed(format!("the offer: {error}")))?;
        if offer.attachments.len() > MAX_ATTACHMENTS {
            return Err(Refusal::malformed("an envelope has not so many attachments"));
        }
        Ok(answer::document(&self.shared.inbound.offered(peer, offer).await?))
    }

    pub(super) async fn take_chunk(
        &self,
        peer: &PeerId,
        limits: PeerLimits,
        (id, number): (AttachmentId, u32),
        request: Request<Incoming>,
    ) -> Result<Answer, Refusal> {
        let values = request.headers().get_all(CONTENT_DIGEST).iter();
        let digest = parse_content_digest(values.filter_map(|value| value.to_str().ok()))
            .ok_or_else(|| Refusal::malformed("the header content-digest has no SHA-256"))?;
        let quota = self.shared.quotas.of(peer.domain(), limits);
        let _turn = quota.chunk_turn(self.shared.config.body_timeout).await?;
        let chunk = IncomingChunk { id, number, digest, body: request.into_body() };
        self.shared.inbound.take_chunk(peer, chunk).await?;
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        Ok(answer)
    }
}

impl From<ChunkRefused> for Refusal {
    fn from(refused: ChunkRefused) -> Self {
        let later = |status, class, wait| {
            Self::later(status, Failure::new(class, "the relay takes no chunk at the moment"), wait)
        };
        match refused {
            ChunkRefused::Unknown => Self::new(
                StatusCode::NOT_FOUND,
                "unknown-attachment",
                "this chunk was not offered, or its time is over",
            ),
            ChunkRefused::Differs => Self::new(
                StatusCode::CONFLICT,
                "chunk-differs",
                "the chunk is there already, with another digest",
            ),
            ChunkRefused::Wrong => Self::new(
                StatusCode::BAD_REQUEST,
                "wrong-digest",
                "the bytes are not those that were announced",
            ),
            ChunkRefused::Slow => {
                Self::new(StatusCode::REQUEST_TIMEOUT, "request-timeout", "the chunk did not arrive in time")
            }
            ChunkRefused::Full(wait) => {
                later(StatusCode::INSUFFICIENT_STORAGE, FailureClass::StorageFull, wait)
            }
            ChunkRefused::Busy => {
                later(StatusCode::INSUFFICIENT_STORAGE, FailureClass::Unavailable, RETRY_SOON)
            }
        }
    }
}

impl fmt::Debug for IncomingChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingChunk").finish_non_exhaustive()
    }
}
