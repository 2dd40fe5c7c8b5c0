//! One HTTP/2 connection for each peer, shared by all callers.

mod connection;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use postrider_common::clock::SharedClock;
use postrider_common::supervisor::Supervisor;
use postrider_common::{Domain, Failure, FailureClass};
use tokio::sync::oneshot;

use super::ClientConfig;
use super::connect::{Connector, Examination};
use crate::LOG;
use crate::policy::Direction;
use connection::Driver;

pub(super) use connection::{Connection, Lost};

/// The result of an attempt to connect, which all who wait for it get.
type Attempt = Shared<BoxFuture<'static, Result<Arc<Connection>, Failure>>>;

/// The connections. Clones share them.
#[derive(Clone)]
pub(super) struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    config: ClientConfig,
    connector: Connector,
    clock: SharedClock,
    supervisor: Supervisor,
    slots: Mutex<HashMap<Domain, Slot>>,
    next_id: AtomicU64,
}

/// What there is for a peer. A peer without a slot has no connection.
enum Slot {
    Connecting { id: u64, attempt: Attempt },
    Ready(Arc<Connection>),
}

impl Pool {
    pub(super) fn new(config: ClientConfig, clock: SharedClock, supervisor: Supervisor) -> Self {
        Self {
            inner: Arc::new(Inner {
                connector: Connector::new(&config, Arc::clone(&clock)),
                config,
                clock,
                supervisor,
                slots: Mutex::new(HashMap::new()),
                next_id: AtomicU64::new(0),
            }),
        }
    }

    pub(super) fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// How many are open.
    pub(super) fn connections(&self) -> usize {
        let is_open = |slot: &&Slot| matches!(slot, Slot::Ready(connection) if connection.is_open());
        self.slots().values().filter(is_open).count()
    }

    /// Looks at the way to a peer, beside whatever connection there is.
    pub(super) async fn examine(&self, destination: &Domain) -> Examination {
        self.inner.connector.examine(self.config(), destination).await
    }

    /// The connection that there is, if the present policy still accepts who is at its other end, and if that one still
    /// sees in us who we are: it goes by the certificate that we have shown it in the handshake.
    pub(super) async fn kept(&self, destination: &Domain) -> Option<Arc<Connection>> {
        let connection = match self.slots().get(destination)? {
            Slot::Ready(connection) if connection.is_open() => Arc::clone(connection),
            _ => return None,
        };
        let policy = Arc::clone(&self.config().policy.borrow());
        let witness = &self.config().witness;
        if connection.shows_present_certificate(&self.config().identity)
            && connection.is_proven_under(&policy, witness, self.inner.clock.now()).await
        {
            return Some(connection);
        }
        self.discard(destination, connection.id());
        None
    }

    /// A connection, made now unless somebody else is making one or has just made one.
    pub(super) async fn connected(&self, destination: &Domain) -> Result<Arc<Connection>, Failure> {
        let attempt = {
            let mut slots = self.slots();
            match slots.get(destination) {
                Some(Slot::Ready(connection)) if connection.is_open() => return Ok(Arc::clone(connection)),
                Some(Slot::Connecting { attempt, .. }) => attempt.clone(),
                _ => self.begin(&mut slots, destination)?,
            }
        };
        attempt.await
    }

    /// Forgets a connection. It closes once the requests on it are answered.
    pub(super) fn discard(&self, destination: &Domain, id: u64) {
        if let Entry::Occupied(slot) = self.slots().entry(destination.clone())
            && slot.get().id() == id
        {
            slot.remove();
        }
    }

