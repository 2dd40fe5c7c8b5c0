//! Name servers of one test, on addresses of their own.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use postrider_common::Timestamp;
use postrider_common::clock::ManualClock;
use postrider_federation::{Resolver, ResolverSettings};
use tempfile::TempDir;

use super::programs::{Server, are_installed};
use super::zones::{self, Zone};

/// The time on the clocks. Signatures are checked by the machine's own.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// An authoritative server, and a resolver that validates what it gets from there.
#[derive(Debug)]
pub(crate) struct Lab {
    authority: Option<Server>,
    resolver: Option<Server>,
    /// Where the two are, again after a restart.
    places: [SocketAddr; 2],
    directory: TempDir,
    anchor: String,
}

impl Lab {
    /// Serves these zones. Nothing if the programs are not installed.
    pub(crate) async fn start(zones: &[Zone]) -> Option<Self> {
        if !are_installed() {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let files = zones::write(directory.path(), zones, true);
        let anchor = fs::read_to_string(directory.path().join("anchor.key")).unwrap();
        let places = [address(), address()];
        let mut lab = Self { authority: None, resolver: None, places, directory, anchor };
        lab.serve(&files, zones, true).await;
        Some(lab)
    }

    /// A resolver through which no signature comes: behind it are the same zones without them.
    pub(crate) async fn strip_signatures(&mut self, zones: &[Zone]) {
        self.stop();
        let files = zones::write(self.directory.path(), zones, false);
        self.serve(&files, zones, false).await;
    }

    async fn serve(&mut self, files: &[(String, String)], zones: &[Zone], validates: bool) {
        let directory = self.directory.path();
        let [upstream, address] = self.places;
        self.authority = Some(authority(directory, files, upstream).await);
        self.resolver = Some(resolver(directory, zones, upstream, address, validates).await);
    }

    /// Takes the name servers away.
    pub(crate) fn stop(&mut self) {
        (self.authority, self.resolver) = (None, None);
    }

    /// Where the validating resolver is.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.places[1]
    }

    /// Where the authoritative server is, which validates nothing.
    pub(crate) const fn authority(&self) -> SocketAddr {
        self.places[0]
    }

    /// The root's key.
    pub(crate) fn anchor(&self) -> &str {
        &self.anchor
    }

    /// Our own resolver, which asks unbound and validates for itself.
    pub(crate) fn ask(&self) -> (Arc<Resolver>, ManualClock) {
        self.ask_at(self.address())
    }

    pub(crate) fn ask_at(&self, server: SocketAddr) -> (Arc<Resolver>, ManualClock) {
        let clock = ManualClock::new(NOW);
        let settings =
            ResolverSettings { servers: vec![server], dnssec: true, trust_anchor: Some(self.anchor.clone()) };
        (Arc::new(Resolver::new(&settings, Arc::new(clock.clone())).unwrap()), clock)
    }
}

/// An address of the loopback network that nobody else has: these servers cannot be told to take any free port.
fn address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let process = std::process::id();
    let byte = |shift: u32| u8::try_from((process >> shift) & 0xff).unwrap_or(0);
    // Twenty-two bits of the process's number, and a counter.
    let second = 64 | (byte(16) & 0x3f);
    (Ipv4Addr::new(127, second, byte(8), byte(0)), port(NEXT.fetch_add(1, Ordering::Relaxed))).into()
}

fn port(number: u8) -> u16 {
    5300 + u16::from(number)
}

async fn authority(directory: &Path, files: &[(String, String)], address: SocketAddr) -> Server {
    let place = directory.display();
    let (ip, port) = (address.ip(), address.port());
    let mut text = format!(
        "server:\n  ip-address: {ip}@{port}\n  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{place}\"\n  \
         database: \"\"\n  pidfile: \"{place}/nsd.pid\"\n  xfrdfile: \"{place}/xfrd.state\"\n  \
         zonelistfile: \"{place}/zone.list\"\n  xfrdir: \"{place}\"\n  do-ip6: no\n\
         remote-control:\n  control-enable: no\n"
    );
    for (name, file) in files {
        let _ = write!(text, "zone:\n  name: \"{name}\"\n  zonefile: \"{file}\"\n");
    }
    let config = format!("nsd-{port}.conf");
    fs::write(directory.join(&config), text).unwrap();
    let config = directory.join(config);
    Server::start(directory, "nsd", &["-d", "-c", &config.to_string_lossy()], address).await
}

async fn resolver(
    directory: &Path,
    zones: &[Zone],
    upstream: SocketAddr,
    address: SocketAddr,
    validates: bool,
) -> Server {
    let place = directory.display();
    let (ip, port) = (address.ip(), address.port());
    let modules = if validates { "validator iterator" } else { "iterator" };
    let anchor =
        if validates { format!("  trust-anchor-file: \"{place}/anchor.key\"\n") } else { String::new() };
    let mut text = format!(
        "server:\n  interface: {ip}@{port}\n  port: {port}\n  username: \"\"\n  chroot: \"\"\n  directory: \"{place}\"\n  \
         pidfile: \"\"\n  use-syslog: no\n  do-daemonize: no\n  num-threads: 1\n  do-not-query-localhost: no\n  \
         access-control: 127.0.0.0/8 allow\n  outgoing-interface: {ip}\n  qname-minimisation: no\n  \
         module-config: \"{modules}\"\n{anchor}remote-control:\n  control-enable: no\n"
    );
    let (up, up_port) = (upstream.ip(), upstream.port());
    for name in zones.iter().map(|zone| format!("{}.", zone.name)).chain([".".to_owned()]) {
        let _ = write!(text, "stub-zone:\n  name: \"{name}\"\n  stub-addr: {up}@{up_port}\n");
    }
    let config = directory.join(format!("unbound-{port}.conf"));
    fs::write(&config, text).unwrap();
    Server::start(directory, "unbound", &["-d", "-p", "-c", &config.to_string_lossy()], address).await
}
