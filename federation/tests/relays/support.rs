//! What the tests are made of: authorities, relays that record, fixed DNS, a caller that may misbehave.

mod authority;
mod caller;
mod relay;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use postrider_common::{Domain, Draft, Envelope, Failure, FailureClass, MailboxId, Timestamp};
use postrider_federation::discovery::SrvRecord;
use postrider_federation::{Direction, Identity, Peer, Policy, PolicyMode, Resolve, Trust};

pub(crate) use authority::{Authority, Certificate};
pub(crate) use caller::{Caller, problem};
pub(crate) use relay::{Relay, Setup, client};

/// The time on every relay's clock.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

pub(crate) fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

pub(crate) fn identity(name: &str) -> Arc<Identity> {
    let domain = domain(name);
    let pems = Identity::generate(&domain, NOW).unwrap();
    let identity = Identity::from_pem(&domain, pems.certificate_pem.as_bytes(), pems.key_pem.as_bytes());
    Arc::new(identity.unwrap())
}

pub(crate) fn pinned(identity: &Identity) -> Trust {
    Trust::Pinned { pins: vec![identity.pin()] }
}

pub(crate) fn peer(name: &str, trust: Trust) -> Peer {
    Peer { domain: domain(name), direction: Direction::Both, trust, addresses: Vec::new() }
}

pub(crate) fn allow<const N: usize>(own: &Identity, peers: [Peer; N]) -> Arc<Policy> {
    Arc::new(Policy::new(PolicyMode::AllowList, own, peers).unwrap())
}

pub(crate) fn envelope(body: &[u8]) -> Envelope {
    let expires_at = NOW + Duration::from_secs(3600);
    Draft::new(MailboxId::from_bytes([7; 32]), expires_at, body.to_vec()).finish().unwrap()
}

/// DNS from a table: each domain is served by relays on this machine, in the order given.
#[derive(Debug, Default)]
pub(crate) struct Table(Mutex<HashMap<Domain, Vec<SocketAddr>>>);

impl Table {
    pub(crate) fn new<const N: usize>(entries: [(&str, SocketAddr); N]) -> Arc<Self> {
        let entries = entries.map(|(name, address)| (domain(name), vec![address]));
        Arc::new(Self(Mutex::new(entries.into())))
    }

    pub(crate) fn set(&self, name: &str, address: SocketAddr) {
        self.set_all(name, vec![address]);
    }

    pub(crate) fn set_all(&self, name: &str, addresses: Vec<SocketAddr>) {
        self.0.lock().unwrap().insert(domain(name), addresses);
    }
}

impl Resolve for Table {
    fn srv<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<Vec<SrvRecord>, Failure>> {
        let known = self.0.lock().unwrap().get(domain).cloned();
        let record = |(priority, address): (u16, SocketAddr)| SrvRecord {
            priority,
            weight: 0,
            port: address.port(),
            target: format!("relay.{domain}"),
        };
        let answer = known
            .map(|addresses| (0..=u16::MAX).zip(addresses).map(record).collect())
            .ok_or_else(|| Failure::new(FailureClass::DiscoveryAbsent, "not in the table"));
        Box::pin(async { answer })
    }

    fn addresses<'a>(&'a self, _host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, Failure>> {
        Box::pin(async { Ok(vec![IpAddr::from([127, 0, 0, 1])]) })
    }
}
