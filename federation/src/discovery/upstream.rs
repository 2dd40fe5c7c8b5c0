//! Where answers come from: one question, one look-up, no memory.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::answer::{Proof, Tlsa};
use super::{SrvRecord, Target};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    /// The owner's name, absolute, in lower case, with the trailing dot: the machine's search domains must not be tried.
    pub(super) owner: String,
    pub(super) kind: Kind,
}

/// The kinds of records that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Srv,
    A,
    Aaaa,
    Tlsa,
}

/// A record of any of the kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Data {
    Srv(SrvRecord),
    Address(IpAddr),
    Tlsa(Tlsa),
}

/// What came back. Without records: that there are none, from a server that knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) records: Vec<Data>,
    pub(super) ttl: Duration,
    pub(super) proof: Proof,
}

/// Why nothing came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The look-up failed; a name server may be down.
    Failed(String),
    /// DNSSEC says that the answer is forged.
    Bogus,
}

/// Name servers. Tests answer from a table.
pub(super) trait Upstream: fmt::Debug + Send + Sync + 'static {
    /// Asks them.
    fn look_up(&self, question: &Question) -> BoxFuture<'static, Result<Reply, Trouble>>;
}

impl Question {
    pub(super) fn srv(domain: &str) -> Self {
        Self { owner: format!("_postrider._tcp.{domain}."), kind: Kind::Srv }
    }

    pub(super) fn tlsa(target: &Target) -> Self {
        Self { owner: tlsa_owner(target), kind: Kind::Tlsa }
    }

    pub(super) fn addresses(host: &str) -> [Self; 2] {
        let owner = format!("{}.", host.trim_end_matches('.').to_ascii_lowercase());
        [Kind::Aaaa, Kind::A].map(|kind| Self { owner: owner.clone(), kind })
    }
}

/// Where a target's TLSA records are (RFC 6698).
pub(crate) fn tlsa_owner(target: &Target) -> String {
    format!("_{}._tcp.{}.", target.port, target.host)
}
