//! The configuration, read again while the relay runs: certificates, policy and peers count at once.
//!
//! Everything is read and put together before anything changes. What does not fit changes nothing, and every problem is told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data_encoding::HEXLOWER;
use postrider_common::Domain;
use postrider_federation::{CertificateInForce, Identity, PolicyInForce};
use tokio::sync::watch;

use super::{StartError, parts};
use crate::acme::Wanted;
use crate::config::{Config, ConfigErrors, Credentials, Fingerprint, Pair, PeerConfig};
use crate::count::Counter;
use crate::delivery::Delivery;

/// Reads the configuration again. Clones share what is in force.
#[derive(Debug, Clone)]
pub struct Reload(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// What the relay was started with, by which it goes in all that cannot change while it runs.
    started: Config,
    in_force: Mutex<InForce>,
    /// The one that the relay was started with, whose handshakes show what comes later.
    identity: Arc<Identity>,
    policy: PolicyInForce,
    client_certificate: CertificateInForce,
    delivery: Delivery,
    /// What is to be got from an ACME server.
    wanted: watch::Sender<Wanted>,
    counts: Counts,
}

/// What came of it, since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// It was read, and is in force.
    pub done: Counter,
    /// Something was wrong with it.
    pub refused: Counter,
}

#[derive(Debug)]
struct InForce {
    /// What was read last.
    config: Config,
    /// What came from an ACME server last.
    issued: Option<Credentials>,
}

/// What a reload came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// What counts from now on, a sentence each.
    pub changes: Vec<String>,
    /// Sections that have changed and count from the next start only.
    pub after_restart: Vec<&'static str>,
    /// What is allowed but odd.
    pub warnings: Vec<String>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file, or one that it names. One line for each problem.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// What the file says cannot be put together.
    #[error(transparent)]
    Parts(#[from] StartError),
    /// It is another relay's.
    #[error("the domain is now {0}: that is another relay, and needs a restart")]
    Domain(String),
}

impl Reload {
    pub(super) fn new(
        config: Config,
        identity: Arc<Identity>,
        policy: PolicyInForce,
        client_certificate: CertificateInForce,
        delivery: Delivery,
        issued: Option<Credentials>,
    ) -> Self {
        let wanted = watch::Sender::new(Wanted::by(&config));
        let (started, in_force) = (config.clone(), Mutex::new(InForce { config, issued }));
        let counts = Counts::default();
        let shared =
            Shared { started, in_force, identity, policy, client_certificate, delivery, wanted, counts };
        Self(Arc::new(shared))
    }

    /// What is to be got from an ACME server, from now on.
    pub(super) fn wanted(&self) -> watch::Receiver<Wanted> {
        self.0.wanted.subscribe()
    }

    /// Shows what came from an ACME server.
    pub(super) fn show(&self, issued: Credentials) {
        let mut in_force = self.in_force();
        in_force.issued = Some(issued);
        if let Err(error) = self.show_certificates(&in_force.config, in_force.issued.as_ref()) {
            tracing::error!("a certificate that was issued cannot be shown: {error}");
        }
    }

    /// How often that was done.
    pub fn counts(&self) -> &Counts {
        &self.0.counts
    }

    /// Reads, compares, and puts in force what has changed. What came of it is logged, too.
    pub fn reload(&self) -> Result<Reloaded, ReloadError> {
        let reloaded = self.apply();
        match &reloaded {
            Ok(_) => {
                self.0.counts.done.add(1);
                let in_force = self.in_force();
                self.0.wanted.send_modify(|wanted| wanted.now(&in_force.config));
            }
            Err(_) => self.0.counts.refused.add(1),
        }
        Self::log(&reloaded);
        reloaded
    }

    /// Reads again what may have been written while the relay was opening: whoever wrote it found nobody listening, and
    /// was told that it counts from the next start. To be called once there is a socket to be asked at, and before
    /// anything is served.
    pub(super) fn catch_up(&self) {
        let reloaded = self.apply();
        // Nobody is impatient: a relay that starts over and over must not ask for a certificate each time.
        let in_force = self.in_force();
        self.0.wanted.send_if_modified(|wanted| wanted.still(&in_force.config));
        drop(in_force);
        if !reloaded.as_ref().is_ok_and(|done| done.changes.is_empty() && done.after_restart.is_empty()) {
            Self::log(&reloaded);
        }
    }

