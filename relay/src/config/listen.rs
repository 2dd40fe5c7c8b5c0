//! The `[listen]` section: which addresses, for whom, and who may say where a connection has come from.

use std::net::{IpAddr, SocketAddr};

use postrider_federation::discovery::Network;

use super::key::Key;
use super::keys::{LISTEN_ADDRESSES, LISTEN_CLIENTS, LISTEN_FEDERATION, LISTEN_METRICS, LISTEN_PROXIES};
use super::reader::Reader;
use crate::listener::Audience;

/// Where connections are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenConfig {
    /// At least one, none twice.
    pub addresses: Vec<ListenAddress>,
    /// Whose connections begin with a header that says where they have come from.
    pub proxies: Vec<Network>,
    /// Where those who watch the relay ask.
    pub metrics: Option<SocketAddr>,
}

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress {
    /// With its port; 0 for one that the system chooses.
    pub address: SocketAddr,
    /// Who is served there.
    pub audience: Audience,
}

impl ListenConfig {
    /// The addresses at which other relays are served.
    pub fn of_relays(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let serves_relays = |listen: &&ListenAddress| listen.audience != Audience::Clients;
        self.addresses.iter().filter(serves_relays).map(|listen| listen.address)
    }

    /// The addresses at which clients are served.
    pub fn of_clients(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let serves_clients = |listen: &&ListenAddress| listen.audience != Audience::Relays;
        self.addresses.iter().filter(serves_clients).map(|listen| listen.address)
    }

    pub(super) fn read(reader: &mut Reader<'_, '_>) -> Self {
        const LISTS: [(&Key, Audience); 3] = [
            (&LISTEN_ADDRESSES, Audience::Everybody),
            (&LISTEN_CLIENTS, Audience::Clients),
            (&LISTEN_FEDERATION, Audience::Relays),
        ];
        let mut found: Vec<(&Key, ListenAddress)> = Vec::new();
        for (key, audience) in LISTS {
            for address in reader.list(key, super::address) {
                match found.iter().find(|(_, other)| other.address == address && address.port() != 0) {
                    Some((other, _)) => {
                        reader.problem(key, format!("has {address}, and so has {}", other.path));
                    }
                    None => found.push((key, ListenAddress { address, audience })),
                }
            }
        }
        if found.is_empty() {
            reader.problem(&LISTEN_ADDRESSES, "has no usable entry; there must be one");
        }
        overlaps(reader, &found);
        let proxies = reader.list(&LISTEN_PROXIES, proxy);
        let metrics = reader.text(&LISTEN_METRICS, super::address);
        if metrics.is_some_and(|metrics| !metrics.ip().to_canonical().is_loopback()) {
            reader.warning(
                &LISTEN_METRICS,
                "is not an address of the machine itself: whoever can connect there reads which relays this one deals with,                  and how much, without TLS and without a password",
            );
        }
        if let Some(metrics) = metrics.filter(|metrics| metrics.port() != 0)
            && let Some((key, _)) = found.iter().find(|(_, listen)| listen.address == metrics)
        {
            reader.problem(&LISTEN_METRICS, format!("is {metrics}, and so has {}", key.path));
        }
        Self { addresses: found.into_iter().map(|(_, listen)| listen).collect(), proxies, metrics }
    }
}

/// Addresses of which one is part of another.
fn overlaps(reader: &mut Reader<'_, '_>, found: &[(&'static Key, ListenAddress)]) {
    let is_any = |address: SocketAddr| address.ip().is_unspecified() && address.port() != 0;
    for (_, whole) in found.iter().filter(|(_, listen)| is_any(listen.address)) {
        let whole = whole.address;
        for (key, other) in found {
            let other = other.address;
            if other.port() != whole.port() || other == whole {
                continue;
            }
            if whole.is_ipv4() == other.is_ipv4() {
                reader.problem(key, format!("has {other}, which is part of {whole}; keep one of them"));
            } else if whole.is_ipv6() {
                reader.warning(
                    key,
                    format!("has {other} and {whole}, which takes IPv4 too on most systems; then {other} is in use"),
                );
            }
        }
    }
}

/// A network of proxies, or the address of one.
fn proxy(text: &str) -> Result<Network, String> {
    let network = match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => super::network(&format!("{address}/32"))?,
        Ok(IpAddr::V6(address)) => super::network(&format!("{address}/128"))?,
        Err(_) => super::network(text)?,
    };
    if network.prefix() == 0 {
        return Err(format!("is {text:?}, so that everybody could say to be anybody"));
    }
    Ok(network)
}
