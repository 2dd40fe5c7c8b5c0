//! Trust that rests on DNS, with every kind of answer that DNS can give.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use postrider_common::{Failure, FailureClass};
use postrider_federation::discovery::{Answer, Proof, Tlsa};
use postrider_federation::{Identity, PeerLimits, Pin, Policy, PolicyMode, Trust, Unlisted};

use super::{Direction, GOOD, Verdict, as_told, judged, shown_name};
use crate::support::{
    Authority, Caller, LIFE, Relay, Table, allow, client, domain, envelope, identity, peer, pinned, problem,
    tlsa,
};

/// What DNS says, and what follows from it for a peer that has to be proven by it, and for one that nobody listed.
struct Zone {
    says: &'static str,
    set: fn(&Table, &str, [Pin; 2]),
    dane: Verdict,
    public: Verdict,
}

const NOT_IN_TLSA: Verdict = Some((
    FailureClass::TlsDaneMismatch,
    "the key in the TLSA records of NAME is OTHER, but the key KEY was presented",
));
const UNPROVEN: Verdict = Some((
    FailureClass::DiscoveryFailed,
    "the SRV records of NAME are not proven (no signatures reach the relay that looked them up), and trust = \"dane\" needs proof",
));
const NEITHER_PROVEN: Verdict = Some((
    FailureClass::DiscoveryFailed,
    "the SRV records of NAME are not proven (no signatures reach the relay that looked them up), and nothing weaker counts without proof",
));
const FORGED: Verdict = Some((FailureClass::DiscoveryBogus, "forged"));
const FAILED: Verdict = Some((FailureClass::DiscoveryFailed, "no answer"));

fn tlsa_answer(pins: &[Pin], proof: Proof) -> Result<Answer<Tlsa>, Failure> {
    Ok(Answer::new(pins.iter().map(tlsa).collect(), proof, LIFE))
}

const ZONES: [Zone; 11] = [
    Zone {
        says: "secure, this key",
        set: |table, name, [key, _]| table.sign(name, &[key]),
        dane: GOOD,
        public: GOOD,
    },
    Zone {
        says: "secure, this key and the next",
        set: |table, name, [key, other]| table.sign(name, &[other, key]),
        dane: GOOD,
        public: GOOD,
    },
    Zone {
        says: "secure, another key",
        set: |table, name, [_, other]| table.sign(name, &[other]),
        dane: NOT_IN_TLSA,
        public: NOT_IN_TLSA,
    },
    Zone {
        says: "secure, of a kind that is not used",
        set: |table, name, [key, _]| {
            table.sign(name, &[]);
            let other_kind = Tlsa { usage: 2, ..tlsa(&key) };
            table.answer_tlsa(name, Ok(Answer::new(vec![other_kind], Proof::Secure, LIFE)));
        },
        dane: Some((
            FailureClass::TlsDaneMismatch,
            "NAME publishes TLSA records at OWNER, but none of them is `3 1 1`",
        )),
        public: Some((
            FailureClass::TlsDaneMismatch,
            "NAME publishes TLSA records at OWNER, but none of them is `3 1 1`",
        )),
    },
    Zone {
        says: "secure, none",
        set: |table, name, _| table.sign(name, &[]),
        dane: Some((
            FailureClass::TlsDaneMismatch,
            "NAME publishes no TLSA record at OWNER, which trust = \"dane\" needs",
        )),
        public: GOOD,
    },
    Zone {
        says: "secure SRV, unsigned TLSA with this key",
        set: |table, name, [key, _]| {
            table.sign(name, &[]);
            table.answer_tlsa(name, tlsa_answer(&[key], Proof::Insecure));
        },
        dane: Some((
            FailureClass::TlsUntrusted,
            "the TLSA records at OWNER are not signed with DNSSEC, which trust = \"dane\" needs",
        )),
        public: GOOD,
    },
    Zone {
        says: "unsigned SRV, secure TLSA with another key",
        set: |table, name, [_, other]| table.answer_tlsa(name, tlsa_answer(&[other], Proof::Secure)),
        dane: Some((
            FailureClass::TlsUntrusted,
            "the SRV records of NAME are not signed with DNSSEC, which trust = \"dane\" needs",
        )),
        public: GOOD,
    },
    Zone {
        says: "secure SRV, forged TLSA",
        set: |table, name, _| {
            table.sign(name, &[]);
            table.answer_tlsa(name, Err(Failure::new(FailureClass::DiscoveryBogus, "forged")));
        },
        dane: FORGED,
        public: FORGED,
    },
    Zone {
        says: "secure SRV, TLSA not to be had",
        set: |table, name, _| {
            table.sign(name, &[]);
            table.answer_tlsa(name, Err(Failure::new(FailureClass::DiscoveryFailed, "no answer")));
        },
        dane: FAILED,
        public: FAILED,
    },
    Zone {
        says: "nothing that can be checked here",
        set: |table, name, [key, _]| {
            table.prove(name, Proof::Unchecked);
            table.answer_tlsa(name, tlsa_answer(&[key], Proof::Unchecked));
        },
        dane: UNPROVEN,
        public: NEITHER_PROVEN,
    },
    Zone {
        says: "secure, this key, in a certificate that nobody vouches for",
        set: |table, name, [key, _]| table.sign(name, &[key]),
        dane: GOOD,
        public: GOOD,
    },
];

