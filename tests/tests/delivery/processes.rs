//! Relays as processes of their own, killed without a word.

use postrider_common::wire::control::TrackingState;
use postrider_tests::binary::postrider;
use postrider_tests::cluster::Cluster;

use crate::plain::{ALPHA, BETA, numbers, queue_numbers, sorted, waiting};

#[tokio::test]
async fn a_full_queue_outlives_kills_on_both_sides_and_is_delivered_once() {
    const COUNT: usize = 300;
    let binary = postrider();
    let cluster = Cluster::builder([ALPHA, BETA]).processes(binary).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    cluster.kill(BETA).await.unwrap();
    let ids = queue_numbers(&cluster, &alice, &bob, COUNT).await;
    cluster.kill(ALPHA).await.unwrap();
    cluster.restart(ALPHA).await.unwrap();
    let link = cluster.link(ALPHA, BETA).unwrap();
    let before = link.traffic().request_bytes;
    cluster.restart(BETA).await.unwrap();
    bob.send(&alice, b"I am back").await.unwrap();
    link.wait_for(|traffic| traffic.request_bytes > before + 10_000).await;
    for relay in [ALPHA, BETA] {
        cluster.kill(relay).await.unwrap();
        cluster.restart(relay).await.unwrap();
    }
    bob.send(&alice, b"I am still here").await.unwrap();
    for id in &ids {
        assert_eq!(alice.outcome(*id).await.unwrap().state, TrackingState::Stored);
    }
    assert_eq!(sorted(waiting(&bob).await), numbers(COUNT));
    // The first one may have been tried while alpha was down, and then the second one does not wait for it.
    let mut received = [alice.receive().await.unwrap().message, alice.receive().await.unwrap().message];
    received.sort();
    assert_eq!(received, [&b"I am back"[..], b"I am still here"]);
    cluster.shut_down().await.unwrap();
}
