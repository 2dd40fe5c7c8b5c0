//! Attachments ahead of the envelope that names them: what the peer lacks, and then chunk by chunk.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::combinators::UnsyncBoxBody;
use postrider_common::wire::attachments::{
    AttachmentOffer, AttachmentsWanted, CONTENT_DIGEST, content_digest,
};
use postrider_common::{AttachmentId, Domain, Failure, FailureClass};

use super::{Call, Client, Content, MAX_DOCUMENT_BYTES};
use crate::ATTACHMENTS_PATH;

/// The largest answer to an offer that is read: sixteen attachments of 4,096 chunks, of which every other is missing.
const MAX_WANTED_BYTES: usize = 1 << 20;
/// Slower than this in the long run, a chunk is given up.
const LEAST_BYTES_PER_SECOND: u64 = 16 << 10;

/// The bytes of a chunk, piece by piece.
pub type ChunkBody = UnsyncBoxBody<Bytes, io::Error>;

/// A chunk to be sent.
pub struct OutgoingChunk {
    /// Of which attachment.
    pub id: AttachmentId,
    /// Which one.
    pub number: u32,
    /// Its SHA-256.
    pub digest: [u8; 32],
    /// How many bytes it has.
    pub bytes: u32,
    /// Begins to read it: once for each time that it is sent.
    pub body: Arc<dyn Fn() -> ChunkBody + Send + Sync>,
}

/// What a peer makes of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChunkAnswer {
    /// It has it, on stable storage.
    Taken,
    /// It has no place for it any more, or thinks otherwise of it: it has to be asked anew what it lacks.
    Refused,
    /// It has no room for attachments at present.
    Full(Duration),
    /// It fails at attachments. Of envelopes without any that says nothing.
    NotNow(Failure),
}

/// What a peer makes of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfferAnswer {
    /// What it lacks.
    Wanted(AttachmentsWanted),
    /// It takes no attachments, or fails at them. Of envelopes without any that says nothing.
    NotNow(Failure),
}

impl Client {
    /// Tells `destination` which attachments an envelope names, and hears what it lacks of them.
    pub async fn offer(&self, destination: &Domain, offer: &AttachmentOffer) -> Result<OfferAnswer, Failure> {
        let bytes = serde_json::to_vec(offer)
            .map_err(|error| Failure::new(FailureClass::Malformed, error.to_string()))?;
        let call = Call {
            method: Method::POST,
            path: ATTACHMENTS_PATH.into(),
            content: Content::of("application/json", bytes.into()),
            answer_limit: MAX_WANTED_BYTES,
            time: self.request_time(),
        };
        self.call(destination, call).await?.wanted(destination)
    }

    /// Sends a chunk.
    pub async fn send_chunk(
        &self,
        destination: &Domain,
        chunk: &OutgoingChunk,
    ) -> Result<ChunkAnswer, Failure> {
        let call = Call {
            method: Method::PUT,
            path: format!("{ATTACHMENTS_PATH}/{}/chunks/{}", chunk.id, chunk.number).into(),
            content: Content::Chunk(chunk),
            answer_limit: MAX_DOCUMENT_BYTES,
            time: self.request_time() + Duration::from_secs(u64::from(chunk.bytes) / LEAST_BYTES_PER_SECOND),
        };
        self.call(destination, call).await?.chunk(destination)
    }
}

impl OutgoingChunk {
    pub(super) fn describe(&self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(self.bytes));
        // Base64 is always a valid value.
        if let Ok(digest) = HeaderValue::try_from(content_digest(&self.digest)) {
            headers.insert(CONTENT_DIGEST, digest);
        }
    }
}

impl fmt::Debug for OutgoingChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingChunk").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
