//! From a domain to a connection that is proven to be that domain's.

mod examine;
mod failures;
mod handshake;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use postrider_common::clock::SharedClock;
use postrider_common::{Domain, Failure, FailureClass};
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::ClientConfig;
use crate::certificate::Pin;
use crate::discovery::{Answer, MAX_ADDRESSES, SrvRecord, Target, order};
use crate::policy::{Direction, Policy, Terms};
use crate::trust::{PeerId, REMEMBERED, Testimony, Witness, judge};
use crate::{LOG, tls};
use failures::Failures;
use handshake::{handshake, handshake_failed, is_closed};

pub use examine::{Examination, ExaminedHost, Reached, Tried};
pub use failures::progress;

/// How much later than the one before it the next address of a host is tried (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);

/// Makes connections to peers.
pub(super) struct Connector {
    tls: TlsConnector,
    clock: SharedClock,
}

/// A connection whose other end has proven to be the peer.
///
/// It is made in one place, after [`judge`] gave the [`PeerId`], and only from it does one get at the bytes: nothing can
/// be written to a connection that is not proven.
pub(super) struct Proven {
    stream: TlsStream<TcpStream>,
    pub(super) peer: PeerId,
    pub(super) policy: Arc<Policy>,
    /// The SRV target that it is, unless an administrator has written down the address.
    pub(super) target: Option<Target>,
    /// For how long the verdict holds.
    pub(super) life: Duration,
    /// What we have shown of ourselves, or something older: then it is made anew once more than it had to be.
    pub(super) shown: Arc<CertifiedKey>,
}

impl Connector {
    pub(super) fn new(config: &ClientConfig, clock: SharedClock) -> Self {
        Self { tls: TlsConnector::from(tls::client_config(&config.identity)), clock }
    }

    /// Tries every target in its order and every address of each, until one proves to be `destination`.
    pub(super) async fn connect(
        &self,
        config: &ClientConfig,
        destination: &Domain,
    ) -> Result<Proven, Failure> {
        let policy = Arc::clone(&config.policy.borrow());
        let terms = policy.admit(destination, Direction::Out)?;
        let attempt = Attempt { connector: self, config, policy: &policy, domain: destination, terms };
        attempt.run().await
    }
}

/// One attempt, with what all its steps need.
struct Attempt<'a> {
    connector: &'a Connector,
    config: &'a ClientConfig,
    policy: &'a Arc<Policy>,
    domain: &'a Domain,
    terms: Terms<'a>,
}

