//! Somebody sets the clock.

use std::time::Duration;

use postrider_common::Draft;
use postrider_common::clock::Clock;
use postrider_common::wire::control::TrackingState;
use postrider_tests::clock::StandingClock;
use postrider_tests::cluster::Cluster;

use crate::plain::{ALPHA, BETA, DAY, draft, tracking, waiting};

#[tokio::test]
async fn a_clock_that_jumps_a_day_and_back_loses_nothing_and_doubles_nothing() {
    let clock = StandingClock::new();
    let start = clock.now();
    let cluster = Cluster::builder([ALPHA, BETA]).clock(clock.clone()).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let write = |to, text: &str| {
        let draft = draft(&cluster, to, text);
        Draft { expires_at: start + DAY * 7, ..draft }.finish().unwrap()
    };
    let (local, remote) = (write(&alice, "local"), write(&bob, "remote"));
    for now in [start, start + DAY, start] {
        clock.set(now);
        alice.submit(&alice, local.clone()).await.unwrap();
        let id = tracking(alice.submit(&bob, remote.clone()).await.unwrap());
        assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);
        assert_eq!(waiting(&alice).await, ["local"]);
        assert_eq!(waiting(&bob).await, ["remote"]);
    }

    // A peer that failed while the clock was wrong is waited for until a day that is far off.
    cluster.stop(BETA).await.unwrap();
    clock.set(start + DAY);
    let late = write(&bob, "late");
    let id = tracking(alice.submit(&bob, late.clone()).await.unwrap());
    alice.tracked(id, |status| status.attempts > 0).await.unwrap();
    clock.set(start);
    for relay in [ALPHA, BETA] {
        if relay == ALPHA {
            cluster.kill(relay).await.unwrap();
        }
        cluster.restart(relay).await.unwrap();
    }
    bob.submit(&alice, write(&alice, "I am back")).await.unwrap();
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);
    assert_eq!(tracking(alice.submit(&bob, late).await.unwrap()), id);
    assert_eq!(waiting(&bob).await, ["remote", "late"]);
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_relay_says_once_that_its_clock_was_set() {
    let clock = StandingClock::new();
    let start = clock.now();
    let cluster = Cluster::builder([ALPHA, BETA]).clock(clock.clone()).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let (ahead, back) = ("the machine's clock was set ahead", "the machine's clock was set back");
    clock.advance(Duration::from_secs(3600));
    clock.set(start + DAY);
    cluster.logged(ALPHA, ahead).await.unwrap();
    cluster.logged(ALPHA, "seconds=82800").await.unwrap();

    // A peer that failed while the clock was wrong is tried at once, and not a day later.
    cluster.stop(BETA).await.unwrap();
    let id = tracking(alice.submit(&bob, draft(&cluster, &bob, "late").finish().unwrap()).await.unwrap());
    alice.tracked(id, |status| status.attempts > 0).await.unwrap();
    cluster.restart(BETA).await.unwrap();
    clock.set(start);
    clock.advance(Duration::from_secs(10));
    cluster.logged(ALPHA, back).await.unwrap();
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);

    for _ in 0..6 {
        clock.advance(Duration::from_secs(10));
    }
    let log = cluster.log(ALPHA).await.unwrap();
    assert_eq!((log.matches(ahead).count(), log.matches(back).count()), (1, 1), "each once");
    cluster.shut_down().await.unwrap();
}
