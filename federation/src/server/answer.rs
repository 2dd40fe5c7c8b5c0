//! Answers: outcomes, documents, and problems that say what is wrong and nothing about our insides.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use postrider_common::wire::control::{PROBLEM_CONTENT_TYPE, Problem};
use postrider_common::wire::{self, WireError};
use postrider_common::{Failure, FailureClass};
use serde::Serialize;

use super::Busy;

pub(super) type Answer = Response<Full<Bytes>>;

/// Why a request gets no better answer than a problem.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    slug: &'static str,
    detail: String,
    header: Option<(http::HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, slug: &'static str, detail: impl Into<String>) -> Self {
        Self { status, slug, detail: detail.into(), header: None }
    }

    /// The origin is not proven, or our policy does not take from it.
    pub(super) fn forbidden(failure: Failure) -> Self {
        Self::new(StatusCode::FORBIDDEN, failure.class.slug(), failure.detail)
    }

    /// Not now.
    pub(super) fn later(status: StatusCode, failure: Failure, retry_after: Duration) -> Self {
        Self {
            header: Some((RETRY_AFTER, HeaderValue::from(whole_seconds(retry_after)))),
            ..Self::new(status, failure.class.slug(), failure.detail)
        }
    }

    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, FailureClass::Malformed.slug(), detail)
    }

    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, FailureClass::TooLarge.slug(), detail)
    }

    pub(super) fn method(allowed: &'static str) -> Self {
        Self {
            header: Some((ALLOW, HeaderValue::from_static(allowed))),
            ..Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                format!("this path takes {allowed} only"),
            )
        }
    }

    /// Something that is our fault; what it is stays in our log.
    pub(super) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the relay failed to handle the request")
    }
}

/// For a log: the status, the slug and the sentence.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.slug, self.detail)
    }
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        let detail = error.to_string();
        match error {
            WireError::TooLarge => Self::too_large(detail),
            WireError::Malformed(_) => Self::malformed(detail),
            WireError::UnsupportedVersion(_) => {
                Self::new(StatusCode::BAD_REQUEST, FailureClass::VersionUnsupported.slug(), detail)
            }
        }
    }
}

impl From<Busy> for Refusal {
    fn from(busy: Busy) -> Self {
        let status = match busy.reason {
            FailureClass::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self {
            header: Some((RETRY_AFTER, HeaderValue::from(whole_seconds(busy.retry_after)))),
            ..Self::new(status, busy.reason.slug(), "the relay takes no envelopes at the moment")
        }
    }
}

/// Rounded up and at least one, so that nobody is asked back too early.
fn whole_seconds(duration: Duration) -> u64 {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).max(1)
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let title = refusal.status.canonical_reason().unwrap_or("Error");
        let mut problem = Problem::new(refusal.slug, title, refusal.status.as_u16());
        problem.detail = Some(refusal.detail);
        let mut answer = json(refusal.status, PROBLEM_CONTENT_TYPE, &problem);
        if let Some((name, value)) = refusal.header {
            answer.headers_mut().insert(name, value);
        }
        answer
    }
}

/// A document.
pub(super) fn document(document: &impl Serialize) -> Answer {
    json(StatusCode::OK, "application/json", document)
}

/// Outcomes, encoded.
pub(super) fn outcomes(encoded: Bytes) -> Answer {
    answer(StatusCode::OK, wire::CONTENT_TYPE, encoded)
}

fn json(status: StatusCode, content_type: &'static str, document: &impl Serialize) -> Answer {
    // Our documents are structs of texts and numbers, which always serialize.
    let body = serde_json::to_vec(document).unwrap_or_default();
    answer(status, content_type, body.into())
}

fn answer(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
