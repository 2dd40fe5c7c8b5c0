//! A relay without its doors: the store, the queue and the devices, joined by the services that keep them going.
//!
//! The daemon opens doors to it, for clients and for peers; a simulation calls it as they would.

mod timekeeping;

use std::sync::Arc;
use std::time::Duration;

use postrider_common::Domain;
use postrider_common::clock::SharedClock;
use postrider_common::limits::EnvelopeLimits;
use postrider_common::random::SharedRandom;
use postrider_common::supervisor::Supervisor;
use tokio::sync::broadcast::error::RecvError;

use crate::config::RegistrationPolicy;
use crate::delivery::{Delivery, Forward, Settings};
use crate::exchange::Exchange;
use crate::hub::{Ending, Hub};
use crate::store::{Change, Expiry, Store};
use crate::telemetry::Seldom;

/// How often what is over is looked for.
const EXPIRY_ROUND: Duration = Duration::from_secs(60);
/// Deletions in one step of such a round: other writes come in between.
const EXPIRY_BUDGET: usize = 1000;

/// What a core is made of.
#[derive(Debug)]
pub struct Parts {
    /// The relay's name.
    pub domain: Domain,
    /// What it takes as one envelope and as one batch.
    pub limits: EnvelopeLimits,
    /// Who may have a mailbox.
    pub registration: RegistrationPolicy,
    /// How it delivers.
    pub delivery: Settings,
    /// What it keeps.
    pub store: Arc<dyn Store>,
    /// Its way to other relays.
    pub forward: Arc<dyn Forward>,
    /// Its time.
    pub clock: SharedClock,
    /// What its waits and identifiers are made of.
    pub random: SharedRandom,
    /// Whose its tasks are.
    pub supervisor: Supervisor,
}

/// One relay's core.
#[derive(Debug)]
pub struct Core {
    exchange: Arc<Exchange>,
    delivery: Delivery,
    store: Arc<dyn Store>,
    clock: SharedClock,
    supervisor: Supervisor,
}

impl Core {
    /// Puts it together. From then on what is queued is delivered, and connected devices are told what comes.
    pub fn start(parts: Parts) -> Self {
        let Parts { domain, limits, registration, delivery, store, forward, clock, random, supervisor } =
            parts;
        let delivery = Delivery::start(
            domain.clone(),
            Arc::clone(&store),
            Arc::clone(&forward),
            Arc::clone(&clock),
            random,
            &supervisor,
            delivery,
        );
        let hub = Hub::default();
        supervisor.spawn_service("hub", wake_devices(Arc::clone(&store), hub.clone(), supervisor.clone()));
        let watch_clock = timekeeping::watch_clock(Arc::clone(&clock), delivery.clone(), supervisor.clone());
        supervisor.spawn_service("clock", watch_clock);
        let exchange =
            Exchange::new(domain, limits, registration, Arc::clone(&store), forward, hub, Arc::clone(&clock));
        Self { exchange: Arc::new(exchange), delivery, store, clock, supervisor }
    }

    /// What the doors call.
    pub const fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// What empties the queue.
    pub const fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// Deletes what is over from now on, round after round; with each one `tidy` is called.
    pub fn expire(&self, tidy: impl Fn() + Send + 'static) {
        let (store, exchange) = (Arc::clone(&self.store), Arc::clone(&self.exchange));
        let expiry = expire(store, exchange, Arc::clone(&self.clock), self.supervisor.clone(), tidy);
        self.supervisor.spawn_service("expiry", expiry);
    }
}

/// Tells connected devices what has become durable.
async fn wake_devices(store: Arc<dyn Store>, hub: Hub, supervisor: Supervisor) {
    let mut changes = store.watch();
    let stopping = supervisor.stopping();
    tokio::pin!(stopping);
    loop {
        tokio::select! {
            biased;
            () = &mut stopping => return,
            change = changes.recv() => match change {
                Ok(Change::Deposited(mailbox)) => hub.wake(&mailbox),
                Ok(Change::Removed(mailbox)) => hub.disconnect(&mailbox, Ending::Deleted),
                Ok(Change::Moved(mailbox)) => hub.disconnect(&mailbox, Ending::Moved),
                Ok(Change::Suspended(mailbox)) => hub.disconnect(&mailbox, Ending::Suspended),
                Ok(Change::DeviceRemoved(mailbox, device)) => hub.disconnect_device(&mailbox, &device),
                Ok(Change::Enqueued(_) | Change::Doomed) => {}
                Err(RecvError::Lagged(_)) => hub.wake_all(),
                Err(RecvError::Closed) => return,
            },
        }
    }
}

async fn expire(
    store: Arc<dyn Store>,
    exchange: Arc<Exchange>,
    clock: SharedClock,
    supervisor: Supervisor,
    tidy: impl Fn(),
) {
    let stopping = supervisor.stopping();
    tokio::pin!(stopping);
    let said = Seldom::new();
    loop {
        tokio::select! {
            biased;
            () = &mut stopping => return,
            () = clock.sleep(EXPIRY_ROUND) => {}
        }
        tidy();
        loop {
            match store.expire(clock.now(), EXPIRY_BUDGET).await {
                Ok(done) => {
                    exchange.counts().expired_in_mailboxes.add(done.entries);
                    exchange.counts().expired_in_queue.add(done.items);
                    if done.entries + done.items + done.devices > 0 {
                        let Expiry { entries, items, devices, .. } = done;
                        tracing::info!(entries, items, devices, "expired");
                    }
                    if !done.more || supervisor.is_stopping() {
                        break;
                    }
                }
                Err(error) => {
                    if said.is_due(&error.to_string()) {
                        tracing::error!("what is over cannot be deleted: {error}");
                    }
                    break;
                }
            }
        }
    }
}
