//! The door: TCP connections, how many there may be, and which protocol each wants.
//!
//! One port serves both worlds. The ClientHello says which: whoever offers the federation protocol is a relay and
//! must show a certificate; everybody else is a client. A port can also be for one of the two only.

mod proxy;
mod turns;

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::poll_immediate;
use postrider_common::supervisor::Supervisor;
use postrider_federation::discovery::Network;
use postrider_federation::{ALPN, Server};
use rustls::ServerConfig;
use rustls::server::{Acceptor, ClientHello};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use crate::acme::Challenges;
use crate::admission::{Admission, Admissions, Place};
use crate::api::Api;
use crate::count::{Counter, Level};
use crate::telemetry::Seldom;
use proxy::HeaderError;
use turns::{InTurns, in_turns};

/// How long to leave the socket alone after the system refused to accept.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(500);

/// Whom an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Clients and other relays: each says which it is.
    Everybody,
    /// Clients only.
    Clients,
    /// Other relays only.
    Relays,
}

/// How many connections there may be, and how long they may take to say what they want.
#[derive(Debug, Clone)]
pub struct Settings {
    /// In all.
    pub connections: usize,
    /// From one client address.
    pub connections_per_address: usize,
    /// Of these, those that have yet to come to something.
    pub beginning_per_address: usize,
    /// For the TLS handshake, and for what a proxy says before it.
    pub handshake_timeout: Duration,
    /// Whose connections have to begin with a header of the PROXY protocol. Nobody else's do.
    pub proxies: Vec<Network>,
}

/// What is behind the door. Clones share it.
#[derive(Debug, Clone)]
pub struct Door(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    client_tls: Arc<ServerConfig>,
    challenges: Challenges,
    api: Api,
    federation: Server,
    supervisor: Supervisor,
    admissions: Admissions,
    beginnings: Admissions,
    handshakes: Semaphore,
    counts: Counts,
    said: Seldom,
}

/// What came to the door.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections of other relays, now.
    pub relays: Level,
    /// Those that have yet to say what they are.
    pub beginning: Level,
    /// Closed over a limit,
    pub over_limit: Counter,
    /// for want of a header that a proxy has to send,
    pub without_header: Counter,
    /// for want of TLS,
    pub without_tls: Counter,
    /// and for being too slow about it.
    pub too_slow: Counter,
}

/// A connection that was accepted, and what is known of who is at its other end.
enum Arrival {
    /// The client itself.
    Direct(Guest),
    /// Behind this proxy.
    Behind(Place, IpAddr),
}

/// A client, or another relay, that was let in.
struct Guest {
    admission: Admission,
    /// Until the connection has come to something.
    beginning: Admission,
}

