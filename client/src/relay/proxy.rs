//! Reaching the relay through a SOCKS5 proxy (RFC 1928, RFC 1929), such as Tor.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use crate::Error;

const VERSION: u8 = 5;
const WITHOUT_LOGIN: u8 = 0;
const WITH_LOGIN: u8 = 2;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// A SOCKS5 proxy. It is told the relay's name and looks it up itself, so that the name is in no DNS query of ours.
///
/// ```
/// use postrider_client::{Proxy, Relay};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Tor keeps connections with different logins apart: submit with another one than you receive with.
/// let proxy: Proxy = "socks5://submitting:x@127.0.0.1:9050".parse()?;
/// let relay = Relay::builder("https://relay.example.org").proxy(proxy).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    host: String,
    port: u16,
    login: Option<Login>,
}

#[derive(Clone, PartialEq, Eq)]
struct Login {
    user: String,
    password: Zeroizing<String>,
}

/// A text that is not a [`Proxy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a proxy is written socks5://host:port or socks5://user:password@host:port, with at most 255 bytes each"
)]
#[non_exhaustive]
pub struct ProxyError;

impl Proxy {
    /// A connection through the proxy to where the relay is: an address, if one is fixed, else its host.
    pub(super) async fn connect(
        &self,
        host: &str,
        port: u16,
        address: Option<SocketAddr>,
    ) -> Result<TcpStream, Error> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let mut stream = stream.map_err(|error| self.failed(true, error.to_string()))?;
        let (target, port) = match address {
            Some(address) => (Target::Address(address.ip()), address.port()),
            None => {
                (Target::of(host).ok_or_else(|| self.failed(false, "the relay's name is too long"))?, port)
            }
        };
        self.greet(&mut stream).await?;
        self.ask(&mut stream, &target, port).await?;
        Ok(stream)
    }

    async fn greet(&self, stream: &mut TcpStream) -> Result<(), Error> {
        let method = if self.login.is_some() { WITH_LOGIN } else { WITHOUT_LOGIN };
        self.sent(stream.write_all(&[VERSION, 1, method]).await)?;
        let mut chosen = [0; 2];
        self.sent(stream.read_exact(&mut chosen).await)?;
        if chosen != [VERSION, method] {
            let why = match (chosen[0], &self.login) {
                (VERSION, Some(_)) => "it takes no user and password",
                (VERSION, None) => "it wants a user and a password",
                _ => "it does not speak SOCKS5",
            };
            return Err(self.failed(false, why));
        }
        let Some(login) = &self.login else { return Ok(()) };
        // Both have at most 255 bytes.
        let mut message = Zeroizing::new(vec![1]);
        for text in [login.user.as_str(), login.password.as_str()] {
            message.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
            message.extend_from_slice(text.as_bytes());
        }
        self.sent(stream.write_all(&message).await)?;
        let mut verdict = [0; 2];
        self.sent(stream.read_exact(&mut verdict).await)?;
        if verdict[1] == 0 { Ok(()) } else { Err(self.failed(false, "it refuses the user or the password")) }
    }

    async fn ask(&self, stream: &mut TcpStream, target: &Target<'_>, port: u16) -> Result<(), Error> {
        let mut request = vec![VERSION, CONNECT, 0];
        target.write(&mut request);
        request.extend_from_slice(&port.to_be_bytes());
        self.sent(stream.write_all(&request).await)?;
        let mut answer = [0; 4];
        self.sent(stream.read_exact(&mut answer).await)?;
        let [version, reply, _, kind] = answer;
        if version != VERSION {
            return Err(self.failed(false, "it does not speak SOCKS5"));
        }
        if let Some((is_temporary, why)) = refusal(reply) {
            return Err(self.failed(is_temporary, why));
        }
        // Which address it uses itself is of no interest, but has to be read.
        let length = match kind {
            IPV4 => 4,
            IPV6 => 16,
            NAME => usize::from(self.sent(stream.read_u8().await)?),
            _ => return Err(self.failed(false, "its answer makes no sense")),
        };
        let mut rest = vec![0; length + 2];
        self.sent(stream.read_exact(&mut rest).await)?;
        Ok(())
    }

    fn sent<T>(&self, result: io::Result<T>) -> Result<T, Error> {
        result.map_err(|error| self.failed(true, error.to_string()))
    }

    fn failed(&self, is_temporary: bool, reason: impl Into<String>) -> Error {
        Error::Proxy { proxy: format!("{}:{}", self.host, self.port), reason: reason.into(), is_temporary }
    }
}

