//! A client hands envelopes to its relay: `POST /v1/envelopes`.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{WireError, class_of, decode_batch, encode, envelope_in};
use crate::{Domain, Envelope, FailureClass, TrackingId};

/// What became of one submitted envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubmitResult {
    /// It is in the recipient's mailbox, on stable storage. Also the answer to a repeated submission.
    Stored,
    /// It waits, on stable storage, for another relay. A repeated submission gets the same id.
    Queued {
        /// What to ask by.
        tracking: TrackingId,
    },
    /// It was not taken.
    Refused {
        /// Why not.
        reason: FailureClass,
        /// When trying again makes sense, if ever. Whole seconds.
        retry_after: Option<Duration>,
    },
}

#[derive(Serialize, Deserialize)]
struct Item<'a> {
    domain: &'a str,
    #[serde(borrow, with = "serde_bytes")]
    envelope: &'a [u8],
}

#[derive(Serialize, Deserialize)]
enum ResultForm<'a> {
    Stored,
    Queued { tracking: TrackingId },
    Refused { reason: &'a str, retry_after: Option<u32> },
}

/// One submitted item as the relay reads it: where it goes and what, or why that item alone is wrong.
pub type Submitted = Result<(Domain, Envelope), FailureClass>;

/// The request's body.
pub fn encode_request(items: &[(Domain, Envelope)]) -> Bytes {
    let size = items.iter().map(|(_, envelope)| envelope.encoded().len() + Domain::MAX_LENGTH + 16).sum();
    let items: Vec<_> = items
        .iter()
        .map(|(domain, envelope)| Item { domain: domain.as_str(), envelope: envelope.encoded() })
        .collect();
    encode(&items, size).into()
}

/// Reads a request's body. Each item that is wrong by itself says so in its place.
pub fn decode_request(body: &Bytes) -> Result<Vec<Submitted>, WireError> {
    let items: Vec<Item<'_>> = decode_batch(body)?;
    let one = |item: &Item<'_>| {
        let domain = item.domain.parse().map_err(|_| FailureClass::Malformed)?;
        Ok((domain, envelope_in(body, item.envelope)?))
    };
    Ok(items.iter().map(one).collect())
}

/// The answer's body: one result for each item, in order.
pub fn encode_results(results: &[SubmitResult]) -> Bytes {
    let forms: Vec<_> = results
        .iter()
        .map(|result| match result {
            SubmitResult::Stored => ResultForm::Stored,
            SubmitResult::Queued { tracking } => ResultForm::Queued { tracking: *tracking },
            SubmitResult::Refused { reason, retry_after } => {
                ResultForm::Refused { reason: reason.slug(), retry_after: retry_after.map(seconds) }
            }
        })
        .collect();
    encode(&forms, results.len() * 32).into()
}

/// Reads an answer's body. A reason that this version does not know counts as `unavailable`
/// where the relay gives a time to come back, as `mailbox-refused` otherwise.
pub fn decode_results(body: &[u8]) -> Result<Vec<SubmitResult>, WireError> {
    let forms: Vec<ResultForm<'_>> = decode_batch(body)?;
    let one = |form: ResultForm<'_>| match form {
        ResultForm::Stored => SubmitResult::Stored,
        ResultForm::Queued { tracking } => SubmitResult::Queued { tracking },
        ResultForm::Refused { reason, retry_after } => {
            let unknown = match retry_after {
                Some(_) => FailureClass::Unavailable,
                None => FailureClass::MailboxRefused,
            };
            SubmitResult::Refused {
                reason: class_of(reason, unknown),
                retry_after: retry_after.map(|secs| Duration::from_secs(secs.into())),
            }
        }
    };
    Ok(forms.into_iter().map(one).collect())
}

/// Whole seconds, rounded up: nobody is asked back too early.
pub(super) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}