    fn log(reloaded: &Result<Reloaded, ReloadError>) {
        match reloaded {
            Ok(done) => {
                for warning in &done.warnings {
                    tracing::warn!("{}", warning);
                }
                for change in &done.changes {
                    tracing::info!("reloaded: {change}");
                }
                if done.changes.is_empty() {
                    tracing::info!("reloaded: nothing that can change while the relay runs has changed");
                }
                for section in &done.after_restart {
                    tracing::warn!(
                        "the configuration has changed in what counts from the next start only: {section}"
                    );
                }
            }
            Err(error) => {
                for problem in error.to_string().lines() {
                    tracing::error!(
                        "the configuration was not reloaded, and everything stays as it was: {problem}"
                    );
                }
            }
        }
    }

    /// Where clients reach the relay, as far as it knows: its host by custom, and the port that it listens on.
    pub fn client_authority(&self) -> String {
        let in_force = self.in_force();
        let config = &in_force.config;
        let port = config.listen.of_clients().next().map_or(0, |address| address.port());
        let port = if matches!(port, 0 | 443) { String::new() } else { format!(":{port}") };
        format!("relay.{}{port}", config.domain)
    }

    /// What clients pin: the relay's own key, where that is what they are shown.
    pub fn client_pin(&self) -> Option<[u8; 32]> {
        let in_force = self.in_force();
        let InForce { config, issued } = &*in_force;
        let is_certified = config.tls.is_some() || (config.acme.is_some() && issued.is_some());
        (!is_certified).then_some(config.federation.identity.pin)
    }

    fn apply(&self) -> Result<Reloaded, ReloadError> {
        // One at a time, from the reading on.
        let mut in_force = self.in_force();
        let before = &in_force.config;
        let after = Config::load(&before.file)?;
        if after.domain != before.domain {
            return Err(ReloadError::Domain(after.domain.to_string()));
        }
        let after_restart = after_restart(&self.0.started, &after);
        let warnings =
            after.warnings.iter().map(|warning| warning.in_file(&after.file).to_string()).collect();
        let changes = self.put_in_force(&mut in_force, after)?;
        Ok(Reloaded { changes, after_restart, warnings })
    }

    /// Whether what is shown there came from an ACME server.
    pub(super) fn is_issued(&self, shown: &CertificateInForce) -> bool {
        let in_force = self.in_force();
        in_force.issued.as_ref().is_some_and(|issued| issued.certified.cert == shown.current().cert)
    }

    /// Takes up what is in the files of a certificate and its key, if that is what `seen` says. `None` if it is not:
    /// somebody is at them.
    pub(super) fn renew(&self, pair: Pair, seen: &Fingerprint) -> Result<Option<Reloaded>, ReloadError> {
        let mut in_force = self.in_force();
        let after = in_force.config.reread(pair)?;
        if after.credentials(pair).is_none_or(|read| read.fingerprint() != *seen) {
            return Ok(None);
        }
        let warnings =
            after.warnings.iter().map(|warning| warning.in_file(&after.file).to_string()).collect();
        let changes = self.put_in_force(&mut in_force, after)?;
        self.0.wanted.send_if_modified(|wanted| wanted.still(&in_force.config));
        Ok(Some(Reloaded { changes, warnings, ..Reloaded::default() }))
    }

    /// The pair of files whose content is in force, if there is one, and what it is.
    pub(super) fn credentials(&self, pair: Pair) -> Option<Credentials> {
        self.in_force().config.credentials(pair).cloned()
    }

    fn in_force(&self) -> MutexGuard<'_, InForce> {
        self.0.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `after` count in place of what did before, and says in sentences what has changed.
    fn put_in_force(&self, in_force: &mut InForce, after: Config) -> Result<Vec<String>, ReloadError> {
        let Shared { policy, delivery, .. } = &*self.0;
        let new_policy = parts::policy(&after, &parts::identity(&after, None)?)?;

        // The last step that can fail, and the first that changes anything.
        self.show_certificates(&after, in_force.issued.as_ref())?;
        let before = &in_force.config;
        let (changes, peers) = changes(before, &after);
        if is_policy_changed(before, &after) {
            policy.replace(new_policy);
        }
        for peer in peers {
            delivery.peer_is_up(&peer.domain);
        }
        in_force.config = after;
        Ok(changes)
    }

