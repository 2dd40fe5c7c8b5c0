//! What can go wrong between a client and its relay.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderMap, RETRY_AFTER};
use postrider_common::wire::WireError;
use postrider_common::wire::control::Problem;
use postrider_common::{Domain, FailureClass, Persistence};

/// Why a call failed, and whether to try again.
///
/// ```no_run
/// # use std::time::Duration;
/// # use postrider_client::{Relay, RelayInfo, Error};
/// async fn patiently(relay: &Relay) -> Result<RelayInfo, Error> {
///     let mut pause = Duration::from_millis(500);
///     loop {
///         match relay.info().await {
///             Err(error) if error.is_retryable() => {
///                 tokio::time::sleep(pause.max(error.retry_after().unwrap_or_default())).await;
///                 pause = (pause * 2).min(Duration::from_secs(60));
///             }
///             other => return other,
///         }
///     }
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The relay's address is not one.
    #[error("{url:?} is not a relay's address: {reason}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The trust settings cannot be used.
    #[error("the trust settings cannot be used: {reason}")]
    Trust {
        /// What is wrong with them.
        reason: String,
    },
    /// The relay's name has no address, or the look-up failed.
    #[error("cannot find the address of {host}: {source}")]
    Lookup {
        /// Which name.
        host: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Nobody answered at the relay's address.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The last address that was tried.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The proxy did not bring us to the relay.
    #[error("the proxy at {proxy} does not connect us to the relay: {reason}")]
    Proxy {
        /// Its host and port.
        proxy: String,
        /// What it said, or what happened to the connection to it.
        reason: String,
        /// Whether it may be otherwise later.
        is_temporary: bool,
    },
    /// Somebody answered who is not the relay that we trust.
    #[error("the relay at {host} is not trusted: expected {expected}, presented was {presented} ({reason})")]
    Untrusted {
        /// Who was called.
        host: String,
        /// What the trust settings ask for.
        expected: String,
        /// What the certificate says.
        presented: String,
        /// Why the one is not the other.
        reason: String,
    },
    /// The TLS handshake failed for another reason.
    #[error("no secure connection to {host}: {source}")]
    Tls {
        /// Who was called.
        host: String,
        /// What TLS says.
        source: io::Error,
    },
    /// No answer in time.
    #[error("no answer within {} seconds", .after.as_secs())]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// The connection broke. Whether the relay has acted on the request is not known; all requests may be repeated.
    #[error("the connection to the relay was lost: {source}")]
    Lost {
        /// What happened to it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The relay said no, and why.
    #[error("the relay refused: {}", sentence(.problem))]
    Refused {
        /// Its words.
        problem: Problem,
        /// When it asks to come back.
        retry_after: Option<Duration>,
    },
    /// The relay, or something in front of it, answered with an error in no form that we know.
    #[error("the relay answered with the status {status}")]
    Status {
        /// Which.
        status: StatusCode,
        /// When it asks to come back.
        retry_after: Option<Duration>,
    },
    /// The answer is not what the protocol says.
    #[error("the relay's answer makes no sense: {reason}")]
    Protocol {
        /// What is wrong with it.
        reason: String,
    },
    /// The relay keeps another domain's mailboxes than the identity's.
    #[error("this relay is {actual}, and the mailbox is kept at {expected}")]
    WrongRelay {
        /// The identity's domain.
        expected: Domain,
        /// The relay's.
        actual: Domain,
    },
    /// The stream has been closed.
    #[error("the stream is closed")]
    Closed,
}

impl Error {
    /// Whether the same call can succeed later without anybody changing anything on this side.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Lookup { .. } | Self::Connect { .. } | Self::TimedOut { .. } | Self::Lost { .. } => true,
            Self::Refused { problem, retry_after } => match problem.class() {
                _ if retry_after.is_some() => true,
                _ if problem.domain.is_some() => false,
                Some(class) => class.persistence() == Persistence::Temporary,
                None => StatusCode::from_u16(problem.status).is_ok_and(is_temporary),
            },
            Self::Proxy { is_temporary, .. } => *is_temporary,
            Self::Status { status, retry_after } => retry_after.is_some() || is_temporary(*status),
            Self::Url { .. }
            | Self::Trust { .. }
            | Self::Untrusted { .. }
            | Self::Tls { .. }
            | Self::Protocol { .. }
            | Self::WrongRelay { .. }
            | Self::Closed => false,
        }
    }

    /// When the relay asks to come back, if it said so.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } | Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The class of the failure, where the relay named one.
    pub fn class(&self) -> Option<FailureClass> {
        match self {
            Self::Refused { problem, .. } => problem.class(),
            _ => None,
        }
    }

    /// The slug of the relay's problem, for instance `unknown-tracking`.
    pub fn slug(&self) -> Option<&str> {
        match self {
            Self::Refused { problem, .. } => Some(problem.slug()),
            _ => None,
        }
    }

    /// Where the mailbox is kept, if that is why the relay refused.
    pub fn moved_to(&self) -> Option<&Domain> {
        match self {
            Self::Refused { problem, .. } => problem.domain.as_ref(),
            _ => None,
        }
    }

    /// The HTTP status, where there was an answer.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { problem, .. } => StatusCode::from_u16(problem.status).ok(),
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// From an answer whose status is not a success. The status line is believed over the document.
    pub(crate) fn from_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let retry_after = headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        match serde_json::from_slice::<Problem>(body) {
            Ok(mut problem) => {
                problem.status = status.as_u16();
                Self::Refused { problem, retry_after }
            }
            Err(_) => Self::Status { status, retry_after },
        }
    }

    pub(crate) fn protocol(reason: impl Into<String>) -> Self {
        Self::Protocol { reason: reason.into() }
    }

    pub(crate) fn lost(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Lost { source: source.into() }
    }
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        Self::protocol(error.to_string())
    }
}

