//! The rules, carried out: what becomes of envelopes and destinations when peers answer, fail, or come back.

mod bench;
mod given_up;
mod laden;
mod late;
mod waiting;

use std::time::Duration;

use postrider_common::clock::Clock;
use postrider_common::{FailureClass, Outcome};
use tokio::sync::Semaphore;

use super::*;
use crate::store::{Backoff, TrackingEnd};
use bench::{Bench, DAY, Peer, START, beta};

#[tokio::test]
async fn what_is_enqueued_is_sent_and_tracked() {
    let peer = Peer::new([]);
    let bench = Bench::new(&peer);
    let ids = bench.enqueue(3).await;
    for id in ids {
        assert_eq!(bench.end(id).await, TrackingEnd::Stored);
    }
    assert_eq!(peer.batches(1).await.iter().sum::<usize>(), 3);
}

#[tokio::test]
async fn a_failing_peer_is_probed_with_one_envelope_after_the_wait() {
    let down = || Err(FailureClass::TlsExpired);
    let peer = Peer::new([down(), down()]);
    let bench = Bench::new(&peer);
    let ids = bench.enqueue(5).await;
    let first = bench.backoff(Option::is_some).await.unwrap();
    assert_eq!((first.failures, first.failing_since), (1, START));
    let wait = first.next_attempt.since(START);
    assert!(wait >= Duration::from_secs(4) && wait <= Duration::from_secs(6), "{wait:?}");

    bench.advance_until(&peer, 2).await;
    assert!(bench.clock.now() >= first.next_attempt);
    let second = bench.backoff(|backoff| backoff.as_ref().is_some_and(|it| it.failures == 2)).await.unwrap();
    assert_eq!((second.class, second.failing_since), (FailureClass::TlsExpired, START));

    bench.advance_until(&peer, 3).await;
    for id in ids {
        assert_eq!(bench.end(id).await, TrackingEnd::Stored);
    }
    assert_eq!(peer.batches(4).await, [5, 1, 1, 4]);
    assert_eq!(bench.backoff(Option::is_none).await, None);
}

#[tokio::test]
async fn batches_are_shorter_while_another_destination_is_served_too() {
    let alone = Peer::new([]);
    let bench = Bench::new(&alone);
    bench.enqueue(200).await;
    assert_eq!(alone.batches(1).await, [200]);

    let peer = Peer::new([]);
    let bench = Bench::new(&peer);
    let other = "gamma.example".parse().unwrap();
    bench.enqueue_for(&other, [vec![b'x']]).await;
    bench.delivered(&other).await;
    bench.enqueue(200).await;
    bench.delivered(&beta()).await;
    let batches = peer.batches(4).await;
    assert!(batches.iter().all(|count| *count <= 64), "{batches:?}");
    assert_eq!(batches.iter().sum::<usize>(), 200);
}

#[tokio::test]
async fn a_peer_that_calls_is_tried_at_once() {
    let peer = Peer::new([Err(FailureClass::TlsExpired)]);
    let bench = Bench::new(&peer);
    let ids = bench.enqueue(1).await;
    bench.backoff(Option::is_some).await;
    bench.delivery.peer_is_up(&bench.destination);
    assert_eq!(bench.end(ids[0]).await, TrackingEnd::Stored);
    assert_eq!(bench.clock.now(), START, "no time had to pass");
}

#[tokio::test]
async fn a_paused_destination_gets_nothing_until_it_is_resumed() {
    let peer = Peer::new([]);
    let bench = Bench::new(&peer);
    bench.delivery.pause(&beta(), true).await.unwrap();
    let held = bench.enqueue(3).await;
    let other = "gamma.example".parse().unwrap();
    bench.enqueue_for(&other, [vec![b'x']]).await;
    bench.delivered(&other).await;
    bench.delivery.retry(&beta());
    bench.delivery.peer_is_up(&beta());
    for _ in 0..20 {
        bench.pass(DAY / 10).await;
    }
    assert!(peer.batches(0).await.is_empty(), "only the other relay got something");
    let state = bench.store.destination(beta()).await.unwrap().unwrap();
    assert_eq!((state.items, state.paused), (3, Some(START)));
    assert!(!bench.delivery.fault_is_local());

    bench.delivery.pause(&beta(), false).await.unwrap();
    for id in held {
        assert_eq!(bench.end(id).await, TrackingEnd::Stored);
    }
}

