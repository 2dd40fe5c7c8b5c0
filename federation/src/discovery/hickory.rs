//! Questions to name servers, by hickory.
//!
//! There are two resolvers. The plain one asks for records. The validating one asks for signatures too and checks them
//! itself, which cannot work behind a name server that strips them: then every name looks forged. So before it is
//! believed it has to show, at the trust anchor's own keys, that it can tell a good answer, and again now and then.

mod reply;
mod validating;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use postrider_common::clock::SharedClock;
use tokio::time::timeout;

use super::answer::Proof;
use super::suspicion::answers_unchecked;
use super::upstream::{Kind, Question, Reply, Trouble, Upstream};
use reply::{proof, reply};
use validating::{DOUBTED_AFTER, FAILED_FOR, PROVEN_FOR, Validating, anchors};

pub use validating::{Validation, check_trust_anchor};

/// How long a look-up may take, with everything that is asked for its sake.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long one server has for one question, which is asked twice.
const ONE_QUESTION: Duration = Duration::from_secs(3);
/// How many aliases may follow one another.
const MAX_ALIASES: usize = 8;

/// Which name servers are asked, and whether their answers are checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolverSettings {
    /// Asked by UDP and TCP; empty: those of the machine's own configuration.
    pub servers: Vec<SocketAddr>,
    /// Whether DNSSEC is checked, where the name servers let that be.
    pub dnssec: bool,
    /// The keys that checking begins at, as DNSKEY records in a zone file's form; absent: those of the root.
    pub trust_anchor: Option<String>,
}

/// The DNS settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the DNS configuration cannot be used: {0}")]
pub struct ResolverError(String);

#[derive(Clone)]
pub(super) struct Hickory(Arc<Inner>);

struct Inner {
    plain: TokioResolver,
    servers: Vec<SocketAddr>,
    validating: Option<Validating>,
}

impl Hickory {
    pub(super) fn new(settings: &ResolverSettings, clock: SharedClock) -> Result<Self, ResolverError> {
        let failed = |error: NetError| ResolverError(error.to_string());
        let plain = builder(settings).map_err(failed)?.build().map_err(failed)?;
        let servers = if settings.servers.is_empty() { system_servers() } else { settings.servers.clone() };
        let validating = if settings.dnssec {
            let (anchors, anchor) = anchors(settings.trust_anchor.as_deref())?;
            let mut builder = builder(settings).map_err(failed)?;
            builder.options_mut().validate = true;
            let resolver = builder.with_trust_anchor(Arc::new(anchors)).build().map_err(failed)?;
            Some(Validating::new(resolver, anchor, clock))
        } else {
            None
        };
        Ok(Self(Arc::new(Inner { plain, servers, validating })))
    }

    /// What is known of that without asking anybody.
    pub(super) fn known_validation(&self) -> Option<bool> {
        self.0.validating.as_ref()?.known()
    }

    /// Whether DNSSEC can be checked, made sure of now unless it was lately.
    pub(super) async fn validation(&self) -> Validation {
        match &self.0.validating {
            None => Validation::Off,
            Some(validating) => match validating.probe(PROVEN_FOR).await {
                Ok(()) => Validation::Works,
                Err(reason) => Validation::Fails(reason),
            },
        }
    }
}

