//! What DNS says, as the resolver understands it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use postrider_common::FailureClass;
use postrider_federation::Resolve;
use postrider_federation::discovery::{Proof, Target, Validation, order};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::lab::Lab;
use super::relay::domain;
use super::zones::{Signing, Zone};

fn target(host: &str, port: u16) -> Target {
    Target { host: host.into(), port }
}

const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn records() -> String {
    format!(
        "_postrider._tcp.a IN SRV 0 0 8443 relay.a\n\
         relay.a IN A 192.0.2.1\n\
         relay.a IN AAAA 2001:db8::1\n\
         _8443._tcp.relay.a IN TLSA 3 1 1 {KEY}\n\
         _postrider._tcp.many IN SRV 20 0 4 last.many\n\
         _postrider._tcp.many IN SRV 10 0 1 none.many\n\
         _postrider._tcp.many IN SRV 10 10 2 some.many\n\
         _postrider._tcp.many IN SRV 10 90 3 most.many\n\
         _postrider._tcp.declined IN SRV 0 0 0 .\n\
         _postrider._tcp.alias IN CNAME _postrider._tcp.a\n\
         _postrider._tcp.abroad IN CNAME _postrider._tcp.a.unsigned.\n\
         relay.alias IN CNAME relay.a\n\
         text.empty IN TXT \"a name without SRV\"\n\
         _postrider._tcp.v6 IN SRV 0 0 8443 relay.v6\n\
         relay.v6 IN AAAA 2001:db8::6\n\
         short 1 IN A 192.0.2.1\n"
    )
}

fn zones() -> [Zone; 3] {
    let zone = |name, signing| Zone { name, signing, records: records() };
    [zone("signed", Signing::Signed), zone("unsigned", Signing::Unsigned), zone("broken", Signing::Broken)]
}

#[tokio::test]
async fn signatures_are_checked_from_the_root_down() {
    let Some(lab) = Lab::start(&zones()).await else { return };
    // Behind a resolver that validates, and at a server that does not: the verdict is our own.
    for server in [lab.address(), lab.authority()] {
        let (dns, _) = lab.ask_at(server);
        assert_eq!(dns.validation().await, Validation::Works);
        let srv = dns.srv(&domain("a.signed")).await.unwrap();
        assert_eq!((srv.records.len(), srv.proof, srv.is_stale), (1, Proof::Secure, false));
        assert_eq!(srv.life, Duration::from_secs(60));
        let tlsa = dns.tlsa(&target("relay.a.signed", 8443)).await.unwrap();
        assert_eq!((tlsa.records.len(), tlsa.proof), (1, Proof::Secure));
        assert_eq!(tlsa.records[0].pin().unwrap().to_string(), KEY);

        // That there is none can be proven too: no such name, no such type.
        for absent in ["nowhere.signed", "text.empty.signed"] {
            let srv = dns.srv(&domain(absent)).await.unwrap();
            assert_eq!((srv.records.len(), srv.proof), (0, Proof::Secure), "{absent}");
        }
        let tlsa = dns.tlsa(&target("relay.a.signed", 443)).await.unwrap();
        assert_eq!((tlsa.records.len(), tlsa.proof), (0, Proof::Secure));

        let srv = dns.srv(&domain("a.unsigned")).await.unwrap();
        assert_eq!((srv.records.len(), srv.proof), (1, Proof::Insecure));
        let tlsa = dns.tlsa(&target("relay.a.unsigned", 8443)).await.unwrap();
        assert_eq!((tlsa.records.len(), tlsa.proof), (1, Proof::Insecure));
        let srv = dns.srv(&domain("nowhere.unsigned")).await.unwrap();
        assert_eq!((srv.records.len(), srv.proof), (0, Proof::Insecure));

        let failure = dns.srv(&domain("a.broken")).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::DiscoveryBogus, "{failure}");
        let failure = dns.tlsa(&target("relay.a.broken", 8443)).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::DiscoveryBogus, "{failure}");
    }
}

