//! What a device asks of its own mailbox, stream apart.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use postrider_common::EntryId;
use postrider_common::wire::control::BindingStatement;
use postrider_common::wire::mailbox::{DeviceMessage, ServerMessage};
use postrider_common::wire::{self, control};

use super::auth::Session;
use super::body::{RequestBody, expect_type};
use super::problem::ApiError;
use super::router::Answer;
use super::{Shared, json, with_type};
use crate::exchange::Exchange;
use crate::hub::{Attendance, Ending, Event};
use crate::store::{DeviceState, Fetched, StoreError, Window};

/// What an acknowledgement may have: as many ids as a batch has envelopes at most, with room to spare.
const ACKNOWLEDGEMENT_BYTES: usize = 16 << 10;

/// What one answer to a poll carries at most: unlike a stream's pages, it stays in memory until the device has read it.
const POLL_BYTES: usize = 256 << 10;

/// How long it takes to acknowledge nothing.
const IN_VAIN: Duration = Duration::from_millis(250);

pub(super) async fn delete(api: &Shared, session: Session) -> Answer {
    api.changes.take(&session.mailbox, 1)?;
    api.exchange.unregister(session.mailbox).await?;
    Ok(no_content())
}

pub(super) async fn devices(api: &Shared, session: Session) -> Answer {
    let known = api.exchange.devices(session.mailbox).await?;
    let device = |state: DeviceState| {
        let removed_at = (state.last_contact + api.settings.device_idle).as_secs();
        let mut device = control::Device::new(state.device, state.last_contact.as_secs(), removed_at);
        device.name = Some(state.name).filter(|name| !name.is_empty()).and_then(control::DeviceName::new);
        device
    };
    Ok(json(&control::Devices { devices: known.into_iter().map(device).collect() }))
}

/// What is asked of one device of the session's mailbox, which may be the session's own.
pub(super) async fn remove_device(api: &Shared, session: Session, device: &str) -> Answer {
    let device = device.parse().map_err(|_| ApiError::UnknownDevice)?;
    api.changes.take(&session.mailbox, 1)?;
    match api.exchange.remove_device(session.mailbox, device).await? {
        true => Ok(no_content()),
        false => Err(ApiError::UnknownDevice),
    }
}

pub(super) async fn name_device(
    api: &Shared,
    session: Session,
    device: &str,
    named: control::NamedDevice,
) -> Answer {
    let device = device.parse().map_err(|_| ApiError::UnknownDevice)?;
    api.changes.take(&session.mailbox, 1)?;
    match api.exchange.name_device(session.mailbox, device, named.name.into_bytes()).await? {
        true => Ok(no_content()),
        false => Err(ApiError::UnknownDevice),
    }
}

pub(super) async fn bind(api: &Shared, session: Session, statement: BindingStatement) -> Answer {
    api.bindings.take(&session.mailbox, 1)?;
    let binding = statement.of(session.mailbox).map_err(|_| ApiError::BindingRefused)?;
    api.exchange.bind(binding).await?;
    Ok(no_content())
}

pub(super) async fn binding(api: &Shared, session: Session) -> Answer {
    let state = api.exchange.mailbox(session.mailbox).await?;
    let binding = state.binding.ok_or(ApiError::NoBinding)?;
    Ok(json(&BindingStatement::from(&binding)))
}

pub(super) async fn acknowledge(api: &Shared, session: Session, request: Request<RequestBody>) -> Answer {
    expect_type(&request, wire::CONTENT_TYPE)?;
    let body = api.bodies.read(request, ACKNOWLEDGEMENT_BYTES).await?;
    let DeviceMessage::Acknowledge(entries) = DeviceMessage::decode(&body.bytes)?;
    acknowledge_any(&api.exchange, session, entries).await?;
    Ok(no_content())
}

/// Acknowledges what the device may not have been given, or no longer has. Where there is nothing of it, that takes a moment,
/// so that doing it again at once gains nothing.
pub(super) async fn acknowledge_any(
    exchange: &Exchange,
    session: Session,
    entries: Vec<EntryId>,
) -> Result<(), StoreError> {
    if !exchange.acknowledge_any(session.mailbox, session.device, entries).await? {
        tokio::time::sleep(IN_VAIN).await;
    }
    Ok(())
}

/// Answers at once if there are entries, else when some come or the wait is over.
pub(super) async fn entries(api: &Shared, session: Session, query: &str) -> Answer {
    let Poll { after, wait } = Poll::parse(query)?;
    let mut connection = api.exchange.connect(session.mailbox, session.device, Attendance::Poll).await?;
    let deadline = tokio::time::Instant::now() + wait.min(api.settings.long_poll);
    let window = Window { count: api.settings.stream_window.count, bytes: POLL_BYTES };
    let mut is_over = false;
    loop {
        let Fetched { entries, .. } =
            api.exchange.fetch(session.mailbox, session.device, after, window).await?;
        if !entries.is_empty() || is_over {
            return Ok(with_type(ServerMessage::Entries(entries).encode(), wire::CONTENT_TYPE));
        }
        tokio::select! {
            event = connection.event() => match event {
                Event::Ended(Ending::Deleted) => return Err(ApiError::NoSuchMailbox),
                Event::Ended(Ending::Suspended) => return Err(ApiError::MailboxSuspended),
                Event::Ended(Ending::DeviceRemoved) => return Err(ApiError::NoSuchDevice),
                // A newer poll of the device takes over, or the next one is told where the mailbox is.
                Event::Ended(Ending::Replaced | Ending::Moved) => is_over = true,
                Event::Wake | Event::Ephemeral(_) => {}
            },
            () = tokio::time::sleep_until(deadline) => is_over = true,
            () = api.supervisor.stopping() => is_over = true,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Poll {
    after: Option<EntryId>,
    wait: Duration,
}

impl Poll {
    fn parse(query: &str) -> Result<Self, ApiError> {
        let mut poll = Self { after: None, wait: Duration::ZERO };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let number =
                || value.parse().map_err(|_| ApiError::Malformed(format!("`{key}` is a whole number")));
            match key {
                "after" => poll.after = Some(EntryId(number()?)),
                "wait" => poll.wait = Duration::from_secs(number()?),
                // As with JSON fields: a newer client may say more than this relay knows.
                _ => {}
            }
        }
        Ok(poll)
    }
}

fn no_content() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_reads_its_query() {
        let poll = |after, wait| Poll { after, wait: Duration::from_secs(wait) };
        assert_eq!(Poll::parse(""), Ok(poll(None, 0)));
        assert_eq!(Poll::parse("wait=30&after=7&new=1"), Ok(poll(Some(EntryId(7)), 30)));
        assert_eq!(Poll::parse("wait=x"), Err(ApiError::Malformed("`wait` is a whole number".into())));
        assert!(Poll::parse("after=-1").is_err());
    }
}
