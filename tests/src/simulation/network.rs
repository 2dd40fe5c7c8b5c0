//! The network between simulated relays, at the trait where delivery meets the federation client.
//!
//! What goes over it is the body that the production code encodes and decodes, and who answers is the production code
//! behind the federation's edge. In between a request or its answer may be lost, be late, come twice, or meet a relay
//! that is down, dies while it works, or stops. Connections, TLS and HTTP are left out; what they do to a request is
//! one of these.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use postrider::delivery::{Brought, Forward};
use postrider_common::supervisor::Supervisor;
use postrider_common::wire::forward;
use postrider_common::{Domain, Envelope, Failure, FailureClass, Outcome, Urgency};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::ledger::Ledger;
use super::node::{Life, Node};
use super::source::SharedDice;

/// How long a relay waits for a connection,
const CONNECT: Duration = Duration::from_secs(10);
/// and for an answer.
const ANSWER: Duration = Duration::from_secs(30);

/// Every way from one relay to another.
#[derive(Debug)]
pub(super) struct Network {
    nodes: Vec<Arc<Node>>,
    ways: Mutex<Vec<Way>>,
    dice: SharedDice,
    pub(super) ledger: Arc<Ledger>,
    supervisor: Supervisor,
    /// The senders settle on `Stored` before they have an answer: a rule broken on purpose.
    trusts_blindly: bool,
}

/// One relay's way to another.
#[derive(Debug, Clone, Default)]
pub(super) struct Way {
    pub(super) cut: bool,
    pub(super) delay: Duration,
    /// So many of the next requests, or their answers, are lost, or requests come twice.
    pub(super) lost_requests: u32,
    pub(super) lost_answers: u32,
    pub(super) repeated: u32,
}

/// What a relay calls others by.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) network: Weak<Network>,
    pub(super) from: u8,
}

impl Network {
    pub(super) fn new(
        nodes: Vec<Arc<Node>>,
        dice: SharedDice,
        ledger: Arc<Ledger>,
        supervisor: Supervisor,
        trusts_blindly: bool,
    ) -> Arc<Self> {
        let ways = Mutex::new(vec![Way::default(); nodes.len() * nodes.len()]);
        Arc::new(Self { nodes, ways, dice, ledger, supervisor, trusts_blindly })
    }

    /// Changes a way.
    pub(super) fn change(&self, from: u8, to: u8, change: impl FnOnce(&mut Way)) {
        let index = usize::from(from) * self.nodes.len() + usize::from(to);
        if let Some(way) = self.ways().get_mut(index) {
            change(way);
        }
    }

    /// Everything arrives again, and in the usual time.
    pub(super) fn heal(&self) {
        self.ways().fill(Way::default());
    }

    async fn forward(
        self: &Arc<Self>,
        from: u8,
        to: &Domain,
        envelopes: &[Envelope],
    ) -> Result<Vec<Outcome>, Failure> {
        let node = self.find(to)?;
        if envelopes.iter().any(|envelope| envelope.urgency() != Urgency::Ephemeral) {
            self.ledger.offered(from, node.number, envelopes);
        }
        let body = forward::encode_request(envelopes.iter());
        if self.trusts_blindly {
            let (network, node) = (Arc::clone(self), Arc::clone(node));
            self.supervisor.spawn("request", async move {
                let _ = network.exchange(from, &node, body).await;
            });
            return Ok(vec![Outcome::Stored; envelopes.len()]);
        }
        let answer = self.exchange(from, node, body).await?;
        let outcomes = forward::decode_outcomes(&answer)
            .map_err(|error| Failure::new(FailureClass::RemoteFailed, error.to_string()))?;
        if outcomes.len() != envelopes.len() {
            self.ledger.violation(format!("relay {} has not answered for each envelope", node.number));
        }
        Ok(outcomes)
    }

    async fn exchange(self: &Arc<Self>, from: u8, node: &Arc<Node>, body: Bytes) -> Result<Bytes, Failure> {
        self.connect(from, node).await?;
        let (mut is_lost, mut answer_is_lost, mut repeats) = (false, false, None);
        // Half of the connections are closed when the sender no longer waits: then the other relay gives up, too.
        let closes = self.dice.with(|dice| dice.once_in(2));
        let delay = self.delay(from, node.number);
        self.change(from, node.number, |way| {
            is_lost = take_one(&mut way.lost_requests);
            answer_is_lost = take_one(&mut way.lost_answers);
            repeats = take_one(&mut way.repeated).then(|| self.dice.with(|dice| dice.millis(1, 90_000)));
        });
        // In tasks of their own: what is under way arrives even if the sender is no more.
        if let Some(later) = repeats {
            let (network, node, body) = (Arc::clone(self), Arc::clone(node), body.clone());
            self.supervisor.spawn("repeated request", async move {
                sleep(delay + later).await;
                network.arrive(from, &node, body).await;
            });
        }
        let (mut answer, answered) = oneshot::channel();
        let (network, node) = (Arc::clone(self), Arc::clone(node));
        self.supervisor.spawn("request", async move {
            sleep(delay).await;
            if is_lost || network.is_cut(from, node.number) {
                // Nobody says so; the sender stops waiting some time.
                return sleep(ANSWER).await;
            }
            let outcomes = tokio::select! {
                biased;
                () = answer.closed(), if closes => return,
                outcomes = network.arrive(from, &node, body) => outcomes,
            };
            sleep(network.delay(from, node.number)).await;
            if answer_is_lost || network.is_cut(from, node.number) {
                return sleep(ANSWER).await;
            }
            if let Some(outcomes) = outcomes {
                let _ = answer.send(outcomes);
            }
        });
        let failed = |what| Failure::new(FailureClass::RemoteFailed, what);
        match timeout(ANSWER, answered).await {
            Ok(answer) => answer.map_err(|_| failed("the connection broke")),
            Err(_) => Err(failed("no answer in time")),
        }
    }

