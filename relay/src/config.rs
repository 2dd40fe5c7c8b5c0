//! The configuration: what the file may say, and what the program trusts.
//!
//! [`Config::load`] is strict. It reports everything that is wrong at once, each problem with its key and line:
//! unknown keys, wrong types, values out of range, keys that contradict each other, files that cannot be read. Every
//! key is described once, in `keys.rs`; from there come its default, the suggestions for misspelt ones, the file that
//! `init` writes and `docs/configuration.md`.

mod acme;
mod credentials;
mod file;
mod fragments;
mod key;
mod keys;
mod limits;
mod listen;
mod peer;
mod problem;
mod reader;
pub(crate) mod render;
mod renewal;
mod sections;
mod suggest;
mod unit;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf, absolute};
use std::time::Duration;
use std::{fs, io};

use postrider_common::Domain;
use postrider_federation::discovery::{Network, NetworkError};

use file::File;
use problem::Findings;
use sections::config;

pub use acme::AcmeConfig;
pub use credentials::{Credentials, pin};
pub use fragments::{peer_file, peers_directory};
pub use limits::Limits;
pub use listen::{ListenAddress, ListenConfig};
pub use peer::{PeerConfig, PeerDirection, TrustConfig};
pub use problem::{ConfigErrors, Problem};
pub use renewal::{Fingerprint, Pair};
pub(crate) use unit::{duration, show_duration};

/// A configuration that can be trusted: every value is in range, every file was read, nothing contradicts.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that it was read from.
    pub file: PathBuf,
    /// Who this relay is.
    pub domain: Domain,
    /// Where everything is kept. The directory need not exist.
    pub data_dir: PathBuf,
    /// Where to listen, and for whom.
    pub listen: ListenConfig,
    /// What clients are shown; absent: [`FederationConfig::identity`].
    pub tls: Option<Credentials>,
    /// What clients are shown instead, once it is there. Not together with `tls`.
    pub acme: Option<AcmeConfig>,
    /// Dealings with other relays.
    pub federation: FederationConfig,
    /// How names are looked up.
    pub dns: DnsConfig,
    /// Who may have a mailbox.
    pub registration: RegistrationPolicy,
    /// Who may hand in envelopes.
    pub submission: SubmissionConfig,
    /// Web pages that may call the relay from a browser: their origins, or `*`.
    pub allowed_origins: Vec<String>,
    /// How much of anything there may be.
    pub limits: Limits,
    /// How envelopes are kept.
    pub store: StoreConfig,
    /// What is logged.
    pub log: LogConfig,
    /// What is allowed but odd. To be shown at start.
    pub warnings: Vec<Problem>,
}

/// Dealings with other relays.
#[derive(Debug, Clone)]
pub struct FederationConfig {
    /// With whom at all.
    pub policy: FederationPolicy,
    /// What proves this relay's domain.
    pub identity: Credentials,
    /// For a connection with its TLS handshake.
    pub connect_timeout: Duration,
    /// For the answer to a batch.
    pub request_timeout: Duration,
    /// Batches on their way to one peer at the same time.
    pub batches_in_flight: usize,
    /// Envelopes that one peer may bring per second.
    pub envelopes_per_second: u32,
    /// How long a next key is announced before it takes the place of the current one.
    pub key_announcement: Duration,
    /// The relays that are known. To be left alone while the policy is `closed`.
    pub peers: Vec<PeerConfig>,
    /// With which nothing is exchanged while the policy is `open`, and with no domain below them.
    pub deny: Vec<Domain>,
    /// How relays that are not listed prove their domain while the policy is `open`.
    pub unlisted_trust: UnlistedTrust,
    /// The public authorities; absent: those that are built in.
    pub public_roots: Option<PublicRoots>,
}

/// The public authorities, read from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicRoots {
    /// Which file.
    pub file: PathBuf,
    /// The certificates, in PEM.
    pub pem: Vec<u8>,
}

/// How relays that are not listed prove their domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnlistedTrust {
    /// By TLSA records where DNSSEC proves them, else by a certificate of a public authority.
    Public,
    /// By TLSA records only.
    Dane,
    /// By a certificate of a public authority only.
    WebPki,
}

/// With which relays envelopes are exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FederationPolicy {
    /// With none.
    Closed,
    /// With the peers that are listed.
    AllowList,
    /// With everybody who is not denied.
    Open,
}

/// How names are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsConfig {
    /// Whom to ask; empty: those of the system.
    pub servers: Vec<SocketAddr>,
    /// Networks that are not public and that discovery may lead to all the same.
    pub allow_networks: Vec<Network>,
    /// Hosts with their addresses, which are not looked up.
    pub hosts: Vec<(String, IpAddr)>,
    /// Whether DNSSEC is checked.
    pub dnssec: bool,
    /// The keys that checking begins at, as a zone file's text; absent: those of the root.
    pub trust_anchor: Option<String>,
}

/// Who may have a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistrationPolicy {
    /// Everybody.
    Open,
    /// Whoever has an invite.
    Invite,
    /// Those for whom the administrator has made one.
    Closed,
}

impl RegistrationPolicy {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Invite => "invite",
            Self::Closed => "closed",
        }
    }
}

/// Who may hand in envelopes, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubmissionConfig {
    /// Who.
    pub policy: SubmissionPolicy,
    /// Envelopes per second and client address (IPv6: /64) in the long run.
    pub rate_per_second: NonZeroU32,
    /// Envelopes of a client address at once; at least a full batch.
    pub burst: NonZeroU32,
    /// Envelopes per second of one mailbox's owner in the long run, while the policy is `members`.
    pub member_rate_per_second: NonZeroU32,
    /// Envelopes of a mailbox's owner at once; at least a full batch.
    pub member_burst: NonZeroU32,
    /// Bytes of attachments per second and client address in the long run.
    pub upload_per_second: u64,
}

