//! How much of anything there may be. Each relay announces its own values; these are the defaults.

use std::time::Duration;

use crate::{Attachment, Envelope, FailureClass, Timestamp};

/// Nothing larger than this is read as an envelope by any version, whatever a relay configures: it bounds what a
/// decoder may allocate.
pub const MAX_ENVELOPE_BYTES: usize = 1 << 20;
/// The same for one batch or frame.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;
/// The same for the envelopes in one batch.
pub const MAX_BATCH_ENVELOPES: usize = 1024;
/// The most attachments that one envelope refers to.
pub const MAX_ATTACHMENTS: usize = 16;
/// The most bytes of one chunk of an attachment,
pub const MAX_CHUNK_BYTES: u32 = 16 << 20;
/// and the most chunks of one attachment: which of them a relay has is told in one answer.
pub const MAX_CHUNKS: u32 = 4096;
/// The longest that any relay keeps an envelope.
pub const MAX_LIFETIME: Duration = Duration::from_secs(60 * 86_400);
/// What a batch's framing and everything in an envelope but header and body may add, per envelope: an upper bound
/// for turning a limit on content into a limit on bytes.
pub const ENVELOPE_OVERHEAD: usize = 1280;

/// What a relay takes as one envelope and as one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnvelopeLimits {
    /// Bytes of body.
    pub body: usize,
    /// Bytes of header.
    pub header: usize,
    /// Bytes of an attachment.
    pub attachment: u64,
    /// How far ahead `expires_at` may lie.
    pub lifetime: Duration,
    /// Envelopes in one batch.
    pub batch_envelopes: usize,
    /// Bytes of one batch, framing included.
    pub batch_bytes: usize,
}

impl Default for EnvelopeLimits {
    fn default() -> Self {
        Self {
            body: 128 << 10,
            header: 1 << 10,
            attachment: 100 << 20,
            lifetime: Duration::from_secs(30 * 86_400),
            batch_envelopes: 256,
            batch_bytes: 4 << 20,
        }
    }
}

impl EnvelopeLimits {
    /// Whether this relay takes `envelope` at `now`, and if not, why.
    ///
    /// An hour is allowed on top of the lifetime, because clients round `expires_at` up to a full hour.
    pub fn check(&self, envelope: &Envelope, now: Timestamp) -> Result<(), FailureClass> {
        const ROUNDING: Duration = Duration::from_secs(3600);
        if envelope.body().len() > self.body || envelope.header().len() > self.header {
            return Err(FailureClass::TooLarge);
        }
        let is_larger = |attachment: &Attachment| attachment.length > self.attachment;
        if envelope.attachments().iter().any(is_larger) {
            return Err(FailureClass::TooLarge);
        }
        if envelope.expires_at() <= now {
            return Err(FailureClass::Expired);
        }
        if envelope.expires_at() > now + self.lifetime + ROUNDING {
            return Err(FailureClass::LifetimeTooLong);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Draft, MailboxId};

    #[test]
    fn names_what_is_over_the_limit() {
        let now = Timestamp::from_secs(1_000_000);
        let limits = EnvelopeLimits { body: 10, header: 2, ..EnvelopeLimits::default() };
        let envelope = |body: &'static [u8], header: &'static [u8], expires_at| {
            let draft = Draft::new(MailboxId::from_bytes([1; 32]), expires_at, body);
            Draft { header: header.into(), ..draft }.finish().unwrap()
        };
        let soon = now + Duration::from_secs(1);
        let check = |envelope: &Envelope| limits.check(envelope, now);
        assert_eq!(check(&envelope(b"0123456789", b"hh", soon)), Ok(()));
        assert_eq!(check(&envelope(b"0123456789a", b"hh", soon)), Err(FailureClass::TooLarge));
        assert_eq!(check(&envelope(b"0", b"hhh", soon)), Err(FailureClass::TooLarge));
        assert_eq!(check(&envelope(b"0", b"", now)), Err(FailureClass::Expired));
        let latest = now + limits.lifetime + Duration::from_secs(3600);
        assert_eq!(check(&envelope(b"0", b"", latest)), Ok(()));
        let later = latest + Duration::from_secs(1);
        assert_eq!(check(&envelope(b"0", b"", later)), Err(FailureClass::LifetimeTooLong));
    }
}
