//! The unit that is accepted, stored, forwarded and delivered.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_ATTACHMENTS, MAX_CHUNK_BYTES, MAX_CHUNKS, MAX_ENVELOPE_BYTES};
use crate::wire::{self, WireError};
use crate::{AttachmentId, DeviceId, EnvelopeId, MailboxId, Timestamp};

/// An encrypted message on its way to one mailbox.
///
/// It says nothing about who sent it. It keeps its wire form, which is what is stored and passed on: an envelope is
/// encoded once, by the client that makes it, and never again. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    encoded: Bytes,
    id: EnvelopeId,
    mailbox: MailboxId,
    device: Option<DeviceId>,
    expires_at: Timestamp,
    urgency: Urgency,
    header: Bytes,
    body: Bytes,
    attachments: Box<[Attachment]>,
}

/// How much the recipient's device should be bothered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Urgency {
    /// Delivered when the device connects.
    #[default]
    Normal,
    /// Wakes the device.
    Urgent,
    /// For devices connected at this moment only; never stored.
    Ephemeral,
}

/// A reference to a file that travels beside the envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Which file.
    pub id: AttachmentId,
    /// Its bytes in all.
    pub length: u64,
    /// The bytes of each chunk but the last.
    pub chunk_length: u32,
}

impl Attachment {
    /// Whether a relay can take it at all: it has a byte, and neither too large chunks nor too many.
    pub const fn is_possible(&self) -> bool {
        self.length > 0
            && self.chunk_length > 0
            && self.chunk_length <= MAX_CHUNK_BYTES
            && self.length.div_ceil(self.chunk_length as u64) <= MAX_CHUNKS as u64
    }

    /// How many chunks it has.
    pub fn chunks(&self) -> u32 {
        let chunks = self.length.div_ceil(u64::from(self.chunk_length).max(1));
        u32::try_from(chunks).unwrap_or(u32::MAX)
    }

    /// Where the chunk `number` begins, and its bytes; `None` if there is none.
    pub fn chunk(&self, number: u32) -> Option<(u64, u32)> {
        let start = u64::from(number).checked_mul(self.chunk_length.into())?;
        let left = self.length.checked_sub(start).filter(|left| *left > 0)?;
        let bytes = left.min(self.chunk_length.into());
        Some((start, u32::try_from(bytes).ok()?))
    }
}

/// The fields of an envelope before it is encoded.
#[derive(Clone)]
pub struct Draft {
    /// Random; the idempotency key together with the mailbox.
    pub id: EnvelopeId,
    /// The recipient.
    pub mailbox: MailboxId,
    /// One device of the recipient's, or all.
    pub device: Option<DeviceId>,
    /// When the relay may delete it undelivered. Whole seconds.
    pub expires_at: Timestamp,
    /// How much the device should be bothered.
    pub urgency: Urgency,
    /// Opaque, for instance a wrapped key.
    pub header: Bytes,
    /// Opaque ciphertext, at least a byte.
    pub body: Bytes,
    /// At most [`MAX_ATTACHMENTS`].
    pub attachments: Vec<Attachment>,
}

impl Draft {
    /// A draft with a new random id, for every device, of normal urgency, with neither header nor attachments.
    pub fn new(mailbox: MailboxId, expires_at: Timestamp, body: impl Into<Bytes>) -> Self {
        Self {
            id: EnvelopeId::random(),
            mailbox,
            device: None,
            expires_at,
            urgency: Urgency::default(),
            header: Bytes::new(),
            body: body.into(),
            attachments: Vec::new(),
        }
    }

    /// Encodes it. Fails where the body is empty, or the whole is larger than any envelope may be.
    pub fn finish(self) -> Result<Envelope, WireError> {
        let fields = Fields {
            id: self.id,
            mailbox: self.mailbox,
            device: self.device,
            expires_at: self.expires_at.as_secs(),
            urgency: self.urgency,
            header: &self.header,
            body: &self.body,
            attachments: self.attachments,
        };
        Envelope::decode(wire::encode(&fields, 256 + self.header.len() + self.body.len()).into())
    }
}

/// The wire form after the version.
#[derive(Serialize, Deserialize)]
struct Fields<'a> {
    id: EnvelopeId,
    mailbox: MailboxId,
    device: Option<DeviceId>,
    expires_at: u64,
    urgency: Urgency,
    #[serde(borrow, with = "serde_bytes")]
    header: &'a [u8],
    #[serde(borrow, with = "serde_bytes")]
    body: &'a [u8],
    attachments: Vec<Attachment>,
}

impl Envelope {
    /// Reads an envelope, keeping the bytes. A relay's own limits are checked separately:
    /// [`EnvelopeLimits::check`](crate::limits::EnvelopeLimits::check).
    pub fn decode(encoded: Bytes) -> Result<Self, WireError> {
        if encoded.len() > MAX_ENVELOPE_BYTES {
            return Err(WireError::TooLarge);
        }
        let fields: Fields<'_> = wire::decode(&encoded)?;
        if fields.body.is_empty() {
            return Err(WireError::Malformed("its body is empty"));
        }
        if fields.attachments.len() > MAX_ATTACHMENTS {
            return Err(WireError::Malformed("it has too many attachments"));
        }
        Ok(Self {
            id: fields.id,
            mailbox: fields.mailbox,
            device: fields.device,
            expires_at: Timestamp::from_secs(fields.expires_at),
            urgency: fields.urgency,
            header: slice(&encoded, fields.header),
            body: slice(&encoded, fields.body),
            attachments: fields.attachments.into(),
            encoded,
        })
    }