#[tokio::test]
async fn a_pause_outlives_a_restart() {
    let peer = Peer::new([]);
    let unstarted = bench::Unstarted::new();
    unstarted.store.pause(beta(), Some(START)).await.unwrap();
    let bench = unstarted.start(&peer, Settings::default());
    let held = bench.enqueue(1).await;
    let other = "gamma.example".parse().unwrap();
    bench.enqueue_for(&other, [vec![b'x']]).await;
    bench.delivered(&other).await;
    bench.pass(DAY).await;
    assert_eq!(bench.store.tracking(held[0]).await.unwrap().unwrap().end, None);
    bench.delivery.pause(&beta(), false).await.unwrap();
    assert_eq!(bench.end(held[0]).await, TrackingEnd::Stored);
}

#[tokio::test]
async fn what_was_met_is_told() {
    let peer = Peer::new([Err(FailureClass::TlsExpired), Err(FailureClass::TlsExpired)]);
    let bench = Bench::new(&peer);
    let ids = bench.enqueue(1).await;
    bench.advance_until(&peer, 3).await;
    assert_eq!(bench.end(ids[0]).await, TrackingEnd::Stored);
    let met = bench.store.history(beta()).await.unwrap();
    assert_eq!(met.len(), 1, "{met:?}");
    assert_eq!((met[0].class, met[0].first, met[0].times), (FailureClass::TlsExpired, START, 2));
}

#[tokio::test]
async fn several_batches_that_one_outage_ends_are_one_failure() {
    let peer = Peer::new([(); 5].map(|()| Err(FailureClass::VersionUnsupported)));
    peer.gate.forget_permits(Semaphore::MAX_PERMITS);
    let one = Window { count: 1, bytes: 1 << 20 };
    let bench = Bench::with(&peer, Settings { batch: one, batches_in_flight: 4, ..Settings::default() });
    bench.enqueue(4).await;
    peer.batches(4).await;
    peer.gate.add_permits(100);
    assert_eq!(bench.backoff(Option::is_some).await.unwrap().failures, 1);
    bench.advance_until(&peer, 5).await;
    let failed_again = |backoff: &Option<Backoff>| backoff.as_ref().is_some_and(|it| it.failures > 1);
    assert_eq!(bench.backoff(failed_again).await.unwrap().failures, 2);
}

#[tokio::test]
async fn a_batch_that_is_too_large_for_the_peer_is_divided() {
    let too_large = || Err(FailureClass::TooLarge);
    let peer = Peer::new([too_large(), too_large()]);
    let bench = Bench::with(&peer, Settings { batches_in_flight: 1, ..Settings::default() });
    let ids = bench.enqueue(8).await;
    for id in ids {
        assert_eq!(bench.end(id).await, TrackingEnd::Stored);
    }
    assert_eq!(peer.batches(6).await, [8, 4, 2, 2, 2, 2]);
    assert_eq!(bench.backoff(|_| true).await, None, "the destination is well");
}

#[tokio::test]
async fn an_envelope_that_is_too_large_by_itself_has_failed() {
    let peer = Peer::new([Err(FailureClass::TooLarge)]);
    let bench = Bench::new(&peer);
    let ids = bench.enqueue(1).await;
    assert_eq!(bench.end(ids[0]).await, TrackingEnd::Failed(FailureClass::TooLarge));
    let kept = bench.store.quarantined(beta()).await.unwrap();
    assert_eq!((kept.len(), kept[0].class), (1, FailureClass::TooLarge));
    assert_eq!(bench.backoff(|_| true).await, None, "the destination is well");
}

