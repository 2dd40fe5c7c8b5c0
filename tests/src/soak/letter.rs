//! Envelopes whose content follows from their id, so that a changed byte is noticed.

use postrider_common::{Attachment, Draft, Envelope, EnvelopeId, MailboxId, Timestamp};

use crate::dice::Dice;

/// One with a body of a few hundred bytes, now and then of many thousand.
pub(super) fn write(
    dice: &mut Dice,
    mailbox: MailboxId,
    expires_at: Timestamp,
    attachments: Vec<Attachment>,
) -> Envelope {
    let length = if dice.once_in(100) { dice.between(10_000, 60_000) } else { dice.between(64, 1500) };
    let draft = Draft::new(mailbox, expires_at, &b"-"[..]);
    let body = body(&draft.id, length);
    #[expect(clippy::expect_used, reason = "the body is neither empty nor larger than any envelope may be")]
    Draft { body: body.into(), attachments, ..draft }.finish().expect("the draft is within the limits")
}

/// Whether the body is the one that belongs to the envelope's id.
pub(super) fn is_as_written(envelope: &Envelope) -> bool {
    envelope.body()[..] == body(envelope.id(), envelope.body().len())
}

fn body(id: &EnvelopeId, length: usize) -> Vec<u8> {
    let seed = id.as_bytes().iter().fold(0, |seed: u64, byte| seed.rotate_left(8) ^ u64::from(*byte));
    let mut dice = Dice::new(seed);
    let mut body = Vec::with_capacity(length + 8);
    // Lengths here are far below 4 GiB.
    body.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    while body.len() < length {
        body.extend(dice.roll().to_be_bytes());
    }
    body.truncate(length);
    body
}
