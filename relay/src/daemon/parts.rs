//! From the configuration to the parts of a relay.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use postrider_common::clock::SharedClock;
use postrider_common::secret::Secret;
use postrider_common::supervisor::Supervisor;
use postrider_common::wire;
use postrider_common::wire::control::{RelayInfo, RelayLimits, RelayPolicies};
use postrider_federation::discovery::Validation;
use postrider_federation::{
    CaRoots, CertificateInForce, ClientConfig, Direction, Identity, Inbound, Networks, Peer, PeerLimits, Pin,
    Policy, PolicyMode, Resolve, Resolver, ResolverSettings, Server, ServerConfig, Trust, Unlisted,
};
use tokio::sync::watch;
use zeroize::Zeroize;

use super::StartError;
use super::opening::Told;
use crate::attachments::{self, Attachments};
use crate::config::{
    Config, Credentials, FederationConfig, FederationPolicy, PeerConfig, PeerDirection, PublicRoots,
    TrustConfig, UnlistedTrust,
};
use crate::store::{self, Store, StoreError, Window};
use crate::{acme, api, delivery, durable, listener};

/// Memory for the bodies of all requests that are being read.
const BODY_MEMORY: usize = 128 << 20;
/// How long finding and reaching a peer may take, all its addresses together.
const ATTEMPT: Duration = Duration::from_secs(60);
/// What this software calls itself.
const SOFTWARE: &str = concat!("postrider/", env!("CARGO_PKG_VERSION"));

/// The file that a relay's first start makes.
const SESSION_KEY: &str = "session.key";

pub(super) async fn open_store(
    config: &Config,
    clock: &SharedClock,
    supervisor: &Supervisor,
) -> Result<Arc<dyn Store>, StartError> {
    let path = config.data_dir.join("store");
    // Whoever has served from here has a store. An empty one in its place would refuse everybody's mail for good.
    let was_served = config.data_dir.join(SESSION_KEY).exists();
    if was_served && !path.with_extension("import").exists() && !has_content(&path) {
        return Err(StartError::StoreGone(path));
    }
    let options = store::Options {
        limits: config.limits.store,
        cache_bytes: config.store.cache,
        reserve_bytes: config.store.reserve,
        ..store::Options::default()
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => io::Error::other("it is to be a directory, and is not"),
            _ => error,
        })
        .map_err(|error| StartError::DataDir { path: path.clone(), error })?;
    let (told, place, supervisor) = (Told::new(Arc::clone(clock)), path.clone(), supervisor.clone());
    // Elsewhere, since it may take a while, in which others are to be told so.
    let opening = tokio::task::spawn_blocking(move || store::open_with(&place, &options, &supervisor, &told));
    let opened = match opening.await {
        Ok(opened) => opened,
        Err(error) => Err(StoreError::Io(format!("opening it did not end: {error}"))),
    };
    opened.map_err(|error| StartError::Store { path, error })
}

/// Whether there is more in a store's directory than its lock, and directories that are empty. What cannot be read may have
/// anything.
fn has_content(directory: &Path) -> bool {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return error.kind() != io::ErrorKind::NotFound,
    };
    entries.flatten().map(|entry| entry.path()).any(|path| match path.is_dir() {
        true => has_content(&path),
        false => path.file_name().is_some_and(|name| name != "lock"),
    })
}

/// The files beside the store.
pub(super) async fn open_attachments(
    config: &Config,
    store: &Arc<dyn Store>,
    clock: &SharedClock,
    supervisor: &Supervisor,
) -> Result<Attachments, StartError> {
    let directory = config.data_dir.join("attachments");
    let settings = attachments::Settings {
        directory: directory.clone(),
        limits: config.limits.store.attachments,
        reserve_bytes: config.store.reserve,
        pause: config.limits.body_timeout,
    };
    let opened = Attachments::open(settings, Arc::clone(store), Arc::clone(clock), supervisor).await;
    opened.map_err(|error| StartError::DataDir { path: directory, error: io::Error::other(error) })
}

