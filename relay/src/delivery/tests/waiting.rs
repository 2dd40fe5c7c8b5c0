//! Peers that fail for long, and what ends that.

use std::sync::Arc;
use std::time::Duration;

use postrider_common::FailureClass;
use postrider_common::clock::Clock;

use super::super::Settings;
use super::bench::{Bench, DAY, Peer, START, Unstarted, beta};
use crate::delivery::transfer;
use crate::store::{Backoff, TrackingEnd};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_weekends_outage_is_caught_up_within_an_hour_although_the_peer_never_calls() {
    let peer = Peer::dead();
    let bench = Bench::new(&peer);
    let ids = bench.enqueue(300).await;
    while bench.clock.now() < START + 60 * HOUR {
        bench.pass(Duration::from_secs(60)).await;
    }
    let backoff = bench.backoff(Option::is_some).await.unwrap();
    assert_eq!(backoff.class, FailureClass::ConnectFailed);
    assert!(backoff.failing_since < START + HOUR, "one failure all the time");

    // At the worst moment: just after it was tried.
    let tried = peer.batches(1).await.len();
    bench.advance_until(&peer, tried + 3).await;
    peer.replies.lock().unwrap().clear();
    let back = bench.clock.now();
    let next = bench.backoff(|it| it.as_ref().unwrap().next_attempt > back).await.unwrap().next_attempt;
    assert!(next.since(back) > 3 * HOUR, "the ladder alone takes longer");
    while bench.store.destination(beta()).await.unwrap().is_some_and(|it| it.items > 0) {
        assert!(bench.clock.now() < back + HOUR, "it takes longer than an hour");
        bench.pass(Duration::from_secs(5)).await;
    }
    for id in ids {
        assert_eq!(bench.end(id).await, TrackingEnd::Stored);
    }
}

#[tokio::test]
async fn a_peer_that_only_greets_does_not_start_the_ladder_again() {
    let peer = Peer::new(vec![Err(FailureClass::MailboxFull); 1000]);
    let bench = Bench::new(&peer);
    bench.enqueue(1).await;
    bench.backoff(Option::is_some).await;
    while bench.clock.now() < START + 30 * HOUR {
        bench.pass(Duration::from_secs(60)).await;
    }
    let failing = bench.backoff(Option::is_some).await.unwrap();
    assert_eq!(failing.failing_since, START);
    assert!(failing.failures > 12, "{failing:?}");
    assert_eq!(*peer.greeted.borrow(), [], "its failure is none that a greeting would meet");
}

#[tokio::test]
async fn a_destination_for_which_nothing_waits_is_not_greeted_and_forgotten_after_a_day() {
    let peer = Peer::dead();
    let bench = Bench::new(&peer);
    let ids = bench.enqueue(1).await;
    bench.clock.set(START + 30 * DAY - 6 * HOUR);
    // So much of the ladder that the envelope's end comes during a long wait.
    while bench.store.tracking(ids[0]).await.unwrap().unwrap().end.is_none() {
        bench.store.expire(bench.clock.now(), 10).await.unwrap();
        bench.pass(Duration::from_secs(20)).await;
    }
    assert_eq!(bench.end(ids[0]).await, TrackingEnd::Expired);
    let kept = bench.backoff(Option::is_some).await.unwrap();
    let greeted = peer.greeted.borrow().len();
    while bench.clock.now() < kept.next_attempt + DAY - HOUR {
        bench.pass(Duration::from_secs(60)).await;
    }
    assert_eq!(bench.backoff(|_| true).await, Some(kept.clone()), "kept for a day");
    while !bench.delivery.workers().is_empty() {
        assert!(bench.clock.now() < kept.next_attempt + DAY + HOUR);
        bench.pass(Duration::from_secs(60)).await;
    }
    assert_eq!(bench.store.destination(beta()).await.unwrap(), None);
    assert_eq!(peer.greeted.borrow().len(), greeted);
}

