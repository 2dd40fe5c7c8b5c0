//! Every mode of trust against every kind of certificate, in both directions: real TLS on real sockets, the class and
//! the sentence of each verdict.

mod dns;

use std::sync::Arc;

use postrider_common::{Failure, FailureClass};
use postrider_federation::{Evidence, Expected, Identity, Pin, Trust, TrustMode, judge};
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};

use crate::support::{
    Authority, Caller, Certificate, NOW, Relay, Table, allow, client, domain, envelope, identity,
    own_authority, peer, pinned, problem,
};

/// Whose certificate is looked at: the other side's trust is a pin that fits.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Direction {
    /// We call B.
    Out,
    /// A calls us.
    In,
}

/// One kind of certificate for `name`, with what its columns expect.
struct Row {
    kind: &'static str,
    make: fn(&World, &str) -> Arc<Identity>,
    private_ca: Verdict,
    webpki: Verdict,
}

/// What becomes of it: nothing, or a class with the sentence's text after "… presented for NAME " or with `NAME` in it.
type Verdict = Option<(FailureClass, &'static str)>;

/// Who issues.
struct World {
    ours: Authority,
    theirs: Authority,
}

const GOOD: Verdict = None;
const EXPIRED: Verdict = Some((
    FailureClass::TlsExpired,
    "the certificate presented for NAME was valid until 2026-01-01T00:00:00Z, and it is 2027-01-15T08:00:00Z",
));
const EARLY: Verdict = Some((
    FailureClass::TlsExpired,
    "the certificate presented for NAME is valid from 2030-01-01T00:00:00Z, and it is 2027-01-15T08:00:00Z",
));
const OTHER_CA: Verdict = Some((
    FailureClass::TlsUntrusted,
    "a certificate for NAME issued by CN=Our CA was expected, but one issued by CN=Their CA was presented, without \
     that issuer's own certificate: it is not an authority that is trusted here, or an intermediate one whose \
     certificate was left out",
));
const NOT_FOR_SERVERS: Verdict = Some((
    FailureClass::TlsUntrusted,
    "the certificate presented for NAME is not meant for servers, or an authority above it is not",
));
const NO_INTERMEDIATE: Verdict = Some((
    FailureClass::TlsUntrusted,
    "a certificate for NAME issued by CN=Our CA was expected, but one issued by CN=Issuing CA was presented, without \
     that issuer's own certificate: it is not an authority that is trusted here, or an intermediate one whose \
     certificate was left out",
));
const SELF_SIGNED: Verdict = Some((
    FailureClass::TlsUntrusted,
    "a certificate for NAME issued by CN=Our CA was expected, but a self-signed one was presented",
));

const ROWS: [Row; 12] = [
    Row { kind: "right", make: |world, name| world.ours.identity(name), private_ca: GOOD, webpki: GOOD },
    Row {
        kind: "expired",
        make: |world, name| dated(world, name, (2020, 2026)),
        private_ca: EXPIRED,
        webpki: EXPIRED,
    },
    Row {
        kind: "not yet valid",
        make: |world, name| dated(world, name, (2030, 2040)),
        private_ca: EARLY,
        webpki: EARLY,
    },
    Row {
        kind: "from another authority",
        make: |world, name| world.theirs.identity(name),
        private_ca: OTHER_CA,
        webpki: OTHER_CA,
    },
    Row {
        kind: "for servers only",
        make: |world, name| meant_for(world, name, &[ServerAuth]),
        private_ca: GOOD,
        webpki: GOOD,
    },
    Row {
        kind: "for clients only",
        make: |world, name| meant_for(world, name, &[ClientAuth]),
        private_ca: GOOD,
        webpki: NOT_FOR_SERVERS,
    },
    Row {
        kind: "for nothing in particular",
        make: |world, name| meant_for(world, name, &[]),
        private_ca: GOOD,
        webpki: GOOD,
    },
    Row {
        kind: "for both, under an authority for servers only",
        make: |world, name| {
            let issuing = world.ours.intermediate_for("Issuing CA", &[ServerAuth]);
            issuing.identity_with(name, usages(name, &[ServerAuth, ClientAuth]))
        },
        private_ca: GOOD,
        webpki: GOOD,
    },
    Row {
        kind: "for both, under an authority for clients only",
        make: |world, name| {
            let issuing = world.ours.intermediate_for("Issuing CA", &[ClientAuth]);
            issuing.identity_with(name, usages(name, &[ServerAuth, ClientAuth]))
        },
        private_ca: GOOD,
        webpki: NOT_FOR_SERVERS,
    },
    Row {
        kind: "without its intermediate",
        make: |world, name| world.ours.intermediate("Issuing CA").alone(name),
        private_ca: NO_INTERMEDIATE,
        webpki: NO_INTERMEDIATE,
    },
    Row { kind: "self-signed", make: |_, name| identity(name), private_ca: SELF_SIGNED, webpki: SELF_SIGNED },
    Row {
        kind: "self-signed, as an authority's",
        make: |_, name| own_authority(name),
        private_ca: SELF_SIGNED,
        webpki: SELF_SIGNED,
    },
];

fn dated(world: &World, name: &str, years: (i32, i32)) -> Arc<Identity> {
    world.ours.identity_with(name, Certificate { years, ..Certificate::of(name) })
}

fn usages(name: &str, usages: &[rcgen::ExtendedKeyUsagePurpose]) -> Certificate {
    Certificate { usages: usages.to_vec(), ..Certificate::of(name) }
}

fn meant_for(world: &World, name: &str, purposes: &[rcgen::ExtendedKeyUsagePurpose]) -> Arc<Identity> {
    world.ours.identity_with(name, usages(name, purposes))
}

/// A calls B, of whom one presents `shown` and the other one judges it by `trust`. What the judging side says.
async fn judged(
    direction: Direction,
    shown: &Arc<Identity>,
    trust: Trust,
    table: &Arc<Table>,
) -> Result<(), Failure> {
    let fitting = identity(if direction == Direction::Out { "a.example" } else { "b.example" });
    let (a, b) = if direction == Direction::Out { (&fitting, shown) } else { (shown, &fitting) };
    let (trust_in_a, trust_in_b) = match direction {
        Direction::Out => (pinned(a), trust),
        Direction::In => (trust, pinned(b)),
    };
    let witness = Arc::clone(table) as Arc<dyn postrider_federation::Resolve>;
    let relay =
        Relay::start_asking(b, allow(b, [peer(a.domain().as_str(), trust_in_a)]), witness.clone()).await;
    table.set(b.domain().as_str(), relay.address);
    let calling = client(a, allow(a, [peer(b.domain().as_str(), trust_in_b)]), witness, |_| {});
    let answer = calling.client.forward(b.domain(), &[envelope(b"x")]).await;
    let taken = relay.inbox.batches.lock().unwrap().len();
    assert_eq!(taken, usize::from(answer.is_ok()), "nothing is taken from whom nothing proves");
    answer.map(drop)
}

/// What the side that calls says of a verdict of the other side's.
fn as_told(direction: Direction, class: FailureClass, detail: String) -> Failure {
    match (direction, class) {
        (Direction::Out, _) => Failure::new(class, detail),
        (Direction::In, FailureClass::DiscoveryFailed | FailureClass::DiscoveryBogus) => Failure {
            retry_after: Some(std::time::Duration::from_secs(60)),
            ..Failure::new(FailureClass::RemoteBusy, format!("b.example asks us to come back: {detail}"))
        },
        (Direction::In, _) => Failure::new(
            FailureClass::TlsOurCertificateRefused,
            format!("b.example does not accept our certificate: {detail}"),
        ),
    }
}

fn shown_name(direction: Direction) -> &'static str {
    if direction == Direction::Out { "b.example" } else { "a.example" }
}

