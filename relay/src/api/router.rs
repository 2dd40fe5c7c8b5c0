//! Which call a request is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use postrider_common::wire::{self, control, submit};
use postrider_common::{MailboxId, Timestamp, TrackingId};
use serde::de::DeserializeOwned;

use super::auth::Session;
use super::body::{RequestBody, expect_type};
use super::held::in_memory;
use super::problem::ApiError;
use super::{Shared, attachments, json, mailbox, register, stream, with_type};
use crate::admission::Admission;
use crate::attachments::Content;
use crate::config::SubmissionPolicy;
use crate::exchange::{MailboxError, Waiting};
use crate::store::{Tracking, TrackingEnd};

/// What a JSON request may have at most: they are all small.
const JSON_BYTES: usize = 8 << 10;
/// How long whoever is over the rate waits for being told so.
const BEFORE_REFUSING: Duration = Duration::from_millis(250);
/// What the paths of single devices begin with.
const DEVICES: &str = "/v1/mailbox/devices/";

pub(super) type Answer = Result<Response<Full<Bytes>>, ApiError>;

/// What is sent: nearly always a few bytes, or else the content of an attachment.
pub(super) type Reply = Content;

/// A few bytes.
pub(super) fn short(response: Response<Full<Bytes>>) -> Response<Reply> {
    response.map(|body| body.map_err(|never| match never {}).boxed_unsync())
}

/// Answers one request, whatever it is.
pub(super) async fn respond(
    api: &Shared,
    request: Request<RequestBody>,
    client: &Arc<Admission>,
) -> Response<Reply> {
    let origin = api.origins.allowed(request.headers());
    let mut response = match api.origins.preflight(&request) {
        Some(response) => short(response),
        None => answered(api, request, client).await,
    };
    api.origins.mark(origin, response.headers_mut());
    response
}

async fn answered(api: &Shared, request: Request<RequestBody>, client: &Arc<Admission>) -> Response<Reply> {
    let path = request.uri().path();
    let answer = match path.strip_prefix("/v1/attachments") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            let rest = rest.to_owned();
            attachments::dispatch(api, &rest, request, client).await
        }
        _ => match dispatch(api, request, client).await {
            Ok(response) => in_memory(response, &api.unread, client.address()),
            Err(error) => Err(error),
        },
    };
    match answer {
        Ok(reply) => reply,
        Err(error) => short(refused(api, client, error).await.response()),
    }
}

/// Whoever shows no session that counts, or asks for what is not there, is counted like those who need no session. What is
/// over the rate is answered after a moment, so that asking again at once gains nothing.
async fn refused(api: &Shared, client: &Admission, error: ApiError) -> ApiError {
    let error = match error {
        ApiError::Unauthenticated(_) | ApiError::NotFound | ApiError::MethodNotAllowed { .. } => {
            api.rate.take(&client.address(), 1).err().unwrap_or(error)
        }
        error => error,
    };
    if matches!(error, ApiError::RateLimited { .. }) {
        tokio::time::sleep(BEFORE_REFUSING).await;
    }
    error
}