#[tokio::test]
async fn dns_decides_where_it_can_and_nothing_weaker_stands_in() {
    let ours = Authority::new("Our CA");
    for zone in &ZONES {
        for direction in [Direction::Out, Direction::In] {
            let name = shown_name(direction);
            // Public authorities vouch for it, so that only DNS can be the reason for a refusal.
            let shown =
                if zone.says.contains("nobody vouches") { identity(name) } else { ours.identity(name) };
            let other = identity(name).pin();
            for (mode, trust, verdict) in [
                ("dane", Trust::Dane, zone.dane),
                ("public", Trust::Public { roots: ours.ca_roots() }, zone.public),
            ] {
                let table = Table::new([]);
                // The one that is looked up for its key has to have a target.
                table.set(name, ([127, 0, 0, 1], 9).into());
                (zone.set)(&table, name, [shown.pin(), other]);
                let told = judged(direction, &shown, trust, &table).await;
                let port = table.port(name);
                let owner = format!("_{port}._tcp.relay.{name}.");
                let expected = verdict.map(|(class, text)| {
                    let text = text.replace("NAME", name).replace("OWNER", &owner);
                    let text =
                        text.replace("OTHER", &other.to_string()).replace("KEY", &shown.pin().to_string());
                    as_told(direction, class, text)
                });
                assert_eq!(told.err(), expected, "{mode}, {}, {direction:?}", zone.says);
            }
        }
    }
}

/// B judges A, whom nobody has listed: what becomes of a call by each of these, every one on a connection of its own.
async fn called<const N: usize>(
    table: &Arc<Table>,
    ours: &Authority,
    callers: [&Arc<Identity>; N],
) -> [Result<(), Failure>; N] {
    let b = identity("b.example");
    let public = Trust::Public { roots: ours.ca_roots() };
    let resolver = Arc::clone(table) as Arc<dyn postrider_federation::Resolve>;
    let relay = Relay::start_asking(&b, allow(&b, [peer("a.example", public)]), resolver).await;
    table.set("b.example", relay.address);
    let mut results = Vec::new();
    for caller in callers {
        let calling = client(caller, allow(caller, [peer("b.example", pinned(&b))]), table.clone(), |_| {});
        results.push(calling.client.forward(&domain("b.example"), &[envelope(b"x")]).await.map(drop));
    }
    results.try_into().unwrap()
}

#[tokio::test]
async fn a_key_in_dns_is_not_replaced_by_less_before_its_absence_is_proven() {
    let ours = Authority::new("Our CA");
    let a = ours.identity("a.example");
    let forged = ours.identity("a.example");
    let table = Table::new([("a.example", ([127, 0, 0, 1], 9).into())]);
    table.sign("a.example", &[a.pin()]);
    let [right, wrong] = called(&table, &ours, [&a, &forged]).await;
    right.unwrap();
    assert_eq!(wrong.unwrap_err().class, FailureClass::TlsOurCertificateRefused);

    // Whoever can take DNSSEC away from us gains nothing by it, at a relay that has never heard of A either.
    table.prove("a.example", Proof::Unchecked);
    let detail = "b.example asks us to come back: the SRV records of a.example are not proven (no signatures \
                  reach the relay that looked them up), and nothing weaker counts without proof";
    for failure in called(&table, &ours, [&a, &forged]).await.map(Result::unwrap_err) {
        assert_eq!((failure.class, failure.detail.as_str()), (FailureClass::RemoteBusy, detail));
    }
    // Its own DNS can say that the records are gone, or whoever is above it that nothing is signed.
    table.sign("a.example", &[]);
    let [gone] = called(&table, &ours, [&forged]).await;
    gone.unwrap();
    table.prove("a.example", Proof::Insecure);
    let [unsigned] = called(&table, &ours, [&forged]).await;
    unsigned.unwrap();
}

