//! What tells a failing destination's records or keys of today from those that failed.

use std::net::SocketAddr;
use std::sync::Arc;

use postrider_common::Domain;
use postrider_federation::{Peer, Policy, Trust};

use crate::support::{Table, allow, client, domain, identity, peer, pinned};

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[tokio::test]
async fn another_place_or_another_key_is_another_fingerprint() {
    let (a, b, other) = (identity("a.example"), identity("b.example"), identity("b.example"));
    let dns = Table::new([("b.example", at(1))]);
    let resolver: Arc<Table> = Arc::clone(&dns);
    let calling = client(&a, allow(&a, [peer("b.example", pinned(&b))]), resolver, |_| {});
    let to: Domain = domain("b.example");
    let fingerprint = || calling.client.fingerprint(&to);
    let set_policy = |peer: Peer| -> Arc<Policy> { calling.policy.send_replace(allow(&a, [peer])) };

    let mut seen = vec![fingerprint().await.unwrap()];
    assert_eq!(fingerprint().await.unwrap(), seen[0], "nothing has changed");
    dns.set("b.example", at(2));
    seen.push(fingerprint().await.unwrap());
    dns.set_all("b.example", vec![at(2), at(3)]);
    seen.push(fingerprint().await.unwrap());
    set_policy(peer("b.example", Trust::Pinned { pins: vec![b.pin(), other.pin()] }));
    seen.push(fingerprint().await.unwrap());
    set_policy(Peer { addresses: vec![at(4)], ..peer("b.example", pinned(&b)) });
    seen.push(fingerprint().await.unwrap());
    set_policy(peer("c.example", pinned(&b)));
    seen.push(fingerprint().await.unwrap());
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "{seen:?}");
}