#[tokio::test]
async fn an_answer_for_one_envelope_is_its_own_affair() {
    let full = Outcome::retry(FailureClass::MailboxFull, Duration::from_secs(30));
    let peer = Peer::new([Ok(full)]);
    let bench = Bench::new(&peer);
    let full = bench.enqueue(1).await[0];
    let tracking = bench.tracked(full, |tracking| tracking.attempts == 1).await;
    assert_eq!(tracking.reason, Some(FailureClass::MailboxFull));
    assert_eq!(tracking.not_before, Some(START + Duration::from_secs(30)));
    assert_eq!(bench.backoff(|_| true).await, None, "the destination is well");
    let other = bench.enqueue(1).await[0];
    assert_eq!(bench.end(other).await, TrackingEnd::Stored);
    bench.advance_until(&peer, 3).await;
    assert_eq!(bench.end(full).await, TrackingEnd::Stored);
}

#[tokio::test]
async fn a_rejected_envelope_has_failed() {
    let peer = Peer::new([Ok(Outcome::reject(FailureClass::NoSuchMailbox))]);
    let bench = Bench::new(&peer);
    let ids = bench.enqueue(1).await;
    assert_eq!(bench.end(ids[0]).await, TrackingEnd::Failed(FailureClass::NoSuchMailbox));
}

#[tokio::test]
async fn an_envelope_whose_time_is_over_is_not_sent() {
    let peer = Peer::new([Err(FailureClass::TlsExpired)]);
    let bench = Bench::new(&peer);
    let ids = bench.enqueue(1).await;
    bench.backoff(Option::is_some).await;
    bench.clock.set(START + 30 * DAY);
    assert_eq!(bench.end(ids[0]).await, TrackingEnd::Expired);
    assert_eq!(peer.batches(1).await, [1], "only the first attempt");
    assert!(bench.backoff(|_| true).await.is_none_or(|backoff| backoff.failures == 1));
}

#[tokio::test]
async fn stopping_lets_what_is_under_way_end() {
    let peer = Peer::new([]);
    peer.gate.forget_permits(Semaphore::MAX_PERMITS);
    let bench = Bench::new(&peer);
    let ids = bench.enqueue(1).await;
    peer.batches(1).await;
    bench.supervisor.stop();
    peer.gate.add_permits(1);
    bench.supervisor.finished().await;
    assert_eq!(bench.end(ids[0]).await, TrackingEnd::Stored);
    assert_eq!(bench.supervisor.failure(), None);
}

