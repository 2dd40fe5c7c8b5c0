//! From a domain to a connection that is proven to be that domain's.

mod failures;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use postrider_common::clock::SharedClock;
use postrider_common::{Domain, Failure, FailureClass};
use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, CertificateError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::ClientConfig;
use crate::discovery::{MAX_ADDRESSES, Target, order};
use crate::policy::{Direction, Peer, Policy};
use crate::trust::{PeerId, judge};
use crate::{ALPN, LOG, tls};
use failures::Failures;

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
        let peer = policy.admit(destination, Direction::Out)?;
        let attempt = Attempt { connector: self, config, policy: &policy, peer };
        attempt.run().await
    }
}

/// One attempt, with what all its steps need.
struct Attempt<'a> {
    connector: &'a Connector,
    config: &'a ClientConfig,
    policy: &'a Arc<Policy>,
    peer: &'a Peer,
}

impl Attempt<'_> {
    async fn run(&self) -> Result<Proven, Failure> {
        let mut failures = Failures::new(&self.peer.domain);
        if !self.peer.addresses.is_empty() {
            return match self.reach(self.peer.addresses.clone(), &mut failures).await {
                Some(proven) => Ok(proven),
                None => Err(failures.most_telling()),
            };
        }
        let deadline = Instant::now() + self.config.attempt_timeout;
        for target in self.targets().await? {
            if Instant::now() >= deadline {
                break;
            }
            let addresses = match self.config.resolver.addresses(&target.host).await {
                Ok(addresses) => self.allowed(&target, addresses, &mut failures),
                Err(failure) => {
                    failures.other(failure);
                    continue;
                }
            };
            if let Some(proven) = self.reach(addresses, &mut failures).await {
                return Ok(proven);
            }
        }
        Err(failures.most_telling())
    }

    async fn targets(&self) -> Result<Vec<Target>, Failure> {
        let domain = &self.peer.domain;
        let began = Instant::now();
        let records = self.config.resolver.srv(domain).await?;
        let targets = order(domain, &records, &mut rand::rng())?;
        let named: Vec<_> = targets.iter().map(Target::to_string).collect();
        tracing::debug!(target: LOG, %domain, targets = named.join(" "), elapsed = ?began.elapsed(), "SRV answer");
        Ok(targets)
    }

    /// The addresses of a target that may be connected to.
    fn allowed(&self, target: &Target, addresses: Vec<IpAddr>, failures: &mut Failures) -> Vec<SocketAddr> {
        let mut allowed = Vec::new();
        for ip in addresses.into_iter().take(MAX_ADDRESSES) {
            let address = SocketAddr::new(ip, target.port);
            match self.config.networks.refuse(ip) {
                Some(kind) => failures.unreached(address, format!("{kind}, where no peer is allowed")),
                None if allowed.contains(&address) => {}
                None => allowed.push(address),
            }
        }
        allowed
    }

    /// The first of `addresses` that accepts a connection and proves to be the peer.
    async fn reach(&self, mut addresses: Vec<SocketAddr>, failures: &mut Failures) -> Option<Proven> {
        while let Some(stream) = self.race(&mut addresses, failures).await {
            match self.prove(stream).await {
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
            Err(format!("the connection leads to {reached}, where no peer is allowed"))
        }
    }

    /// Asked of the connected socket too, which is where the bytes go, whatever was looked up before.
    fn may_be_at(&self, reached: SocketAddr) -> bool {
        self.peer.addresses.contains(&reached) || self.config.networks.refuse(reached.ip()).is_none()
    }

    /// TLS, and the verdict.
    async fn prove(&self, stream: TcpStream) -> Result<Proven, Failure> {
        let domain = &self.peer.domain;
        let name = tls::server_name(domain).ok_or_else(|| {
            Failure::new(FailureClass::DiscoveryFailed, format!("{domain} cannot be asked for by TLS"))
        })?;
        let handshake = self.connector.tls.connect(name, stream);
        let stream = match timeout(self.config.handshake_timeout, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(handshake_failed(domain, &error)),
            Err(_) => {
                let detail = format!("{domain} did not finish the TLS handshake in time");
                return Err(Failure::new(FailureClass::ConnectFailed, detail));
            }
        };
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != Some(ALPN) {
            return Err(other_protocol(domain));
        }
        let chain = session.peer_certificates().unwrap_or_default();
        let peer = judge(chain, domain, &self.peer.trust, self.connector.clock.now()).inspect_err(|failure| {
            tracing::warn!(target: LOG, peer = %domain, class = failure.class.slug(), "a peer was refused: {}", failure.detail);
        })?;
        tracing::debug!(
            target: LOG,
            peer = %domain,
            direction = "out",
            protocol = "TLS 1.3",
            key_exchange = tls::key_exchange(session),
            trust = %peer.mode(),
            "TLS agreed"
        );
        Ok(Proven { stream, peer, policy: Arc::clone(self.policy) })
    }
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

/// What the end of a handshake means, or of a connection on which the peer has not said a word yet.
fn handshake_failed(domain: &Domain, error: &io::Error) -> Failure {
    use AlertDescription as Alert;
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::AlertReceived(
            alert @ (Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied),
        )) => Failure::new(
            FailureClass::TlsOurCertificateRefused,
            format!("{domain} does not accept our certificate: TLS alert {alert:?}"),
        ),
        Some(rustls::Error::AlertReceived(Alert::NoApplicationProtocol)) => other_protocol(domain),
        Some(rustls::Error::AlertReceived(Alert::ProtocolVersion) | rustls::Error::PeerIncompatible(_)) => {
            Failure::new(
                FailureClass::VersionUnsupported,
                format!("{domain} does not speak TLS 1.3: {error}"),
            )
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::BadSignature)) => Failure::new(
            FailureClass::TlsUntrusted,
            format!("{domain} does not hold the key of the certificate that it presented"),
        ),
        Some(rustls::Error::InvalidCertificate(_)) => Failure::new(
            FailureClass::TlsUntrusted,
            format!("{domain} presented a certificate that cannot be used: {error}"),
        ),
        _ if is_closed(error) => Failure::new(
            FailureClass::ConnectFailed,
            format!("{domain} closed the connection during the TLS handshake"),
        ),
        _ => Failure::new(
            FailureClass::ConnectFailed,
            format!("the TLS handshake with {domain} failed: {error}"),
        ),
    }
}

/// Whether the peer hung up without a word of TLS.
fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

fn other_protocol(domain: &Domain) -> Failure {
    Failure::new(
        FailureClass::VersionUnsupported,
        format!("{domain} does not speak the protocol postrider/1"),
    )
}
