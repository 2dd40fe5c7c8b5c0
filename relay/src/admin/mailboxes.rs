//! Mailboxes, as far as an administrator sees them: how much, since when, never what.

use postrider_common::wire::control::BindingStatement;
use postrider_common::{Domain, MailboxId};

use super::Parts;
use super::documents::{Created, DeviceShown, Done, Mailbox, MailboxDetails, Mailboxes, NewMailbox};
use super::problem::Refusal;
use super::router::{Answer, json, malformed, queried};
use crate::exchange::MailboxError;
use crate::store::{DeviceState, MailboxState};

/// How many are listed at once, and at most.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 256;

/// A page of them: work and memory are the page's, however many there are.
pub(super) async fn list(parts: &Parts, query: &str) -> Answer {
    let after = queried(query, "after").map(named).transpose()?;
    let count = match queried(query, "count") {
        None => PAGE,
        Some(count) => count.parse().map_err(|_| malformed("count", count))?,
    };
    let count = count.clamp(1, LARGEST_PAGE);
    let found = parts.store.mailboxes(after, count).await?;
    let next = found.last().filter(|_| found.len() == count).map(|(mailbox, _)| *mailbox);
    let mut mailboxes = Vec::with_capacity(found.len());
    for (mailbox, state) in found {
        let devices = parts.store.devices(mailbox).await?;
        let attached = parts.store.attached_bytes(mailbox).await?;
        mailboxes.push(shown(mailbox, &state, attached, &devices));
    }
    Ok(json(&Mailboxes { mailboxes, next }))
}

pub(super) async fn show(parts: &Parts, mailbox: &str) -> Answer {
    let mailbox = named(mailbox)?;
    let state = parts.store.mailbox(mailbox).await?.ok_or_else(|| missing(mailbox))?;
    let devices = parts.store.devices(mailbox).await?;
    let devices_shown = devices
        .iter()
        .map(|device| DeviceShown { device: device.device, last_contact: device.last_contact.as_secs() });
    Ok(json(&MailboxDetails {
        mailbox: shown(mailbox, &state, parts.store.attached_bytes(mailbox).await?, &devices),
        devices_known: devices_shown.collect(),
    }))
}

pub(super) async fn create(parts: &Parts, wanted: NewMailbox) -> Answer {
    let mailbox = wanted.mailbox.ok_or_else(|| Refusal::Malformed("the body names no mailbox".into()))?;
    let created = parts.exchange.make_mailbox(mailbox).await?;
    Ok(json(&Created { created }))
}

pub(super) async fn suspend(parts: &Parts, mailbox: &str, is_closed: bool) -> Answer {
    let mailbox = named(mailbox)?;
    parts.exchange.suspend(mailbox, is_closed).await.map_err(|error| refusal(mailbox, error))?;
    Ok(json(&Done { done: 1, ..Done::default() }))
}

pub(super) async fn delete(parts: &Parts, mailbox: &str) -> Answer {
    let mailbox = named(mailbox)?;
    parts.exchange.unregister(mailbox).await.map_err(|error| refusal(mailbox, error))?;
    Ok(json(&Done { done: 1, ..Done::default() }))
}

/// Nobody but the holder of the mailbox's key says where it goes: an administrator only passes on what they have signed.
pub(super) async fn redirect(parts: &Parts, mailbox: &str, statement: Option<BindingStatement>) -> Answer {
    let mailbox = named(mailbox)?;
    let statement = statement.ok_or_else(|| Refusal::Malformed("the body has no binding".into()))?;
    let binding = statement.of(mailbox).map_err(|error| {
        Refusal::Malformed(format!("the binding is not signed by the key of {mailbox}: {error}"))
    })?;
    parts.exchange.bind(binding).await.map_err(|error| refusal(mailbox, error))?;
    Ok(json(&Done { done: 1, ..Done::default() }))
}

fn named(mailbox: &str) -> Result<MailboxId, Refusal> {
    mailbox.parse().map_err(|error| Refusal::Malformed(format!("{mailbox:?} is no mailbox: {error}")))
}

fn missing(mailbox: MailboxId) -> Refusal {
    Refusal::NotFound(format!("there is no mailbox {mailbox}"))
}

fn refusal(mailbox: MailboxId, error: MailboxError) -> Refusal {
    match error {
        MailboxError::NoSuchMailbox => missing(mailbox),
        MailboxError::Store(error) => error.into(),
        other => Refusal::Conflict(other.to_string()),
    }
}

fn shown(
    mailbox: MailboxId,
    state: &MailboxState,
    attachment_bytes: u64,
    devices: &[DeviceState],
) -> Mailbox {
    let moved_to = state.binding.as_ref().filter(|_| state.has_moved);
    let moved_to: Option<Domain> = moved_to.map(|binding| binding.domain().clone());
    Mailbox {
        mailbox,
        envelopes: state.entries,
        bytes: state.bytes,
        attachment_bytes,
        devices: devices.len(),
        last_contact: devices.iter().map(|device| device.last_contact.as_secs()).max(),
        suspended_since: state.suspended.map(|since| since.as_secs()),
        moved_to,
    }
}