impl Attempt<'_> {
    async fn run(&self) -> Result<Proven, Failure> {
        let connected = self.try_all().await;
        // Something was wrong with what DNS said, or has changed since: the next attempt asks anew.
        if connected.is_err() {
            self.config.witness.resolver().doubt(self.domain);
        }
        connected
    }

    async fn try_all(&self) -> Result<Proven, Failure> {
        let mut failures = Failures::new(self.domain);
        if !self.terms.addresses.is_empty() {
            let testimony = Witness::about_address(self.domain, self.terms.trust)?;
            let place = Place { target: None, testimony };
            return match self.reach(self.terms.addresses.to_vec(), &place, &mut failures).await {
                Some(proven) => Ok(proven),
                None => Err(failures.most_telling()),
            };
        }
        let deadline = Instant::now() + self.config.attempt_timeout;
        let (srv, targets) = self.targets().await?;
        for target in targets {
            if Instant::now() >= deadline {
                break;
            }
            // What DNS says about the key first: there is no use in connecting to whom nothing could prove.
            let witness = &self.config.witness;
            let known = witness.about_target(self.domain, self.terms.trust, &srv, &target).await;
            let addresses = match &known {
                Ok(_) => self.addresses(&target, &mut failures).await,
                Err(_) => Ok(Vec::new()),
            };
            match (known, addresses) {
                (Ok(testimony), Ok(addresses)) => {
                    let place = Place { target: Some(target), testimony };
                    if let Some(proven) = self.reach(addresses, &place, &mut failures).await {
                        return Ok(proven);
                    }
                }
                (Err(failure), _) | (_, Err(failure)) => failures.other(failure),
            }
        }
        Err(failures.most_telling())
    }

    async fn targets(&self) -> Result<(Answer<SrvRecord>, Vec<Target>), Failure> {
        let domain = self.domain;
        let began = Instant::now();
        let srv = self.config.witness.resolver().srv(domain).await?;
        let targets = order(domain, &srv.records, &mut rand::rng())?;
        let named: Vec<_> = targets.iter().map(Target::to_string).collect();
        tracing::debug!(
            target: LOG,
            %domain,
            targets = named.join(" "),
            proof = %srv.proof,
            stale = srv.is_stale,
            elapsed = ?began.elapsed(),
            "SRV answer"
        );
        Ok((srv, targets))
    }

    /// The addresses of a target: those that an administrator has written down for its host, else those in DNS.
    async fn addresses(&self, target: &Target, failures: &mut Failures) -> Result<Vec<SocketAddr>, Failure> {
        if let Some(fixed) = self.config.hosts.get(&target.host) {
            return Ok(fixed.iter().map(|ip| SocketAddr::new(*ip, target.port)).collect());
        }
        let answer = self.config.witness.resolver().addresses(&target.host).await?;
        if answer.records.is_empty() {
            let detail = format!(
                "{}, which {} publishes in its SRV record, has no address: its administrator has to publish one",
                target.host, self.domain
            );
            return Err(Failure::new(FailureClass::DiscoveryFailed, detail));
        }
        Ok(self.allowed(target, answer.records, failures))
    }

    /// The addresses of a target that may be connected to.
    fn allowed(&self, target: &Target, addresses: Vec<IpAddr>, failures: &mut Failures) -> Vec<SocketAddr> {
        let mut allowed = Vec::new();
        for ip in addresses.into_iter().take(MAX_ADDRESSES) {
            let address = SocketAddr::new(ip, target.port);
            match self.config.networks.refuse(ip) {
                Some(kind) => {
                    failures.unreached(address, format!("{kind}, which `dns.allow_networks` does not have"))
                }
                None if allowed.contains(&address) => {}
                None => allowed.push(address),
            }
        }
        allowed
    }

    /// The first of `addresses` that accepts a connection and proves to be the peer.
    async fn reach(
        &self,
        mut addresses: Vec<SocketAddr>,
        place: &Place,
        failures: &mut Failures,
    ) -> Option<Proven> {
        while let Some(stream) = self.race(&mut addresses, failures).await {
            match self.prove(stream, place).await {
                Ok(proven) => return Some(proven),
                Err(failure) => failures.other(failure),
            }
        }
        None
    }

    /// A TCP connection to the first address that accepts one. The next is tried when one fails or is slow to answer.
    /// Leaves the addresses of which nothing is known yet.
    async fn race(&self, addresses: &mut Vec<SocketAddr>, failures: &mut Failures) -> Option<TcpStream> {
        let all = addresses.clone();
        let mut waiting = all.iter();
        let mut attempts = FuturesUnordered::new();
        loop {
            if let Some(address) = waiting.next() {
                attempts.push(self.dial(*address).map(|dialled| (*address, dialled)));
            }
            let last = waiting.len() == 0;
            let (address, dialled) = tokio::select! {
                finished = attempts.next() => match finished {
                    Some(finished) => finished,
                    None if last => return None,
                    None => continue,
                },
                () = tokio::time::sleep(STAGGER), if !last => continue,
            };
            addresses.retain(|other| *other != address);
            match dialled {
                Ok(stream) => return Some(stream),
                Err(reason) => failures.unreached(address, reason),
            }
        }
    }

    async fn dial(&self, address: SocketAddr) -> Result<TcpStream, String> {
        let connecting = timeout(self.config.connect_timeout, TcpStream::connect(address));
        let stream = match connecting.await {
            Ok(connected) => connected.map_err(|error| error.to_string())?,
            Err(_) => return Err("no answer in time".into()),
        };
        // Small frames are on their way at once. A socket that does not know the option works all the same.
        let _ = stream.set_nodelay(true);
        let reached = stream.peer_addr().map_err(|error| error.to_string())?;
        if self.may_be_at(reached) {
            Ok(stream)
        } else {
            Err(format!("the connection leads to {reached}, which `dns.allow_networks` does not have"))
        }
    }

    /// Asked of the connected socket too, which is where the bytes go, whatever was looked up before.
    fn may_be_at(&self, reached: SocketAddr) -> bool {
        self.terms.addresses.contains(&reached)
            || self.config.networks.refuse(reached.ip()).is_none()
            || self.config.hosts.values().any(|fixed| fixed.contains(&reached.ip()))
    }

    /// TLS, and the verdict: by the policy of that moment, which may be another one than when the attempt began.
    async fn prove(&self, stream: TcpStream, place: &Place) -> Result<Proven, Failure> {
        let domain = self.domain;
        let shown = self.config.identity.shown().current();
        let stream = handshake(&self.connector.tls, domain, stream, self.config.handshake_timeout).await?;
        let (_, session) = stream.get_ref();
        let chain = session.peer_certificates().unwrap_or_default();
        self.is_another(chain)?;
        let policy = Arc::clone(&self.config.policy.borrow());
        let testimony = self.known_under(&policy, place).await?;
        let trust = policy.admit(domain, Direction::Out)?.trust;
        let now = self.connector.clock.now();
        let peer = judge(chain, domain, trust, &testimony.evidence, now).inspect_err(|distrust| {
            tracing::warn!(target: LOG, peer = %domain, class = distrust.class.slug(), "a peer was refused: {}", distrust.detail);
        })?;
        self.config.expiries.note(&peer, chain);
        tracing::debug!(
            target: LOG,
            peer = %domain,
            direction = "out",
            protocol = "TLS 1.3",
            key_exchange = tls::key_exchange(session),
            trust = %peer.mode(),
            "TLS agreed"
        );
        Ok(Proven {
            stream,
            peer,
            policy,
            target: place.target.clone(),
            life: testimony.life.min(REMEMBERED),
            shown,
        })
    }

    /// What is known of a place that another policy may have led to, or have asked less about.
    async fn known_under(&self, policy: &Arc<Policy>, place: &Place) -> Result<Testimony, Failure> {
        if Arc::ptr_eq(policy, self.policy) {
            return Ok(place.testimony.clone());
        }
        let terms = policy.admit(self.domain, Direction::Out)?;
        if terms.addresses != self.terms.addresses {
            let detail = format!("the addresses of {} were changed while it was called", self.domain);
            return Err(Failure::new(FailureClass::ConnectFailed, detail));
        }
        self.config.witness.about_kept(self.domain, terms.trust, place.target.as_ref()).await
    }

    /// A domain that is not ours and leads to us would have us send envelopes in a circle.
    fn is_another(&self, chain: &[CertificateDer<'_>]) -> Result<(), Failure> {
        let own = &self.config.identity;
        let presented = chain.first().and_then(|leaf| Pin::of(leaf).ok());
        if self.domain != own.domain() && presented.is_some_and(|pin| own.is_ours(pin)) {
            let detail = format!("{} leads back to this relay, which is {}", self.domain, own.domain());
            return Err(Failure::new(FailureClass::Loop, detail));
        }
        Ok(())
    }
}

