//! Trust that rests on DNS, in both directions: TLS on real sockets, DNS by real servers.

use std::net::Ipv6Addr;
use std::time::Duration;

use postrider_common::{FailureClass, Outcome};
use postrider_federation::{CaRoots, Trust};
use tokio::net::TcpListener;

use super::lab::Lab;
use super::programs::are_installed;
use super::relay::{Caller, Relay, identity, listing, pinned, policy};
use super::zones::{Signing, Zone};

/// SRV, address and, if there is a key, TLSA records of a domain in a zone.
fn published(name: &str, port: u16, key: Option<String>) -> String {
    let mut text =
        format!("_postrider._tcp.{name} IN SRV 0 0 {port} relay.{name}\nrelay.{name} IN A 127.0.0.1\n");
    if let Some(key) = key {
        text += &format!("_{port}._tcp.relay.{name} IN TLSA 3 1 1 {key}\n");
    }
    text
}

fn zone(name: &'static str, signing: Signing, records: &[String]) -> Zone {
    Zone { name, signing, records: records.concat() }
}

#[tokio::test]
async fn a_server_is_believed_by_secure_tlsa_records_and_by_nothing_less() {
    if !are_installed() {
        return;
    }
    let (listener, port) = Relay::bind().await;
    let (a, b) = (identity("a.example"), identity("match.signed"));
    let key = || Some(b.pin().to_string());
    let other = identity("mismatch.signed").pin().to_string();
    let records = [
        published("match", port, key()),
        published("mismatch", port, Some(other.clone())),
        published("missing", port, None),
        "_postrider._tcp.alias IN CNAME _postrider._tcp.match\n".into(),
        "_postrider._tcp.abroad IN CNAME _postrider._tcp.match.unsigned.\n".into(),
    ];
    let zones = [
        zone("signed", Signing::Signed, &records),
        zone("unsigned", Signing::Unsigned, &[published("match", port, key())]),
        zone("broken", Signing::Broken, &[published("match", port, key())]),
    ];
    let Some(lab) = Lab::start(&zones).await else { return };
    let relay = Relay::serve(listener, &b, &policy(&b, "a.example", pinned(&a)), None);
    let (dns, clock) = lab.ask();

    let caller = Caller::new(&a, "match.signed", Trust::Dane, dns.clone(), &clock);
    assert_eq!(caller.send().await.unwrap(), [Outcome::Stored]);
    let owner = |name: &str| format!("_{port}._tcp.relay.{name}.");
    for (name, class, detail) in [
        (
            "mismatch.signed",
            FailureClass::TlsDaneMismatch,
            format!(
                "the key in the TLSA records of mismatch.signed is {other}, but the key {} was presented",
                b.pin()
            ),
        ),
        (
            "missing.signed",
            FailureClass::TlsDaneMismatch,
            format!(
                "missing.signed publishes no TLSA record at {}, which trust = \"dane\" needs",
                owner("missing.signed")
            ),
        ),
        (
            "match.unsigned",
            FailureClass::TlsUntrusted,
            "the SRV records of match.unsigned are not signed with DNSSEC, which trust = \"dane\" needs".into(),
        ),
        (
            "abroad.signed",
            FailureClass::TlsUntrusted,
            "the SRV records of abroad.signed are not signed with DNSSEC, which trust = \"dane\" needs".into(),
        ),
        (
            "match.broken",
            FailureClass::DiscoveryBogus,
            "the SRV records at _postrider._tcp.match.broken. do not pass DNSSEC: forged, badly signed, or their keys \
             cannot be had"
                .into(),
        ),
    ] {
        let failure = Caller::new(&a, name, Trust::Dane, dns.clone(), &clock).send().await.unwrap_err();
        assert_eq!((failure.class, failure.detail), (class, detail), "{name}");
    }
    // An alias that is signed leads to the same relay, which then says that it is another one.
    let failure = Caller::new(&a, "alias.signed", Trust::Dane, dns, &clock).send().await.unwrap_err();
    assert_eq!(failure.class, FailureClass::RemoteMisdirected, "{failure}");
    assert_eq!(relay.received(), 1);
}