async fn dispatch(api: &Shared, request: Request<RequestBody>, client: &Arc<Admission>) -> Answer {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    match (path.as_str(), method) {
        ("/.well-known/postrider", Method::GET) => {
            api.rate.take(&client.address(), 1)?;
            Ok(json(&api.settings.info))
        }
        ("/.well-known/postrider", _) => Err(ApiError::MethodNotAllowed { allow: "GET" }),
        ("/v1/envelopes", Method::POST) => submit(api, request, client).await,
        ("/v1/challenges", Method::POST) => challenge(api, client),
        ("/v1/sessions", Method::POST) => open_session(api, request, client).await,
        ("/v1/envelopes" | "/v1/challenges" | "/v1/sessions", _) => {
            Err(ApiError::MethodNotAllowed { allow: "POST" })
        }
        ("/invite", Method::GET) => {
            api.rate.take(&client.address(), 1)?;
            register::invitation(api)
        }
        ("/invite", _) => Err(ApiError::MethodNotAllowed { allow: "GET" }),
        ("/v1/mailbox", Method::PUT) => {
            register::register(api, bearer(api, request.headers())?, request).await
        }
        ("/v1/mailbox", Method::DELETE) => mailbox::delete(api, session(api, request.headers()).await?).await,
        ("/v1/mailbox", _) => Err(ApiError::MethodNotAllowed { allow: "PUT, DELETE" }),
        ("/v1/mailbox/devices", Method::GET) => {
            mailbox::devices(api, session(api, request.headers()).await?).await
        }
        ("/v1/mailbox/binding", Method::PUT) => {
            let session = session(api, request.headers()).await?;
            mailbox::bind(api, session, read_json(api, request).await?).await
        }
        ("/v1/mailbox/binding", Method::GET) => {
            mailbox::binding(api, session(api, request.headers()).await?).await
        }
        ("/v1/mailbox/binding", _) => Err(ApiError::MethodNotAllowed { allow: "GET, PUT" }),
        ("/v1/mailbox/entries", Method::GET) => {
            // A body is not looked at: it must not gather while the device waits.
            let (head, body) = request.into_parts();
            drop(body);
            let session = bearer(api, &head.headers)?;
            mailbox::entries(api, session, head.uri.query().unwrap_or_default()).await
        }
        ("/v1/mailbox/acknowledgements", Method::POST) => {
            mailbox::acknowledge(api, session(api, request.headers()).await?, request).await
        }
        ("/v1/mailbox/acknowledgements", _) => Err(ApiError::MethodNotAllowed { allow: "POST" }),
        ("/v1/mailbox/stream", Method::GET) => {
            stream::open(api, stream_session(api, request.headers())?, request, Arc::clone(client)).await
        }
        ("/v1/mailbox/entries" | "/v1/mailbox/stream" | "/v1/mailbox/devices", _) => {
            Err(ApiError::MethodNotAllowed { allow: "GET" })
        }
        (path, _) if path.starts_with(DEVICES) => device(api, request).await,
        (other, method) => match (other.strip_prefix("/v1/tracking/"), method) {
            (Some(id), Method::GET) => tracking(api, id, client).await,
            (Some(_), _) => Err(ApiError::MethodNotAllowed { allow: "GET" }),
            (None, _) => Err(ApiError::NotFound),
        },
    }
}

/// What is asked of one device: `DELETE /v1/mailbox/devices/{id}`, `PUT /v1/mailbox/devices/{id}/name`.
async fn device(api: &Shared, request: Request<RequestBody>) -> Answer {
    let path = request.uri().path().to_owned();
    let rest = path.strip_prefix(DEVICES).unwrap_or_default();
    match (rest.split_once('/'), request.method()) {
        (None, &Method::DELETE) => {
            mailbox::remove_device(api, session(api, request.headers()).await?, rest).await
        }
        (None, _) => Err(ApiError::MethodNotAllowed { allow: "DELETE" }),
        (Some((id, "name")), &Method::PUT) => {
            let session = session(api, request.headers()).await?;
            mailbox::name_device(api, session, id, read_json(api, request).await?).await
        }
        (Some((_, "name")), _) => Err(ApiError::MethodNotAllowed { allow: "PUT" }),
        (Some(_), _) => Err(ApiError::NotFound),
    }
}

/// Who is asking, if theirs is a device of the mailbox: one that was removed may ask for nothing, however long its session
/// lasts. Where a mailbox has moved from and no device is left, its owner is heard who signs in.
async fn session(api: &Shared, headers: &HeaderMap) -> Result<Session, ApiError> {
    let session = bearer(api, headers)?;
    match api.exchange.registered(session.mailbox, session.device).await {
        Err(MailboxError::NoSuchDevice)
            if session.has_just_begun(api.exchange.now())
                && api.exchange.is_left(session.mailbox).await? => {}
        other => drop(other?),
    }
    Ok(session)
}