/// Where a connection leads, and what DNS says about who is there.
struct Place {
    target: Option<Target>,
    testimony: Testimony,
}

impl Proven {
    /// What the peer presented, to be judged again when the policy changes.
    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        let (_, session) = self.stream.get_ref();
        let chain = session.peer_certificates().unwrap_or_default();
        chain.iter().map(|certificate| certificate.clone().into_owned()).collect()
    }

    /// Waits for the peer's first word, then gives the stream with that word still in it.
    ///
    /// In TLS 1.3 our side of the handshake is complete before the peer has looked at our certificate. If it refuses it,
    /// the alert is the first thing that we read. Had we written by then, the peer's closed socket would answer with a
    /// reset, and the alert would be lost. An HTTP/2 server speaks first (its SETTINGS), so waiting costs one
    /// round trip for each new connection and no more.
    pub(super) async fn into_stream(
        mut self,
        patience: Duration,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static, Failure> {
        let domain = self.peer.domain();
        let mut first = vec![0; 1024];
        let failed = |what: &str| Failure::new(FailureClass::RemoteFailed, format!("{domain} {what}"));
        match timeout(patience, self.stream.read(&mut first)).await {
            Err(_) => return Err(failed("said nothing after the TLS handshake")),
            Ok(Ok(0)) => return Err(failed("closed the connection after the TLS handshake")),
            Ok(Err(error)) if is_closed(&error) => {
                return Err(failed("closed the connection after the TLS handshake"));
            }
            Ok(Err(error)) => return Err(handshake_failed(domain, &error)),
            Ok(Ok(length)) => first.truncate(length),
        }
        let (reading, writing) = tokio::io::split(self.stream);
        Ok(tokio::io::join(io::Cursor::new(first).chain(reading), writing))
    }
}
