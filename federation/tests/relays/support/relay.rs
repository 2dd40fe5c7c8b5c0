//! A relay: a listener, a server, and an inbox that records.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use postrider_common::clock::ManualClock;
use postrider_common::supervisor::Supervisor;
use postrider_common::{Domain, Envelope, FailureClass, Outcome};
use postrider_federation::{
    Busy, Client, ClientConfig, Identity, Inbound, Networks, PeerId, Policy, Resolve, Server, ServerConfig,
    Witness,
};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::NOW;

pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) policy: watch::Sender<Arc<Policy>>,
    pub(crate) supervisor: Supervisor,
    /// TCP connections accepted so far.
    pub(crate) accepted: Arc<AtomicUsize>,
    /// TCP connections that are open.
    pub(crate) open: watch::Receiver<usize>,
}

/// How a relay is set up besides identity and policy.
pub(crate) type Setup = fn(&mut ServerConfig);

pub(crate) type Batch = Vec<Result<Envelope, FailureClass>>;

/// Records what comes in. Each batch needs a permit of `gate` to be answered.
pub(crate) struct Inbox {
    pub(crate) batches: Mutex<Vec<(Domain, Batch)>>,
    pub(crate) arrived: watch::Sender<usize>,
    pub(crate) authenticated: AtomicUsize,
    pub(crate) gate: Semaphore,
    pub(crate) busy: Mutex<Option<Busy>>,
}

impl Inbound for Inbox {
    fn receive<'a>(&'a self, peer: &'a PeerId, batch: Batch) -> BoxFuture<'a, Result<Vec<Outcome>, Busy>> {
        Box::pin(async move {
            if let Some(busy) = *self.busy.lock().unwrap() {
                return Err(busy);
            }
            let outcomes = batch.iter().map(|item| match item {
                Ok(_) => Outcome::Stored,
                Err(class) => Outcome::reject(*class),
            });
            let outcomes = outcomes.collect();
            self.batches.lock().unwrap().push((peer.domain().clone(), batch));
            self.arrived.send_modify(|arrived| *arrived += 1);
            let _permit = self.gate.acquire().await;
            Ok(outcomes)
        })
    }

    fn authenticated(&self, _peer: &PeerId) {
        self.authenticated.fetch_add(1, Ordering::SeqCst);
    }
}

impl Inbox {
    /// Waits until `count` batches have come in.
    pub(crate) async fn wait_for(&self, count: usize) {
        let mut arrived = self.arrived.subscribe();
        tokio::time::timeout(Duration::from_secs(10), arrived.wait_for(|arrived| *arrived >= count))
            .await
            .expect("the batches arrive")
            .unwrap();
    }
}

impl Relay {
    pub(crate) async fn start(identity: &Arc<Identity>, policy: Arc<Policy>) -> Self {
        Self::start_with(identity, policy, |_| {}).await
    }

    pub(crate) async fn start_with(identity: &Arc<Identity>, policy: Arc<Policy>, setup: Setup) -> Self {
        let (policy, receiver) = watch::channel(policy);
        let mut config = ServerConfig::new(Arc::clone(identity), receiver, "postrider/test");
        setup(&mut config);
        Self::run(config, policy).await
    }

    /// One that asks this resolver about its callers.
    pub(crate) async fn start_asking(
        identity: &Arc<Identity>,
        policy: Arc<Policy>,
        resolver: Arc<dyn Resolve>,
    ) -> Self {
        let (policy, receiver) = watch::channel(policy);
        let mut config = ServerConfig::new(Arc::clone(identity), receiver, "postrider/test");
        config.witness = Some(Witness::new(resolver));
        Self::run(config, policy).await
    }

    async fn run(config: ServerConfig, policy: watch::Sender<Arc<Policy>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inbox = Arc::new(Inbox {
            batches: Mutex::default(),
            arrived: watch::Sender::new(0),
            authenticated: AtomicUsize::new(0),
            gate: Semaphore::new(1000),
            busy: Mutex::default(),
        });
        let supervisor = Supervisor::new();
        let clock = Arc::new(ManualClock::new(NOW));
        let server = Server::new(config, Arc::clone(&inbox) as Arc<dyn Inbound>, clock, supervisor.clone());
        let accepted = Arc::new(AtomicUsize::new(0));
        let (open_sender, open) = watch::channel(0);
        let (counter, tasks) = (Arc::clone(&accepted), supervisor.clone());
        supervisor.spawn_service("listener", async move {
            let open_sender = Arc::new(open_sender);
            loop {
                let (stream, _) = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap(),
                    () = tasks.stopping() => return,
                };
                counter.fetch_add(1, Ordering::SeqCst);
                let (server, open) = (server.clone(), Arc::clone(&open_sender));
                open.send_modify(|open| *open += 1);
                tasks.spawn("connection", async move {
                    if let Ok(stream) = TlsAcceptor::from(server.tls_config()).accept(stream).await {
                        server.serve(stream).await;
                    }
                    open.send_modify(|open| *open -= 1);
                });
            }
        });
        Self { address, inbox, policy, supervisor, accepted, open }
    }

    /// Stops and waits until every connection has ended.
    pub(crate) async fn stop(&self) {
        self.supervisor.stop();
        tokio::time::timeout(Duration::from_secs(10), self.supervisor.finished())
            .await
            .expect("the relay ends");
        assert_eq!(self.supervisor.failure(), None);
    }

    pub(crate) async fn wait_for_open(&self, count: usize) {
        let mut open = self.open.clone();
        tokio::time::timeout(Duration::from_secs(10), open.wait_for(|open| *open == count))
            .await
            .expect("the connections come and go")
            .unwrap();
    }

    pub(crate) fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// A client that may connect to this machine, with its clock and its policy.
pub(crate) struct Calling {
    pub(crate) client: Client,
    pub(crate) policy: watch::Sender<Arc<Policy>>,
    pub(crate) clock: ManualClock,
    pub(crate) supervisor: Supervisor,
}

pub(crate) fn client(
    identity: &Arc<Identity>,
    policy: Arc<Policy>,
    resolver: Arc<dyn Resolve>,
    setup: fn(&mut ClientConfig),
) -> Calling {
    let (policy, receiver) = watch::channel(policy);
    let mut config = ClientConfig::new(Arc::clone(identity), receiver, resolver);
    config.networks = Networks::new(["127.0.0.0/8".parse().unwrap()]);
    setup(&mut config);
    let (clock, supervisor) = (ManualClock::new(NOW), Supervisor::new());
    Calling {
        client: Client::new(config, Arc::new(clock.clone()), supervisor.clone()),
        policy,
        clock,
        supervisor,
    }
}