#[tokio::test]
async fn what_was_kept_of_an_old_failure_is_forgotten_after_a_restart_too() {
    let peer = Peer::new([]);
    let bench = Unstarted::new();
    let old = Backoff {
        failing_since: START,
        failures: 7,
        class: FailureClass::ConnectFailed,
        class_since: START,
        detail: String::new(),
        next_attempt: START + HOUR,
    };
    bench.store.put_backoff(beta(), Some(old)).await.unwrap();
    bench.clock.set(START + 3 * DAY);
    let bench = bench.start(&peer, Settings::default());
    assert_eq!(bench.backoff(Option::is_none).await, None);
}

#[tokio::test]
async fn a_peer_that_answers_when_we_start_is_tried_at_once() {
    let peer = Peer::new([Err(FailureClass::TlsExpired)]);
    let bench = Bench::new(&peer);
    let ids = bench.enqueue(1).await;
    let backoff = bench.backoff(Option::is_some).await.unwrap();
    bench.delivery.greet([]);
    while bench.store.tracking(ids[0]).await.unwrap().unwrap().end.is_none() {
        assert!(bench.clock.now() < backoff.next_attempt, "before its time");
        bench.pass(Duration::from_millis(50)).await;
    }
    assert_eq!(bench.end(ids[0]).await, TrackingEnd::Stored);
}

#[tokio::test]
async fn a_clock_that_is_set_back_holds_nothing_up() {
    let peer = Peer::new([Err(FailureClass::TlsExpired)]);
    let bench = Bench::new(&peer);
    let ids = bench.enqueue(1).await;
    bench.backoff(Option::is_some).await;
    bench.clock.set(START - HOUR);
    bench.delivery.clock_was_set_back();
    assert_eq!(bench.end(ids[0]).await, TrackingEnd::Stored);
    assert_eq!(bench.clock.now(), START - HOUR, "no time had to pass");
}

#[tokio::test]
async fn who_refused_our_certificate_is_tried_at_once_with_another_and_nobody_else_is() {
    for (class, is_tried) in
        [(FailureClass::TlsOurCertificateRefused, true), (FailureClass::TlsPinMismatch, false)]
    {
        let peer = Peer::new([Err(class)]);
        let bench = Bench::new(&peer);
        let ids = bench.enqueue(1).await;
        let failing = bench.backoff(Option::is_some).await.unwrap();
        bench.delivery.our_certificate_has_changed();
        if !is_tried {
            // It has heard of it when it is asked for something else.
            bench.delivery.pause(&beta(), true).await.unwrap();
            bench.pass(Duration::from_millis(1)).await;
            assert_eq!(bench.backoff(|_| true).await, Some(failing));
            assert_eq!(peer.batches(1).await, [1]);
            continue;
        }
        assert_eq!(bench.end(ids[0]).await, TrackingEnd::Stored);
        assert_eq!(bench.clock.now(), START, "no time had to pass");
    }
}

/// What has attachments waits while as much of that is under way as may be, to whomever; then it is its turn.
#[tokio::test]
async fn an_envelope_with_attachments_waits_for_its_turn() {
    for is_failing in [false, true] {
        let peer = Peer::new(is_failing.then_some(Err(FailureClass::TlsExpired)));
        let bench = Bench::new(&peer);
        if is_failing {
            bench.enqueue(1).await;
            bench.backoff(Option::is_some).await;
        }
        let all = u32::try_from(transfer::ALL).unwrap();
        let taken = Arc::clone(&bench.delivery.0.transfers).acquire_many_owned(all).await.unwrap();
        let laden = bench.enqueue_laden(1).await[0];
        for _ in 0..100 {
            bench.pass(Duration::from_secs(60)).await;
        }
        bench.delivered_but(&beta(), 1).await;
        // Whoever was woken by that has looked.
        for _ in 0..100 {
            bench.pass(Duration::ZERO).await;
        }
        assert_eq!(bench.store.tracking(laden).await.unwrap().unwrap().end, None);
        let until = bench.clock.now();
        drop(taken);
        assert_eq!(bench.end(laden).await, TrackingEnd::Stored);
        assert_eq!(bench.clock.now(), until, "no time had to pass");
        // And nobody keeps a turn that is not needed.
        bench.delivered(&beta()).await;
        while bench.delivery.0.transfers.available_permits() < transfer::ALL {
            tokio::task::yield_now().await;
        }
    }
}
