//! Who may have a mailbox, and how they say so.

use bytes::Bytes;
use http::Request;
use postrider_common::wire::control;

use super::auth::Session;
use super::body::{RequestBody, expect_type};
use super::problem::ApiError;
use super::router::Answer;
use super::{Shared, json, with_type};
use crate::exchange::MailboxError;

/// What a registration says at most.
const BODY_BYTES: usize = 8 << 10;

/// Registers the session's mailbox or its device. The body may be left out: there is seldom something to say.
pub(super) async fn register(api: &Shared, session: Session, request: Request<RequestBody>) -> Answer {
    let control::Registration { invite } = read(api, request).await?;
    let invite = invite.map(|secret| secret.id());
    match api.exchange.registered(session.mailbox, session.device).await {
        Ok(_) => return Ok(json(&control::Registered::new(false))),
        Err(MailboxError::NoSuchMailbox | MailboxError::NoSuchDevice) => {}
        Err(error) => return Err(error.into()),
    }
    // Who was removed comes back with the mailbox's key, and not with a session from before.
    if !session.has_just_begun(api.exchange.now()) {
        return Err(ApiError::Unauthenticated("a device is registered with a session that was just opened"));
    }
    api.changes.take(&session.mailbox, 1)?;
    let created = api.exchange.register(session.mailbox, session.device, invite).await?;
    Ok(json(&control::Registered::new(created)))
}

async fn read(api: &Shared, request: Request<RequestBody>) -> Result<control::Registration, ApiError> {
    let typed = expect_type(&request, "application/json");
    let body = api.bodies.read(request, BODY_BYTES).await?;
    if body.bytes.is_empty() {
        return Ok(control::Registration::default());
    }
    typed?;
    // Where it is wrong, not what is there: that is a secret.
    serde_json::from_slice(&body.bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        ApiError::Malformed(format!("the JSON is not a registration at line {line}, column {column}"))
    })
}

/// What a browser shows that an invite is opened with. The secret is behind the `#`, which browsers send nowhere.
pub(super) fn invitation(api: &Shared) -> Answer {
    let domain = api.exchange.domain();
    let text = format!(
        "This link is an invitation to have a mailbox at {domain}.\n\n\
         Open it in a messaging app that works with Postrider. Keep it to yourself until then: whoever has the\n\
         link can register with it.\n"
    );
    Ok(with_type(Bytes::from(text), "text/plain; charset=utf-8"))
}
