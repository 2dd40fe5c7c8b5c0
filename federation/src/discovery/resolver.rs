//! The resolver that a relay uses: name servers, with a memory in front.

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::{BoxFuture, join};
use postrider_common::clock::SharedClock;
use postrider_common::{Domain, Failure, FailureClass};

use super::answer::{Answer, Tlsa};
use super::cache::Cache;
use super::hickory::{Hickory, ResolverError, ResolverSettings, Validation};
use super::upstream::{Data, Question, Trouble, Upstream};
use super::{MAX_ADDRESSES, Resolve, SrvRecord, Target};

/// A resolver that remembers what was answered, for as long as that may be used. Clones share it.
#[derive(Debug, Clone)]
pub struct Resolver {
    cache: Arc<Cache>,
    servers: Hickory,
}

impl Resolver {
    /// One that asks as the settings say.
    pub fn new(settings: &ResolverSettings, clock: SharedClock) -> Result<Self, ResolverError> {
        let servers = Hickory::new(settings, Arc::clone(&clock))?;
        let upstream: Arc<dyn Upstream> = Arc::new(servers.clone());
        Ok(Self { cache: Arc::new(Cache::new(upstream, clock)), servers })
    }

    /// Whether DNSSEC can be checked, made sure of now unless it was lately. To be asked at the start, so that an
    /// administrator learns of it before a peer does.
    pub async fn validation(&self) -> Validation {
        self.servers.validation().await
    }

    /// Whether DNSSEC could be checked when that was made sure of last, if it ever was.
    pub fn known_validation(&self) -> Option<bool> {
        self.servers.known_validation()
    }

    async fn ask(&self, question: &Question, what: &str) -> Result<Answer<Data>, Failure> {
        self.cache.ask(question).await.map_err(|trouble| explain(trouble, question, what))
    }
}

impl Resolve for Resolver {
    fn srv<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<Answer<SrvRecord>, Failure>> {
        Box::pin(async move {
            let answer = self.ask(&Question::srv(domain.as_str()), "SRV records").await?;
            Ok(answer.map(srv))
        })
    }

    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Answer<IpAddr>, Failure>> {
        Box::pin(async move {
            let [v6, v4] = Question::addresses(host);
            let (first, second) = join(self.ask(&v6, "addresses"), self.ask(&v4, "addresses")).await;
            let (first, second) = match (first, second) {
                (Ok(first), Ok(second)) => (first, second),
                // One family is enough to reach a host; none at all is only known when both have answered.
                (Ok(one), Err(failure)) | (Err(failure), Ok(one)) if one.records.is_empty() => {
                    return Err(failure);
                }
                (Ok(one), Err(_)) | (Err(_), Ok(one)) => return Ok(one.map(|data| address(&data))),
                (Err(failure), Err(_)) => return Err(failure),
            };
            let (life, is_stale) = (first.life.min(second.life), first.is_stale || second.is_stale);
            let records = interleaved(
                first.map(|data| address(&data)).records,
                second.map(|data| address(&data)).records,
            );
            Ok(Answer { records, proof: super::Proof::Unchecked, life, is_stale })
        })
    }

    fn tlsa<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Answer<Tlsa>, Failure>> {
        Box::pin(async move {
            let answer = self.ask(&Question::tlsa(target), "TLSA records").await?;
            Ok(answer.map(|data| match data {
                Data::Tlsa(record) => Some(record),
                _ => None,
            }))
        })
    }

    fn doubt(&self, domain: &Domain) {
        let question = Question::srv(domain.as_str());
        for record in self.cache.remembered(&question).into_iter().filter_map(srv) {
            let target = record.as_target();
            self.cache.doubt(&Question::tlsa(&target));
            for addresses in Question::addresses(&target.host) {
                self.cache.doubt(&addresses);
            }
        }
        self.cache.doubt(&question);
    }
}

fn srv(data: Data) -> Option<SrvRecord> {
    match data {
        Data::Srv(record) => Some(record),
        _ => None,
    }
}

fn address(data: &Data) -> Option<IpAddr> {
    match data {
        Data::Address(address) => Some(*address),
        _ => None,
    }
}

fn explain(trouble: Trouble, question: &Question, what: &str) -> Failure {
    let owner = &question.owner;
    match trouble {
        Trouble::Failed(reason) => Failure::new(
            FailureClass::DiscoveryFailed,
            format!("the {what} at {owner} cannot be looked up: {reason}"),
        ),
        Trouble::Bogus => Failure::new(
            FailureClass::DiscoveryBogus,
            format!(
                "the {what} at {owner} do not pass DNSSEC: forged, badly signed, or their keys cannot be had"
            ),
        ),
    }
}

/// The two families in turn, so that a host whose IPv6 does not work is reached at its second address.
fn interleaved(v6: Vec<IpAddr>, v4: Vec<IpAddr>) -> Vec<IpAddr> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_the_rest_is_left() {
        let parsed = |addresses: [&str; 3]| addresses.map(|text| text.parse::<IpAddr>().unwrap()).to_vec();
        let v6 = parsed(["2001:db8::1", "2001:db8::2", "2001:db8::2"]);
        let v4 = parsed(["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        let tried: Vec<_> = interleaved(v6, v4).iter().map(ToString::to_string).collect();
        assert_eq!(tried, ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"]);
    }

    #[test]
    fn names_are_absolute() {
        let target = Target { host: "relay.a.example".into(), port: 8443 };
        assert_eq!(Question::srv("a.example").owner, "_postrider._tcp.a.example.");
        assert_eq!(Question::tlsa(&target).owner, "_8443._tcp.relay.a.example.");
        assert!(Question::addresses("Relay.A.example").iter().all(|q| q.owner == "relay.a.example."));
    }
}
