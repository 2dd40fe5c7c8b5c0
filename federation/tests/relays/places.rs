//! Where a domain leads, and where it must not.

use std::sync::Arc;

use postrider_common::{Failure, FailureClass};
use postrider_federation::Networks;

use crate::support::{Relay, Table, allow, client, domain, envelope, identity, peer, pinned};

#[tokio::test]
async fn a_domain_that_leads_back_to_us_is_a_circle() {
    let a = identity("a.example");
    let relay = Relay::start(&a, allow(&a, [])).await;
    let table = Table::new([("b.example", relay.address)]);
    let calling = client(&a, allow(&a, [peer("b.example", pinned(&a))]), table, |_| {});
    let failure = calling.client.forward(&domain("b.example"), &[envelope(b"x")]).await.unwrap_err();
    let detail = "b.example leads back to this relay, which is a.example";
    assert_eq!(failure, Failure::new(FailureClass::Loop, detail));

    // By a key that has replaced the first one, too.
    let next = identity("a.example");
    a.show(&next);
    calling.policy.send_replace(allow(&a, [peer("b.example", pinned(&next))]));
    let failure = calling.client.forward(&domain("b.example"), &[envelope(b"x")]).await.unwrap_err();
    assert_eq!(failure, Failure::new(FailureClass::Loop, detail));
}

#[tokio::test]
async fn a_host_that_is_written_down_may_be_anywhere() {
    let (a, b) = (identity("a.example"), identity("b.example"));
    let relay = Relay::start(&b, allow(&b, [peer("a.example", pinned(&a))])).await;
    let table = Table::new([("b.example", relay.address)]);
    let policy = allow(&a, [peer("b.example", pinned(&b))]);
    let calling = client(&a, policy, table, |config| {
        config.networks = Networks::default();
        config.hosts.insert("relay.b.example".into(), vec![[127, 0, 0, 1].into()]);
    });
    calling.client.forward(&domain("b.example"), &[envelope(b"x")]).await.unwrap();
}

#[tokio::test]
async fn a_relay_that_says_it_is_another_one_is_looked_up_anew() {
    let (a, b, c) = (identity("a.example"), identity("b.example"), identity("c.example"));
    let [wrong, right] = [&c, &b].map(|own| Relay::start(own, allow(own, [peer("a.example", pinned(&a))])));
    let (wrong, right) = (wrong.await, right.await);
    let table = Table::new([("b.example", wrong.address)]);
    let both = postrider_federation::Trust::Pinned { pins: vec![b.pin(), c.pin()] };
    let calling = client(&a, allow(&a, [peer("b.example", both)]), Arc::clone(&table) as Arc<_>, |_| {});
    let send = async || calling.client.forward(&domain("b.example"), &[envelope(b"x")]).await;
    assert_eq!(send().await.unwrap_err().class, FailureClass::RemoteMisdirected);
    assert_eq!(*table.doubted.lock().unwrap(), [domain("b.example")]);
    table.set("b.example", right.address);
    assert!(send().await.is_ok(), "the connection to the wrong one is not used again");
}