#[tokio::test]
async fn a_target_without_a_key_takes_none_from_the_others() {
    let ours = Authority::new("Our CA");
    let a = ours.identity("a.example");
    let forged = ours.identity("a.example");
    let table = Table::new([]);
    table.set_all("a.example", vec![([127, 0, 0, 1], 9).into(), ([127, 0, 0, 1], 10).into()]);
    table.sign("a.example", &[]);
    table.answer_tlsa_at("a.example", 10, tlsa_answer(&[a.pin()], Proof::Secure));
    // In either direction: who calls, and whom we call at the target that has none.
    let [right, wrong] = called(&table, &ours, [&a, &forged]).await;
    right.unwrap();
    assert_eq!(wrong.unwrap_err().class, FailureClass::TlsOurCertificateRefused);
    let b = identity("b.example");
    for (shown, expected) in [(&a, None), (&forged, Some(FailureClass::TlsDaneMismatch))] {
        let relay = Relay::start(shown, allow(shown, [peer("b.example", pinned(&b))])).await;
        table.set_all("a.example", vec![relay.address, ([127, 0, 0, 1], 10).into()]);
        let public = Trust::Public { roots: ours.ca_roots() };
        let calling = client(&b, allow(&b, [peer("a.example", public)]), table.clone(), |_| {});
        let failure = calling.client.forward(&domain("a.example"), &[envelope(b"x")]).await.err();
        assert_eq!(failure.map(|failure| failure.class), expected);
    }
    // Whether the other one has a key is not known: so nothing is.
    table.answer_tlsa_at("a.example", 10, Err(Failure::new(FailureClass::DiscoveryFailed, "no answer")));
    let [unknown] = called(&table, &ours, [&forged]).await;
    assert_eq!(unknown.unwrap_err().class, FailureClass::RemoteBusy);
}

#[tokio::test]
async fn origins_that_are_claimed_all_at_once_are_counted_before_dns_is_asked() {
    let ours = Authority::new("Our CA");
    let b = ours.identity("b.example");
    let table = Table::new([]);
    let unlisted = Unlisted {
        trust: Trust::Public { roots: ours.ca_roots() },
        limits: PeerLimits::default(),
        denied: Vec::new(),
    };
    let policy = Arc::new(Policy::new(PolicyMode::Open(unlisted), &b, []).unwrap());
    let resolver = Arc::clone(&table) as Arc<dyn postrider_federation::Resolve>;
    let relay = Relay::start_asking(&b, policy, resolver).await;
    let (certificate, key) = ours.pems("a.example");
    let own = Some((certificate.as_str(), key.as_str()));
    let stream = Caller::handshake(relay.address, "b.example", ours.roots(), own).await.unwrap();
    let caller = Caller::new(stream).await;
    // DNS answers nobody until the last claim has been heard.
    let closed = table.gate.clone().acquire_many_owned(Table::GATE).await.unwrap();
    let claims = (0..12).map(|n| caller.send(Caller::batch(&format!("n{n}.example"), "b.example", &[])));
    let mut refused = 0;
    let mut claims: futures_util::stream::FuturesUnordered<_> = claims.collect();
    while refused < 4 {
        let answer = futures_util::StreamExt::next(&mut claims).await.unwrap();
        assert_eq!(problem(&answer).0, 429);
        refused += 1;
    }
    assert_eq!(table.asked.load(Ordering::SeqCst), 8);
    drop(closed);
    while let Some(answer) = futures_util::StreamExt::next(&mut claims).await {
        assert_eq!(problem(&answer).0, 403);
    }
    // Who it really is may still be said on this connection, and a name that was in vain may be tried again.
    let again = problem(&caller.send(Caller::batch("n3.example", "b.example", &[])).await);
    assert_eq!((again.0, again.1.as_str()), (403, "tls-name-mismatch"));
}

