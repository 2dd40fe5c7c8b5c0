//! Finding a peer: its SRV records, the order to try them in, the addresses of each host.

mod answer;
mod cache;
mod hickory;
mod network;
mod networks;
mod order;
mod resolver;
mod suspicion;
mod upstream;

use std::fmt::{self, Debug};
use std::net::IpAddr;

use futures_util::future::BoxFuture;
use postrider_common::{Domain, Failure};

pub use answer::{Answer, Proof, Tlsa};
pub use hickory::{ResolverError, ResolverSettings, Validation, check_trust_anchor};
pub use network::{Network, NetworkError};
pub use networks::Networks;
pub use order::{MAX_TARGETS, order};
pub use resolver::Resolver;

pub(crate) use upstream::tlsa_owner;

/// The most addresses of one target that are tried.
pub const MAX_ADDRESSES: usize = 4;

/// One SRV record of `_postrider._tcp.<domain>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrvRecord {
    /// The lowest is tried first.
    pub priority: u16,
    /// Its share among those of the same priority.
    pub weight: u16,
    /// The TCP port.
    pub port: u16,
    /// The host, without the trailing dot; `.` says that the service is not offered.
    pub target: String,
}

/// A host to try.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its name, in lower case, without the trailing dot.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl SrvRecord {
    pub(crate) fn as_target(&self) -> Target {
        Target { host: self.target.trim_end_matches('.').to_ascii_lowercase(), port: self.port }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// DNS, as far as federation needs it. Tests answer from a table.
///
/// An answer without records says that there are none. A failure says that this is not known.
pub trait Resolve: Debug + Send + Sync + 'static {
    /// The SRV records of `_postrider._tcp.<domain>`, in any order.
    fn srv<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<Answer<SrvRecord>, Failure>>;

    /// The addresses of a host, in the order to try them.
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Answer<IpAddr>, Failure>>;

    /// The TLSA records of a target: `_<port>._tcp.<host>`.
    fn tlsa<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Answer<Tlsa>, Failure>>;

    /// Says that what was answered about a domain leads nowhere, so that the next look-up asks anew.
    fn doubt(&self, domain: &Domain);
}