#[tokio::test]
async fn a_caller_is_believed_by_the_records_of_any_of_its_targets() {
    if !are_installed() {
        return;
    }
    let (listener, port) = Relay::bind().await;
    let b = identity("b.signed");
    let names = [
        "match.signed",
        "mismatch.signed",
        "missing.signed",
        "match.unsigned",
        "match.broken",
        "none.signed",
    ];
    let callers = names.map(identity);
    let key = |n: usize| Some(callers[n].pin().to_string());
    let second = format!(
        "_postrider._tcp.match IN SRV 10 0 7 second.match\nsecond.match IN A 127.0.0.1\n\
         _7._tcp.second.match IN TLSA 3 1 1 {}\n",
        callers[0].pin()
    );
    let zones = [
        zone(
            "signed",
            Signing::Signed,
            &[
                published("b", port, None),
                published("match", 9, Some(identity("x.signed").pin().to_string())),
                second,
                published("mismatch", 9, Some(identity("x.signed").pin().to_string())),
                published("missing", 9, None),
            ],
        ),
        zone("unsigned", Signing::Unsigned, &[published("match", 9, key(3))]),
        zone("broken", Signing::Broken, &[published("match", 9, key(4))]),
    ];
    let Some(lab) = Lab::start(&zones).await else { return };
    let (dns, clock) = lab.ask();
    let in_force = policy(&b, "nobody.example", Trust::Dane);
    let relay = Relay::serve(listener, &b, &in_force, Some(dns.clone()));
    for (caller, (class, detail)) in callers.iter().zip([
        (None, String::new()),
        (
            Some(FailureClass::TlsOurCertificateRefused),
            format!(
                "b.signed does not accept our certificate: the key in the TLSA records of mismatch.signed is \
                 {}, but the key {} was presented",
                zones[0].records.split("_9._tcp.relay.mismatch IN TLSA 3 1 1 ").nth(1).unwrap().lines().next().unwrap(),
                callers[1].pin()
            ),
        ),
        (
            Some(FailureClass::TlsOurCertificateRefused),
            "b.signed does not accept our certificate: missing.signed publishes no TLSA record at \
             _9._tcp.relay.missing.signed., which trust = \"dane\" needs"
                .into(),
        ),
        (
            Some(FailureClass::TlsOurCertificateRefused),
            "b.signed does not accept our certificate: the SRV records of match.unsigned are not signed with DNSSEC, \
             which trust = \"dane\" needs"
                .into(),
        ),
        // Nobody knows, so it is not turned away for good: it comes again.
        (
            Some(FailureClass::RemoteBusy),
            "b.signed asks us to come back: the SRV records at _postrider._tcp.match.broken. do not pass DNSSEC: forged, \
             badly signed, or their keys cannot be had"
                .into(),
        ),
        (
            Some(FailureClass::TlsOurCertificateRefused),
            "b.signed does not accept our certificate: none.signed publishes no SRV target, which trust = \"dane\" needs"
                .into(),
        ),
    ]) {
        let name = caller.domain().as_str();
        in_force.replace(listing(&b, name, Trust::Dane));
        let calling = Caller::new(caller, "b.signed", pinned(&b), dns.clone(), &clock);
        let told = calling.send().await;
        match class {
            None => {
                assert_eq!(told.unwrap(), [Outcome::Stored], "{name}");
                assert_eq!(calling.hello().await.unwrap().you.trust, "dane");
            }
            Some(class) => {
                let failure = told.unwrap_err();
                assert_eq!((failure.class, failure.detail), (class, detail), "{name}");
            }
        }
    }
    assert_eq!(relay.received(), 1);
}

#[tokio::test]
async fn targets_are_tried_until_one_proves_itself() {
    if !are_installed() {
        return;
    }
    let (listener, port) = Relay::bind().await;
    let (a, b) = (identity("a.example"), identity("b.signed"));
    // Nobody listens there: the socket that had the port was never told to.
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let stranger = identity("c.signed");
    let (other_listener, other_port) = Relay::bind().await;
    let records = format!(
        "_postrider._tcp.b IN SRV 10 0 {dead} dead.b\n_postrider._tcp.b IN SRV 15 0 {other_port} stranger.b\n\
         _postrider._tcp.b IN SRV 20 0 {port} relay.b\n\
         dead.b IN A 127.0.0.1\nstranger.b IN A 127.0.0.1\nrelay.b IN A 127.0.0.1\n\
         _{dead}._tcp.dead.b IN TLSA 3 1 1 {key}\n_{other_port}._tcp.stranger.b IN TLSA 3 1 1 {key}\n\
         _{port}._tcp.relay.b IN TLSA 3 1 1 {key}\n\
         _postrider._tcp.declined IN SRV 0 0 0 .\n",
        key = b.pin()
    );
    let zones = [Zone { name: "signed", signing: Signing::Signed, records }];
    let Some(lab) = Lab::start(&zones).await else { return };
    let relay = Relay::serve(listener, &b, &policy(&b, "a.example", pinned(&a)), None);
    let _other = Relay::serve(other_listener, &stranger, &policy(&stranger, "a.example", pinned(&a)), None);
    let (dns, clock) = lab.ask();
    let caller = Caller::new(&a, "b.signed", Trust::Dane, dns.clone(), &clock);
    assert_eq!(caller.send().await.unwrap(), [Outcome::Stored]);
    assert_eq!(relay.received(), 1);
    let declined = Caller::new(&a, "declined.signed", Trust::Dane, dns, &clock).send().await.unwrap_err();
    assert_eq!(declined.class, FailureClass::DiscoveryDeclined);
}

#[tokio::test]
async fn a_relay_with_an_ipv6_address_only_is_reached() {
    if !are_installed() {
        return;
    }
    let Ok((listener, port)) = Relay::bind_at(Ipv6Addr::LOCALHOST.into()).await else {
        return eprintln!("skipped: there is no IPv6 on the loopback interface");
    };
    let (a, b) = (identity("a.example"), identity("b.signed"));
    let records = format!(
        "_postrider._tcp.b IN SRV 0 0 {port} relay.b\nrelay.b IN AAAA ::1\n_{port}._tcp.relay.b IN TLSA 3 1 1 {}\n",
        b.pin()
    );
    let Some(lab) = Lab::start(&[Zone { name: "signed", signing: Signing::Signed, records }]).await else {
        return;
    };
    let _relay = Relay::serve(listener, &b, &policy(&b, "a.example", pinned(&a)), None);
    let (dns, clock) = lab.ask();
    let caller = Caller::new(&a, "b.signed", Trust::Dane, dns, &clock);
    assert_eq!(caller.send().await.unwrap(), [Outcome::Stored]);
}

