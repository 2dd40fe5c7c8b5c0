//! What the tests are made of: authorities, relays that record, fixed DNS, a caller that may misbehave.

mod authority;
mod caller;
mod relay;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use postrider_common::{Domain, Draft, Envelope, Failure, MailboxId, Timestamp};
use postrider_federation::discovery::{Answer, Proof, SrvRecord, Target, Tlsa};
use postrider_federation::{Direction, Identity, Peer, PeerLimits, Pin, Policy, PolicyMode, Resolve, Trust};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tokio::sync::Semaphore;

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

/// Whose certificate is self-signed, and an authority's: as `openssl req -x509` makes it.
pub(crate) fn own_authority(name: &str) -> Arc<Identity> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    let identity = Identity::from_pem(&domain(name), pem.as_bytes(), key.serialize_pem().as_bytes());
    Arc::new(identity.unwrap())
}

pub(crate) fn pinned(identity: &Identity) -> Trust {
    Trust::Pinned { pins: vec![identity.pin()] }
}

pub(crate) fn peer(name: &str, trust: Trust) -> Peer {
    Peer {
        domain: domain(name),
        direction: Direction::Both,
        trust,
        addresses: Vec::new(),
        limits: PeerLimits::default(),
    }
}

pub(crate) fn allow<const N: usize>(own: &Identity, peers: [Peer; N]) -> Arc<Policy> {
    Arc::new(Policy::new(PolicyMode::AllowList, own, peers).unwrap())
}

pub(crate) fn envelope(body: &[u8]) -> Envelope {
    let expires_at = NOW + Duration::from_secs(3600);
    Draft::new(MailboxId::from_bytes([7; 32]), expires_at, body.to_vec()).finish().unwrap()
}

/// DNS from a table: each domain is served by relays on this machine, in the order given. What it says about keys is
/// set by the test; nothing is signed unless it says so.
#[derive(Debug)]
pub(crate) struct Table {
    zones: Mutex<HashMap<Domain, Zone>>,
    /// The look-ups for SRV and TLSA records.
    pub(crate) asked: AtomicUsize,
    pub(crate) doubted: Mutex<Vec<Domain>>,
    /// Every answer needs a permit.
    pub(crate) gate: Arc<Semaphore>,
}

#[derive(Debug, Clone, Default)]
struct Zone {
    addresses: Vec<SocketAddr>,
    proof: Option<Proof>,
    tlsa: Option<Result<Answer<Tlsa>, Failure>>,
    /// At targets with these ports, instead.
    tlsa_at: HashMap<u16, Result<Answer<Tlsa>, Failure>>,
}

/// For how long an answer of the table lives.
pub(crate) const LIFE: Duration = Duration::from_secs(60);

impl Table {
    /// The permits that there are.
    pub(crate) const GATE: u32 = 1000;

    pub(crate) fn new<const N: usize>(entries: [(&str, SocketAddr); N]) -> Arc<Self> {
        let table = Self {
            zones: Mutex::default(),
            asked: AtomicUsize::new(0),
            doubted: Mutex::default(),
            gate: Arc::new(Semaphore::new(Self::GATE as usize)),
        };
        for (name, address) in entries {
            table.set(name, address);
        }
        Arc::new(table)
    }

    pub(crate) fn set(&self, name: &str, address: SocketAddr) {
        self.set_all(name, vec![address]);
    }

    pub(crate) fn set_all(&self, name: &str, addresses: Vec<SocketAddr>) {
        self.zones.lock().unwrap().entry(domain(name)).or_default().addresses = addresses;
    }

    /// Waits until it is asked for anything.
    pub(crate) async fn is_asked(&self) {
        while self.asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    }

    /// The port of the domain's first target.
    pub(crate) fn port(&self, name: &str) -> u16 {
        self.zone(&domain(name)).addresses[0].port()
    }

    /// What DNSSEC says about the domain's SRV records.
    pub(crate) fn prove(&self, name: &str, proof: Proof) {
        self.zones.lock().unwrap().entry(domain(name)).or_default().proof = Some(proof);
    }

    /// What is answered for TLSA records at every target of the domain.
    pub(crate) fn answer_tlsa(&self, name: &str, answer: Result<Answer<Tlsa>, Failure>) {
        self.zones.lock().unwrap().entry(domain(name)).or_default().tlsa = Some(answer);
    }

    /// The same at the target with this port.
    pub(crate) fn answer_tlsa_at(&self, name: &str, port: u16, answer: Result<Answer<Tlsa>, Failure>) {
        self.zones.lock().unwrap().entry(domain(name)).or_default().tlsa_at.insert(port, answer);
    }

    /// SRV records that are secure, and TLSA records for these keys that are, too.
    pub(crate) fn sign(&self, name: &str, pins: &[Pin]) {
        self.prove(name, Proof::Secure);
        let records = pins.iter().map(tlsa).collect();
        self.answer_tlsa(name, Ok(Answer::new(records, Proof::Secure, LIFE)));
    }

    fn zone(&self, domain: &Domain) -> Zone {
        self.zones.lock().unwrap().get(domain).cloned().unwrap_or_default()
    }
}

pub(crate) fn tlsa(pin: &Pin) -> Tlsa {
    Tlsa { usage: 3, selector: 1, matching: 1, data: pin.as_bytes().to_vec() }
}

impl Resolve for Table {
    fn srv<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<Answer<SrvRecord>, Failure>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let zone = self.zone(domain);
        let record = |(priority, address): (u16, SocketAddr)| SrvRecord {
            priority,
            weight: 0,
            port: address.port(),
            target: format!("relay.{domain}"),
        };
        let records = (0..=u16::MAX).zip(zone.addresses).map(record).collect();
        let proof = zone.proof.unwrap_or(Proof::Insecure);
        Box::pin(async move {
            let _permit = self.gate.acquire().await;
            Ok(Answer::new(records, proof, LIFE))
        })
    }

    fn addresses<'a>(&'a self, _host: &'a str) -> BoxFuture<'a, Result<Answer<IpAddr>, Failure>> {
        let here = vec![IpAddr::from([127, 0, 0, 1])];
        Box::pin(async { Ok(Answer::new(here, Proof::Unchecked, LIFE)) })
    }

    fn tlsa<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Answer<Tlsa>, Failure>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let zone = self.zone(&domain(target.host.strip_prefix("relay.").unwrap()));
        let at = zone.tlsa_at.get(&target.port).cloned();
        let answer = at.or(zone.tlsa).unwrap_or(Ok(Answer::new(Vec::new(), Proof::Insecure, LIFE)));
        Box::pin(async { answer })
    }

    fn doubt(&self, domain: &Domain) {
        self.doubted.lock().unwrap().push(domain.clone());
    }
}
