//! What a peer's answer means.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::response::Parts;
use http::{HeaderMap, StatusCode};
use postrider_common::wire::attachments::AttachmentsWanted;
use postrider_common::wire::control::Problem;
use postrider_common::wire::{self, forward};
use postrider_common::{Domain, Failure, FailureClass, Outcome};

use super::attachments::{ChunkAnswer, OfferAnswer};
use crate::certificate::printable;
use crate::hello::Hello;

/// The longest that a peer may put us off.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(6 * 3600);
/// When a peer is asked again that has no room for attachments and does not say when.
const FULL_FOR: Duration = Duration::from_secs(60);
/// The most characters of a peer's own words that we repeat.
const MAX_WORDS: usize = 600;

/// A peer's whole answer.
#[derive(Debug)]
pub(super) struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answered {
    pub(super) fn new(head: Parts, body: Bytes) -> Self {
        Self { status: head.status, headers: head.headers, body }
    }

    /// Whether the relay that answered is not the one that was asked for.
    pub(super) fn is_misdirected(&self) -> bool {
        self.status == StatusCode::MISDIRECTED_REQUEST
    }

    /// One outcome for each of `count` envelopes.
    pub(super) fn outcomes(&self, peer: &Domain, count: usize) -> Result<Vec<Outcome>, Failure> {
        self.succeeded(peer)?;
        if self.headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes)
            != Some(wire::CONTENT_TYPE.as_bytes())
        {
            return Err(failed(format!("{peer} answered a batch with another type of content")));
        }
        let outcomes = forward::decode_outcomes(&self.body)
            .map_err(|error| failed(format!("{peer} answered a batch with something unreadable: {error}")))?;
        if outcomes.len() == count {
            Ok(outcomes)
        } else {
            let detail = format!("{peer} answered {} outcomes for {count} envelopes", outcomes.len());
            Err(failed(detail))
        }
    }

    /// What became of an offer of attachments. What is about these only is no failure of the peer's.
    pub(super) fn wanted(&self, peer: &Domain) -> Result<OfferAnswer, Failure> {
        if self.status == StatusCode::NOT_FOUND {
            let detail = format!("{peer} takes no attachments from other relays");
            return Ok(OfferAnswer::NotNow(Failure::new(FailureClass::VersionUnsupported, detail)));
        }
        match self.succeeded(peer) {
            Err(failure) if self.status.is_server_error() => return Ok(OfferAnswer::NotNow(failure)),
            succeeded => succeeded?,
        }
        let wanted: Result<AttachmentsWanted, _> = serde_json::from_slice(&self.body);
        wanted
            .map(OfferAnswer::Wanted)
            .map_err(|error| failed(format!("{peer} answered an offer with something unreadable: {error}")))
    }

    /// What became of a chunk. What is about chunks only is no failure of the peer's.
    pub(super) fn chunk(&self, peer: &Domain) -> Result<ChunkAnswer, Failure> {
        match self.status {
            StatusCode::NO_CONTENT => Ok(ChunkAnswer::Taken),
            StatusCode::NOT_FOUND
            | StatusCode::CONFLICT
            | StatusCode::BAD_REQUEST
            | StatusCode::REQUEST_TIMEOUT => Ok(ChunkAnswer::Refused),
            StatusCode::INSUFFICIENT_STORAGE => Ok(ChunkAnswer::Full(self.retry_after().unwrap_or(FULL_FOR))),
            _ => match self.succeeded(peer) {
                Err(failure) if self.status.is_server_error() => Ok(ChunkAnswer::NotNow(failure)),
                succeeded => succeeded.map(|()| ChunkAnswer::Taken),
            },
        }
    }

    /// A greeting.
    pub(super) fn hello(&self, peer: &Domain) -> Result<Hello, Failure> {
        self.succeeded(peer)?;
        serde_json::from_slice(&self.body)
            .map_err(|error| failed(format!("{peer} answered hello with something unreadable: {error}")))
    }

    fn succeeded(&self, peer: &Domain) -> Result<(), Failure> {
        if self.status == StatusCode::OK {
            return Ok(());
        }
        let problem: Option<Problem> = serde_json::from_slice(&self.body).ok();
        let class = problem.as_ref().and_then(Problem::class);
        let words = problem.as_ref().and_then(|problem| problem.detail.as_deref());
        let words = words.map_or_else(|| "without a reason".into(), |words| printable(words, MAX_WORDS));
        let said = |class, what: &str| Failure::new(class, format!("{peer} {what}: {words}"));
        Err(match self.status {
            StatusCode::FORBIDDEN if class.is_some_and(about_certificates) => {
                said(FailureClass::TlsOurCertificateRefused, "does not accept our certificate")
            }
            StatusCode::FORBIDDEN => said(FailureClass::PolicyDeniedThere, "does not take envelopes from us"),
            StatusCode::MISDIRECTED_REQUEST => {
                said(FailureClass::RemoteMisdirected, "is not served by the relay that answered")
            }
            StatusCode::BAD_REQUEST if class == Some(FailureClass::VersionUnsupported) => {
                said(FailureClass::VersionUnsupported, "does not speak our protocol version")
            }
            StatusCode::BAD_REQUEST if class == Some(FailureClass::Malformed) => {
                said(FailureClass::Malformed, "cannot read what we sent")
            }
            StatusCode::PAYLOAD_TOO_LARGE => said(FailureClass::TooLarge, "does not take so much at once"),
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::INSUFFICIENT_STORAGE => Failure {
                retry_after: self.retry_after(),
                ..said(FailureClass::RemoteBusy, "asks us to come back")
            },
            status => said(FailureClass::RemoteFailed, &format!("answered with status {}", status.as_u16())),
        })
    }

    fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
    }
}

