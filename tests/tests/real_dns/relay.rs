//! A relay's federation side on real sockets, and calls to it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use postrider_common::clock::ManualClock;
use postrider_common::supervisor::Supervisor;
use postrider_common::{Domain, Draft, Envelope, Failure, FailureClass, MailboxId, Outcome};
use postrider_federation::{
    Busy, Client, ClientConfig, Direction, Hello, Identity, Inbound, Networks, Peer, PeerId, PeerLimits,
    Policy, PolicyInForce, PolicyMode, Resolve, Server, ServerConfig, Trust, Witness,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::lab::NOW;

pub(crate) fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

pub(crate) fn identity(name: &str) -> Arc<Identity> {
    let domain = domain(name);
    let pems = Identity::generate(&domain, NOW).unwrap();
    let identity = Identity::from_pem(&domain, pems.certificate_pem.as_bytes(), pems.key_pem.as_bytes());
    Arc::new(identity.unwrap())
}

/// A policy that lists one peer.
pub(crate) fn listing(own: &Identity, other: &str, trust: Trust) -> Policy {
    let peer = Peer {
        domain: domain(other),
        direction: Direction::Both,
        trust,
        addresses: Vec::new(),
        limits: PeerLimits::default(),
    };
    Policy::new(PolicyMode::AllowList, own, [peer]).unwrap()
}

pub(crate) fn policy(own: &Identity, other: &str, trust: Trust) -> PolicyInForce {
    PolicyInForce::new(listing(own, other, trust))
}

pub(crate) fn pinned(identity: &Identity) -> Trust {
    Trust::Pinned { pins: vec![identity.pin()] }
}

/// One that takes whatever a peer brings.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    inbox: Arc<Inbox>,
    supervisor: Supervisor,
}

#[derive(Default)]
struct Inbox(Mutex<usize>);

impl Inbound for Inbox {
    fn receive<'a>(
        &'a self,
        _peer: &'a PeerId,
        batch: Vec<Result<Envelope, FailureClass>>,
    ) -> BoxFuture<'a, Result<Vec<Outcome>, Busy>> {
        *self.0.lock().unwrap() += batch.len();
        Box::pin(async move { Ok(vec![Outcome::Stored; batch.len()]) })
    }

    fn authenticated(&self, _peer: &PeerId) {}
}

impl Relay {
    /// A listener, so that its port can be published before it serves.
    pub(crate) async fn bind() -> (TcpListener, u16) {
        Self::bind_at([127, 0, 0, 1].into()).await.unwrap()
    }

    pub(crate) async fn bind_at(ip: std::net::IpAddr) -> std::io::Result<(TcpListener, u16)> {
        let listener = TcpListener::bind((ip, 0)).await?;
        let port = listener.local_addr()?.port();
        Ok((listener, port))
    }

    pub(crate) fn serve(
        listener: TcpListener,
        identity: &Arc<Identity>,
        policy: &PolicyInForce,
        resolver: Option<Arc<dyn Resolve>>,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let mut config = ServerConfig::new(Arc::clone(identity), policy.subscribe(), "postrider/test");
        config.witness = resolver.map(Witness::new);
        let (inbox, supervisor) = (Arc::new(Inbox::default()), Supervisor::new());
        let clock = Arc::new(ManualClock::new(NOW));
        let server = Server::new(config, Arc::clone(&inbox) as Arc<dyn Inbound>, clock, supervisor.clone());
        let tasks = supervisor.clone();
        supervisor.spawn_service("listener", async move {
            loop {
                let (stream, _) = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap(),
                    () = tasks.stopping() => return,
                };
                let server = server.clone();
                tasks.spawn("connection", async move {
                    if let Ok(stream) = TlsAcceptor::from(server.tls_config()).accept(stream).await {
                        server.serve(stream).await;
                    }
                });
            }
        });
        Self { address, inbox, supervisor }
    }

    /// Ends, with its connections.
    pub(crate) async fn stop(self) {
        self.supervisor.stop();
        self.supervisor.finished().await;
    }

    pub(crate) fn received(&self) -> usize {
        *self.inbox.0.lock().unwrap()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.supervisor.stop();
    }
}

/// Calls `to` as `own`, who trusts it like that.
pub(crate) struct Caller {
    client: Client,
    to: Domain,
}

impl Caller {
    pub(crate) fn new(
        own: &Arc<Identity>,
        to: &str,
        trust: Trust,
        resolver: Arc<dyn Resolve>,
        clock: &ManualClock,
    ) -> Self {
        let policy = policy(own, to, trust);
        let mut config = ClientConfig::new(Arc::clone(own), policy.subscribe(), resolver);
        config.networks = Networks::new(["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        let client = Client::new(config, Arc::new(clock.clone()), Supervisor::new());
        Self { client, to: domain(to) }
    }

    pub(crate) async fn send(&self) -> Result<Vec<Outcome>, Failure> {
        let expires_at = NOW + Duration::from_secs(3600);
        let draft = Draft::new(MailboxId::from_bytes([7; 32]), expires_at, b"x".to_vec());
        self.client.forward(&self.to, &[draft.finish().unwrap()]).await
    }

    pub(crate) async fn hello(&self) -> Result<Hello, Failure> {
        self.client.hello(&self.to).await
    }
}