#[tokio::test]
async fn a_caller_that_policy_denies_costs_no_look_up_and_no_reading() {
    let ours = Authority::new("Our CA");
    let b = ours.identity("b.example");
    let table = Table::new([("a.example", ([127, 0, 0, 1], 9).into())]);
    let unlisted = Unlisted {
        trust: Trust::Public { roots: ours.ca_roots() },
        limits: PeerLimits::default(),
        denied: vec![domain("a.example")],
    };
    let policy = Arc::new(Policy::new(PolicyMode::Open(unlisted), &b, []).unwrap());
    let resolver = Arc::clone(&table) as Arc<dyn postrider_federation::Resolve>;
    let relay = Relay::start_asking(&b, policy, resolver).await;
    let (certificate, key) = ours.pems("a.example");
    let own = Some((certificate.as_str(), key.as_str()));
    let stream = Caller::handshake(relay.address, "b.example", ours.roots(), own).await.unwrap();
    let caller = Caller::new(stream).await;
    let endless = || {
        let body = http_body_util::StreamBody::new(futures_util::stream::pending());
        http_body_util::BodyExt::boxed(body)
    };
    for name in ["a.example", "relay.a.example"] {
        let request = Caller::batch(name, "b.example", &[]).map(|_| endless());
        let (status, slug, _) = problem(&caller.send_body(request).await);
        assert_eq!((status, slug.as_str()), (403, "policy-denied-here"), "{name}");
    }
    assert_eq!(table.asked.load(Ordering::SeqCst), 0);

    // Whom it does not deny, DNS is asked about: so the count above means something. But not for ever.
    for n in 0..12 {
        let name = format!("n{n}.example");
        let request = Caller::batch(&name, "b.example", &[]).map(|_| endless());
        let expected = if n < 8 { (403, "tls-name-mismatch".into()) } else { (429, "rate-limited".into()) };
        let (status, slug, _) = problem(&caller.send_body(request).await);
        assert_eq!((status, slug), expected, "{name}");
    }
    assert_eq!(table.asked.load(Ordering::SeqCst), 8);
}

#[tokio::test]
async fn a_verdict_that_rests_on_dns_does_not_outlive_the_records() {
    let ours = Authority::new("Our CA");
    let (a, b) = (ours.identity("a.example"), ours.identity("b.example"));
    let relay = Relay::start(&b, allow(&b, [peer("a.example", pinned(&a))])).await;
    let table = Table::new([("b.example", relay.address)]);
    table.sign("b.example", &[b.pin()]);
    let calling = client(&a, allow(&a, [peer("b.example", Trust::Dane)]), table.clone(), |config| {
        config.idle_timeout = Duration::from_secs(3600);
    });
    let call = async || calling.client.forward(&domain("b.example"), &[envelope(b"x")]).await.map(drop);
    call().await.unwrap();
    table.sign("b.example", &[identity("b.example").pin()]);
    calling.clock.advance(LIFE - Duration::from_secs(1));
    call().await.unwrap();
    calling.clock.advance(Duration::from_secs(1));
    let failure = call().await.unwrap_err();
    assert_eq!(failure.class, FailureClass::TlsDaneMismatch, "{failure}");
    assert_eq!(relay.inbox.batches.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_certificate_may_name_a_host_of_the_domain_where_dnssec_proves_it() {
    let ours = Authority::new("Our CA");
    // Its identity is that of the host, which is how many servers get their certificates.
    let host = ours.identity("relay.b.example");
    let a = identity("a.example");
    let relay = Relay::start(&host, allow(&host, [])).await;
    let table = Table::new([("b.example", relay.address)]);
    let trust = || Trust::WebPki { roots: ours.ca_roots() };
    let calling = client(&a, allow(&a, [peer("b.example", trust())]), table.clone(), |_| {});
    let call = async || calling.client.forward(&domain("b.example"), &[envelope(b"x")]).await.unwrap_err();
    let detail = "a certificate for b.example was expected, but one for relay.b.example was presented";
    assert_eq!(call().await, Failure::new(FailureClass::TlsNameMismatch, detail));
    table.prove("b.example", Proof::Unchecked);
    assert_eq!(call().await, Failure::new(FailureClass::TlsNameMismatch, detail));
    table.prove("b.example", Proof::Secure);
    // It is believed, and says itself what it thinks of us.
    assert_eq!(call().await.class, FailureClass::PolicyDeniedThere);
}
