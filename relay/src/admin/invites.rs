//! Invites: made, listed, revoked.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::time::Duration;

use postrider_common::{Domain, Invite, InviteId, InviteSecret, Timestamp};

use super::Parts;
use super::documents::{CreateInvites, Done, InviteShown, Invites};
use super::problem::Refusal;
use super::router::{Answer, json, queried};
use crate::store::Invited;

/// How many may be made at once.
pub(crate) const MOST_AT_ONCE: u32 = 256;
/// How many mailboxes one may be for.
pub(crate) const MOST_USES: u32 = 100_000;
/// How long one may be valid.
pub(crate) const LONGEST: Duration = Duration::from_secs(366 * 86_400);
/// How many are listed at once.
const PAGE: usize = 256;

/// The only moment at which the relay has their secrets: the answer.
pub(super) async fn create(parts: &Parts, wanted: CreateInvites) -> Answer {
    let CreateInvites { count, uses, valid_for_seconds, authority: given } = wanted;
    within("count", count.into(), MOST_AT_ONCE.into())?;
    within("uses", uses.into(), MOST_USES.into())?;
    within("valid_for_seconds", valid_for_seconds, LONGEST.as_secs())?;
    let authority = match given {
        Some(given) => authority(&given).map_err(Refusal::Malformed)?,
        None => parts.reload.client_authority(),
    };
    let expires_at = parts.clock.now() + Duration::from_secs(valid_for_seconds);
    let expires_at = Timestamp::from_secs(expires_at.as_secs());
    let pin = parts.reload.client_pin();
    let (mut kept, mut shown) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let invite = Invite {
            authority: authority.clone(),
            domain: parts.domain.clone(),
            secret: InviteSecret::random(),
            pin,
        };
        let invited = Invited { id: invite.secret.id(), uses, used: 0, expires_at };
        shown.push(InviteShown { url: Some(invite.expose()), ..InviteShown::from(&invited) });
        kept.push(invited);
    }
    parts.store.add_invites(kept).await?;
    Ok(json(&Invites { invites: shown, next: None }))
}

pub(super) async fn list(parts: &Parts, query: &str) -> Answer {
    let after = queried(query, "after").map(named).transpose()?;
    let invites = parts.store.invites(after, PAGE).await?;
    let next = invites.last().filter(|_| invites.len() == PAGE).map(|last| last.id);
    Ok(json(&Invites { invites: invites.iter().map(InviteShown::from).collect(), next }))
}

pub(super) async fn revoke(parts: &Parts, id: &str) -> Answer {
    let id = named(id)?;
    if !parts.store.remove_invite(id).await? {
        return Err(Refusal::NotFound(format!("there is no invite {id}")));
    }
    Ok(json(&Done { done: 1, ..Done::default() }))
}

fn named(id: &str) -> Result<InviteId, Refusal> {
    id.parse().map_err(|error| Refusal::Malformed(format!("{id:?} is no invite: {error}")))
}

fn within(what: &str, value: u64, most: u64) -> Result<(), Refusal> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(Refusal::Malformed(format!("{what} is {value}, and has to be from 1 to {most}")))
}

/// A host, with a port or without one. It goes into a URL as it is.
pub(crate) fn authority(text: &str) -> Result<String, String> {
    let (host, port) = match text.rsplit_once(':') {
        // The colon is one of an address's.
        _ if text.ends_with(']') => (text, None),
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let in_brackets = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_host = match in_brackets {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok() || host.to_ascii_lowercase().parse::<Domain>().is_ok(),
    };
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<NonZeroU16>().is_ok();
    if is_host && port.is_none_or(is_port) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no host with or without a port"))
}

impl From<&Invited> for InviteShown {
    fn from(invited: &Invited) -> Self {
        let Invited { id, uses, used, expires_at } = invited;
        Self { id: *id, uses: *uses, used: *used, expires_at: expires_at.as_secs(), url: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_one_that_a_client_can_reach() {
        for good in [
            "relay.example",
            "Relay.Example:8443",
            "localhost",
            "192.0.2.1:1",
            "[2001:db8::1]",
            "[::1]:65535",
        ] {
            assert_eq!(authority(good), Ok(good.to_owned()));
        }
        for bad in [
            "",
            ":",
            ":443",
            "relay.example:",
            "relay.example:0",
            "relay.example:+1",
            "relay.example:99999",
            "a b",
            "a/b",
            "a..b",
            "-a",
            "::1",
            "[::1",
            "[relay.example]",
            "192.0.2.999",
            "relay.example:1:2",
            "a@b",
        ] {
            assert!(authority(bad).is_err(), "{bad:?}");
        }
    }
}