/// The key behind sessions: made at the first start, kept so that a restart ends no session.
pub(super) fn session_key(data_dir: &Path) -> Result<Secret<32>, StartError> {
    let path = data_dir.join(SESSION_KEY);
    let failed = |error| StartError::DataDir { path: path.clone(), error };
    match fs::read(&path) {
        Ok(mut bytes) => {
            let key = <[u8; 32]>::try_from(bytes.as_slice()).map(Secret::new);
            bytes.zeroize();
            key.map_err(|_| failed(io::Error::other("32 bytes are expected; delete it and all sessions end")))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = Secret::random();
            durable::replace(&path, key.expose()).map_err(failed)?;
            Ok(key)
        }
        Err(error) => Err(failed(error)),
    }
}

/// The certificate that came from the ACME server last, if one did. That it cannot be read is told, and keeps nobody from
/// starting.
pub(super) fn issued(config: &Config) -> Option<Credentials> {
    let stored = acme::stored(&config.data_dir, config.acme.as_ref()?);
    stored
        .map_err(|error| tracing::error!("a file about automatic certificates cannot be used: {error}"))
        .ok()
        .flatten()
}

/// Who this relay is, with what other relays are shown: the configured certificate, or the one that was issued for the same
/// key.
pub(super) fn identity(config: &Config, issued: Option<&Credentials>) -> Result<Identity, StartError> {
    let own = &config.federation.identity;
    let is_for_relays = config.acme.as_ref().is_some_and(|acme| acme.is_for_relays);
    let issued =
        issued.filter(|issued| is_for_relays && issued.pin == own.pin && issued.names(&config.domain));
    let shown = issued.unwrap_or(own);
    Identity::from_pem(&config.domain, &shown.certificate_pem, &shown.key_pem).map_err(configuration)
}

/// What the configuration says about peers.
pub(super) fn policy(config: &Config, identity: &Identity) -> Result<Policy, StartError> {
    let federation = &config.federation;
    let peers = federation.peers.iter().map(|entry| peer(entry, federation));
    let peers = peers.collect::<Result<Vec<_>, _>>()?;
    let mode = match federation.policy {
        FederationPolicy::Closed => PolicyMode::Closed,
        FederationPolicy::AllowList => PolicyMode::AllowList,
        FederationPolicy::Open => PolicyMode::Open(Unlisted {
            trust: match federation.unlisted_trust {
                UnlistedTrust::Public => Trust::Public { roots: public_roots(federation)? },
                UnlistedTrust::WebPki => Trust::WebPki { roots: public_roots(federation)? },
                UnlistedTrust::Dane => Trust::Dane,
            },
            limits: PeerLimits {
                batches_in_flight: federation.batches_in_flight,
                envelopes_per_second: federation.envelopes_per_second,
            },
            denied: federation.deny.clone(),
        }),
    };
    Policy::new(mode, identity, peers).map_err(configuration)
}

fn peer(config: &PeerConfig, federation: &FederationConfig) -> Result<Peer, StartError> {
    let trust = match &config.trust {
        TrustConfig::Pinned { pins } => {
            Trust::Pinned { pins: pins.iter().map(|pin| Pin::from_bytes(*pin)).collect() }
        }
        TrustConfig::PrivateCa { ca, pem } => Trust::PrivateCa { roots: roots(ca, pem)? },
        TrustConfig::Dane => Trust::Dane,
        TrustConfig::WebPki => Trust::WebPki { roots: public_roots(federation)? },
    };
    let direction = match config.direction {
        PeerDirection::Both => Direction::Both,
        PeerDirection::In => Direction::In,
        PeerDirection::Out => Direction::Out,
    };
    let limits = PeerLimits {
        batches_in_flight: config.batches_in_flight.unwrap_or(federation.batches_in_flight),
        envelopes_per_second: config.envelopes_per_second.unwrap_or(federation.envelopes_per_second),
    };
    Ok(Peer { domain: config.domain.clone(), direction, trust, addresses: config.addresses.clone(), limits })
}

