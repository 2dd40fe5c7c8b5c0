//! Connections as no client makes them: eleven kinds of abuse, written by hand.
//!
//! The benchmark makes hundreds of them beside a good client; tests look at how each ends.

mod http1;
mod http2;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postrider_common::clock::{Clock, SystemClock};
use postrider_common::{Domain, DomainError};
use rustls::client::Resumption;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::authority::{Authority, AuthorityError, Leaf, self_signed};

/// What is done to the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// The head of a request comes byte by byte, or begins and never ends
    SlowHeader,
    /// The body of a request comes byte by byte
    SlowBody,
    /// A request has header fields without end
    HugeHeader,
    /// HTTP/2 frames that ask for nothing (PING, SETTINGS), one after the other
    EndlessFrames,
    /// TLS, and then nothing
    HandshakeOnly,
    /// HTTP/2 frames that there may not be
    InvalidFrames,
    /// More requests at a time on one connection than are allowed, without end
    TooManyStreams,
    /// Requests that are reset as soon as they are made, without end
    ResetStorm,
    /// Requests without a valid session, as fast as the relay answers
    UnauthenticatedFlood,
    /// Submissions that are larger than any may be
    OversizedBatches,
    /// Requests without end over HTTP/2, of whose answers one byte may come
    TinyWindows,
}

/// For whom the relay takes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// A client.
    Clients,
    /// Another relay; its certificate is one that proves nothing.
    Relays,
}

/// Something that a relay did about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reaction {
    /// The connection was made and then closed without TLS, or was not made.
    Refused,
    /// A request was answered with this status.
    Answered(u16),
    /// An HTTP/2 stream was reset with this code,
    Reset(u32),
    /// or the whole connection was given up.
    GoneAway(u32),
    /// The connection was closed.
    Closed,
}

/// What relays did, and how often. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<Reaction, u64>>>);

/// Somebody with bad intentions and one address.
#[derive(Debug, Clone)]
pub struct Abuser {
    relay: ServerName<'static>,
    domain: String,
    address: SocketAddr,
    from: IpAddr,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    federation: Arc<ClientConfig>,
}

/// An abuser could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AbuserError {
    /// The relay's name is none.
    #[error(transparent)]
    Name(#[from] InvalidDnsNameError),
    /// The abuser's own name is none.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// Its certificate could not be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The certificates or the protocol are none that TLS takes.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

impl Kind {
    /// All eleven.
    pub const ALL: [Self; 11] = [
        Self::SlowHeader,
        Self::SlowBody,
        Self::HugeHeader,
        Self::EndlessFrames,
        Self::HandshakeOnly,
        Self::InvalidFrames,
        Self::TooManyStreams,
        Self::ResetStorm,
        Self::UnauthenticatedFlood,
        Self::OversizedBatches,
        Self::TinyWindows,
    ];

    /// As in documents and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlowHeader => "slow-header",
            Self::SlowBody => "slow-body",
            Self::HugeHeader => "huge-header",
            Self::EndlessFrames => "endless-frames",
            Self::HandshakeOnly => "handshake-only",
            Self::InvalidFrames => "invalid-frames",
            Self::TooManyStreams => "too-many-streams",
            Self::ResetStorm => "reset-storm",
            Self::UnauthenticatedFlood => "unauthenticated-flood",
            Self::OversizedBatches => "oversized-batches",
            Self::TinyWindows => "tiny-windows",
        }
    }

    /// Whether it means anything there: of another relay no body is read before it is proven who it is.
    pub const fn is_for(self, door: Door) -> bool {
        !matches!((self, door), (Self::SlowBody | Self::OversizedBatches, Door::Relays))
    }
}

impl Door {
    /// As in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Relays => "relays",
        }
    }
}

impl Tally {
    fn note(&self, reaction: Reaction) {
        *self.lock().entry(reaction).or_default() += 1;
    }

    /// Each reaction, with how often it was seen.
    pub fn counts(&self) -> BTreeMap<Reaction, u64> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Reaction, u64>> {
        // Counters have no states in between that a panic could leave behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Abuser {
    /// Of the relay of `domain`, which listens at `address` and has its certificate from `authority`; connects from `from`.
    pub fn new(
        authority: &Authority,
        domain: &str,
        address: SocketAddr,
        from: IpAddr,
    ) -> Result<Self, AbuserError> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.root().clone())?;
        let roots = Arc::new(roots);
        let builder = || {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let builder = ClientConfig::builder_with_provider(provider);
            let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
            Ok::<_, rustls::Error>(builder.with_root_certificates(Arc::clone(&roots)))
        };
        let speaking = |mut config: ClientConfig, alpn: &str| {
            config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
            // Each handshake is to cost the relay what one costs.
            config.resumption = Resumption::disabled();
            Arc::new(config)
        };
        let own = self_signed(&Leaf::new(&"mallory.example".parse::<Domain>()?, SystemClock.now()))?;
        Ok(Self {
            relay: ServerName::try_from(domain.to_owned())?,
            domain: domain.to_owned(),
            address,
            from,
            http1: speaking(builder()?.with_no_client_auth(), "http/1.1"),
            http2: speaking(builder()?.with_no_client_auth(), "h2"),
            federation: speaking(builder()?.with_client_auth_cert(own.chain(), own.key())?, "postrider/1"),
        })
    }

    /// Makes one connection and abuses it until the relay has ended it, which may be never.
    pub async fn abuse(&self, kind: Kind, door: Door, tally: &Tally) {
        use Kind::{HandshakeOnly, HugeHeader, OversizedBatches, SlowBody, SlowHeader, UnauthenticatedFlood};
        let by_hand = matches!(
            kind,
            SlowHeader | SlowBody | HugeHeader | HandshakeOnly | UnauthenticatedFlood | OversizedBatches
        );
        let tls = match door {
            Door::Relays => &self.federation,
            Door::Clients if by_hand => &self.http1,
            Door::Clients => &self.http2,
        };
        let Ok(stream) = self.connect(tls).await else { return tally.note(Reaction::Refused) };
        match door {
            Door::Clients if by_hand => http1::abuse(stream, kind, tally).await,
            _ => http2::abuse(stream, kind, &self.asking(door), tally).await,
        }
        tally.note(Reaction::Closed);
    }

    async fn connect(&self, tls: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.bind((self.from, 0).into())?;
        let tcp = socket.connect(self.address).await?;
        tcp.set_nodelay(true)?;
        TlsConnector::from(Arc::clone(tls)).connect(self.relay.clone(), tcp).await
    }

    /// The header fields of a request over HTTP/2.
    fn asking(&self, door: Door) -> Vec<(&'static str, String)> {
        let path = match door {
            Door::Clients => "/v1/mailbox/entries",
            Door::Relays => "/federation/v1/hello",
        };
        let mut fields = vec![
            (":method", "GET".to_owned()),
            (":scheme", "https".to_owned()),
            (":authority", self.domain.clone()),
            (":path", path.to_owned()),
        ];
        if door == Door::Relays {
            fields.push(("postrider-origin", "mallory.example".to_owned()));
            fields.push(("postrider-destination", self.domain.clone()));
        }
        fields
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Reaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Answered(status) => write!(f, "{status}"),
            Self::Reset(code) => write!(f, "RST_STREAM {code}"),
            Self::GoneAway(code) => write!(f, "GOAWAY {code}"),
            Self::Closed => f.write_str("closed"),
        }
    }
}