#[tokio::test]
async fn a_worker_without_work_ends_and_another_follows() {
    let peer = Peer::new([]);
    let bench = Bench::new(&peer);
    let first = bench.enqueue(1).await[0];
    assert_eq!(bench.end(first).await, TrackingEnd::Stored);
    while !bench.delivery.workers().is_empty() {
        bench.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    let second = bench.enqueue(1).await[0];
    assert_eq!(bench.end(second).await, TrackingEnd::Stored);
}

#[tokio::test]
async fn a_restart_of_the_peer_does_not_start_the_ladder() {
    use FailureClass::{ConnectFailed, RemoteBusy};
    let peer = Peer::new([Err(ConnectFailed), Err(RemoteBusy)]);
    let bench = Bench::new(&peer);
    let ids = bench.enqueue(2).await;
    peer.batches(1).await;
    bench.advance_until(&peer, 3).await;
    for id in ids {
        assert_eq!(bench.end(id).await, TrackingEnd::Stored);
    }
    assert_eq!(peer.batches(3).await, [2, 2, 2], "the same batch, no probe");
    assert!(bench.clock.now().since(START) >= Duration::from_millis(1200));
    assert_eq!(bench.backoff(|_| true).await, None);
}

#[tokio::test]
async fn three_quick_tries_are_one_failure() {
    let peer = Peer::dead();
    let bench = Bench::new(&peer);
    bench.enqueue(1).await;
    peer.batches(1).await;
    bench.advance_until(&peer, 3).await;
    assert_eq!(bench.backoff(Option::is_some).await.unwrap().failures, 1);
    assert_eq!(peer.batches(3).await.len(), 3);
    bench.advance_until(&peer, 4).await;
    assert!(bench.clock.now().since(START) >= Duration::from_secs(5), "the fourth try is after the wait");
}

#[tokio::test]
async fn a_refusal_is_asked_again_once_after_ten_minutes() {
    let peer = Peer::new([(); 2].map(|()| Err(FailureClass::PolicyDeniedThere)));
    let bench = Bench::new(&peer);
    let ids = bench.enqueue(3).await;
    let first = bench.backoff(Option::is_some).await.unwrap();
    assert_eq!(first.next_attempt, START + Duration::from_secs(600));
    bench.clock.set(first.next_attempt);
    for id in ids {
        assert_eq!(bench.end(id).await, TrackingEnd::Failed(FailureClass::PolicyDeniedThere));
    }
    assert_eq!(peer.batches(2).await, [3, 1]);
}

#[tokio::test]
async fn an_operator_can_have_a_destination_tried_at_once() {
    let peer = Peer::new([Err(FailureClass::PolicyDeniedThere)]);
    let bench = Bench::new(&peer);
    let ids = bench.enqueue(1).await;
    bench.backoff(Option::is_some).await;
    bench.delivery.retry(&bench.destination);
    assert_eq!(bench.end(ids[0]).await, TrackingEnd::Stored);
    assert_eq!(bench.clock.now(), START);
}

#[tokio::test]
async fn a_peer_whose_records_change_is_tried_before_its_time() {
    let peer = Peer::new([Err(FailureClass::PolicyDeniedThere)]);
    let bench = Bench::new(&peer);
    let ids = bench.enqueue(1).await;
    bench.backoff(Option::is_some).await;
    *peer.fingerprint.lock().unwrap() = None;
    let advance = async || {
        for _ in 0..301 {
            bench.pass(Duration::from_secs(1)).await;
        }
    };
    advance().await;
    assert_eq!(peer.batches(1).await.len(), 1, "that DNS does not answer says nothing");
    *peer.fingerprint.lock().unwrap() = Some(2);
    bench.advance_until(&peer, 2).await;
    assert_eq!(bench.end(ids[0]).await, TrackingEnd::Stored);
}

#[tokio::test]
async fn order_is_kept_where_nothing_was_retried() {
    let peer = Peer::new([(); 3].map(|()| Err(FailureClass::TlsExpired)));
    let few = Window { count: 7, bytes: 1 << 20 };
    let bench = Bench::with(&peer, Settings { batch: few, batches_in_flight: 3, ..Settings::default() });
    peer.gate.forget_permits(Semaphore::MAX_PERMITS);
    let bodies: Vec<Vec<u8>> = (0..100_u8).map(|number| vec![number]).collect();
    let ids = bench.enqueue_for(&bench.destination, bodies.clone()).await;
    peer.batches(3).await;
    let sent = std::mem::take(&mut *peer.bodies.lock().unwrap());
    assert_eq!(sent, bodies[..21], "several batches at a time");
    peer.gate.add_permits(1000);
    bench.backoff(Option::is_some).await;
    while !peer.replies.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    bench.delivery.peer_is_up(&bench.destination);
    for id in ids {
        assert_eq!(bench.end(id).await, TrackingEnd::Stored);
    }
    assert_eq!(
        *peer.bodies.lock().unwrap(),
        bodies,
        "also after a failure, which has retried none of them alone"
    );
}

#[tokio::test]
async fn a_stalled_destination_with_a_backlog_delays_no_other() {
    const BODY: usize = 64 << 10;
    let peer = Peer::new([]);
    peer.gate.forget_permits(Semaphore::MAX_PERMITS);
    // Room for two full batches, all destinations together.
    let settings = Settings {
        batch: Window { count: 256, bytes: 512 << 10 },
        in_flight_bytes: 1 << 20,
        ..Settings::default()
    };
    let bench = Bench::with(&peer, settings);
    bench.enqueue_for(&bench.destination, (0..100).map(|_| vec![0; BODY])).await;
    let stalled = peer.batches(2).await;
    let gamma = "gamma.example".parse().unwrap();
    for id in bench.enqueue_for(&gamma, (0..40).map(|_| vec![1; BODY])).await {
        assert_eq!(bench.end(id).await, TrackingEnd::Stored);
    }
    assert_eq!(bench.clock.now(), START, "no time had to pass");
    let under_way: usize = peer.batches(2).await.iter().sum();
    assert!(under_way * BODY <= 1 << 20, "{under_way} envelopes, {stalled:?}");

    peer.gate.add_permits(1000);
    bench.delivered(&bench.destination).await;
    while bench.delivery.0.budget.available_permits() < 1024 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn when_nobody_can_be_reached_the_ladder_freezes_until_somebody_is() {
    let gamma: Domain = "gamma.example".parse().unwrap();
    let peer = Peer::dead();
    peer.others.lock().unwrap().push(gamma.clone());
    let bench = Bench::new(&peer);
    let at_beta = bench.enqueue(1).await[0];
    bench.advance_until(&peer, 3).await;
    bench.backoff(Option::is_some).await;
    assert!(!bench.delivery.fault_is_local(), "one is not enough");
    let at_gamma = bench.enqueue_for(&gamma, [vec![1]]).await[0];
    while !bench.delivery.fault_is_local() {
        tokio::task::yield_now().await;
    }
    for step in 2..20 {
        bench.advance_until(&peer, 3 * step).await;
    }
    let frozen = bench.backoff(|backoff| backoff.as_ref().is_some_and(|it| it.failures == 4)).await.unwrap();
    assert!(frozen.next_attempt.since(bench.clock.now()) <= Duration::from_secs(72));

    peer.others.lock().unwrap().clear();
    peer.replies.lock().unwrap().clear();
    bench.delivery.retry(&gamma);
    assert_eq!(bench.end(at_gamma).await, TrackingEnd::Stored);
    let then = bench.clock.now();
    assert_eq!(bench.end(at_beta).await, TrackingEnd::Stored);
    assert!(!bench.delivery.fault_is_local());
    assert_eq!(bench.clock.now(), then, "the other was tried at once");
}

#[tokio::test]
async fn a_relay_that_starts_greets_its_peers_and_whoever_fails() {
    let gamma: Domain = "gamma.example".parse().unwrap();
    let peer = Peer::new([Err(FailureClass::TlsExpired)]);
    let bench = Bench::new(&peer);
    bench.enqueue(1).await;
    bench.backoff(Option::is_some).await;
    bench.delivery.greet([gamma.clone()]);
    let mut greeted = peer.greeted.subscribe();
    while greeted.borrow_and_update().len() < 2 {
        bench.pass(Duration::from_millis(100)).await;
    }
    assert_eq!(*greeted.borrow(), [beta(), gamma]);
}

#[tokio::test]
async fn that_we_stop_is_no_failure_of_the_peers() {
    let peer = Peer::dead();
    peer.gate.forget_permits(Semaphore::MAX_PERMITS);
    let bench = Bench::new(&peer);
    bench.enqueue(1).await;
    peer.batches(1).await;
    bench.supervisor.stop();
    peer.gate.add_permits(9);
    bench.supervisor.finished().await;
    assert_eq!(bench.backoff(|_| true).await, None);
    assert_eq!(peer.batches(1).await.len(), 1, "no quick try while stopping");
}