fn public_roots(federation: &FederationConfig) -> Result<CaRoots, StartError> {
    match &federation.public_roots {
        None => Ok(CaRoots::of_the_web()),
        Some(PublicRoots { file, pem }) => roots(file, pem),
    }
}

fn roots(file: &Path, pem: &[u8]) -> Result<CaRoots, StartError> {
    CaRoots::from_pem(pem).map_err(|error| StartError::Configuration(format!("{}: {error}", file.display())))
}

/// The peers that may hold something for us and that we may call.
pub(super) fn greeted(config: &Config) -> Vec<postrider_common::Domain> {
    let peers = config.federation.peers.iter().filter(|peer| peer.direction == PeerDirection::Both);
    peers.map(|peer| peer.domain.clone()).collect()
}

/// DNS. Whether it can prove anything is told in the log while the relay starts.
pub(super) fn resolver(
    config: &Config,
    clock: &SharedClock,
    supervisor: &Supervisor,
) -> Result<Resolver, StartError> {
    let settings = ResolverSettings {
        servers: config.dns.servers.clone(),
        dnssec: config.dns.dnssec,
        trust_anchor: config.dns.trust_anchor.clone(),
    };
    let resolver = Resolver::new(&settings, Arc::clone(clock)).map_err(configuration)?;
    if rests_on_dns(&config.federation) {
        let (probed, stopping) = (resolver.clone(), supervisor.stopping());
        supervisor.spawn("DNSSEC probe", async move {
            let validation = tokio::select! {
                () = stopping => return,
                validation = probed.validation() => validation,
            };
            if let Validation::Fails(reason) = validation {
                tracing::warn!("DANE is not available, and whoever is proven by it waits: {reason}");
            }
        });
    }
    Ok(resolver)
}

/// Whether somebody may be proven by DNS.
fn rests_on_dns(federation: &FederationConfig) -> bool {
    match federation.policy {
        FederationPolicy::Closed => false,
        FederationPolicy::Open if federation.unlisted_trust != UnlistedTrust::WebPki => true,
        _ => federation.peers.iter().any(|peer| peer.trust == TrustConfig::Dane),
    }
}

pub(super) fn client_config(
    config: &Config,
    identity: &Arc<Identity>,
    policy: watch::Receiver<Arc<Policy>>,
    resolver: Arc<dyn Resolve>,
) -> ClientConfig {
    let federation = &config.federation;
    ClientConfig {
        hosts: hosts(config),
        networks: Networks::new(config.dns.allow_networks.iter().copied()),
        handshake_timeout: federation.connect_timeout,
        request_timeout: federation.request_timeout,
        attempt_timeout: ATTEMPT,
        ..ClientConfig::new(Arc::clone(identity), policy, resolver)
    }
}

pub(super) fn federation_server(
    config: &Config,
    identity: Arc<Identity>,
    policy: watch::Receiver<Arc<Policy>>,
    client: &ClientConfig,
    inbound: Arc<dyn Inbound>,
    clock: &SharedClock,
    supervisor: &Supervisor,
) -> Server {
    let server = ServerConfig {
        witness: Some(client.witness.clone()),
        expiries: client.expiries.clone(),
        limits: config.limits.envelopes,
        body_timeout: config.limits.body_timeout,
        ..ServerConfig::new(identity, policy, SOFTWARE)
    };
    Server::new(server, inbound, Arc::clone(clock), supervisor.clone())
}

