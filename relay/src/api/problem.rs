//! Every error of the client API, and the one place where it becomes a response.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use postrider_common::limits::MAX_BATCH_ENVELOPES;
use postrider_common::wire::control::{PROBLEM_CONTENT_TYPE, Problem};
use postrider_common::wire::{self, WireError};
use postrider_common::{Domain, InviteRefusal};

use crate::attachments::AttachmentError;
use crate::exchange::MailboxError;
use crate::store::StoreError;
use crate::telemetry::Seldom;

/// Why a request was not carried out. What it says is for the client: nothing internal is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ApiError {
    NotFound,
    MethodNotAllowed { allow: &'static str },
    UnsupportedMediaType { expected: &'static str },
    TooLarge { limit: usize },
    TooMany { limit: usize },
    SlowBody,
    Malformed(String),
    UnsupportedVersion(u32),
    Unauthenticated(&'static str),
    ProofRefused(&'static str),
    RateLimited { retry_after: Duration },
    NoSuchMailbox,
    NoSuchDevice,
    TooManyDevices,
    MailboxSuspended,
    RegistrationClosed,
    InviteNeeded,
    InviteRefused(InviteRefusal),
    Moved(Domain),
    NoBinding,
    BindingRefused,
    BindingOutdated(u64),
    DomainRefused,
    UnknownTracking,
    UnknownDevice,
    UnknownAttachment,
    NoSuchChunk,
    AttachmentIncomplete,
    AttachmentInUse,
    ChunkDiffers,
    WrongDigest,
    RangeNotSatisfiable { length: u64 },
    UpgradeRequired,
    StorageFull,
    NoRoomForAttachments,
    TooMuchWaits,
    Unavailable,
}

/// When a client is asked back after the relay could not do something.
const RETRY_SOON: Duration = Duration::from_secs(5);

/// And after it had no room for attachments, which others have to fetch first.
const RETRY_WITH_ROOM: Duration = Duration::from_secs(60);

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound | Self::NoSuchMailbox => StatusCode::NOT_FOUND,
            Self::NoBinding | Self::UnknownTracking | Self::UnknownDevice => StatusCode::NOT_FOUND,
            Self::UnknownAttachment | Self::NoSuchChunk => StatusCode::NOT_FOUND,
            Self::AttachmentIncomplete | Self::AttachmentInUse => StatusCode::CONFLICT,
            Self::ChunkDiffers => StatusCode::CONFLICT,
            Self::WrongDigest => StatusCode::BAD_REQUEST,
            Self::RangeNotSatisfiable { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnsupportedMediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. } | Self::TooMany { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::Malformed(_) | Self::UnsupportedVersion(_) => StatusCode::BAD_REQUEST,
            Self::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Self::ProofRefused(_) | Self::NoSuchDevice => StatusCode::FORBIDDEN,
            Self::BindingRefused | Self::DomainRefused => StatusCode::FORBIDDEN,
            Self::RegistrationClosed | Self::InviteNeeded => StatusCode::FORBIDDEN,
            Self::MailboxSuspended => StatusCode::FORBIDDEN,
            Self::InviteRefused(_) => StatusCode::FORBIDDEN,
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::TooManyDevices | Self::BindingOutdated(_) => StatusCode::CONFLICT,
            Self::Moved(_) => StatusCode::GONE,
            Self::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
            Self::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
            Self::NoRoomForAttachments | Self::TooMuchWaits => StatusCode::INSUFFICIENT_STORAGE,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn slug(&self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::MethodNotAllowed { .. } => "method-not-allowed",
            Self::UnsupportedMediaType { .. } => "unsupported-media-type",
            Self::TooLarge { .. } | Self::TooMany { .. } => "too-large",
            Self::SlowBody => "slow-body",
            Self::Malformed(_) => "malformed",
            Self::UnsupportedVersion(_) => "unsupported-version",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::ProofRefused(_) => "proof-refused",
            Self::RateLimited { .. } => "rate-limited",
            Self::NoSuchMailbox => "no-such-mailbox",
            Self::NoSuchDevice => "no-such-device",
            Self::TooManyDevices => "too-many-devices",
            Self::MailboxSuspended => "mailbox-suspended",
            Self::RegistrationClosed => "registration-closed",
            Self::InviteNeeded => "invite-needed",
            Self::InviteRefused(_) => "invite-refused",
            Self::Moved(_) => "moved",
            Self::NoBinding => "no-binding",
            Self::BindingRefused => "binding-refused",
            Self::BindingOutdated(_) => "binding-outdated",
            Self::DomainRefused => "policy-denied-here",
            Self::UnknownTracking => "unknown-tracking",
            Self::UnknownDevice => "unknown-device",
            Self::UnknownAttachment => "unknown-attachment",
            Self::NoSuchChunk => "no-such-chunk",
            Self::AttachmentIncomplete => "attachment-incomplete",
            Self::AttachmentInUse => "attachment-in-use",
            Self::ChunkDiffers => "chunk-differs",
            Self::WrongDigest => "wrong-digest",
            Self::RangeNotSatisfiable { .. } => "range-not-satisfiable",
            Self::UpgradeRequired => "upgrade-required",
            Self::StorageFull | Self::NoRoomForAttachments | Self::TooMuchWaits => "storage-full",
            Self::Unavailable => "unavailable",
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::NotFound => "There is nothing at this path",
            Self::MethodNotAllowed { .. } => "This path does not take this method",
            Self::UnsupportedMediaType { .. } => "The body has the wrong content type",
            Self::TooLarge { .. } | Self::TooMany { .. } => "The body is too large",
            Self::SlowBody => "The body did not arrive in time",
            Self::Malformed(_) => "The request is malformed",
            Self::UnsupportedVersion(_) => "The body has a version that this relay does not read",
            Self::Unauthenticated(_) => "A session is needed",
            Self::ProofRefused(_) => "The proof of the mailbox's key is not accepted",
            Self::RateLimited { .. } => "Too many requests in too little time",
            Self::NoSuchMailbox => "The mailbox is not registered at this relay",
            Self::NoSuchDevice => "The device is not registered for the mailbox",
            Self::TooManyDevices => "The mailbox has as many devices as it may",
            Self::MailboxSuspended => "The mailbox is closed by this relay's administrator",
            Self::RegistrationClosed => "Mailboxes are made by this relay's administrator",
            Self::InviteNeeded => "It takes an invite to register a mailbox at this relay",
            Self::InviteRefused(_) => "The invite is not accepted",
            Self::Moved(_) => "The mailbox is kept at another relay",
            Self::NoBinding => "No binding of the mailbox is known at this relay",
            Self::BindingRefused => "The binding is not signed by the mailbox's key",
            Self::BindingOutdated(_) => "A later binding of the mailbox counts",
            Self::DomainRefused => "This relay does not exchange envelopes with that domain",
            Self::UnknownTracking => "There is no envelope with this tracking id",
            Self::UnknownDevice => "The mailbox has no device with this id",
            Self::UnknownAttachment => "There is no attachment with this id",
            Self::NoSuchChunk => "The attachment has no chunk with this number",
            Self::AttachmentIncomplete => "The attachment is not whole yet",
            Self::AttachmentInUse => "An envelope needs the attachment",
            Self::ChunkDiffers => "The chunk is there already, with another digest",
            Self::WrongDigest => "The body is not what the digest says",
            Self::RangeNotSatisfiable { .. } => "The attachment has no such bytes",
            Self::UpgradeRequired => "This path is a WebSocket",
            Self::StorageFull => "The relay's disk is nearly full",
            Self::NoRoomForAttachments => "The relay has no room for attachments at the moment",
            Self::TooMuchWaits => "Too much that was brought from here has yet to be submitted",
            Self::Unavailable => "The relay cannot do this at the moment",
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::UnsupportedMediaType { expected } => Some(format!("{expected} is expected")),
            Self::TooLarge { limit } => Some(format!("the limit is {limit} bytes")),
            Self::TooMany { limit } => Some(format!("the limit is {limit} items")),
            Self::Malformed(what) => Some(what.clone()),
            Self::UnsupportedVersion(got) => {
                Some(format!("the body has version {got}, this relay reads version {}", wire::VERSION))
            }
            Self::Unauthenticated(why) | Self::ProofRefused(why) => Some((*why).into()),
            Self::Moved(domain) => Some(format!("it is kept at {domain}")),
            Self::InviteRefused(refusal) => Some(refusal.to_string()),
            Self::BindingOutdated(serial) => Some(format!("the one that counts has the serial {serial}")),
            _ => None,
        }
    }

    /// Where the mailbox is kept instead.
    fn domain(&self) -> Option<Domain> {
        match self {
            Self::Moved(domain) => Some(domain.clone()),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => Some(*retry_after),
            Self::StorageFull | Self::Unavailable => Some(RETRY_SOON),
            Self::NoRoomForAttachments | Self::TooMuchWaits => Some(RETRY_WITH_ROOM),
            _ => None,
        }
    }

    /// The response: RFC 9457.
    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        let status = self.status();
        let mut problem = Problem::new(self.slug(), self.title(), status.as_u16());
        problem.detail = self.detail();
        problem.domain = self.domain();
        let mut response = Response::new(Full::from(super::json_bytes(&problem)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_CONTENT_TYPE));
        if let Some(wait) = self.retry_after() {
            // Rounded up: nobody is asked back too early.
            headers
                .insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
        }
        match self {
            Self::MethodNotAllowed { allow } => {
                headers.insert(ALLOW, HeaderValue::from_static(allow));
            }
            Self::Unauthenticated(_) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::RangeNotSatisfiable { length } => {
                if let Ok(range) = HeaderValue::try_from(format!("bytes */{length}")) {
                    headers.insert(CONTENT_RANGE, range);
                }
            }
            Self::UpgradeRequired => {
                headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            }
            _ => {}
        }
        response
    }
}

impl From<WireError> for ApiError {
    fn from(error: WireError) -> Self {
        match error {
            // Bodies are read under limits that are below the codec's in bytes.
            WireError::TooLarge => Self::TooMany { limit: MAX_BATCH_ENVELOPES },
            WireError::UnsupportedVersion(version) => Self::UnsupportedVersion(version),
            WireError::Malformed(what) => Self::Malformed(what.into()),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::StorageFull,
            other => {
                static SAID: Seldom = Seldom::new();
                if SAID.is_due(&other.to_string()) {
                    tracing::error!("the store does not serve a request: {other}");
                }
                Self::Unavailable
            }
        }
    }
}

impl From<AttachmentError> for ApiError {
    fn from(error: AttachmentError) -> Self {
        match error {
            AttachmentError::Unknown => Self::UnknownAttachment,
            AttachmentError::Incomplete => Self::AttachmentIncomplete,
            AttachmentError::InUse => Self::AttachmentInUse,
            AttachmentError::NoSuchChunk => Self::NoSuchChunk,
            AttachmentError::ChunkDiffers => Self::ChunkDiffers,
            AttachmentError::WrongDigest => Self::WrongDigest,
            AttachmentError::TooLarge(limit) => {
                Self::TooLarge { limit: usize::try_from(limit).unwrap_or(usize::MAX) }
            }
            AttachmentError::WrongLength(_) | AttachmentError::Impossible | AttachmentError::Broken => {
                Self::Malformed(error.to_string())
            }
            AttachmentError::Busy => Self::Unavailable,
            AttachmentError::Full => Self::NoRoomForAttachments,
            AttachmentError::TooMuchWaits => Self::TooMuchWaits,
            AttachmentError::Slow | AttachmentError::Stalled => Self::SlowBody,
            AttachmentError::Store(error) => error.into(),
            AttachmentError::Disk(what) => {
                static SAID: Seldom = Seldom::new();
                if SAID.is_due(&what) {
                    tracing::error!("a file of an attachment fails: {what}");
                }
                Self::Unavailable
            }
        }
    }
}

impl From<MailboxError> for ApiError {
    fn from(error: MailboxError) -> Self {
        match error {
            MailboxError::NoSuchMailbox => Self::NoSuchMailbox,
            MailboxError::NoSuchDevice => Self::NoSuchDevice,
            MailboxError::TooManyDevices => Self::TooManyDevices,
            MailboxError::Suspended => Self::MailboxSuspended,
            MailboxError::RegistrationClosed => Self::RegistrationClosed,
            MailboxError::InviteNeeded => Self::InviteNeeded,
            MailboxError::InviteRefused(refusal) => Self::InviteRefused(refusal),
            MailboxError::Moved(domain) => Self::Moved(domain),
            MailboxError::Outdated(serial) => Self::BindingOutdated(serial),
            MailboxError::DomainRefused => Self::DomainRefused,
            MailboxError::Store(error) => error.into(),
        }
    }
}