/// Who is asking, from the bearer token. Whoever connects or registers is looked up by that.
fn bearer(api: &Shared, headers: &HeaderMap) -> Result<Session, ApiError> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("Bearer").then_some(token.trim())
    });
    let token = token.ok_or(ApiError::Unauthenticated("the header `Authorization: Bearer …` is missing"))?;
    api.authenticator.session(token, api.exchange.now())
}

/// The same for a WebSocket: a page in a browser can set no header on it, and names the token among its subprotocols.
fn stream_session(api: &Shared, headers: &HeaderMap) -> Result<Session, ApiError> {
    match stream::offered_token(headers) {
        Some(token) if !headers.contains_key(AUTHORIZATION) => {
            api.authenticator.session(token, api.exchange.now())
        }
        _ => bearer(api, headers),
    }
}

async fn submit(api: &Shared, request: Request<RequestBody>, client: &Arc<Admission>) -> Answer {
    // One before the body is read, so that bodies of junk are not free; the others once they are counted.
    api.rate.take(&client.address(), 1)?;
    let member = member(api, request.headers()).await?;
    expect_type(&request, wire::CONTENT_TYPE)?;
    let limits = api.exchange.limits();
    let body = api.bodies.read(request, limits.batch_bytes).await?;
    let batch = submit::decode_request(&body.bytes)?;
    if batch.len() > limits.batch_envelopes {
        return Err(ApiError::TooMany { limit: limits.batch_envelopes });
    }
    api.rate.take(&client.address(), batch.len().saturating_sub(1))?;
    if let Some(member) = member {
        api.member_rate.take(&member, batch.len())?;
    }
    let named =
        batch.iter().filter_map(|item| item.as_ref().ok()).flat_map(|(_, envelope)| envelope.attachments());
    let named: Vec<_> = named.map(|attachment| attachment.id).collect();
    let results = api.exchange.submit(batch).await;
    if let Err(error) = api.attachments.submitted(&named).await {
        // Looked up again when room is needed.
        tracing::debug!("attachments that were submitted are not looked up: {error}");
    }
    Ok(with_type(submit::encode_results(&results), wire::CONTENT_TYPE))
}

/// Who submits, or makes room for what is to be submitted, if one has to be a member for that; where everybody may,
/// nobody is asked. It is forgotten with the request, but for how much they have submitted lately, and what they have brought
/// that has yet to be submitted.
pub(super) async fn member(api: &Shared, headers: &HeaderMap) -> Result<Option<MailboxId>, ApiError> {
    match api.settings.submission {
        SubmissionPolicy::Open => Ok(None),
        SubmissionPolicy::Members => {
            let session = bearer(api, headers)?;
            api.exchange.member(session.mailbox, session.device).await?;
            Ok(Some(session.mailbox))
        }
    }
}

fn challenge(api: &Shared, client: &Admission) -> Answer {
    api.rate.take(&client.address(), 1)?;
    Ok(json(&api.authenticator.challenge(api.exchange.now())))
}

async fn open_session(api: &Shared, request: Request<RequestBody>, client: &Arc<Admission>) -> Answer {
    api.rate.take(&client.address(), 1)?;
    let request: control::SessionRequest = read_json(api, request).await?;
    let granted = api.authenticator.open_session(&request, client.address(), api.exchange.now())?;
    // Told to whoever has the mailbox's key, and to nobody else.
    api.exchange.admissible(request.mailbox).await?;
    Ok(json(&granted))
}

pub(super) async fn read_json<T: DeserializeOwned>(
    api: &Shared,
    request: Request<RequestBody>,
) -> Result<T, ApiError> {
    expect_type(&request, "application/json")?;
    let body = api.bodies.read(request, JSON_BYTES).await?;
    serde_json::from_slice(&body.bytes).map_err(|error| ApiError::Malformed(format!("the JSON: {error}")))
}

async fn tracking(api: &Shared, id: &str, client: &Admission) -> Answer {
    api.rate.take(&client.address(), 1)?;
    let id: TrackingId = id.parse().map_err(|_| ApiError::UnknownTracking)?;
    let (tracking, waiting) = api.exchange.tracking(id).await?.ok_or(ApiError::UnknownTracking)?;
    Ok(json(&tracking_status(tracking, waiting)))
}