    /// The wire form.
    pub const fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// The idempotency key together with the mailbox.
    pub const fn id(&self) -> &EnvelopeId {
        &self.id
    }

    /// The recipient.
    pub const fn mailbox(&self) -> &MailboxId {
        &self.mailbox
    }

    /// One device of the recipient's, or all.
    pub const fn device(&self) -> Option<&DeviceId> {
        self.device.as_ref()
    }

    /// When it may be deleted undelivered.
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// How much the device should be bothered.
    pub const fn urgency(&self) -> Urgency {
        self.urgency
    }

    /// Opaque, per recipient.
    pub const fn header(&self) -> &Bytes {
        &self.header
    }

    /// Opaque ciphertext.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// What travels beside it.
    pub const fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }

    /// The same envelope in memory of its own, for whoever keeps it longer than the batch that it came in.
    pub fn detached(&self) -> Self {
        let encoded = Bytes::copy_from_slice(&self.encoded);
        let at = |part: &Bytes| {
            let start = (part.as_ptr() as usize).saturating_sub(self.encoded.as_ptr() as usize);
            if part.is_empty() { Bytes::new() } else { encoded.slice(start..start + part.len()) }
        };
        Self { header: at(&self.header), body: at(&self.body), encoded, ..self.clone() }
    }
}

/// `part` of `whole` without a copy.
fn slice(whole: &Bytes, part: &[u8]) -> Bytes {
    if part.is_empty() { Bytes::new() } else { whole.slice_ref(part) }
}

/// Sizes only: neither whom it is for nor which one it is belongs in a log.
impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope").field("bytes", &self.encoded.len()).finish_non_exhaustive()
    }
}

/// As [`Envelope`]'s.
impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("body", &self.body.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> Draft {
        Draft::new(MailboxId::from_bytes([2; 32]), Timestamp::from_secs(3600), &b"body"[..])
    }

    #[test]
    fn shares_the_bytes_it_was_read_from() {
        let envelope = Draft { header: Bytes::from_static(b"head"), ..draft() }.finish().unwrap();
        let range = envelope.encoded().as_ptr_range();
        assert!(range.contains(&envelope.body().as_ptr()));
        assert!(range.contains(&envelope.header().as_ptr()));
        assert_eq!((&envelope.header()[..], &envelope.body()[..]), (&b"head"[..], &b"body"[..]));
    }

    #[test]
    fn detaches_from_its_batch() {
        let envelope = Draft { header: Bytes::from_static(b"head"), ..draft() }.finish().unwrap();
        let detached = envelope.detached();
        assert_eq!(detached, envelope);
        assert!(!envelope.encoded().as_ptr_range().contains(&detached.body().as_ptr()));
        assert!(detached.encoded().as_ptr_range().contains(&detached.header().as_ptr()));
    }

    #[test]
    fn an_empty_body_and_too_many_attachments_are_refused() {
        let empty = Draft { body: Bytes::new(), ..draft() };
        assert_eq!(empty.finish(), Err(WireError::Malformed("its body is empty")));
        let attachment = Attachment { id: AttachmentId::from_bytes([1; 32]), length: 1, chunk_length: 1 };
        let laden = Draft { attachments: vec![attachment; MAX_ATTACHMENTS + 1], ..draft() };
        assert!(matches!(laden.finish(), Err(WireError::Malformed(_))));
        let huge = Draft { body: vec![0; MAX_ENVELOPE_BYTES].into(), ..draft() };
        assert_eq!(huge.finish(), Err(WireError::TooLarge));
    }

    #[test]
    fn an_attachment_is_divided_into_chunks() {
        let of =
            |length, chunk_length| Attachment { id: AttachmentId::from_bytes([1; 32]), length, chunk_length };
        let file = of(1_000_000, 65_536);
        assert_eq!(
            (file.chunks(), file.chunk(0), file.chunk(15)),
            (16, Some((0, 65_536)), Some((983_040, 16_960)))
        );
        assert_eq!(file.chunk(16), None);
        assert_eq!(of(131_072, 65_536).chunks(), 2);
        assert_eq!(of(u64::MAX, 1).chunk(u32::MAX), Some((u64::from(u32::MAX), 1)));
        for (length, chunk_length, is_possible) in [
            (0, 1, false),
            (1, 0, false),
            (1, 1, true),
            (1, MAX_CHUNK_BYTES, true),
            (1, MAX_CHUNK_BYTES + 1, false),
            (u64::from(MAX_CHUNKS), 1, true),
            (u64::from(MAX_CHUNKS) + 1, 1, false),
        ] {
            assert_eq!(of(length, chunk_length).is_possible(), is_possible, "{length} {chunk_length}");
        }
    }

    #[test]
    fn debug_tells_no_names() {
        let envelope = draft().finish().unwrap();
        assert_eq!(
            format!("{envelope:?}"),
            format!("Envelope {{ bytes: {}, .. }}", envelope.encoded().len())
        );
    }
}