fn builder(settings: &ResolverSettings) -> Result<ResolverBuilder<TokioRuntimeProvider>, NetError> {
    let mut builder = if settings.servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = settings.servers.iter().map(server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options: &mut ResolverOpts = builder.options_mut();
    // The cache is our own: what may be stretched and what may not depends on what an answer is for.
    options.cache_size = 0;
    options.timeout = ONE_QUESTION;
    options.attempts = 1;
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    // What is published for everybody counts, not what somebody once wrote into this machine's hosts file.
    options.use_hosts_file = ResolveHosts::Never;
    Ok(builder)
}

/// Those of the machine's configuration, which was read without trouble a moment ago.
fn system_servers() -> Vec<SocketAddr> {
    let Ok((config, _)) = hickory_resolver::system_conf::read_system_conf() else {
        return Vec::new();
    };
    let address = |server: &NameServerConfig| {
        server.connections.first().map(|connection| SocketAddr::new(server.ip, connection.port))
    };
    config.name_servers().iter().filter_map(address).collect()
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

impl Upstream for Hickory {
    fn look_up(&self, question: &Question) -> BoxFuture<'static, Result<Reply, Trouble>> {
        let (this, question) = (self.clone(), question.clone());
        Box::pin(async move {
            match timeout(PATIENCE, this.0.look_up(&question)).await {
                Ok(result) => result,
                Err(_) => Err(Trouble::Failed(format!("no answer within {} s", PATIENCE.as_secs()))),
            }
        })
    }
}

impl Inner {
    /// Hickory takes the host in an SRV record for an alias of the record's name, and looks there for what an alias led to.
    /// So aliases of SRV records are followed here.
    async fn look_up(&self, question: &Question) -> Result<Reply, Trouble> {
        let mut owner =
            Name::from_ascii(&question.owner).map_err(|error| Trouble::Failed(error.to_string()))?;
        let mut weakest = Alias { ttl: Duration::MAX, proof: Proof::Secure, to: owner.clone() };
        for _ in 0..MAX_ALIASES {
            let reply = self.look_up_one(&owner, question.kind).await;
            // What an alias leads to is no answer for the alias: that there is none may be another zone's word.
            let may_be_alias = match &reply {
                Ok(reply) => reply.records.is_empty(),
                Err(trouble) => *trouble == Trouble::Bogus,
            };
            if question.kind != Kind::Srv || !may_be_alias {
                return reply.map(|reply| weakest.before(reply));
            }
            let Some(alias) = self.alias(&owner).await? else {
                return reply.map(|reply| weakest.before(reply));
            };
            owner = alias.to.clone();
            weakest = weakest.then(alias);
        }
        Err(Trouble::Failed(format!("there are more than {MAX_ALIASES} aliases")))
    }

    async fn look_up_one(&self, owner: &Name, kind: Kind) -> Result<Reply, Trouble> {
        let kind = match kind {
            Kind::Srv => RecordType::SRV,
            Kind::A => RecordType::A,
            Kind::Aaaa => RecordType::AAAA,
            Kind::Tlsa => RecordType::TLSA,
        };
        // Nobody is trusted for an address: what counts is what is proven there. So addresses need no signatures.
        let checked = matches!(kind, RecordType::SRV | RecordType::TLSA);
        let (answer, is_checked) = self.answer(owner, kind, checked).await?;
        let mut reply = reply(answer, owner, kind, is_checked)?;
        // What could not be checked for once is asked for again as soon as it may be otherwise.
        if checked && !is_checked && self.validating.is_some() {
            reply.ttl = reply.ttl.min(FAILED_FOR);
        }
        Ok(reply)
    }

    async fn alias(&self, owner: &Name) -> Result<Option<Alias>, Trouble> {
        let (answer, is_checked) = self.answer(owner, RecordType::CNAME, true).await?;
        let answer = match answer {
            Ok(answer) => answer,
            Err(NetError::Dns(DnsError::NoRecordsFound(_) | DnsError::Nsec { .. })) => return Ok(None),
            Err(error) => return Err(Trouble::Failed(error.to_string())),
        };
        let aliases = || answer.answers().iter().filter(|record| record.record_type() == RecordType::CNAME);
        let Some(first) = aliases().find(|record| record.name == *owner) else { return Ok(None) };
        let RData::CNAME(to) = &first.data else { return Ok(None) };
        let proof = if is_checked { proof(aliases())? } else { Proof::Unchecked };
        Ok(Some(Alias { ttl: Duration::from_secs(first.ttl.into()), proof, to: to.0.clone() }))
    }

    /// What the servers answer, and whether its signatures were checked: as they are to be if that works.
    async fn answer(
        &self,
        owner: &Name,
        kind: RecordType,
        checked: bool,
    ) -> Result<(Result<Lookup, NetError>, bool), Trouble> {
        if let Some(validating) = self.validating.as_ref().filter(|_| checked)
            && validating.probe(PROVEN_FOR).await.is_ok()
        {
            let answer = validating.resolver.lookup(owner.clone(), kind).await;
            let answer = self.understood(answer, owner, kind).await;
            // A forged answer, or a name server that has begun to strip signatures.
            if answer.is_ok() || validating.probe(DOUBTED_AFTER).await.is_ok() {
                return answer.map(|answer| (answer, true));
            }
        }
        let answer = self.plain.lookup(owner.clone(), kind).await;
        self.understood(answer, owner, kind).await.map(|answer| (answer, false))
    }

    /// The answer, unless it is a forged one.
    async fn understood(
        &self,
        answer: Result<Lookup, NetError>,
        owner: &Name,
        kind: RecordType,
    ) -> Result<Result<Lookup, NetError>, Trouble> {
        match &answer {
            Err(NetError::Dns(DnsError::DnssecBogus)) => Err(Trouble::Bogus),
            Err(NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)))
                if answers_unchecked(&self.servers, owner, kind).await =>
            {
                Err(Trouble::Bogus)
            }
            _ => Ok(answer),
        }
    }
}

/// A step from one name to another.
struct Alias {
    ttl: Duration,
    proof: Proof,
    to: Name,
}

impl Alias {
    fn then(self, next: Self) -> Self {
        Self { ttl: self.ttl.min(next.ttl), proof: weaker(self.proof, next.proof), to: next.to }
    }

    fn before(&self, reply: Reply) -> Reply {
        Reply { ttl: self.ttl.min(reply.ttl), proof: weaker(self.proof, reply.proof), records: reply.records }
    }
}

const fn weaker(one: Proof, other: Proof) -> Proof {
    match (one, other) {
        (Proof::Unchecked, _) | (_, Proof::Unchecked) => Proof::Unchecked,
        (Proof::Insecure, _) | (_, Proof::Insecure) => Proof::Insecure,
        (Proof::Secure, Proof::Secure) => Proof::Secure,
    }
}

/// Without what hickory shows of itself.
impl fmt::Debug for Hickory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hickory").field("dnssec", &self.0.validating.is_some()).finish_non_exhaustive()
    }
}
