//! DNS by hickory.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use postrider_common::{Domain, Failure, FailureClass};

use super::{MAX_ADDRESSES, Resolve, SrvRecord};

/// Answers longer than that are asked for again, so that a peer that moves is found again.
const MAX_POSITIVE_TTL: Duration = Duration::from_secs(3600);
/// The same for "there is none".
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(5 * 60);

/// A resolver with hickory's cache, which concurrent look-ups share.
#[derive(Clone)]
pub struct Resolver(TokioResolver);

/// The machine's DNS configuration cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the DNS configuration cannot be used: {0}")]
pub struct ResolverError(String);

impl Resolver {
    /// One that asks the name servers of the machine's own configuration.
    pub fn system() -> Result<Self, ResolverError> {
        TokioResolver::builder_tokio().and_then(build).map_err(|error| ResolverError(error.to_string()))
    }

    /// One that asks these name servers, by UDP and TCP.
    pub fn with_servers(servers: &[SocketAddr]) -> Result<Self, ResolverError> {
        let server = |address: &SocketAddr| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = address.port();
            }
            NameServerConfig::new(address.ip(), true, connections)
        };
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect());
        build(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
            .map_err(|error| ResolverError(error.to_string()))
    }
}

fn build(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<Resolver, NetError> {
    let options: &mut ResolverOpts = builder.options_mut();
    options.positive_max_ttl = Some(MAX_POSITIVE_TTL);
    options.negative_max_ttl = Some(MAX_NEGATIVE_TTL);
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    // What is published for everybody counts, not what somebody once wrote into this machine's hosts file.
    options.use_hosts_file = ResolveHosts::Never;
    builder.build().map(Resolver)
}

impl Resolve for Resolver {
    fn srv<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<Vec<SrvRecord>, Failure>> {
        Box::pin(async move {
            // With the trailing dot: the machine's search domains must not be tried.
            let owner = absolute(&format!("_postrider._tcp.{domain}."))?;
            let answer = self.0.lookup(owner.clone(), RecordType::SRV).await;
            let answer = answer.map_err(|error| explain_srv(domain, &owner, &error))?;
            let records = answer.answers().iter().filter_map(|record| match &record.data {
                RData::SRV(srv) => Some(SrvRecord {
                    priority: srv.priority,
                    weight: srv.weight,
                    port: srv.port,
                    target: host_name(&srv.target),
                }),
                _ => None,
            });
            Ok(records.collect())
        })
    }

    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, Failure>> {
        Box::pin(async move {
            let name = absolute(&format!("{}.", host.trim_end_matches('.')))?;
            let answer = self.0.lookup_ip(name).await.map_err(|error| {
                let detail = format!("the addresses of {host} cannot be looked up: {error}");
                Failure::new(FailureClass::DiscoveryFailed, detail)
            })?;
            Ok(interleaved(answer.iter()))
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

fn absolute(name: &str) -> Result<Name, Failure> {
    Name::from_ascii(name).map_err(|error| {
        let detail = format!("{name} cannot be looked up: {error}");
        Failure::new(FailureClass::DiscoveryFailed, detail)
    })
}

fn host_name(name: &Name) -> String {
    if name.is_root() {
        return ".".into();
    }
    name.to_ascii().trim_end_matches('.').to_owned()
}

/// The two families in turn, so that a host whose IPv6 does not work is reached at its second address.
fn interleaved(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let (v6, v4): (Vec<_>, Vec<_>) = addresses.partition(IpAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut all = Vec::new();
    loop {
        let pair = [v6.next(), v4.next()];
        if pair == [None, None] {
            break;
        }
        all.extend(pair.into_iter().flatten());
    }
    let mut seen = std::collections::HashSet::new();
    all.retain(|address| seen.insert(*address));
    all.truncate(MAX_ADDRESSES);
    all
}

/// "There is none" is an answer only from a server that knows: NXDOMAIN, or an empty answer with the zone's SOA.
fn explain_srv(domain: &Domain, owner: &Name, error: &NetError) -> Failure {
    if let NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, soa, .. })) = error
        && (*response_code == ResponseCode::NXDomain
            || (*response_code == ResponseCode::NoError && soa.is_some()))
    {
        return Failure::new(
            FailureClass::DiscoveryAbsent,
            format!("{domain} publishes no SRV record at {owner}"),
        );
    }
    Failure::new(
        FailureClass::DiscoveryFailed,
        format!("the SRV records at {owner} cannot be looked up: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_the_rest_is_left() {
        let addresses = ["2001:db8::1", "2001:db8::2", "2001:db8::2", "192.0.2.1", "192.0.2.2", "192.0.2.3"];
        let parsed = addresses.map(|text| text.parse::<IpAddr>().unwrap());
        let tried: Vec<_> = interleaved(parsed.into_iter()).iter().map(ToString::to_string).collect();
        assert_eq!(tried, ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"]);
    }

    #[test]
    fn names_are_absolute() {
        let owner = absolute("_postrider._tcp.a.example.").unwrap();
        assert!(owner.is_fqdn());
        assert_eq!(host_name(&Name::root()), ".");
        assert_eq!(host_name(&Name::from_ascii("Relay.A.example.").unwrap()), "Relay.A.example");
    }
}
