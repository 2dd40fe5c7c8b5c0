//! A relay that has started says so to its peers: whatever they hold for it, they need not wait any longer. And it asks a
//! peer that has failed for long whether it is back.
//!
//! An answer shows to both sides that the way is open.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use postrider_common::Domain;

use super::Delivery;

/// How long after the start peers are greeted, about: whoever stops soon says nothing, and relays that lost their
/// power together do not greet in step.
const AFTER: Duration = Duration::from_secs(2);
/// How many peers are greeted at a time,
const AT_A_TIME: usize = 8;
/// and how many at all. The others notice by themselves.
const MOST: usize = 1000;

impl Delivery {
    /// Greets `peers`, and every destination that is in back-off, for it may have failed as long as we were away. To
    /// be called once, when requests are answered.
    pub fn greet(&self, peers: impl IntoIterator<Item = Domain>) {
        let peers: BTreeSet<Domain> = peers.into_iter().collect();
        let delivery = self.clone();
        self.0.supervisor.spawn("greetings", async move {
            let stopping = delivery.0.supervisor.stopping();
            tokio::select! {
                biased;
                () = stopping => {}
                () = delivery.greet_all(peers) => {}
            }
        });
    }

    async fn greet_all(&self, mut peers: BTreeSet<Domain>) {
        self.0.clock.sleep(AFTER.mul_f64(0.75 + 0.5 * self.jitter())).await;
        match self.0.store.destinations().await {
            Ok(destinations) => {
                let failing = destinations.into_iter().filter(|destination| destination.backoff.is_some());
                peers.extend(failing.map(|destination| destination.domain));
            }
            Err(error) => tracing::error!("the queue cannot be read: {error}"),
        }
        let greet = async |peer: Domain| self.greet_one(&peer).await;
        futures_util::stream::iter(peers.into_iter().take(MOST)).for_each_concurrent(AT_A_TIME, greet).await;
    }

    /// Greets a destination beside whatever its worker does.
    pub(super) fn ask_whether_it_is_back(&self, destination: Domain) {
        let delivery = self.clone();
        self.0.supervisor.spawn("greeting", async move {
            let stopping = delivery.0.supervisor.stopping();
            tokio::select! {
                biased;
                () = stopping => {}
                () = delivery.greet_one(&destination) => {}
            }
        });
    }

    async fn greet_one(&self, peer: &Domain) {
        match self.0.forward.greet(peer).await {
            Ok(()) => {
                if let Some(wake) = self.workers().get(peer) {
                    wake.greeted();
                }
            }
            Err(failure) => {
                tracing::debug!(%peer, class = failure.class.slug(), "not greeted: {}", failure.detail);
            }
        }
    }
}
