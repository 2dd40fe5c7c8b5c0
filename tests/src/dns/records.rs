//! What a DNS server knows, and what it answers from that.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hickory_proto::rr::rdata::{A, AAAA, SOA, SRV};
use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType};
use postrider_common::Domain;

/// Names and their records. Clones share them, and a change is seen by the next query.
#[derive(Debug, Clone, Default)]
pub struct Records(Arc<Mutex<Zone>>);

/// What a server does instead of answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It says that the name does not exist.
    NxDomain,
    /// It says that it failed.
    ServFail,
    /// It says nothing.
    Silence,
}

/// One SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srv {
    /// Lower ones are tried first.
    pub priority: u16,
    /// The share among those of the same priority.
    pub weight: u16,
    /// The port at the target.
    pub port: u16,
    /// The host, or `.` where the service is not offered.
    pub target: String,
}

impl Srv {
    /// One of priority and weight zero.
    pub fn new(port: u16, target: impl Into<String>) -> Self {
        Self { priority: 0, weight: 0, port, target: target.into() }
    }
}

/// A text is not a DNS name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a DNS name")]
pub struct NotAName(String);

/// Where a domain's SRV records are.
pub fn srv_name(domain: &Domain) -> String {
    format!("_postrider._tcp.{domain}.")
}

/// Names are absolute, with or without the trailing dot.
impl Records {
    /// Says that the domain's relay is at this address: one SRV record, to `relay.<domain>`, and its address.
    pub fn publish(&self, domain: &Domain, relay: SocketAddr) -> Result<(), NotAName> {
        let host = format!("relay.{domain}.");
        self.set_addresses(&host, [relay.ip()])?;
        self.set_srv(domain, &[Srv::new(relay.port(), host)])
    }

    /// Replaces the domain's SRV records.
    pub fn set_srv(&self, domain: &Domain, records: &[Srv]) -> Result<(), NotAName> {
        let records = records
            .iter()
            .map(|srv| {
                let target = parse(&srv.target)?;
                Ok(RData::SRV(SRV::new(srv.priority, srv.weight, srv.port, target)))
            })
            .collect::<Result<_, _>>()?;
        self.set(&srv_name(domain), records)
    }

    /// Replaces all records of a host by A and AAAA records.
    pub fn set_addresses(
        &self,
        host: &str,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<(), NotAName> {
        let records = addresses.into_iter().map(|address| match address {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        });
        self.set(host, records.collect())
    }

    /// Replaces all records of a name. With none, the name exists and answers that it has no such record.
    pub fn set(&self, name: &str, records: Vec<RData>) -> Result<(), NotAName> {
        self.insert(name, Node::Records(records))
    }

    /// Replaces all records of a name by this behaviour.
    pub fn set_trouble(&self, name: &str, trouble: Trouble) -> Result<(), NotAName> {
        self.insert(name, Node::Trouble(trouble))
    }

    /// Forgets a name.
    pub fn remove(&self, name: &str) -> Result<(), NotAName> {
        let name = LowerName::from(parse(name)?);
        self.lock().nodes.remove(&name);
        Ok(())
    }

    /// For how many seconds answers may be cached, negative ones too. A minute, unless it is changed.
    pub fn set_ttl(&self, seconds: u32) {
        self.lock().ttl = seconds;
    }

    /// The answer to a query, if the name is here.
    pub(super) fn answer(&self, name: &Name, kind: RecordType) -> Option<Answer> {
        self.lock().answer(name, kind)
    }

    /// The answer for a name that is not here itself but has names below it, and therefore exists.
    pub(super) fn answer_between(&self, name: &Name) -> Option<Answer> {
        let (zone, name) = (self.lock(), LowerName::new(name));
        let exists = zone.nodes.keys().any(|known| name.zone_of(known));
        exists.then_some(Answer::NoData(zone.ttl))
    }

    fn insert(&self, name: &str, node: Node) -> Result<(), NotAName> {
        let name = LowerName::from(parse(name)?);
        self.lock().nodes.insert(name, node);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Zone> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is sent back.
#[derive(Debug)]
pub(super) enum Answer {
    /// These.
    Records(Vec<Record>),
    /// The name exists, such a record does not. Good for so many seconds.
    NoData(u32),
    /// Nothing as usual.
    Trouble(Trouble),
}

#[derive(Debug)]
struct Zone {
    ttl: u32,
    nodes: BTreeMap<LowerName, Node>,
}

#[derive(Debug)]
enum Node {
    Records(Vec<RData>),
    Trouble(Trouble),
}

impl Zone {
    fn answer(&self, name: &Name, kind: RecordType) -> Option<Answer> {
        let lower = LowerName::new(name);
        match self.nodes.get(&lower) {
            Some(Node::Trouble(trouble)) => Some(Answer::Trouble(*trouble)),
            Some(Node::Records(records)) => {
                let found: Vec<_> = records
                    .iter()
                    .filter(|data| data.record_type() == kind)
                    .map(|data| Record::from_rdata(name.clone(), self.ttl, data.clone()))
                    .collect();
                Some(if found.is_empty() { Answer::NoData(self.ttl) } else { Answer::Records(found) })
            }
            None => None,
        }
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self { ttl: 60, nodes: BTreeMap::new() }
    }
}

/// The record that goes with a negative answer and says how long it may be cached. Every name of two labels is taken
/// for the top of a zone.
pub(super) fn soa(name: &Name, ttl: u32) -> Record {
    let zone = name.trim_to(2);
    let data = SOA::new(zone.clone(), zone.clone(), 1, 3600, 600, 86_400, ttl);
    Record::from_rdata(zone, ttl, RData::SOA(data))
}

fn parse(text: &str) -> Result<Name, NotAName> {
    let mut name = Name::from_ascii(text).map_err(|_| NotAName(text.to_owned()))?;
    name.set_fqdn(true);
    Ok(name)
}
