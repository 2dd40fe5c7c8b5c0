//! Connection settings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use postrider_common::clock::{SharedClock, SystemClock};
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::connection::{Connections, Target};
use super::{Inner, KeyPin, Proxy, Relay, Trust};
use crate::Error;

/// Made by [`Relay::builder`].
///
/// ```
/// # use std::time::Duration;
/// # use postrider_client::{KeyPin, Relay};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // As `postrider client` takes it with --pin, and an invite may carry it.
/// let pin: KeyPin = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".parse()?;
/// let relay = Relay::builder("https://192.0.2.7:8443")
///     .pinned(pin)
///     .connect_timeout(Duration::from_secs(5))
///     .build()?;
/// assert!(Relay::builder("http://192.0.2.7").build().is_err(), "never without TLS");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "settings do nothing until they are built"]
pub struct RelayBuilder {
    url: String,
    trust: Trust,
    address: Option<SocketAddr>,
    proxy: Option<Proxy>,
    connect_timeout: Duration,
    request_timeout: Duration,
    clock: SharedClock,
}

impl RelayBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            trust: Trust::default(),
            address: None,
            proxy: None,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            clock: Arc::new(SystemClock),
        }
    }

    /// How the relay proves to be the one that is meant. Default: the web's authorities.
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Trusts one key: [`Trust::Pinned`].
    pub fn pinned(self, pin: KeyPin) -> Self {
        self.trust(Trust::Pinned(vec![pin]))
    }

    /// Trusts an authority of one's own: [`Trust::AuthorityFile`].
    pub fn ca_file(self, path: impl Into<PathBuf>) -> Self {
        self.trust(Trust::AuthorityFile(path.into()))
    }

    /// Connects to this address, instead of looking the URL's host up. The host remains the name that the relay's
    /// certificate must be for.
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Goes through this proxy, and never around it: when it fails, the call fails.
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// How long opening a connection may take, TLS included. Default: 10 seconds.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a request may take from its beginning to the end of its answer. A long poll has its wait on top.
    /// Default: 30 seconds.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// The clock that back-off and the life of sessions go by. Default: the machine's.
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// Checks the settings. No connection is opened yet.
    pub fn build(self) -> Result<Relay, Error> {
        let (authority, host, port) =
            parse(&self.url).map_err(|reason| Error::Url { url: self.url.clone(), reason })?;
        let server_name = ServerName::try_from(host.clone()).map_err(|_| Error::Url {
            url: self.url,
            reason: "its host is neither a name nor an IP address",
        })?;
        let config = self.trust.client_config()?;
        let tls = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        let connections = Connections::new(Target {
            host,
            port,
            authority: authority.clone(),
            address: self.address,
            proxy: self.proxy,
            server_name,
            connect_timeout: self.connect_timeout,
            any_version: tls(&[b"h2", b"http/1.1"]),
            version_1: tls(&[b"http/1.1"]),
        });
        Ok(Relay(Arc::new(Inner {
            connections,
            clock: self.clock,
            request_timeout: self.request_timeout,
            authority,
        })))
    }
}

/// Authority, host and port of an HTTPS URL without a path.
fn parse(url: &str) -> Result<(String, String, u16), &'static str> {
    let uri: Uri = url.parse().map_err(|_| "it is not a URL")?;
    if uri.scheme_str() != Some("https") {
        return Err("it must begin with https://");
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err("it must end after the host and the port");
    }
    let authority = uri.authority().ok_or("it has no host")?;
    if authority.as_str().contains('@') {
        return Err("it must not have a user name");
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = match authority.port() {
        Some(port) => port.as_u16(),
        None => 443,
    };
    Ok((authority.to_string(), host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names_and_addresses() {
        let parsed = |url| parse(url).map(|(_, host, port)| (host, port));
        for (url, host, port) in [
            ("https://relay.example", "relay.example", 443),
            ("https://relay.example:8443/", "relay.example", 8443),
            ("https://192.0.2.7:1", "192.0.2.7", 1),
            ("https://[2001:db8::1]", "2001:db8::1", 443),
        ] {
            assert_eq!(parsed(url), Ok((host.to_owned(), port)));
            assert!(Relay::builder(url).build().is_ok(), "{url}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_relays_address() {
        for url in [
            "",
            "relay.example",
            "http://relay.example",
            "https://relay.example/path",
            "https://relay.example?query",
            "https://user@relay.example",
            "https://relay_!.example",
        ] {
            let error = Relay::builder(url).build().unwrap_err();
            assert!(matches!(error, Error::Url { .. }), "{url}: {error}");
        }
    }
}
