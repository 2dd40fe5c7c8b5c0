//! What is said about attachments, as JSON; their bytes travel by themselves.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::{Attachment, AttachmentId, EnvelopeId, MailboxId};

/// Chunks from the first to the last number, both included.
pub type ChunkRange = (u32, u32);

/// `POST /v1/attachments`: an attachment is about to be brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReserveAttachment {
    /// Its bytes in all.
    pub length: u64,
    /// The bytes of each chunk but the last.
    pub chunk_length: u32,
}

/// The answer to it, and to `GET /v1/attachments/{id}/chunks`: an attachment, and what is missing of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AttachmentStatus {
    /// Its id. Whoever knows it may bring chunks and fetch them.
    pub id: AttachmentId,
    /// Its bytes in all.
    pub length: u64,
    /// The bytes of each chunk but the last.
    pub chunk_length: u32,
    /// The chunks that the relay does not have, in order. None: it is whole.
    pub missing: Vec<ChunkRange>,
}

/// `POST /federation/v1/attachments`: an envelope is about to be forwarded that names these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentOffer {
    /// Whose mailbox the envelope is for.
    pub mailbox: MailboxId,
    /// Which envelope.
    pub envelope: EnvelopeId,
    /// What it names.
    pub attachments: Vec<Attachment>,
}

/// The answer: what is to be brought before the envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentsWanted {
    /// Of each attachment of which something is missing.
    pub attachments: Vec<AttachmentWanted>,
}

/// What is missing of one attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentWanted {
    /// Which.
    pub id: AttachmentId,
    /// Its chunks that are missing, in order.
    pub missing: Vec<ChunkRange>,
}

/// What a request with a chunk carries its SHA-256 in (RFC 9530).
pub const CONTENT_DIGEST: &str = "content-digest";

/// The header's value.
pub fn content_digest(digest: &[u8; 32]) -> String {
    format!("sha-256=:{}:", BASE64.encode(digest))
}

/// The SHA-256 in the header's values, whatever other digests are beside it.
pub fn parse_content_digest<'a>(values: impl Iterator<Item = &'a str>) -> Option<[u8; 32]> {
    let mut members = values.flat_map(|value| value.split(',')).map(str::trim);
    let digest = members.find_map(|member| member.strip_prefix("sha-256=:")?.strip_suffix(':'))?;
    BASE64.decode(digest.as_bytes()).ok()?.try_into().ok()
}

impl AttachmentStatus {
    /// Of an attachment of which so much is missing.
    pub const fn new(attachment: &Attachment, missing: Vec<ChunkRange>) -> Self {
        let Attachment { id, length, chunk_length } = *attachment;
        Self { id, length, chunk_length, missing }
    }

    /// What an envelope names it by.
    pub const fn attachment(&self) -> Attachment {
        Attachment { id: self.id, length: self.length, chunk_length: self.chunk_length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_found_among_others() {
        let header = content_digest(&[7; 32]);
        assert_eq!(parse_content_digest([header.as_str()].into_iter()), Some([7; 32]));
        let among = format!("md5=:AAAA:, {header}");
        assert_eq!(parse_content_digest(["sha-512=:AA==:", &among].into_iter()), Some([7; 32]));
        for wrong in ["", "sha-256=:AAAA:", "sha-256=AAAA"] {
            assert_eq!(parse_content_digest([wrong].into_iter()), None, "{wrong}");
        }
    }
}
