//! The way to a peer, looked at step by step.

use std::sync::Arc;

use postrider_common::FailureClass;
use postrider_federation::discovery::Proof;
use postrider_federation::{Evidence, Expected, PeerLimits, Trust, TrustMode};

use crate::support::{Authority, Relay, Table, allow, client, domain, identity, peer, pinned};

#[tokio::test]
async fn every_address_is_looked_at_past_what_is_wrong() {
    let ours = Authority::new("Our CA");
    let (a, b, stranger) = (identity("a.example"), ours.identity("b.example"), identity("b.example"));
    let policy = |own| allow(own, [peer("a.example", pinned(&a))]);
    let (right, wrong) =
        (Relay::start(&b, policy(&b)).await, Relay::start(&stranger, policy(&stranger)).await);
    let dead = Relay::start(&b, policy(&b)).await;
    dead.stop().await;
    let table = Table::new([]);
    table.set_all("b.example", vec![dead.address, wrong.address, right.address]);
    table.prove("b.example", Proof::Secure);
    let trust = Trust::WebPki { roots: ours.ca_roots() };
    let calling = client(&a, allow(&a, [peer("b.example", trust)]), Arc::clone(&table) as Arc<_>, |_| {});

    let examination = calling.client.examine(&domain("b.example")).await;
    assert_eq!(examination.policy, Ok(()));
    let srv = examination.srv.unwrap().unwrap();
    assert_eq!((srv.records.len(), srv.proof), (3, Proof::Secure));
    let hosts = examination.hosts.unwrap();
    let tried = |n: usize| &hosts[n].tried.as_ref().unwrap()[0];
    assert_eq!(tried(0).address, dead.address);
    assert!(tried(0).connected.is_err() && tried(0).reached.is_none());

    let reached = tried(1).reached.as_ref().unwrap().as_ref().unwrap();
    let distrust = reached.verdict.clone().unwrap().unwrap_err();
    assert_eq!((distrust.class, distrust.mode), (FailureClass::TlsUntrusted, TrustMode::WebPki));
    assert_eq!(distrust.expected, Expected::Issuers(vec!["CN=Our CA".into()]));
    assert!(reached.presented.as_ref().unwrap().is_self_issued);

    let reached = tried(2).reached.as_ref().unwrap().as_ref().unwrap();
    assert_eq!(reached.verdict.clone().unwrap().unwrap().mode(), TrustMode::WebPki);
    assert_eq!(reached.key_exchange, "X25519MLKEM768");
    let testimony = hosts[2].testimony.as_ref().unwrap();
    assert_eq!(testimony.evidence, Evidence::Hosts(vec!["relay.b.example".into()]));
    assert_eq!(right.inbox.batches.lock().unwrap().len(), 0, "nothing is sent");
}

#[tokio::test]
async fn what_ends_an_examination_is_said() {
    let (a, b) = (identity("a.example"), identity("b.example"));
    let table = Table::new([]);
    let calling =
        client(&a, allow(&a, [peer("b.example", pinned(&b))]), Arc::clone(&table) as Arc<_>, |_| {});
    let examination = calling.client.examine(&domain("c.example")).await;
    assert_eq!(examination.policy.unwrap_err().class, FailureClass::PolicyDeniedHere);
    assert!(examination.srv.is_none());
    let examination = calling.client.examine(&domain("b.example")).await;
    assert_eq!(examination.hosts.unwrap_err().class, FailureClass::DiscoveryAbsent);

    let relay = Relay::start(&b, allow(&b, [])).await;
    let fixed = postrider_federation::Peer {
        addresses: vec![relay.address],
        limits: PeerLimits::default(),
        ..peer("b.example", pinned(&b))
    };
    calling.policy.send_replace(allow(&a, [fixed]));
    let examination = calling.client.examine(&domain("b.example")).await;
    assert!(examination.srv.is_none());
    let hosts = examination.hosts.unwrap();
    let tried = &hosts[0].tried.as_ref().unwrap()[0];
    assert!(tried.reached.as_ref().unwrap().as_ref().unwrap().verdict.as_ref().unwrap().is_ok());
}