fn failed(detail: String) -> Failure {
    Failure::new(FailureClass::RemoteFailed, detail)
}

const fn about_certificates(class: FailureClass) -> bool {
    matches!(
        class,
        FailureClass::TlsUntrusted
            | FailureClass::TlsNameMismatch
            | FailureClass::TlsExpired
            | FailureClass::TlsPinMismatch
            | FailureClass::TlsDaneMismatch
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, headers: &[(http::HeaderName, &'static str)], body: &str) -> Answered {
        let headers =
            headers.iter().map(|(name, value)| (name.clone(), http::HeaderValue::from_static(value)));
        Answered {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.collect(),
            body: body.to_owned().into(),
        }
    }

    fn problem(slug: &str, detail: &str) -> String {
        format!(r#"{{"type":"urn:postrider:problem:{slug}","title":"T","status":1,"detail":"{detail}"}}"#)
    }

    #[test]
    fn a_status_becomes_a_class_and_a_sentence() {
        let peer = "b.example".parse().unwrap();
        for (status, slug, class, detail) in [
            (
                403,
                "tls-expired",
                FailureClass::TlsOurCertificateRefused,
                "b.example does not accept our certificate: why",
            ),
            (
                403,
                "policy-denied-here",
                FailureClass::PolicyDeniedThere,
                "b.example does not take envelopes from us: why",
            ),
            (
                403,
                "of-tomorrow",
                FailureClass::PolicyDeniedThere,
                "b.example does not take envelopes from us: why",
            ),
            (
                421,
                "remote-misdirected",
                FailureClass::RemoteMisdirected,
                "b.example is not served by the relay that answered: why",
            ),
            (
                400,
                "version-unsupported",
                FailureClass::VersionUnsupported,
                "b.example does not speak our protocol version: why",
            ),
            (400, "malformed", FailureClass::Malformed, "b.example cannot read what we sent: why"),
            (413, "too-large", FailureClass::TooLarge, "b.example does not take so much at once: why"),
            (507, "storage-full", FailureClass::RemoteBusy, "b.example asks us to come back: why"),
            (500, "internal", FailureClass::RemoteFailed, "b.example answered with status 500: why"),
            (301, "moved", FailureClass::RemoteFailed, "b.example answered with status 301: why"),
        ] {
            let failure = answered(status, &[], &problem(slug, "why")).outcomes(&peer, 1).unwrap_err();
            assert_eq!(failure, Failure::new(class, detail), "{status} {slug}");
        }
    }

    #[test]
    fn what_a_peer_says_of_attachments_is_told_from_what_it_says_of_us() {
        let peer = "b.example".parse().unwrap();
        for (status, is_about_attachments) in
            [(500, true), (502, true), (503, true), (403, false), (429, false)]
        {
            let answered = answered(status, &[(RETRY_AFTER, "17")], &problem("internal", "why"));
            let failure = answered.outcomes(&peer, 1).unwrap_err();
            let offered = answered.wanted(&peer);
            let chunk = answered.chunk(&peer);
            if is_about_attachments {
                assert_eq!(offered, Ok(OfferAnswer::NotNow(failure.clone())), "{status}");
                assert_eq!(chunk, Ok(ChunkAnswer::NotNow(failure)), "{status}");
            } else {
                assert_eq!((offered, chunk), (Err(failure.clone()), Err(failure)), "{status}");
            }
        }
        let takes_none = answered(404, &[], "").wanted(&peer);
        assert!(
            matches!(&takes_none, Ok(OfferAnswer::NotNow(failure)) if failure.class == FailureClass::VersionUnsupported),
            "{takes_none:?}"
        );
        assert_eq!(answered(404, &[], "").chunk(&peer), Ok(ChunkAnswer::Refused));
    }

    #[test]
    fn retry_after_is_honoured_within_reason() {
        let peer = "b.example".parse().unwrap();
        for (value, expected) in [("17", Some(17)), ("999999", Some(6 * 3600)), ("tomorrow", None)] {
            let failure = answered(503, &[(RETRY_AFTER, value)], "<html>").outcomes(&peer, 1).unwrap_err();
            assert_eq!(failure.class, FailureClass::RemoteBusy);
            assert_eq!(failure.retry_after, expected.map(Duration::from_secs), "{value}");
            assert_eq!(failure.detail, "b.example asks us to come back: without a reason");
        }
    }

    #[test]
    fn an_answer_that_is_none_leaves_the_batch_in_our_custody() {
        let peer = "b.example".parse().unwrap();
        let typed = [(CONTENT_TYPE, wire::CONTENT_TYPE)];
        let two = forward::encode_outcomes(&[Outcome::Stored, Outcome::Stored]);
        let two = Answered { body: two, ..answered(200, &typed, "") };
        assert_eq!(two.outcomes(&peer, 2).unwrap().len(), 2);
        for (answer, detail) in [
            (&two, "b.example answered 2 outcomes for 1 envelopes"),
            (
                &answered(200, &typed, "garbage"),
                "b.example answered a batch with something unreadable: wire version 1734439522 is not supported, \
                 version 1 is",
            ),
            (&answered(200, &[], ""), "b.example answered a batch with another type of content"),
        ] {
            let failure = answer.outcomes(&peer, 1).unwrap_err();
            assert_eq!(failure, Failure::new(FailureClass::RemoteFailed, detail));
        }
    }
}
