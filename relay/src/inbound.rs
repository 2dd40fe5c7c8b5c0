//! The federation edge: what peers hand over goes to the core, and a peer that calls is a peer that is up.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use postrider_common::{Domain, Envelope, Failure, FailureClass, Outcome};
use postrider_federation::{Busy, Client, Inbound, PeerId};

use crate::delivery::{Delivery, Forward};
use crate::exchange::Exchange;

/// Joins the federation server to the core.
#[derive(Debug)]
pub struct FederationEdge {
    exchange: Arc<Exchange>,
    delivery: Delivery,
}

impl FederationEdge {
    /// Peers' batches go to `exchange`; `delivery` hears who is up.
    pub fn new(exchange: Arc<Exchange>, delivery: Delivery) -> Self {
        Self { exchange, delivery }
    }
}

impl Inbound for FederationEdge {
    fn receive<'a>(
        &'a self,
        _peer: &'a PeerId,
        batch: Vec<Result<Envelope, FailureClass>>,
    ) -> BoxFuture<'a, Result<Vec<Outcome>, Busy>> {
        Box::pin(async move { Ok(self.exchange.receive(batch).await) })
    }

    fn authenticated(&self, peer: &PeerId) {
        self.delivery.peer_is_up(peer.domain());
    }
}

impl Forward for Client {
    fn admit(&self, destination: &Domain) -> Result<(), Failure> {
        self.admit(destination)
    }

    fn forward<'a>(
        &'a self,
        destination: &'a Domain,
        envelopes: &'a [Envelope],
    ) -> BoxFuture<'a, Result<Vec<Outcome>, Failure>> {
        Box::pin(self.forward(destination, envelopes))
    }

    fn greet<'a>(&'a self, peer: &'a Domain) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move { self.hello(peer).await.map(drop) })
    }

    fn fingerprint<'a>(&'a self, destination: &'a Domain) -> BoxFuture<'a, Option<u64>> {
        Box::pin(Self::fingerprint(self, destination))
    }
}
