//! A relay is gone for a while.

use std::time::Duration;

use postrider_common::wire::control::TrackingState;
use postrider_common::{Draft, Timestamp};
use postrider_tests::clock::StandingClock;
use postrider_tests::cluster::{Cluster, Stopped};
use postrider_tests::link::Condition;

use crate::plain::{ALPHA, BETA, GAMMA, draft, envelope, numbers, queue_numbers, sorted, tracking, waiting};

#[tokio::test]
async fn a_peer_that_comes_back_and_says_a_word_gets_what_has_waited() {
    let cluster = Cluster::builder([ALPHA, BETA]).clock(StandingClock::new()).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    assert_eq!(cluster.stop(BETA).await.unwrap(), Stopped::InOrder);

    let id = tracking(alice.send(&bob, b"hello").await.unwrap());
    let status = alice.tracked(id, |status| status.attempts > 0).await.unwrap();
    assert_eq!((status.state, status.reason.as_deref()), (TrackingState::Queued, Some("connect-failed")));
    assert!(status.next_attempt_at.is_some());

    cluster.restart(BETA).await.unwrap();
    // The clock stands, so that nothing but this can end alpha's wait.
    bob.send(&alice, b"I am back").await.unwrap();
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);
    assert_eq!(bob.receive().await.unwrap().message, b"hello");
    assert_eq!(alice.receive().await.unwrap().message, b"I am back");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_relay_that_is_back_says_so_by_itself() {
    let clock = StandingClock::new();
    let cluster = Cluster::builder([ALPHA, BETA]).clock(clock.clone()).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    cluster.stop(BETA).await.unwrap();
    let id = tracking(alice.send(&bob, b"hello").await.unwrap());
    for failures in 1..=3 {
        let status = alice.tracked(id, |status| status.attempts == failures).await.unwrap();
        clock.set(Timestamp::from_secs(status.next_attempt_at.unwrap() + 1));
    }
    let status = alice.tracked(id, |status| status.attempts == 4).await.unwrap();
    let next = Timestamp::from_secs(status.next_attempt_at.unwrap());
    cluster.restart(BETA).await.unwrap();
    for _ in 0..20 {
        clock.advance(Duration::from_millis(500));
        alice.relay().track(id).await.unwrap();
    }
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);
    assert!(cluster.clock().now() < next, "alpha has not waited to the end");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_silent_peer_is_tried_again_at_longer_and_longer_intervals() {
    let clock = StandingClock::new();
    let cluster = Cluster::builder([ALPHA, BETA]).clock(clock.clone()).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    cluster.stop(BETA).await.unwrap();
    let id = tracking(alice.send(&bob, b"hello").await.unwrap());

    let mut now = cluster.clock().now();
    for (failures, wait) in [(1, 4..=6), (2, 12..=18), (3, 24..=36), (4, 48..=72)] {
        let status = alice.tracked(id, |status| status.attempts == failures).await.unwrap();
        let next = Timestamp::from_secs(status.next_attempt_at.unwrap() + 1);
        assert!(wait.contains(&next.since(now).as_secs()), "{failures}: {:?}", next.since(now));
        if failures == 4 {
            cluster.restart(BETA).await.unwrap();
        }
        clock.set(next);
        now = next;
    }
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);
    assert_eq!(bob.receive().await.unwrap().message, b"hello");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_full_queue_outlives_its_relay_and_is_delivered_once() {
    const COUNT: usize = 400;
    let cluster = Cluster::builder([ALPHA, BETA]).clock(StandingClock::new()).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    cluster.kill(BETA).await.unwrap();
    let ids = queue_numbers(&cluster, &alice, &bob, COUNT).await;
    alice.tracked(ids[0], |status| status.attempts > 0).await.unwrap();
    cluster.kill(ALPHA).await.unwrap();
    cluster.restart(ALPHA).await.unwrap();
    let status = alice.relay().track(ids[0]).await.unwrap();
    assert_eq!(status.state, TrackingState::Queued);
    assert!(status.attempts > 0, "the back-off outlives a restart: {status:?}");

    let link = cluster.link(ALPHA, BETA).unwrap();
    let before = link.traffic().request_bytes;
    cluster.restart(BETA).await.unwrap();
    bob.send(&alice, b"I am back").await.unwrap();
    // Killed again in the middle of the delivery: what beta has by now, it gets once more.
    link.wait_for(|traffic| traffic.request_bytes > before + 10_000).await;
    cluster.kill(ALPHA).await.unwrap();
    cluster.restart(ALPHA).await.unwrap();
    bob.send(&alice, b"I am still here").await.unwrap();
    for id in &ids {
        assert_eq!(alice.outcome(*id).await.unwrap().state, TrackingState::Stored);
    }
    assert_eq!(sorted(waiting(&bob).await), numbers(COUNT));
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn who_has_gone_silent_delays_nobody_else_and_not_the_relays_end() {
    let more = |_: &_| "[limits]\ndrain_timeout = \"3 s\"\n".to_owned();
    let cluster = Cluster::builder([ALPHA, BETA, GAMMA]).configure(more).start().await.unwrap();
    let alice = cluster.user(ALPHA).await.unwrap();
    let (bob, carol) = (cluster.user(BETA).await.unwrap(), cluster.user(GAMMA).await.unwrap());
    let id = tracking(alice.send(&bob, b"before").await.unwrap());
    alice.outcome(id).await.unwrap();
    carol.send(&alice, b"hello").await.unwrap();
    assert_eq!(alice.receive().await.unwrap().message, b"hello");

    // The connection is open and everything on it vanishes.
    let link = cluster.link(ALPHA, BETA).unwrap();
    link.set(Condition::DropAll);
    let stuck = queue_numbers(&cluster, &alice, &bob, 100).await;
    link.wait_for(|traffic| traffic.dropped_request_bytes > 0).await;
    let id = tracking(alice.submit(&carol, envelope(&cluster, &carol, "hello")).await.unwrap());
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);
    for id in &stuck {
        assert_eq!(alice.relay().track(*id).await.unwrap().state, TrackingState::Queued);
    }
    assert_eq!(waiting(&carol).await, ["hello"]);

    // A peer that calls and a client go silent as well, the client with a request and a stream.
    cluster.link(GAMMA, ALPHA).unwrap().set(Condition::DropAll);
    cluster.door(ALPHA).unwrap().set(Condition::DropAll);
    assert_eq!(cluster.stop(ALPHA).await.unwrap(), Stopped::InOrder);
    cluster.door(ALPHA).unwrap().heal();
    link.heal();
    cluster.restart(ALPHA).await.unwrap();
    for id in &stuck {
        assert_eq!(alice.outcome(*id).await.unwrap().state, TrackingState::Stored);
    }
    assert_eq!(bob.waiting().await.unwrap().len(), 1 + stuck.len());
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_back_off_that_nothing_waits_for_ends_with_the_peers_return_too() {
    let clock = StandingClock::new();
    let cluster = Cluster::builder([ALPHA, BETA]).clock(clock.clone()).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    cluster.stop(BETA).await.unwrap();
    let expires_at = cluster.clock().now() + Duration::from_secs(90 * 60);
    let draft = Draft { expires_at, ..draft(&cluster, &bob, "too late") };
    let id = tracking(alice.submit(&bob, draft.finish().unwrap()).await.unwrap());
    // Nine steps last 77 minutes at most, and the tenth wait ends after 99 at least.
    for failures in 1..=9 {
        let status = alice.tracked(id, |status| status.attempts == failures).await.unwrap();
        clock.set(Timestamp::from_secs(status.next_attempt_at.unwrap() + 1));
    }
    let status = alice.tracked(id, |status| status.attempts == 10).await.unwrap();
    assert!(status.next_attempt_at.unwrap() > expires_at.as_secs());
    clock.set(expires_at + Duration::from_secs(1));
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Expired);

    cluster.kill(ALPHA).await.unwrap();
    cluster.restart(ALPHA).await.unwrap();
    cluster.restart(BETA).await.unwrap();
    bob.send(&alice, b"I am back").await.unwrap();
    assert_eq!(alice.receive().await.unwrap().message, b"I am back");
    let id = tracking(alice.send(&bob, b"welcome").await.unwrap());
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);
    cluster.shut_down().await.unwrap();
}