/// Who may hand in envelopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmissionPolicy {
    /// Everybody.
    Open,
    /// Whoever has a mailbox here.
    Members,
}

impl SubmissionPolicy {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Members => "members",
        }
    }
}

/// How envelopes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreConfig {
    /// Bytes of memory for what was read or written lately.
    pub cache: u64,
    /// Bytes of disk that stay free.
    pub reserve: u64,
}

/// What is logged, to standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// In which form.
    pub format: LogFormat,
    /// What: directives that `tracing_subscriber::EnvFilter` accepts.
    pub filter: String,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Config {
    /// Reads a configuration file and the files that it names. A file that is not there is an error.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let mut findings = Findings::default();
        let config = read(path).and_then(|text| match String::from_utf8(text) {
            Ok(text) => Ok(text),
            Err(_) => Err("is not text in UTF-8".to_owned()),
        });
        let config = match config {
            Ok(text) => from_text(path, &text, &mut findings),
            Err(text) => {
                findings.problems.push(Problem { key: None, line: None, text: format!("the file {text}") });
                None
            }
        };
        let Findings { mut problems, mut warnings } = findings;
        match config {
            Some(config) if problems.is_empty() => {
                warnings.sort_by_key(|warning| warning.line);
                Ok(Self { warnings, ..config })
            }
            _ => {
                problems.sort_by_key(|problem| problem.line);
                Err(ConfigErrors::new(path.to_owned(), problems))
            }
        }
    }
}

impl FederationConfig {
    /// The peers in a text with `[[federation.peers]]`, whose files are in `directory`; or what is wrong with it.
    pub fn read_peers(
        &self,
        own: &Domain,
        text: &str,
        directory: &Path,
    ) -> Result<Vec<PeerConfig>, Vec<Problem>> {
        let mut findings = Findings::default();
        let own = peer::Own { domain: Some(own), pin: Some(&self.identity.pin) };
        let peers = fragments::of_text(text, own, directory, &mut findings);
        if findings.problems.is_empty() { Ok(peers) } else { Err(findings.problems) }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "does not exist; `postrider init` makes one".to_owned(),
        io::ErrorKind::IsADirectory => "is a directory; name the file in it".to_owned(),
        _ => format!("cannot be read: {error}"),
    })
}

/// `None` only if there are problems.
fn from_text(path: &Path, text: &str, findings: &mut Findings) -> Option<Config> {
    let file = File::parse(text, findings)?;
    // Fails only for an empty path or an unknown current directory; then paths stay relative to that.
    let path = absolute(path).unwrap_or_else(|_| path.to_owned());
    config(&file, &path, findings)
}

fn domain(text: &str) -> Result<Domain, String> {
    text.parse().map_err(|error| format!("is {text:?}, but {error}"))
}

/// An address to listen on.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("is {text:?}, but must be an address with a port, such as \"192.0.2.1:443\" or \"[2001:db8::1]:443\"")
    })
}

/// An address to connect to.
fn address_of_a_peer(text: &str) -> Result<SocketAddr, String> {
    match address(text)? {
        found if found.port() == 0 => Err(format!("is {text:?}, but nothing listens on port 0")),
        found if found.ip().is_unspecified() => Err(format!("is {text:?}, which is no machine's address")),
        found => Ok(found),
    }
}

fn dns_server(text: &str) -> Result<SocketAddr, String> {
    const DNS: u16 = 53;
    match text.parse::<IpAddr>() {
        Ok(address) => address_of_a_peer(&SocketAddr::new(address, DNS).to_string()),
        Err(_) => address_of_a_peer(text),
    }
}

/// A web page's origin as browsers write it, or all of them.
fn origin(text: &str) -> Result<String, String> {
    let wanted = "must be \"*\", or an origin as browsers write it, such as \"https://chat.example.org\"";
    let uri: Option<http::Uri> = text.parse().ok();
    let written = uri.and_then(|uri| {
        let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
        let usual = if scheme == "https" { ":443" } else { ":80" };
        let is_plain = !authority.as_str().contains('@') && !authority.as_str().ends_with(usual);
        let is_web = matches!(scheme, "https" | "http") && is_plain;
        is_web.then(|| format!("{scheme}://{authority}").to_ascii_lowercase())
    });
    if text == "*" || written.as_deref() == Some(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("is {text:?}, but {wanted}: without a path, a slash at the end, or the usual port"))
    }
}

/// A host and its address. The name is written as in SRV records, in lower case and without the trailing dot.
fn host(text: &str) -> Result<(String, IpAddr), String> {
    let wanted = "must be a name, an equals sign and an address, such as \"relay.beta.example=10.1.2.3\"";
    let (name, address) = text.split_once('=').ok_or_else(|| format!("is {text:?}, but {wanted}"))?;
    let name: Domain = name.trim().parse().map_err(|error| format!("is {text:?}, but {error}"))?;
    let address = address.trim().parse().map_err(|_| format!("is {text:?}, but {wanted}"))?;
    Ok((name.as_str().to_owned(), address))
}

fn network(text: &str) -> Result<Network, String> {
    text.parse().map_err(|error: NetworkError| match error {
        NetworkError::Form => format!("is {text:?}, but {error}"),
        _ => format!("is {text:?}, which {error}"),
    })
}
