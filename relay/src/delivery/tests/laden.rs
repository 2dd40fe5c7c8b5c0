//! Envelopes with attachments that cannot be brought.

use std::time::Duration;

use postrider_common::clock::Clock;
use postrider_common::{Failure, FailureClass, TrackingId};

use super::bench::{Bench, DAY, Peer, START};
use super::*;
use crate::store::{Backoff, Tracking, TrackingEnd};

fn not_now(retry_after: Option<Duration>) -> Result<Brought, Failure> {
    Ok(Brought::NotNow(Failure {
        retry_after,
        ..Failure::new(FailureClass::RemoteFailed, "as the test wants it")
    }))
}

async fn refused_once(bench: &Bench, laden: TrackingId) -> Tracking {
    bench.tracked(laden, |tracking| tracking.attempts > 0).await
}

#[tokio::test]
async fn others_do_not_wait_for_attachments_that_the_peer_does_not_take() {
    let peer = Peer::new([]);
    peer.not_brought.lock().unwrap().extend([not_now(None), not_now(None), not_now(None)]);
    let bench = Bench::new(&peer);
    let laden = bench.enqueue_laden(1).await[0];
    let waits = refused_once(&bench, laden).await;
    assert_eq!((waits.reason, waits.end), (Some(FailureClass::RemoteFailed), None));
    let plain = bench.enqueue(1).await[0];
    assert_eq!(bench.end(plain).await, TrackingEnd::Stored, "no time has passed");
    let state = bench.store.destination(bench.destination.clone()).await.unwrap().unwrap();
    assert_eq!((state.items, state.backoff), (1, None));
    bench.advance_until(&peer, 2).await;
    assert_eq!(bench.end(laden).await, TrackingEnd::Stored);
    // By the ladder: 5, 15 and 30 s, each a fifth more or less.
    let waited = bench.clock.now().since(START).as_secs();
    assert!((40..=61).contains(&waited), "{waited}");
}

#[tokio::test]
async fn a_peer_that_asks_for_time_is_not_asked_for_each_envelope() {
    let peer = Peer::new([]);
    peer.not_brought.lock().unwrap().extend(vec![not_now(Some(Duration::from_secs(300))); 2]);
    let bench = Bench::new(&peer);
    let ids = bench.enqueue_laden(20).await;
    while !peer.not_brought.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        bench.pass(Duration::from_secs(20)).await;
    }
    assert_eq!(peer.batches.borrow().len(), 0, "two are under way at a time, and were put off");
    // What the peer says for itself ends the wait.
    bench.delivery.peer_is_up(&bench.destination);
    bench.delivered(&bench.destination).await;
    for id in ids {
        assert_eq!(bench.end(id).await, TrackingEnd::Stored);
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_prolong_the_pause() {
    let peer = Peer::new([]);
    peer.not_brought.lock().unwrap().push_back(not_now(None));
    let bench = Bench::new(&peer);
    let laden = bench.enqueue_laden(1).await[0];
    refused_once(&bench, laden).await;
    bench.clock.set(START - DAY);
    let another = bench.enqueue_laden(1).await[0];
    assert_eq!(bench.end(another).await, TrackingEnd::Stored, "no time has passed");
}

#[tokio::test]
async fn what_is_not_taken_while_the_destination_fails_is_one_more_failure_of_it() {
    let peer = Peer::new([]);
    let denied = Err(Failure::new(FailureClass::PolicyDeniedThere, "as the test wants it"));
    peer.not_brought.lock().unwrap().extend([denied, not_now(None)]);
    let bench = Bench::new(&peer);
    let laden = bench.enqueue_laden(1).await[0];
    let first = bench.backoff(Option::is_some).await.unwrap();
    assert_eq!(first.class, FailureClass::PolicyDeniedThere);
    let is_next = |backoff: &Option<Backoff>| {
        backoff.as_ref().is_some_and(|backoff| backoff.class == FailureClass::RemoteFailed)
    };
    let next = loop {
        bench.pass(Duration::from_secs(1)).await;
        let state = bench.store.destination(bench.destination.clone()).await.unwrap().unwrap();
        if is_next(&state.backoff) {
            break state.backoff.unwrap();
        }
    };
    assert_eq!((next.failures, next.class_since > first.class_since), (2, true));
    bench.advance_until(&peer, 1).await;
    assert_eq!(bench.end(laden).await, TrackingEnd::Stored);
}

#[tokio::test]
async fn a_restart_of_the_peer_in_an_attachment_does_not_start_the_ladder() {
    for is_slow in [false, true] {
        let peer = Peer::new([]);
        let refused = Err(Failure::new(FailureClass::ConnectFailed, "as the test wants it"));
        peer.not_brought.lock().unwrap().extend([refused.clone(), refused]);
        let bench = Bench::new(&peer);
        *peer.slow.lock().unwrap() = is_slow.then(|| bench.clock.clone());
        let laden = bench.enqueue_laden(1).await[0];
        bench.advance_until(&peer, 1).await;
        assert_eq!(bench.end(laden).await, TrackingEnd::Stored);
        let tracking = bench.store.tracking(laden).await.unwrap().unwrap();
        assert_eq!((tracking.attempts, tracking.reason), (1, None));
        let brought = Duration::from_secs(if is_slow { 180 } else { 0 });
        let waited = bench.clock.now().since(START + brought);
        assert!(
            waited < Duration::from_secs(4),
            "{waited:?}: the first step of the ladder is 5 s, less a fifth"
        );
    }
}