/// Why a connection came to nothing before it was served.
#[derive(Debug, thiserror::Error)]
enum Turned {
    #[error("a proxy's connection was refused: {0}")]
    Header(#[from] HeaderError),
    #[error("a connection over the limit was closed")]
    Full,
    #[error("a TLS handshake failed: {0}")]
    Handshake(#[from] io::Error),
}

/// Who is there.
enum Who {
    Client,
    Relay,
    /// An ACME server.
    Authority,
}

impl Door {
    /// `client_tls` is shown to everybody who is no relay and comes to check none of the `challenges`.
    pub fn new(
        settings: Settings,
        client_tls: Arc<ServerConfig>,
        challenges: Challenges,
        api: Api,
        federation: Server,
        supervisor: &Supervisor,
    ) -> Self {
        let supervisor = supervisor.clone();
        let admissions = Admissions::new(settings.connections, settings.connections_per_address);
        let beginnings = Admissions::new(usize::MAX, settings.beginning_per_address);
        let (counts, said) = (Counts::default(), Seldom::new());
        Self(Arc::new(Shared {
            settings,
            client_tls,
            challenges,
            api,
            federation,
            supervisor,
            admissions,
            beginnings,
            handshakes: Semaphore::new(handshakes_at_a_time()),
            counts,
            said,
        }))
    }

    /// What came to it since the start.
    pub fn counts(&self) -> &Counts {
        &self.0.counts
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.0.admissions.total()
    }

    /// Accepts connections of `audience` until the process stops.
    pub fn open(&self, listener: TcpListener, audience: Audience) {
        let door = self.clone();
        self.0.supervisor.spawn_service("listener", async move {
            let stopping = door.0.supervisor.stopping();
            tokio::pin!(stopping);
            loop {
                tokio::select! {
                    () = &mut stopping => return,
                    accepted = listener.accept() => match accepted {
                        Ok((stream, peer)) => door.receive(stream, peer.ip(), audience),
                        Err(error) => after_accept_error(&error).await,
                    },
                }
            }
        });
    }

    fn receive(&self, stream: TcpStream, from: IpAddr, audience: Audience) {
        let (admissions, proxies) = (&self.0.admissions, &self.0.settings.proxies);
        let arrival = if proxies.iter().any(|network| network.contains(from)) {
            admissions.reserve().map(|place| Arrival::Behind(place, from))
        } else {
            admissions.admit(from.into()).and_then(|admission| self.let_in(admission)).map(Arrival::Direct)
        };
        let Some(arrival) = arrival else {
            self.0.counts.over_limit.add(1);
            // No TLS session, so no way to say why: the connection is closed.
            return tracing::debug!("{}", Turned::Full);
        };
        let door = self.clone();
        let hurrying = self.0.supervisor.hurrying();
        self.0.supervisor.spawn("connection", async move {
            tokio::select! {
                () = door.serve(stream, arrival, audience) => {}
                () = hurrying => tracing::debug!("a connection that did not end was closed"),
            }
        });
    }

    /// A client's connection can outlive this as a WebSocket, which then keeps the admission.
    async fn serve(&self, mut stream: TcpStream, arrival: Arrival, audience: Audience) {
        // Small frames such as acknowledgements must not wait for one another.
        let _ = stream.set_nodelay(true);
        let handshake = async {
            let guest = self.meet(&mut stream, arrival).await?;
            let start = LazyConfigAcceptor::new(Acceptor::default(), in_turns(stream)).await?;
            let (who, config) = self.tell_apart(&start.client_hello(), audience);
            Ok::<_, Turned>((guest, who, self.agree(start, config).await?))
        };
        let counts = &self.0.counts;
        let counted = counts.beginning.enter();
        let began = timeout(self.0.settings.handshake_timeout, handshake).await;
        drop(counted);
        match began {
            // Until its end the connection is counted.
            Ok(Ok((Guest { admission: _admission, beginning }, Who::Relay, stream))) => {
                drop(beginning);
                let _present = counts.relays.enter();
                self.0.federation.serve(stream).await;
            }
            Ok(Ok((Guest { admission, beginning }, Who::Client, stream))) => {
                self.0.api.serve(stream, Arc::new(admission), beginning).await;
            }
            // The handshake was all that it came for.
            Ok(Ok((_, Who::Authority, _))) => tracing::debug!("an ACME server has checked a challenge"),
            Ok(Err(turned)) => {
                tracing::debug!("{turned}");
                match turned {
                    Turned::Full => counts.over_limit.add(1),
                    Turned::Handshake(_) => counts.without_tls.add(1),
                    // As a health check of a proxy's does.
                    Turned::Header(HeaderError::Silent) => {}
                    Turned::Header(error) => {
                        counts.without_header.add(1);
                        self.tell_of_proxy(&error.to_string());
                    }
                }
            }
            Err(_) => {
                counts.too_slow.add(1);
                tracing::debug!("a TLS handshake took too long");
            }
        }
    }

    /// Finds out whose connection it is, and counts it.
    async fn meet(&self, stream: &mut TcpStream, arrival: Arrival) -> Result<Guest, Turned> {
        match arrival {
            Arrival::Direct(guest) => Ok(guest),
            Arrival::Behind(place, proxy) => {
                let client = proxy::read(stream).await?.unwrap_or(proxy);
                place.of(client.into()).and_then(|admission| self.let_in(admission)).ok_or(Turned::Full)
            }
        }
    }

    fn let_in(&self, admission: Admission) -> Option<Guest> {
        let beginning = self.0.beginnings.admit(admission.address())?;
        Some(Guest { admission, beginning })
    }

    /// The rest of the handshake. What it costs the processor comes first, in one step, and is done for a few at a time: a
    /// crowd at the door does not keep those waiting who are inside. What follows waits for the client.
    async fn agree(
        &self,
        start: StartHandshake<InTurns<TcpStream>>,
        config: Arc<ServerConfig>,
    ) -> io::Result<TlsStream<InTurns<TcpStream>>> {
        let mut handshake = pin!(start.into_stream(config));
        // It is never closed.
        let turn = self.0.handshakes.acquire().await;
        let first = poll_immediate(handshake.as_mut()).await;
        drop(turn);
        match first {
            Some(done) => done,
            None => handshake.await,
        }
    }

    /// Who begins a connection like this, and the TLS for it.
    fn tell_apart(&self, hello: &ClientHello<'_>, audience: Audience) -> (Who, Arc<ServerConfig>) {
        if let Some(config) = self.0.challenges.tls_config(hello) {
            return (Who::Authority, config);
        }
        let offers_federation = || hello.alpn().is_some_and(|mut offered| offered.any(|name| name == ALPN));
        // Whoever is at the wrong door is told so by TLS: none of the protocols that it offers is spoken here.
        let is_relay = match audience {
            Audience::Everybody => offers_federation(),
            Audience::Clients => false,
            Audience::Relays => true,
        };
        if is_relay {
            (Who::Relay, self.0.federation.tls_config())
        } else {
            (Who::Client, Arc::clone(&self.0.client_tls))
        }
    }

    /// All connections of a proxy that is not set up for it fail: its administrator should hear of that.
    fn tell_of_proxy(&self, reason: &str) {
        if self.0.said.is_due(reason) {
            tracing::warn!("a proxy's connection was refused: {reason}");
        }
    }
}

/// At least one processor is left for everything else, if there are two.
fn handshakes_at_a_time() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| (processors.get() - 1).max(1))
}

/// A peer's fault is passed over; a lack on our side is said, and the socket left alone for a moment.
pub(crate) async fn after_accept_error(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        return tracing::debug!("a connection ended before it was accepted: {error}");
    }
    tracing::error!(
        "connections cannot be accepted: {error}. If the system is out of file descriptors, raise LimitNOFILE \
         (systemd) or `ulimit -n`, or lower `limits.connections`"
    );
    tokio::time::sleep(AFTER_ACCEPT_ERROR).await;
}