pub(super) fn delivery_settings(config: &Config) -> delivery::Settings {
    let limits = &config.limits.envelopes;
    delivery::Settings {
        // A little less than a batch may have: its framing counts too.
        batch: Window {
            count: limits.batch_envelopes,
            bytes: limits.batch_bytes.saturating_sub(16 * limits.batch_envelopes + 16),
        },
        batches_in_flight: config.federation.batches_in_flight,
        attempt: ATTEMPT + config.federation.request_timeout,
        ..delivery::Settings::default()
    }
}

pub(super) fn api_settings(config: &Config) -> api::Settings {
    let limits = &config.limits;
    api::Settings {
        info: info(config),
        rate_per_second: config.submission.rate_per_second.get(),
        burst: config.submission.burst.get(),
        submission: config.submission.policy,
        member_rate_per_second: config.submission.member_rate_per_second.get(),
        member_burst: config.submission.member_burst.get(),
        header_bytes: limits.request_header_bytes,
        header_timeout: limits.header_timeout,
        body_timeout: limits.body_timeout,
        body_memory: BODY_MEMORY,
        device_idle: limits.store.device_idle,
        challenge_lifetime: limits.challenge_lifetime,
        session_lifetime: limits.session_lifetime,
        stream_window: limits.stream_window,
        long_poll: limits.long_poll_wait,
        allowed_origins: config.allowed_origins.clone(),
        upload_per_second: config.submission.upload_per_second,
    }
}

fn info(config: &Config) -> RelayInfo {
    let (envelopes, store) = (&config.limits.envelopes, &config.limits.store);
    let mut limits = RelayLimits::default();
    limits.body_bytes = envelopes.body as u64;
    limits.header_bytes = envelopes.header as u64;
    limits.lifetime_seconds = envelopes.lifetime.as_secs();
    limits.batch_envelopes = envelopes.batch_envelopes as u64;
    limits.batch_bytes = envelopes.batch_bytes as u64;
    limits.mailbox_entries = store.mailbox_entries;
    limits.mailbox_bytes = store.mailbox_bytes;
    limits.devices = store.devices as u64;
    limits.attachment_bytes = store.attachments.bytes;
    limits.mailbox_attachment_bytes = store.attachments.mailbox_bytes;
    let policies = RelayPolicies::new(config.registration.word(), config.submission.policy.word());
    let mut info = RelayInfo::new(config.domain.clone(), SOFTWARE, limits, policies);
    info.client_protocol = vec![wire::VERSION];
    info.federation_protocol = vec![postrider_federation::PROTOCOL_VERSION];
    info
}

pub(super) fn door_settings(config: &Config) -> listener::Settings {
    listener::Settings {
        connections: config.limits.connections,
        connections_per_address: config.limits.connections_per_ip,
        beginning_per_address: config.limits.beginning_connections_per_ip,
        handshake_timeout: config.limits.tls_handshake_timeout,
        proxies: config.listen.proxies.clone(),
    }
}

/// What clients are shown: the configured certificate, or the one that was issued, or our own identity's, which clients then
/// pin.
pub(super) fn shown_to_clients(
    config: &Config,
    issued: Option<&Credentials>,
) -> Arc<rustls::sign::CertifiedKey> {
    let issued = issued.filter(|_| config.acme.is_some());
    Arc::clone(&config.tls.as_ref().or(issued).unwrap_or(&config.federation.identity).certified)
}

/// How the ACME server is found.
pub(super) fn names(config: &Config, resolver: Arc<dyn Resolve>) -> acme::Names {
    acme::Names { hosts: hosts(config), resolver }
}

fn hosts(config: &Config) -> HashMap<String, Vec<IpAddr>> {
    let mut hosts: HashMap<_, Vec<_>> = HashMap::new();
    for (host, address) in &config.dns.hosts {
        hosts.entry(host.clone()).or_default().push(*address);
    }
    hosts
}

pub(super) fn client_tls(shown: CertificateInForce) -> Result<Arc<rustls::ServerConfig>, StartError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(configuration)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}

fn configuration(error: impl std::fmt::Display) -> StartError {
    StartError::Configuration(error.to_string())
}
