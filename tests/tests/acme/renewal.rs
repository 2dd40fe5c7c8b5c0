//! Certificates are renewed in time, and anew for another wish.

use std::fs;

use postrider_tests::authority::Leaf;

use crate::bench::{ALPHA, Bench, DAY, HOUR, ISSUED, NAME};

#[tokio::test]
async fn a_certificate_is_renewed_with_the_same_key_when_two_thirds_of_its_life_are_over() {
    let bench = Bench::start().await;
    bench.server.issue_for(30 * DAY);
    bench.switch_on().await;
    bench.logged(ISSUED).await;
    bench.settle().await;
    let first = bench.leaf(NAME, "h2").await;
    bench.pass(19 * DAY).await;
    assert_eq!(bench.leaf(NAME, "h2").await, first);
    let soon = "a certificate ends soon: the one that clients are shown";
    // The one from before.
    assert_eq!(bench.times_logged(soon).await, 1, "nobody need worry about what is renewed by itself");
    bench.pass(4 * DAY).await;
    bench.cluster.logged_times(ALPHA, ISSUED, 2).await.unwrap();
    assert_ne!(bench.leaf(NAME, "h2").await, first);
    assert!(bench.has_key_of(&first).await, "the key stays");
    assert_eq!((bench.server.accounts(), bench.server.replaced()), (1, None));
    bench.restart().await;
    assert_eq!(bench.server.asked("new-order"), 2);
    bench.cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_server_may_have_its_certificates_renewed_early() {
    let bench = Bench::start().await;
    bench.switch_on().await;
    bench.logged(ISSUED).await;
    bench.settle().await;
    // Long before it is time, and not known when the certificate was issued.
    let now = bench.cluster.clock().now();
    bench.server.suggest(Some((now + DAY, now + 2 * DAY)));
    bench.pass(7 * HOUR).await;
    assert_eq!(bench.server.asked("new-order"), 1);
    let asked = bench.server.asked("renewal");
    bench.pass(HOUR).await;
    assert_eq!(bench.server.asked("renewal"), asked, "not more often than the server says");
    bench.server.suggest(Some((now + 40 * DAY, now + 41 * DAY)));
    bench.pass(6 * HOUR).await;
    bench.pass(3 * DAY).await;
    assert_eq!(bench.server.asked("new-order"), 1, "the server has changed its mind");
    bench.server.suggest(Some((now, now + DAY)));
    bench.pass(7 * HOUR).await;
    bench.cluster.logged_times(ALPHA, ISSUED, 2).await.unwrap();
    let replaced = bench.server.replaced().expect("the server is told what it replaces");
    assert!(replaced.contains('.'), "{replaced}");
    bench.cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn other_names_and_another_key_need_another_certificate() {
    let bench = Bench::start().await;
    bench.switch_on().await;
    bench.logged(ISSUED).await;
    bench.settle().await;
    let first = bench.leaf(NAME, "h2").await;
    bench.ask_at(&bench.server.directory(), &[NAME, "www.alpha.example"], "").await;
    bench.logged("a certificate for relay.alpha.example, www.alpha.example was issued").await;
    bench.settle().await;
    assert!(bench.is_certified_as("www.alpha.example").await);
    assert!(bench.has_key_of(&first).await);

    let another = Leaf::new(&ALPHA.parse().unwrap(), bench.cluster.clock().now());
    let another = bench.cluster.authority().issue(&another).unwrap();
    let identity = bench.file("data/identity");
    fs::write(identity.join("key.pem"), another.key_pem()).unwrap();
    fs::write(identity.join("certificate.pem"), another.chain_pem()).unwrap();
    let second = bench.leaf(NAME, "h2").await;
    bench.reload().await;
    let text = "a certificate for relay.alpha.example, www.alpha.example was issued";
    bench.cluster.logged_times(ALPHA, text, 2).await.unwrap();
    bench.settle().await;
    assert!(!bench.has_key_of(&second).await);
    assert!(bench.has_key_of(&another.chain()[0]).await);
    assert!(bench.is_certified_as(NAME).await);
    assert_eq!(bench.leaf(ALPHA, "postrider/1").await, another.chain()[0]);
    bench.cluster.shut_down().await.unwrap();
}