    /// Nobody says that a request or its answer was lost; whoever has sent it stops waiting some time.
    pub(super) async fn wait_in_vain<T>(&self) -> Result<T, Failure> {
        sleep(ANSWER).await;
        Err(Failure::new(FailureClass::RemoteFailed, "no answer in time"))
    }

    pub(super) async fn connect(&self, from: u8, node: &Node) -> Result<(), Failure> {
        if self.is_cut(from, node.number) {
            sleep(CONNECT).await;
            return Err(Failure::new(FailureClass::ConnectFailed, "timed out"));
        }
        if node.life().is_none() {
            sleep(self.delay(from, node.number)).await;
            return Err(Failure::new(FailureClass::ConnectFailed, "refused"));
        }
        Ok(())
    }

    /// A request reaches its relay; what it answers, unless it dies over that. Dropped, it breaks the connection.
    async fn arrive(&self, from: u8, node: &Node, body: Bytes) -> Option<Bytes> {
        let life = node.life()?;
        let origin = self.nodes.get(usize::from(from))?.domain.clone();
        let (mut answer, answered) = oneshot::channel();
        let ledger = Arc::clone(&self.ledger);
        let to = node.number;
        let supervisor = life.supervisor.clone();
        supervisor.spawn("peer request", async move {
            tokio::select! {
                biased;
                () = answer.closed() => {}
                outcomes = receive(&life, &origin, &body) => {
                    ledger.note(format_args!("{to} answers {from}: {outcomes:?}"));
                    let _ = answer.send(forward::encode_outcomes(&outcomes));
                }
            }
        });
        answered.await.ok()
    }

    async fn greet(&self, from: u8, to: &Domain) -> Result<(), Failure> {
        let node = self.find(to)?;
        self.connect(from, node).await?;
        sleep(self.delay(from, node.number)).await;
        let failed = || Failure::new(FailureClass::RemoteFailed, "the connection broke");
        let life = node.life().filter(|_| !self.is_cut(from, node.number)).ok_or_else(failed)?;
        let origin = self.nodes.get(usize::from(from)).ok_or_else(failed)?;
        life.core.delivery().peer_is_up(&origin.domain);
        Ok(())
    }

    pub(super) fn node(&self, number: u8) -> Option<&Arc<Node>> {
        self.nodes.get(usize::from(number))
    }

    pub(super) fn find(&self, domain: &Domain) -> Result<&Arc<Node>, Failure> {
        let found = self.nodes.iter().find(|node| node.domain == *domain);
        found.ok_or_else(|| Failure::new(FailureClass::DiscoveryAbsent, "there is no such relay"))
    }

    pub(super) fn is_cut(&self, from: u8, to: u8) -> bool {
        let mut is_cut = false;
        self.change(from, to, |way| is_cut = way.cut);
        is_cut
    }

    pub(super) fn delay(&self, from: u8, to: u8) -> Duration {
        let mut delay = self.dice.with(|dice| dice.millis(0, 4));
        self.change(from, to, |way| delay += way.delay);
        delay
    }

    fn ways(&self) -> MutexGuard<'_, Vec<Way>> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the federation's edge does with a request: the peer is up, and its envelopes are for the core.
async fn receive(life: &Life, origin: &Domain, body: &Bytes) -> Vec<Outcome> {
    life.core.delivery().peer_is_up(origin);
    match forward::decode_request(body) {
        Ok(batch) => life.core.exchange().receive(batch).await,
        Err(_) => Vec::new(),
    }
}

pub(super) fn take_one(count: &mut u32) -> bool {
    let is_one = *count > 0;
    *count = count.saturating_sub(1);
    is_one
}

impl Caller {
    fn network(&self) -> Result<Arc<Network>, Failure> {
        let gone = || Failure::new(FailureClass::ConnectFailed, "the run is over");
        self.network.upgrade().ok_or_else(gone)
    }
}

impl Forward for Caller {
    fn admit(&self, _destination: &Domain) -> Result<(), Failure> {
        Ok(())
    }

    fn forward<'a>(
        &'a self,
        destination: &'a Domain,
        envelopes: &'a [Envelope],
    ) -> BoxFuture<'a, Result<Vec<Outcome>, Failure>> {
        Box::pin(async move { self.network()?.forward(self.from, destination, envelopes).await })
    }

    fn bring<'a>(
        &'a self,
        destination: &'a Domain,
        envelope: &'a Envelope,
        progress: &'a (dyn Fn() + Send + Sync),
    ) -> BoxFuture<'a, Result<Brought, Failure>> {
        Box::pin(async move { self.network()?.bring(self.from, destination, envelope, progress).await })
    }

    fn greet<'a>(&'a self, peer: &'a Domain) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move { self.network()?.greet(self.from, peer).await })
    }

    fn fingerprint<'a>(&'a self, _destination: &'a Domain) -> BoxFuture<'a, Option<u64>> {
        Box::pin(async { Some(1) })
    }
}