/// Whom the proxy is asked to connect to.
enum Target<'a> {
    Address(IpAddr),
    Name(&'a str, u8),
}

impl<'a> Target<'a> {
    fn of(host: &'a str) -> Option<Self> {
        match host.parse() {
            Ok(address) => Some(Self::Address(address)),
            Err(_) => Some(Self::Name(host, u8::try_from(host.len()).ok()?)),
        }
    }

    fn write(&self, request: &mut Vec<u8>) {
        match self {
            Self::Address(IpAddr::V4(address)) => {
                request.push(IPV4);
                request.extend_from_slice(&address.octets());
            }
            Self::Address(IpAddr::V6(address)) => {
                request.push(IPV6);
                request.extend_from_slice(&address.octets());
            }
            Self::Name(name, length) => {
                request.extend_from_slice(&[NAME, *length]);
                request.extend_from_slice(name.as_bytes());
            }
        }
    }
}

/// What a reply means that is no success, and whether trying again helps.
const fn refusal(reply: u8) -> Option<(bool, &'static str)> {
    match reply {
        0 => None,
        2 => Some((false, "its rules do not allow the connection")),
        3 => Some((true, "it does not reach the relay's network")),
        4 => Some((true, "it does not reach the relay's host")),
        5 => Some((true, "the relay refused its connection")),
        6 => Some((true, "the way to the relay is too long")),
        7 | 8 => Some((false, "it cannot make such connections")),
        _ => Some((true, "it failed")),
    }
}

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let rest =
            text.strip_prefix("socks5://").or_else(|| text.strip_prefix("socks5h://")).ok_or(ProxyError)?;
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login.split_once(':').ok_or(ProxyError)?), place),
            None => (None, rest),
        };
        let fits = |text: &str| (1..=255).contains(&text.len());
        if login.is_some_and(|(user, password)| !fits(user) || !fits(password)) {
            return Err(ProxyError);
        }
        let (host, port) = place.trim_end_matches('/').rsplit_once(':').ok_or(ProxyError)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().map_err(|_| ProxyError)?;
        if host.is_empty() || host.contains('/') || port == 0 {
            return Err(ProxyError);
        }
        let login = login
            .map(|(user, password)| Login { user: user.into(), password: Zeroizing::new(password.into()) });
        Ok(Self { host: host.to_owned(), port, login })
    }
}

/// Without the login.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({}:{})", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_read_and_their_logins_not_shown() {
        let proxy: Proxy = "socks5://alice:secret@[::1]:9050".parse().unwrap();
        assert_eq!(format!("{proxy:?}"), "Proxy(::1:9050)");
        assert!("socks5h://localhost:9050/".parse::<Proxy>().is_ok());
        for wrong in [
            "",
            "127.0.0.1:9050",
            "http://127.0.0.1:9050",
            "socks5://127.0.0.1",
            "socks5://:9050",
            "socks5://127.0.0.1:0",
            "socks5://user@127.0.0.1:9050",
            "socks5://:@127.0.0.1:9050",
            "socks5://host/path:9050",
        ] {
            assert_eq!(wrong.parse::<Proxy>(), Err(ProxyError), "{wrong}");
        }
        assert_eq!(format!("socks5://{}:x@h:1", "u".repeat(256)).parse::<Proxy>(), Err(ProxyError));
    }
}