/// An attacker between a relay and its resolver can take signatures away, or answers.
#[tokio::test]
async fn without_signatures_dane_waits_and_nothing_weaker_stands_in() {
    if !are_installed() {
        return;
    }
    let (listener, port) = Relay::bind().await;
    let (a, b) = (identity("a.example"), identity("b.signed"));
    let records = published("b", port, Some(b.pin().to_string()));
    let zones = [Zone { name: "signed", signing: Signing::Signed, records }];
    let Some(mut lab) = Lab::start(&zones).await else { return };
    let relay = Relay::serve(listener, &b, &policy(&b, "a.example", pinned(&a)), None);
    // For those who are not listed, who are believed with less where it is proven that nothing is signed.
    let public = || Trust::Public { roots: CaRoots::of_the_web() };
    let (dns, clock) = lab.ask();
    let callers =
        [Trust::Dane, public()].map(|trust| Caller::new(&a, "b.signed", trust, dns.clone(), &clock));
    for caller in &callers {
        assert_eq!(caller.send().await.unwrap(), [Outcome::Stored]);
    }

    lab.strip_signatures(&zones).await;
    clock.advance(Duration::from_secs(301));
    for (caller, because) in
        callers.iter().zip(["trust = \"dane\" needs proof", "nothing weaker counts without proof"])
    {
        let failure = caller.send().await.unwrap_err();
        let detail = format!(
            "the SRV records of b.signed are not proven (no signatures reach the relay that looked them up), and {because}"
        );
        assert_eq!((failure.class, failure.detail), (FailureClass::DiscoveryFailed, detail));
    }

    // Nor do old answers prove anything; for a key that was agreed beforehand they are good enough to find it.
    lab.stop();
    clock.advance(Duration::from_secs(3600));
    for caller in &callers {
        assert_eq!(caller.send().await.unwrap_err().class, FailureClass::DiscoveryFailed);
    }
    let agreed = Caller::new(&a, "b.signed", pinned(&b), dns, &clock);
    assert_eq!(agreed.send().await.unwrap(), [Outcome::Stored]);
    assert_eq!(relay.received(), 3);
}

#[tokio::test]
async fn a_key_changes_when_both_are_published() {
    if !are_installed() {
        return;
    }
    let (listener, port) = Relay::bind().await;
    let (a, now, next) = (identity("a.example"), identity("b.signed"), identity("b.signed"));
    let with = |keys: &[&str]| {
        let mut records = published("b", port, None);
        for key in keys {
            records += &format!("_{port}._tcp.relay.b IN TLSA 3 1 1 {key}\n");
        }
        [Zone { name: "signed", signing: Signing::Signed, records }]
    };
    let (old_key, new_key) = (now.pin().to_string(), next.pin().to_string());
    let Some(lab) = Lab::start(&with(&[&old_key, &new_key])).await else { return };
    let (dns, clock) = lab.ask();
    let relay = Relay::serve(listener, &now, &policy(&now, "a.example", pinned(&a)), None);
    let caller = Caller::new(&a, "b.signed", Trust::Dane, dns.clone(), &clock);
    assert_eq!(caller.send().await.unwrap(), [Outcome::Stored]);
    let address = relay.address;
    relay.stop().await;
    let listener = TcpListener::bind(address).await.unwrap();
    let _relay = Relay::serve(listener, &next, &policy(&next, "a.example", pinned(&a)), None);
    assert_eq!(caller.send().await.unwrap(), [Outcome::Stored]);
}

#[tokio::test]
async fn a_policy_that_denies_asks_no_name_server() {
    if !are_installed() {
        return;
    }
    let (listener, port) = Relay::bind().await;
    let (a, b) = (identity("a.signed"), identity("b.signed"));
    let zones = [zone("signed", Signing::Signed, &[published("b", port, None)])];
    let Some(mut lab) = Lab::start(&zones).await else { return };
    let (dns, clock) = lab.ask();
    let in_force = policy(&b, "other.signed", Trust::Dane);
    let _relay = Relay::serve(listener, &b, &in_force, Some(dns.clone()));
    let caller = Caller::new(&a, "b.signed", pinned(&b), dns, &clock);
    assert_eq!(caller.send().await.unwrap_err().class, FailureClass::PolicyDeniedThere);
    // With no name server left, whoever needs one would hear of that.
    lab.stop();
    assert_eq!(caller.send().await.unwrap_err().class, FailureClass::PolicyDeniedThere);
    in_force.replace(listing(&b, "a.signed", Trust::Dane));
    assert_eq!(caller.send().await.unwrap_err().class, FailureClass::RemoteBusy);
}