fn sentence(problem: &Problem) -> String {
    match &problem.detail {
        Some(detail) => format!("{} ({detail})", problem.title),
        None => problem.title.clone(),
    }
}

fn is_temporary(status: StatusCode) -> bool {
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => true,
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => false,
        other => other.is_server_error(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<&str>, body: &str) -> Error {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(RETRY_AFTER, value.parse().unwrap());
        }
        Error::from_answer(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
    }

    fn problem(slug: &str) -> String {
        format!(r#"{{"type":"urn:postrider:problem:{slug}","title":"No","status":200,"detail":"because"}}"#)
    }

    #[test]
    fn a_problem_document_keeps_its_words() {
        let error = answer(404, None, &problem("unknown-tracking"));
        assert_eq!(error.slug(), Some("unknown-tracking"));
        assert_eq!(error.to_string(), "the relay refused: No (because)");
        assert_eq!(error.status(), Some(StatusCode::NOT_FOUND), "the status line counts");
        assert!(!error.is_retryable());
    }

    #[test]
    fn a_mailbox_that_has_moved_says_where() {
        let body = r#"{"type":"urn:postrider:problem:moved","title":"No","status":410,"domain":"b.example"}"#;
        let error = answer(410, None, body);
        assert_eq!(error.moved_to().map(Domain::as_str), Some("b.example"));
        assert!(!error.is_retryable(), "not there");
        assert_eq!(answer(404, None, &problem("no-such-mailbox")).moved_to(), None);
    }

    #[test]
    fn knows_what_waiting_helps_against() {
        for (status, retry_after, body, retryable) in [
            (503, None, problem("unavailable"), true),
            (507, None, problem("storage-full"), true),
            (429, Some("7"), problem("rate-limited"), true),
            (413, None, problem("too-large"), false),
            (403, Some("7"), problem("something-new"), true),
            (403, None, problem("something-new"), false),
            (502, None, "<html>".into(), true),
            (501, None, "<html>".into(), false),
            (404, None, "<html>".into(), false),
            (401, None, String::new(), false),
        ] {
            let error = answer(status, retry_after, &body);
            assert_eq!(error.is_retryable(), retryable, "{status} {body}");
            assert_eq!(error.retry_after(), retry_after.map(|_| Duration::from_secs(7)));
        }
        assert_eq!(answer(503, Some("soon"), "").retry_after(), None);
        assert!(Error::lost("reset").is_retryable());
        assert!(Error::TimedOut { after: Duration::ZERO }.is_retryable());
        assert!(!Error::Closed.is_retryable());
    }
}