    /// Starts an attempt in a task of its own, so that it ends well whichever of its callers lose interest.
    fn begin(&self, slots: &mut HashMap<Domain, Slot>, destination: &Domain) -> Result<Attempt, Failure> {
        if self.inner.supervisor.is_stopping() {
            return Err(stopping());
        }
        if slots.len() >= self.config().max_connections && !slots.contains_key(destination) {
            make_room(slots)?;
        }
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let attempt = async { receiver.await.unwrap_or_else(|_| Err(stopping())) }.boxed().shared();
        let slot = Slot::Connecting { id, attempt: attempt.clone() };
        slots.insert(destination.clone(), slot);
        let (pool, destination) = (self.clone(), destination.clone());
        self.inner.supervisor.spawn("peer connection", async move {
            pool.run(destination, id, sender).await;
        });
        Ok(attempt)
    }

    /// Connects, tells the callers, and keeps the connection going to its end.
    async fn run(
        self,
        destination: Domain,
        id: u64,
        told: oneshot::Sender<Result<Arc<Connection>, Failure>>,
    ) {
        let connected = tokio::select! {
            connected = self.connect(&destination, id) => connected,
            () = self.inner.supervisor.stopping() => Err(stopping()),
        };
        let driver = match connected {
            Ok((connection, driver)) => {
                let connection = Arc::new(connection);
                self.slots().insert(destination.clone(), Slot::Ready(Arc::clone(&connection)));
                // Nobody is left to be told if all callers lost interest.
                let _ = told.send(Ok(connection));
                driver
            }
            Err(failure) => {
                self.discard(&destination, id);
                let _ = told.send(Err(failure));
                return;
            }
        };
        tokio::select! {
            () = self.drive(&destination, id, driver) => {}
            () = self.inner.supervisor.hurrying() => {
                tracing::debug!(target: LOG, peer = %destination, "a connection that did not end was closed");
            }
        }
        self.discard(&destination, id);
    }

    async fn connect(&self, destination: &Domain, id: u64) -> Result<(Connection, Driver), Failure> {
        let config = self.config();
        let proven = self.inner.connector.connect(config, destination).await?;
        Connection::open(id, proven, config, &self.inner.clock, &self.inner.supervisor).await
    }

    /// Until the connection ends: by itself, or after it was forgotten because it idled or because we are stopping.
    async fn drive(&self, destination: &Domain, id: u64, driver: Driver) {
        let Driver { connection, usage } = driver;
        let mut connection = pin!(connection);
        let idle_timeout = self.config().idle_timeout;
        let mut policy = self.config().policy.clone();
        let mut may_change = true;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(target: LOG, peer = %destination, %error, "a connection ended");
                    }
                    return;
                }
                () = self.inner.supervisor.stopping() => break,
                changed = policy.changed(), if may_change => {
                    may_change = changed.is_ok();
                    if policy.borrow_and_update().admit(destination, Direction::Out).is_err() {
                        break;
                    }
                }
                () = self.inner.clock.sleep(idle_timeout) => {
                    if usage.is_idle_since(self.inner.clock.now() - idle_timeout) {
                        break;
                    }
                }
            }
        }
        // The last caller's handle closes it.
        self.discard(destination, id);
        if let Err(error) = connection.await {
            tracing::debug!(target: LOG, peer = %destination, %error, "a connection ended");
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Domain, Slot>> {
        self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn id(&self) -> u64 {
        match self {
            Self::Connecting { id, .. } => *id,
            Self::Ready(connection) => connection.id(),
        }
    }
}

/// Gives up the connection that was idle for longest.
fn make_room(slots: &mut HashMap<Domain, Slot>) -> Result<(), Failure> {
    let idle = slots.iter().filter_map(|(domain, slot)| match slot {
        Slot::Ready(connection) => Some((connection.idle_since()?, domain)),
        Slot::Connecting { .. } => None,
    });
    match idle.min().map(|(_, domain)| domain.clone()) {
        Some(domain) => {
            slots.remove(&domain);
            Ok(())
        }
        None => Err(Failure::new(
            FailureClass::Unavailable,
            format!("{} connections to other relays are in use", slots.len()),
        )),
    }
}

fn stopping() -> Failure {
    Failure::new(FailureClass::Unavailable, "this relay is shutting down")
}
