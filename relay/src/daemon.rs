//! A relay from configuration to drain: build, run, stop.
//!
//! `main` and the tests use the same [`Daemon::build`]; tests give port 0 and a clock of their own.

mod certificate_files;
mod certificates;
mod monitoring;
mod opening;
mod parts;
mod reload;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postrider_common::Domain;
use postrider_common::clock::SharedClock;
use postrider_common::random::SystemRandom;
use postrider_common::supervisor::{Supervisor, TaskFailure};
use postrider_federation::{CertificateInForce, Client, Policy, PolicyInForce};
use tokio::net::TcpListener;

use crate::acme::{self, Challenges};
use crate::admin;
use crate::api::Api;
use crate::config::{Config, ListenAddress};
use crate::core::{self, Core};
use crate::inbound::FederationEdge;
use crate::listener::Door;
use crate::monitor::{self, Monitor};
use crate::outbound::Outbound;
use crate::store::{Store, StoreError};

use monitoring::Monitoring;

pub(crate) use certificates::Shown;
pub use reload::{Reload, ReloadError, Reloaded};

/// A relay that is built, bound and running.
#[derive(Debug)]
pub struct Daemon {
    domain: Domain,
    addresses: Vec<SocketAddr>,
    supervisor: Supervisor,
    monitoring: Option<Monitoring>,
    store: Arc<dyn Store>,
    reload: Reload,
    drain: Duration,
}

/// Why a relay cannot start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("{path}: {error}")]
    DataDir {
        /// What was tried.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
    /// The relay has had a store.
    #[error(
        "{} is gone, and the relay has served from there: put it back, or `postrider store import` an export; \
         to begin with nothing, delete session.key and attachments/ beside it, too",
        .0.display()
    )]
    StoreGone(PathBuf),
    /// The store does not open.
    #[error("{path}: {error}{}", help_with(error))]
    Store {
        /// Where it is.
        path: PathBuf,
        /// Why it failed.
        error: StoreError,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// What the configuration says cannot be put together.
    #[error("{0}")]
    Configuration(String),
}

/// What to do about a store that does not open.
fn help_with(error: &StoreError) -> &'static str {
    match error {
        StoreError::Damaged(_) => {
            "; keep a copy of it: `postrider store check` tells more, and an export replaces it"
        }
        StoreError::InUse => "; one that runs has to stop first",
        _ => "",
    }
}

