//! The door: TCP connections, how many there may be, and which protocol each wants.
//!
//! One port serves both worlds. The ClientHello says which: whoever offers the federation protocol is a relay and
//! must show a certificate; everybody else is a client.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postrider_common::supervisor::Supervisor;
use postrider_federation::{ALPN, Server};
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;

use crate::admission::{Admission, Admissions};
use crate::api::Api;

/// How long to leave the socket alone after the system refused to accept.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(500);

/// How many connections there may be, and how long they may take to say what they want.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// In all.
    pub connections: usize,
    /// From one client address.
    pub connections_per_address: usize,
    /// For the TLS handshake.
    pub handshake_timeout: Duration,
}

/// What is behind the door. Clones share it.
#[derive(Debug, Clone)]
pub struct Door(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    client_tls: Arc<ServerConfig>,
    api: Api,
    federation: Server,
    supervisor: Supervisor,
    admissions: Admissions,
}

impl Door {
    /// `client_tls` is shown to everybody who is no relay.
    pub fn new(
        settings: Settings,
        client_tls: Arc<ServerConfig>,
        api: Api,
        federation: Server,
        supervisor: &Supervisor,
    ) -> Self {
        let supervisor = supervisor.clone();
        let admissions = Admissions::new(settings.connections, settings.connections_per_address);
        Self(Arc::new(Shared { settings, client_tls, api, federation, supervisor, admissions }))
    }

    /// Accepts connections until the process stops.
    pub fn open(&self, listener: TcpListener) {
        let door = self.clone();
        self.0.supervisor.spawn_service("listener", async move {
            let stopping = door.0.supervisor.stopping();
            tokio::pin!(stopping);
            loop {
                tokio::select! {
                    () = &mut stopping => return,
                    accepted = listener.accept() => match accepted {
                        Ok((stream, peer)) => door.receive(stream, peer),
                        Err(error) => after_accept_error(&error).await,
                    },
                }
            }
        });
    }

    fn receive(&self, stream: TcpStream, peer: SocketAddr) {
        let Some(admission) = self.0.admissions.admit(peer.ip().into()) else {
            // No TLS session, so no way to say why: the connection is closed.
            return tracing::debug!("a connection over the limit was closed");
        };
        let door = self.clone();
        let hurrying = self.0.supervisor.hurrying();
        self.0.supervisor.spawn("connection", async move {
            tokio::select! {
                () = door.serve(stream, Arc::new(admission)) => {}
                () = hurrying => tracing::debug!("a connection that did not end was closed"),
            }
        });
    }

    /// A client's connection can outlive this as a WebSocket, which then keeps the admission.
    async fn serve(&self, stream: TcpStream, admission: Arc<Admission>) {
        // Small frames such as acknowledgements must not wait for one another.
        let _ = stream.set_nodelay(true);
        let handshake = async {
            let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            let is_relay =
                start.client_hello().alpn().is_some_and(|mut offered| offered.any(|name| name == ALPN));
            let config =
                if is_relay { self.0.federation.tls_config() } else { Arc::clone(&self.0.client_tls) };
            start.into_stream(config).await.map(|stream| (is_relay, stream))
        };
        match timeout(self.0.settings.handshake_timeout, handshake).await {
            Ok(Ok((true, stream))) => self.0.federation.serve(stream).await,
            Ok(Ok((false, stream))) => self.0.api.serve(stream, admission).await,
            Ok(Err(error)) => tracing::debug!("a TLS handshake failed: {error}"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }
}

/// A peer's fault is passed over; a lack on our side is said, and the socket left alone for a moment.
async fn after_accept_error(error: &io::Error) {
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
