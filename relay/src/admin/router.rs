//! Which call a request is.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use postrider_common::Domain;
use serde::de::DeserializeOwned;

use super::documents::Reloaded;
use super::problem::Refusal;
use super::{PATIENCE, Parts, invites, mailboxes, queue, status, why};

/// What a request may have at most: places of envelopes are the longest that it says.
const BODY_BYTES: usize = 64 << 10;

pub(super) type Answer = Result<Response<Full<Bytes>>, Refusal>;

/// Answers one request, whatever it is.
pub(super) async fn respond(parts: &Parts, request: Request<Incoming>) -> Response<Full<Bytes>> {
    dispatch(parts, request).await.unwrap_or_else(|refusal| refusal.response())
}

async fn dispatch(parts: &Parts, request: Request<Incoming>) -> Answer {
    let (path, query) =
        (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
    let method = request.method().clone();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match (segments.as_slice(), &method) {
        (["v1", "status"], &Method::GET) => Ok(json(&status::status(parts).await)),
        (["v1", "reload"], &Method::POST) => reload(parts),
        (["v1", "invites"], &Method::GET) => invites::list(parts, &query).await,
        (["v1", "invites"], &Method::POST) => invites::create(parts, body(request).await?).await,
        (["v1", "invites", id], &Method::DELETE) => invites::revoke(parts, id).await,
        (["v1", "mailboxes"], &Method::GET) => mailboxes::list(parts, &query).await,
        (["v1", "mailboxes"], &Method::POST) => mailboxes::create(parts, body(request).await?).await,
        (["v1", "mailboxes", mailbox], &Method::GET) => mailboxes::show(parts, mailbox).await,
        (["v1", "mailboxes", mailbox], &Method::DELETE) => mailboxes::delete(parts, mailbox).await,
        (["v1", "mailboxes", mailbox, "suspend"], &Method::POST) => {
            mailboxes::suspend(parts, mailbox, true).await
        }
        (["v1", "mailboxes", mailbox, "resume"], &Method::POST) => {
            mailboxes::suspend(parts, mailbox, false).await
        }
        (["v1", "mailboxes", mailbox, "redirect"], &Method::POST) => {
            mailboxes::redirect(parts, mailbox, body(request).await?).await
        }
        (["v1", "queue"], &Method::GET) => queue::list(parts).await,
        (["v1", "queue", domain], &Method::GET) => queue::show(parts, named(domain)?, &query).await,
        (["v1", "queue", domain, "envelopes"], &Method::GET) => {
            queue::envelopes(parts, named(domain)?, &query).await
        }
        (["v1", "queue", domain, "quarantine"], &Method::GET) => {
            queue::quarantine(parts, named(domain)?).await
        }
        (["v1", "queue", domain, "quarantine", item], &Method::DELETE) => {
            queue::drop_quarantined(parts, named(domain)?, item).await
        }
        (["v1", "queue", domain, "retry"], &Method::POST) => {
            queue::retry(parts, named(domain)?, body(request).await?).await
        }
        (["v1", "queue", domain, "drop"], &Method::POST) => {
            queue::discard(parts, named(domain)?, body(request).await?).await
        }
        (["v1", "queue", domain, "pause"], &Method::POST) => queue::pause(parts, named(domain)?, true).await,
        (["v1", "queue", domain, "resume"], &Method::POST) => {
            queue::pause(parts, named(domain)?, false).await
        }
        (["v1", "tracking", id], &Method::GET) => why::why(parts, id).await,
        (["v1", "status" | "queue"] | ["v1", "tracking" | "queue", _], _)
        | (["v1", "queue", _, "envelopes" | "quarantine"], _) => Err(Refusal::Method("GET")),
        (["v1", "queue", _, "retry" | "drop" | "pause" | "resume"], _) => Err(Refusal::Method("POST")),
        (["v1", "reload"], _) => Err(Refusal::Method("POST")),
        (["v1", "invites" | "mailboxes"], _) => Err(Refusal::Method("GET or POST")),
        (["v1", "mailboxes", _], _) => Err(Refusal::Method("GET or DELETE")),
        (["v1", "mailboxes", _, "suspend" | "resume" | "redirect"], _) => Err(Refusal::Method("POST")),
        (["v1", "invites", _], _) => Err(Refusal::Method("DELETE")),
        (["v1", "queue", _, "quarantine", _], _) => Err(Refusal::Method("DELETE")),
        _ => Err(Refusal::NoSuchPath),
    }
}

fn reload(parts: &Parts) -> Answer {
    match parts.reload.reload() {
        Ok(done) => Ok(json(&Reloaded {
            changes: done.changes,
            after_restart: done.after_restart.into_iter().map(Into::into).collect(),
            warnings: done.warnings,
        })),
        Err(error) => Err(Refusal::Conflict(error.to_string())),
    }
}

fn named(domain: &str) -> Result<Domain, Refusal> {
    domain.parse().map_err(|error| Refusal::Malformed(format!("{domain:?} is no domain: {error}")))
}

/// The value of a query's key. What we ask for has nothing in it that would have to be encoded.
pub(super) fn queried<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value)
}

pub(super) fn malformed(key: &str, value: &str) -> Refusal {
    Refusal::Malformed(format!("{key} is {value:?}, which is no number"))
}

async fn body<T: DeserializeOwned + Default>(request: Request<Incoming>) -> Result<T, Refusal> {
    let body = Limited::new(request.into_body(), BODY_BYTES).collect();
    let body = match tokio::time::timeout(PATIENCE, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => return Err(Refusal::Malformed(format!("the body cannot be read: {error}"))),
        Err(_) => return Err(Refusal::Malformed("the body did not arrive in time".into())),
    };
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&body)
        .map_err(|error| Refusal::Malformed(format!("the body is not as expected: {error}")))
}

/// A document as the answer.
pub(super) fn json<T: serde::Serialize>(document: &T) -> Response<Full<Bytes>> {
    // Documents are structs of texts and numbers, for which this does not fail.
    let bytes = serde_json::to_vec(document).unwrap_or_default();
    let mut response = Response::new(Full::from(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
