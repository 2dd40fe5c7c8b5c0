//! The way between two relays loses, breaks and delays.

use std::num::NonZeroU32;
use std::time::Duration;

use postrider_common::wire::control::TrackingState;
use postrider_common::{Domain, Draft, Envelope};
use postrider_tests::clock::StandingClock;
use postrider_tests::cluster::{Cluster, User};
use postrider_tests::link::Condition;

use crate::plain::{ALPHA, BETA, draft, envelope, sorted, text, tracking, waiting};

#[tokio::test]
async fn what_is_lost_on_the_way_arrives_once() {
    let cluster = Cluster::builder([ALPHA, BETA]).clock(StandingClock::new()).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let link = cluster.link(ALPHA, BETA).unwrap();
    let send = |text: &'static str| {
        let envelope = envelope(&cluster, &bob, text);
        let (alice, bob) = (&alice, &bob);
        async move { tracking(alice.submit(bob, envelope).await.unwrap()) }
    };
    let id = send("nothing lost").await;
    alice.outcome(id).await.unwrap();

    link.set(Condition::DropResponses);
    let id = send("answer lost").await;
    let entry = bob.next().await.unwrap();
    assert!(
        matches!(entry, postrider_client::Delivery::Entry(entry) if text(&entry.envelope) == "nothing lost")
    );
    // The second entry is there: beta has stored it, and its answer goes nowhere.
    bob.next().await.unwrap();
    assert_eq!(alice.relay().track(id).await.unwrap().state, TrackingState::Queued);
    link.heal();
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);

    let before = link.traffic().dropped_request_bytes;
    link.set(Condition::DropRequests);
    let id = send("request lost").await;
    link.wait_for(|traffic| traffic.dropped_request_bytes > before).await;
    link.heal();
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);

    assert_eq!(waiting(&bob).await, ["nothing lost", "answer lost", "request lost"]);
    cluster.shut_down().await.unwrap();
}

/// Large enough that a batch of them takes a while.
fn large(cluster: &Cluster, to: &User, count: usize) -> Vec<(Domain, Envelope)> {
    let one = |number: usize| {
        let body = format!("{number:060000}");
        (
            to.identity().domain().clone(),
            Draft { body: body.into(), ..draft(cluster, to, "") }.finish().unwrap(),
        )
    };
    (0..count).map(one).collect()
}

#[tokio::test]
async fn a_batch_that_is_cut_in_the_middle_or_crawls_arrives_once() {
    const COUNT: usize = 16;
    let clock = StandingClock::new();
    let cluster = Cluster::builder([ALPHA, BETA]).clock(clock.clone()).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let link = cluster.link(ALPHA, BETA).unwrap();
    let crawl =
        Condition::Slow { delay: Duration::from_millis(5), bytes_per_second: NonZeroU32::new(2_000_000) };

    link.set(crawl);
    let batch = large(&cluster, &bob, COUNT);
    let results = alice.relay().submit(&batch).await.unwrap();
    let ids: Vec<_> = results.into_iter().map(tracking).collect();
    link.wait_for(|traffic| traffic.request_bytes > 200_000).await;
    link.cut();
    // The first new attempt does not get through either, so that alpha waits.
    alice.tracked(ids[0], |status| status.attempts > 0).await.unwrap();
    link.set(crawl);
    clock.advance(Duration::from_secs(7));
    for id in ids {
        assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);
    }
    let sent = batch.iter().map(|(_, envelope)| text(envelope)).collect();
    assert_eq!(sorted(waiting(&bob).await), sorted(sent));
    cluster.shut_down().await.unwrap();
}