/// Why a relay that was running ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// A task ended that should not have.
    #[error(transparent)]
    Task(#[from] TaskFailure),
    /// Something was still under way when the time for it was over. What had been accepted is safe.
    #[error("not everything had ended after {} s of draining; what had been accepted is stored", .0.as_secs())]
    DrainTimeout(Duration),
    /// The store did not close in order, or had failed before.
    #[error("the store has failed, and what had been accepted before is on its disk: {0}")]
    Store(#[from] StoreError),
}

/// The policy towards other relays that a configuration describes: what a reload puts in force
/// ([`PolicyInForce::replace`]).
pub fn policy(config: &Config) -> Result<Policy, StartError> {
    parts::policy(config, &parts::identity(config, None)?)
}

impl Daemon {
    /// Opens the store, binds every address, and starts serving.
    pub async fn build(config: Config, clock: SharedClock) -> Result<Self, StartError> {
        let listeners = bind(&config.listen.addresses).await?;
        let supervisor = Supervisor::new();
        let monitor = Monitor::new(Arc::clone(&clock), &supervisor);
        let monitoring = match config.listen.metrics {
            Some(address) => Some(Monitoring::open(address, &monitor, &supervisor).await?),
            None => None,
        };
        let store = parts::open_store(&config, &clock, &supervisor).await?;
        let socket = admin::Socket::bind(&config.data_dir)
            .map_err(|error| StartError::DataDir { path: admin::path(&config.data_dir), error })?;
        let attachments = parts::open_attachments(&config, &store, &clock, &supervisor).await?;
        let session_key = parts::session_key(&config.data_dir)?;
        let issued = parts::issued(&config);
        let identity = Arc::new(parts::identity(&config, issued.as_ref())?);
        let policy = PolicyInForce::new(parts::policy(&config, &identity)?);
        let resolver = parts::resolver(&config, &clock, &supervisor)?;
        let names = parts::names(&config, Arc::new(resolver.clone()));

        let client_config =
            parts::client_config(&config, &identity, policy.subscribe(), Arc::new(resolver.clone()));
        let client = Arc::new(Client::new(client_config.clone(), Arc::clone(&clock), supervisor.clone()));
        let outbound = Outbound::new((*client).clone(), attachments.clone());
        let core = Core::start(core::Parts {
            domain: config.domain.clone(),
            limits: config.limits.envelopes,
            registration: config.registration,
            delivery: parts::delivery_settings(&config),
            store: Arc::clone(&store),
            forward: Arc::new(outbound),
            clock: Arc::clone(&clock),
            random: Arc::new(SystemRandom),
            supervisor: supervisor.clone(),
        });
        let client_certificate = CertificateInForce::new(parts::shown_to_clients(&config, issued.as_ref()));
        let client_tls = parts::client_tls(client_certificate.clone())?;
        let mut shown = vec![Shown { to: "other relays", certificate: identity.shown().clone() }];
        if config.tls.is_some() || config.acme.is_some() {
            shown.push(Shown { to: "clients", certificate: client_certificate.clone() });
        }
        let reload = Reload::new(
            config.clone(),
            Arc::clone(&identity),
            policy.clone(),
            client_certificate,
            core.delivery().clone(),
            issued,
        );
        let challenges = Challenges::new().map_err(|error| StartError::Configuration(error.to_string()))?;
        let reloaded = reload.clone();
        let standing = acme::Standing::default();
        let certificates = acme::Parts {
            wanted: reload.wanted(),
            show: Box::new(move |issued| reloaded.show(issued)),
            challenges: challenges.clone(),
            standing: standing.clone(),
            names,
            data_dir: config.data_dir.clone(),
            clock: Arc::clone(&clock),
        };
        let expiries = client_config.expiries.clone();
        certificates::watch(shown.clone(), expiries, reload.clone(), &clock, &supervisor);
        certificate_files::watch(reload.clone(), &clock, &supervisor);
        let administration = admin::Parts {
            reload: reload.clone(),
            exchange: Arc::clone(core.exchange()),
            domain: config.domain.clone(),
            store: Arc::clone(&store),
            delivery: core.delivery().clone(),
            clock: Arc::clone(&clock),
            monitor: monitor.clone(),
        };
        let exchange = Arc::clone(core.exchange());
        let edge = Arc::new(FederationEdge::new(
            Arc::clone(&exchange),
            attachments.clone(),
            core.delivery().clone(),
        ));
        let federation = parts::federation_server(
            &config,
            identity,
            policy.subscribe(),
            &client_config,
            edge,
            &clock,
            &supervisor,
        );
        let api = Api::new(
            Arc::clone(&exchange),
            attachments.clone(),
            parts::api_settings(&config),
            &session_key,
            &supervisor,
        );
        let door = Door::new(
            parts::door_settings(&config),
            client_tls,
            challenges,
            api.clone(),
            federation,
            &supervisor,
        );

        monitor.complete(monitor::Parts {
            data_dir: config.data_dir.clone(),
            reserve: config.store.reserve,
            store: Arc::clone(&store),
            attachments,
            exchange,
            delivery: core.delivery().clone(),
            door: door.clone(),
            client,
            resolver,
            own_certificates: shown,
            peers_certificates: client_config.expiries,
            reload: reload.clone(),
            acme: standing,
        });
        core.expire(move || api.tidy());
        reload.catch_up();
        admin::open(socket, administration, &supervisor);
        let mut addresses = Vec::new();
        for (listener, bound) in listeners {
            door.open(listener, bound.audience);
            addresses.push(bound.address);
        }
        // When the door is open, since that is where names are proven.
        acme::start(certificates, &supervisor);
        core.delivery().greet(parts::greeted(&config));
        let drain = config.limits.drain_timeout;
        Ok(Self { domain: config.domain, addresses, supervisor, monitoring, store, reload, drain })
    }

    /// The relay's name.
    pub const fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The bound addresses: those for everybody, those for clients, those for other relays.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where metrics and health are told, if anywhere.
    pub fn monitoring(&self) -> Option<SocketAddr> {
        self.monitoring.as_ref().map(Monitoring::address)
    }

    /// What reads the configuration again while the relay runs.
    pub const fn reload(&self) -> &Reload {
        &self.reload
    }

    /// Serves until `shutdown` completes or a task fails, then drains: no new connection, no new attempt; requests
    /// and batches under way end; the store is flushed and closed. Whoever keeps us waiting for half of the drain
    /// time is not waited for any longer: a client submits again what it got no answer for, and a peer's batch is
    /// still in the queue.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        tokio::select! {
            () = shutdown => {}
            () = self.supervisor.stopping() => {}
        }
        tracing::info!("draining");
        self.supervisor.stop();
        let mut drained = tokio::time::timeout(self.drain / 2, self.supervisor.finished()).await;
        if drained.is_err() {
            tracing::info!("clients and peers that do not answer are no longer waited for");
            self.supervisor.hurry();
            drained = tokio::time::timeout(self.drain / 2, self.supervisor.finished()).await;
        }
        let closed = self.store.close().await;
        if let Some(monitoring) = &self.monitoring {
            monitoring.close().await;
        }
        // The first cause is told: a store that does not close is often its consequence.
        if let Some(failure) = self.supervisor.failure() {
            return Err(failure.into());
        }
        closed?;
        drained.map_err(|_| RunError::DrainTimeout(self.drain))?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// A relay's way to others without the relay: for a command that looks whether it is open. Its tasks are the supervisor's.
pub fn outbound(config: &Config, clock: &SharedClock, supervisor: &Supervisor) -> Result<Client, StartError> {
    let identity = Arc::new(parts::identity(config, parts::issued(config).as_ref())?);
    let policy = PolicyInForce::new(parts::policy(config, &identity)?);
    let resolver = parts::resolver(config, clock, supervisor)?;
    let client = parts::client_config(config, &identity, policy.subscribe(), Arc::new(resolver));
    Ok(Client::new(client, Arc::clone(clock), supervisor.clone()))
}

/// Each listener with the address that it has got.
async fn bind(addresses: &[ListenAddress]) -> Result<Vec<(TcpListener, ListenAddress)>, StartError> {
    let mut listeners = Vec::new();
    for &ListenAddress { address, audience } in addresses {
        let failed = |error| StartError::Bind { address, error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        listeners.push((listener, ListenAddress { address, audience }));
    }
    Ok(listeners)
}