#[tokio::test]
async fn authorities_are_judged_by_what_they_vouch_for() {
    let world = World { ours: Authority::new("Our CA"), theirs: Authority::new("Their CA") };
    let web = || Trust::WebPki { roots: world.ours.ca_roots() };
    // Where nothing is signed, whoever is not listed is judged by public authorities.
    let public = || Trust::Public { roots: world.ours.ca_roots() };
    for row in &ROWS {
        for direction in [Direction::Out, Direction::In] {
            for (mode, trust, verdict) in [
                ("private-ca", world.ours.trust(), row.private_ca),
                ("webpki", web(), row.webpki),
                ("public", public(), row.webpki),
            ] {
                let name = shown_name(direction);
                let shown = (row.make)(&world, name);
                let table = Table::new([]);
                let told = judged(direction, &shown, trust, &table).await;
                let expected =
                    verdict.map(|(class, text)| as_told(direction, class, text.replace("NAME", name)));
                assert_eq!(told.err(), expected, "{mode}, {}, {direction:?}", row.kind);
            }
        }
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_proves_nothing_in_either_direction() {
    let ours = Authority::new("Our CA");
    let detail = |name| format!("a certificate for {name} was expected, but one for c.example was presented");
    for trust in
        [ours.trust(), Trust::WebPki { roots: ours.ca_roots() }, Trust::Public { roots: ours.ca_roots() }]
    {
        // DNS leads us to C instead of B.
        let (a, c) = (identity("a.example"), ours.identity("c.example"));
        let relay = Relay::start(&c, allow(&c, [])).await;
        let table = Table::new([("b.example", relay.address)]);
        let calling = client(&a, allow(&a, [peer("b.example", trust.clone())]), table.clone(), |_| {});
        let failure = calling.client.forward(&domain("b.example"), &[envelope(b"x")]).await.unwrap_err();
        assert_eq!(failure, Failure::new(FailureClass::TlsNameMismatch, detail("b.example")));
        assert_eq!(*table.doubted.lock().unwrap(), [domain("b.example")], "the next attempt asks DNS anew");

        // C says that it is A.
        let b = ours.identity("b.example");
        let relay = Relay::start_asking(&b, allow(&b, [peer("a.example", trust)]), table).await;
        let (certificate, key) = ours.pems("c.example");
        let own = Some((certificate.as_str(), key.as_str()));
        let stream = Caller::handshake(relay.address, "b.example", ours.roots(), own).await.unwrap();
        let caller = Caller::new(stream).await;
        let answer = caller.send(Caller::batch("a.example", "b.example", &[envelope(b"x")])).await;
        assert_eq!(problem(&answer), (403, "tls-name-mismatch".into(), detail("a.example")));
    }
}

#[tokio::test]
async fn a_pinned_key_is_enough_and_nothing_else_is() {
    let world = World { ours: Authority::new("Our CA"), theirs: Authority::new("Their CA") };
    for direction in [Direction::Out, Direction::In] {
        let name = shown_name(direction);
        let (next, other) = (identity(name), identity(name));
        for row in &ROWS {
            let shown = (row.make)(&world, name);
            for (pins, accepted) in [
                (vec![shown.pin()], true),
                (vec![next.pin(), shown.pin()], true),
                (vec![next.pin(), other.pin()], false),
            ] {
                let expected = pins.iter().map(Pin::to_string).collect::<Vec<_>>().join(" or ");
                let detail = format!(
                    "the key pinned for {name} is {expected}, but the key {} was presented",
                    shown.pin()
                );
                let told = judged(direction, &shown, Trust::Pinned { pins }, &Table::new([])).await;
                let refused = as_told(direction, FailureClass::TlsPinMismatch, detail);
                assert_eq!(told.err(), (!accepted).then_some(refused), "{}, {direction:?}", row.kind);
            }
        }
    }
}

/// The facts are there beside the sentence, for tools.
#[test]
fn a_verdict_has_its_facts() {
    let ours = Authority::new("Our CA");
    let shown = ours.identity("c.example");
    let (claimed, trust) = (domain("b.example"), ours.trust());
    let distrust = judge(shown.certificates(), &claimed, &trust, &Evidence::None, NOW).unwrap_err();
    assert_eq!(distrust.mode, TrustMode::PrivateCa);
    assert_eq!(distrust.expected, Expected::Names(vec!["b.example".into()]));
    let presented = distrust.presented.unwrap();
    assert_eq!(presented.names, ["c.example"]);
    assert_eq!((presented.issuer.as_str(), presented.is_self_issued), ("CN=Our CA", false));
    assert_eq!(presented.usages, ["serverAuth"]);
    assert_eq!(presented.key, Some(shown.pin()));
    assert!(presented.not_before < NOW && NOW < presented.not_after);
}