/// Puts together what the envelope itself has met and what its whole destination is meeting.
fn tracking_status(tracking: Tracking, waiting: Option<Waiting>) -> control::TrackingStatus {
    use control::TrackingState;
    let (state, reason, ended_at) = match tracking.end {
        None => (TrackingState::Queued, waiting.map(|waiting| waiting.class).or(tracking.reason), None),
        Some((TrackingEnd::Stored, at)) => (TrackingState::Stored, None, Some(at)),
        Some((TrackingEnd::Failed(class), at)) => (TrackingState::Failed, Some(class), Some(at)),
        Some((TrackingEnd::Expired, at)) => (TrackingState::Expired, tracking.reason, Some(at)),
    };
    let next = waiting.map(|waiting| waiting.next_attempt).max(tracking.not_before);
    let queued_at = tracking.queued_at.as_secs();
    let mut status = control::TrackingStatus::new(state, tracking.destination, queued_at);
    status.attempts = tracking.attempts.saturating_add(waiting.map_or(0, |waiting| waiting.failures));
    status.reason = reason.map(|class| class.slug().into());
    status.next_attempt_at = next.filter(|_| ended_at.is_none()).map(Timestamp::as_secs);
    status.ended_at = ended_at.map(Timestamp::as_secs);
    status
}

#[cfg(test)]
mod tests {
    use postrider_common::FailureClass;

    use super::*;

    fn queued() -> Tracking {
        Tracking {
            destination: "beta.example".parse().unwrap(),
            queued_at: Timestamp::from_secs(100),
            attempts: 1,
            reason: Some(FailureClass::MailboxFull),
            not_before: Some(Timestamp::from_secs(130)),
            is_unreadable: false,
            end: None,
        }
    }

    /// One envelope's state, and what its sender is told: state, reason, attempts, next attempt, end.
    #[test]
    fn each_state_is_told_exactly() {
        use TrackingState::{Expired, Failed, Queued, Stored};
        use control::TrackingState;
        let fresh = || Tracking { attempts: 0, reason: None, not_before: None, ..queued() };
        let at = Timestamp::from_secs;
        let ended = |before: Tracking, end| Tracking { end: Some((end, at(200))), ..before };
        let down = |next| {
            let class = FailureClass::ConnectFailed;
            Some(Waiting { failures: 3, class, next_attempt: at(next) })
        };
        let failed = TrackingEnd::Failed(FailureClass::NoSuchMailbox);
        let (stored, expired) = (TrackingEnd::Stored, TrackingEnd::Expired);
        for (name, tracking, waiting, expected) in [
            ("just queued, or under way", fresh(), None, (Queued, None, 0, None, None)),
            (
                "its destination fails",
                fresh(),
                down(160),
                (Queued, Some("connect-failed"), 3, Some(160), None),
            ),
            ("asked to come again", queued(), None, (Queued, Some("mailbox-full"), 1, Some(130), None)),
            (
                "both, it for longer",
                queued(),
                down(120),
                (Queued, Some("connect-failed"), 4, Some(130), None),
            ),
            ("both, the other", queued(), down(160), (Queued, Some("connect-failed"), 4, Some(160), None)),
            ("stored", ended(queued(), stored), None, (Stored, None, 1, None, Some(200))),
            ("failed", ended(fresh(), failed), None, (Failed, Some("no-such-mailbox"), 0, None, Some(200))),
            ("expired", ended(queued(), expired), None, (Expired, Some("mailbox-full"), 1, None, Some(200))),
            ("never sent", ended(fresh(), expired), None, (Expired, None, 0, None, Some(200))),
        ] {
            let status = tracking_status(tracking, waiting);
            let told = (
                status.state,
                status.reason.as_deref(),
                status.attempts,
                status.next_attempt_at,
                status.ended_at,
            );
            assert_eq!(told, expected, "{name}");
            assert_eq!((status.destination.as_str(), status.queued_at), ("beta.example", 100), "{name}");
        }
    }
}