#[tokio::test]
async fn an_alias_is_as_good_as_its_weakest_step() {
    let Some(lab) = Lab::start(&zones()).await else { return };
    let (dns, _) = lab.ask();
    let srv = dns.srv(&domain("alias.signed")).await.unwrap();
    assert_eq!((srv.records[0].target.as_str(), srv.proof), ("relay.a.signed", Proof::Secure));
    let srv = dns.srv(&domain("abroad.signed")).await.unwrap();
    assert_eq!((srv.records[0].target.as_str(), srv.proof), ("relay.a.unsigned", Proof::Insecure));
    let addresses = dns.addresses("relay.alias.signed").await.unwrap().records;
    let expected: Vec<IpAddr> = ["2001:db8::1", "192.0.2.1"].map(|text| text.parse().unwrap()).into();
    assert_eq!(addresses, expected);
}

#[tokio::test]
async fn a_resolver_that_strips_signatures_proves_nothing_and_does_not_break_discovery() {
    let zones = zones();
    let Some(mut lab) = Lab::start(&zones).await else { return };
    lab.strip_signatures(&zones).await;
    let (dns, clock) = lab.ask();
    let Validation::Fails(reason) = dns.validation().await else { panic!("it cannot work") };
    assert!(reason.starts_with("the keys of . cannot be checked: "), "{reason}");
    for name in ["a.signed", "a.unsigned"] {
        let srv = dns.srv(&domain(name)).await.unwrap();
        assert_eq!((srv.records.len(), srv.proof), (1, Proof::Unchecked), "{name}");
    }
    assert_eq!(dns.srv(&domain("nowhere.signed")).await.unwrap().proof, Proof::Unchecked);
    // It is looked at again, now and then.
    clock.advance(Duration::from_secs(60));
    assert!(matches!(dns.validation().await, Validation::Fails(_)));
}

#[tokio::test]
async fn targets_come_in_their_order() {
    let Some(lab) = Lab::start(&zones()).await else { return };
    let (dns, _) = lab.ask();
    let many = domain("many.signed");
    let srv = dns.srv(&many).await.unwrap();
    let mut firsts = BTreeMap::<u16, u32>::new();
    let mut random = StdRng::seed_from_u64(7);
    // In an order of their own: DNS gives them in any.
    let mut records = srv.records.clone();
    records.sort_by_key(|record| record.port);
    for _ in 0..10_000 {
        let targets = order(&many, &records, &mut random).unwrap();
        let ports: Vec<_> = targets.iter().map(|target| target.port).collect();
        assert_eq!((ports.len(), ports[3]), (4, 4), "the higher number comes last");
        *firsts.entry(ports[0]).or_default() += 1;
    }
    // RFC 2782: of the numbers from 0 to 100 one is the first one's that has no weight, ten are the second one's.
    for (port, share) in [(1, 1), (2, 10), (3, 90)] {
        let (count, expected) = (firsts[&port], 10_000 * share / 101);
        assert!(count.abs_diff(expected) < 150, "{port} came first {count} times, not about {expected}");
    }
    let declined = domain("declined.signed");
    let failure = order(&declined, &dns.srv(&declined).await.unwrap().records, &mut rand::rng()).unwrap_err();
    assert_eq!(failure.class, FailureClass::DiscoveryDeclined);
    let v6 = dns.addresses("relay.v6.signed").await.unwrap().records;
    assert_eq!(v6, ["2001:db8::6".parse::<IpAddr>().unwrap()]);
}

#[tokio::test]
async fn records_are_used_for_their_time_and_stand_in_while_no_server_answers() {
    let Some(mut lab) = Lab::start(&zones()).await else { return };
    let (dns, clock) = lab.ask();
    let a = domain("a.signed");
    let key = target("relay.a.signed", 8443);
    let of =
        |answer: postrider_federation::discovery::Answer<_>| (answer.records, answer.proof, answer.is_stale);
    let (known, ..) = of(dns.srv(&a).await.unwrap());
    dns.tlsa(&key).await.unwrap();
    dns.addresses("relay.a.signed").await.unwrap();
    lab.stop();
    clock.advance(Duration::from_secs(59));
    assert_eq!(of(dns.srv(&a).await.unwrap()), (known.clone(), Proof::Secure, false));
    assert!(dns.tlsa(&key).await.is_ok());
    clock.advance(Duration::from_secs(1));
    assert_eq!(of(dns.srv(&a).await.unwrap()), (known.clone(), Proof::Unchecked, true));
    assert!(dns.addresses("relay.a.signed").await.unwrap().is_stale);
    let failure = dns.tlsa(&key).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::DiscoveryFailed, "trust is not stretched: {failure}");
    clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(dns.srv(&a).await.unwrap_err().class, FailureClass::DiscoveryFailed);
}