    /// Has handshakes show what a configuration says.
    fn show_certificates(&self, config: &Config, issued: Option<&Credentials>) -> Result<(), StartError> {
        let shown = parts::identity(config, issued)?;
        let before = self.0.identity.shown().current();
        self.0.identity.show(&shown);
        if before.cert != shown.shown().current().cert {
            self.0.delivery.our_certificate_has_changed();
        }
        self.0.client_certificate.replace(parts::shown_to_clients(config, issued));
        Ok(())
    }
}

/// Sentences about what has changed, and the peers that are dealt with in another way than before.
fn changes<'a>(before: &Config, after: &'a Config) -> (Vec<String>, Vec<&'a PeerConfig>) {
    let mut said = Vec::new();
    let (old, new) = (&before.federation, &after.federation);
    if old.identity.pin != new.identity.pin {
        let pin = HEXLOWER.encode(&new.identity.pin);
        said.push(format!("other relays are shown a certificate with another key, whose pin is {pin}"));
    } else if old.identity.certificate_pem != new.identity.certificate_pem {
        said.push("other relays are shown a renewed certificate, with the same key".into());
    }
    match (&before.tls, &after.tls) {
        (Some(old), Some(new)) if old.certificate_pem == new.certificate_pem => {}
        (None, None) => {}
        (_, Some(_)) => said.push("clients are shown another certificate".into()),
        (Some(_), None) => said.push("clients are shown the relay's identity certificate".into()),
    }
    if before.acme != after.acme {
        said.push(match &after.acme {
            Some(acme) => {
                let names = acme.names.iter().map(Domain::as_str).collect::<Vec<_>>().join(", ");
                format!("certificates for {names} come from {}", acme.directory.host().unwrap_or_default())
            }
            None => "no certificates come from an ACME server any more".into(),
        });
    }
    let find =
        |peers: &'a [PeerConfig], peer: &PeerConfig| peers.iter().find(|other| other.domain == peer.domain);
    let mut touched = Vec::new();
    for peer in &new.peers {
        match old.peers.iter().find(|other| other.domain == peer.domain) {
            Some(known) if known == peer => continue,
            Some(_) => said.push(format!("the peer {} is dealt with in another way", peer.domain)),
            None => said.push(format!("{} is a peer", peer.domain)),
        }
        touched.push(peer);
    }
    for peer in old.peers.iter().filter(|peer| find(&new.peers, peer).is_none()) {
        said.push(format!("{} is no longer a peer", peer.domain));
    }
    if said.is_empty() && is_policy_changed(before, after)
        || format!("{:?}", old.policy) != format!("{:?}", new.policy)
    {
        said.push("the policy towards other relays is another one".into());
    }
    (said, touched)
}

/// What is shown of the federation's section has everything in it that the policy is made of, the authorities' certificates
/// among it, but not our own key, to which the entry for ourselves is pinned.
fn is_policy_changed(before: &Config, after: &Config) -> bool {
    let (old, new) = (&before.federation, &after.federation);
    old.identity.pin != new.identity.pin || format!("{old:?}") != format!("{new:?}")
}

fn after_restart(before: &Config, after: &Config) -> Vec<&'static str> {
    let timing = |config: &Config| {
        let federation = &config.federation;
        (federation.connect_timeout, federation.request_timeout, federation.batches_in_flight)
    };
    let pairs = [
        ("data_dir", before.data_dir != after.data_dir),
        ("[listen]", before.listen != after.listen),
        ("the time-outs and batches_in_flight of [federation]", timing(before) != timing(after)),
        ("[dns]", before.dns != after.dns),
        ("[registration]", before.registration != after.registration),
        ("[submission]", before.submission != after.submission),
        ("[web]", before.allowed_origins != after.allowed_origins),
        ("[limits]", format!("{:?}", before.limits) != format!("{:?}", after.limits)),
        ("[store]", before.store != after.store),
        ("[log]", before.log != after.log),
    ];
    pairs.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
}
