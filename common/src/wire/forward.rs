//! A relay hands envelopes to another: `POST /federation/v1/envelopes`.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use super::submit::seconds;
use super::{WireError, class_of, decode_batch, encode, envelope_in};
use crate::{Binding, Domain, Envelope, FailureClass, MailboxId, Outcome};

#[derive(Serialize, Deserialize)]
struct Item<'a>(#[serde(borrow, with = "serde_bytes")] &'a [u8]);

#[derive(Serialize, Deserialize)]
enum OutcomeForm<'a> {
    Stored,
    Duplicate,
    Moved { mailbox: MailboxId, domain: &'a str, serial: u64, signature: ByteArray<64> },
    Retry { reason: &'a str, after: u32 },
    Reject { reason: &'a str },
}

/// The request's body. Origin and destination are in HTTP headers.
pub fn encode_request<'a>(envelopes: impl ExactSizeIterator<Item = &'a Envelope> + Clone) -> Bytes {
    let size = envelopes.clone().map(|envelope| envelope.encoded().len() + 8).sum::<usize>() + 8;
    let items: Vec<_> = envelopes.map(|envelope| Item(envelope.encoded())).collect();
    encode(&items, size).into()
}

/// Reads a request's body. Each envelope that is wrong by itself says so in its place.
pub fn decode_request(body: &Bytes) -> Result<Vec<Result<Envelope, FailureClass>>, WireError> {
    let items: Vec<Item<'_>> = decode_batch(body)?;
    Ok(items.iter().map(|item| envelope_in(body, item.0)).collect())
}

/// The answer's body: one outcome for each envelope, in order.
pub fn encode_outcomes(outcomes: &[Outcome]) -> Bytes {
    let forms: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Stored => OutcomeForm::Stored,
            Outcome::Duplicate => OutcomeForm::Duplicate,
            Outcome::Moved(binding) => OutcomeForm::Moved {
                mailbox: *binding.mailbox(),
                domain: binding.domain().as_str(),
                serial: binding.serial(),
                signature: ByteArray::new(*binding.signature()),
            },
            Outcome::Retry { reason, after } => {
                OutcomeForm::Retry { reason: reason.slug(), after: seconds(*after) }
            }
            Outcome::Reject { reason } => OutcomeForm::Reject { reason: reason.slug() },
        })
        .collect();
    encode(&forms, outcomes.len() * 8).into()
}

/// Reads an answer's body, checking the signature of every binding.
///
/// A reason that this version does not know counts as `remote-failed` where the peer says to come back, as
/// `mailbox-refused` where it does not. A binding that does not check out counts as `remote-failed` too: the
/// envelope stays in our custody.
pub fn decode_outcomes(body: &[u8]) -> Result<Vec<Outcome>, WireError> {
    let forms: Vec<OutcomeForm<'_>> = decode_batch(body)?;
    let one = |form: OutcomeForm<'_>| match form {
        OutcomeForm::Stored => Outcome::Stored,
        OutcomeForm::Duplicate => Outcome::Duplicate,
        OutcomeForm::Moved { mailbox, domain, serial, signature } => {
            moved(mailbox, domain, serial, signature.into_array())
        }
        OutcomeForm::Retry { reason, after } => {
            Outcome::retry(class_of(reason, FailureClass::RemoteFailed), Duration::from_secs(after.into()))
        }
        OutcomeForm::Reject { reason } => Outcome::reject(class_of(reason, FailureClass::MailboxRefused)),
    };
    Ok(forms.into_iter().map(one).collect())
}

fn moved(mailbox: MailboxId, domain: &str, serial: u64, signature: [u8; 64]) -> Outcome {
    domain
        .parse::<Domain>()
        .ok()
        .and_then(|domain| Binding::verify(mailbox, domain, serial, signature).ok())
        .map_or(Outcome::retry(FailureClass::RemoteFailed, Duration::ZERO), |binding| {
            Outcome::Moved(Box::new(binding))
        })
}
