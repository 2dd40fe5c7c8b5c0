//! Answers that come when a batch's lease has lapsed and its envelope is on its way once more.

use postrider_common::clock::Clock;
use postrider_common::{Draft, FailureClass, MailboxId, Outcome, TrackingId};

use super::bench::{Bench, DAY, Peer, START, Unstarted, beta};
use super::*;
use crate::store::{Backoff, TrackingEnd, Window};

/// An envelope that is offered twice: the clock has gone on past the first lease, and neither was answered yet.
async fn offered_twice(peer: &Arc<Peer>) -> (Bench, TrackingId) {
    peer.gate.forget_permits(Semaphore::MAX_PERMITS);
    let bench = Bench::new(peer);
    let ids = bench.enqueue(1).await;
    peer.batches(1).await;
    bench.pass(bench.delivery.0.settings.attempt * 2).await;
    peer.batches(2).await;
    (bench, ids[0])
}

#[tokio::test]
async fn a_late_refusal_does_not_end_what_is_on_its_way_again() {
    let peer = Peer::new([Ok(Outcome::reject(FailureClass::NoSuchMailbox))]);
    let (bench, id) = offered_twice(&peer).await;
    peer.gate.add_permits(1);
    // The refusal has been dealt with when an envelope that came after it is on its way.
    let another = bench.enqueue(1).await;
    peer.batches(3).await;
    peer.gate.add_permits(2);
    for id in [id, another[0]] {
        assert_eq!(bench.end(id).await, TrackingEnd::Stored);
    }
    let counts = bench.delivery.counts();
    assert_eq!(counts.failed.totals().map(|(_, total)| total).sum::<u64>(), 0);
}

#[tokio::test]
async fn a_late_answer_to_come_again_does_not_send_a_third_time() {
    let peer = Peer::new([Ok(Outcome::retry(FailureClass::RemoteBusy, Duration::ZERO))]);
    let (bench, id) = offered_twice(&peer).await;
    peer.gate.add_permits(1);
    let another = bench.enqueue(1).await;
    peer.batches(3).await;
    for _ in 0..50 {
        bench.pass(Duration::from_secs(1)).await;
    }
    assert_eq!(peer.batches(3).await, [1, 1, 1], "it is on its way already");
    peer.gate.add_permits(2);
    for id in [id, another[0]] {
        assert_eq!(bench.end(id).await, TrackingEnd::Stored);
    }
}

#[tokio::test]
async fn what_has_arrived_late_is_not_sent_again() {
    let peer = Peer::new([Ok(Outcome::Stored), Err(FailureClass::TlsExpired)]);
    let (bench, id) = offered_twice(&peer).await;
    peer.gate.add_permits(1);
    assert_eq!(bench.end(id).await, TrackingEnd::Stored);
    peer.gate.add_permits(10);
    let failing = bench.backoff(Option::is_some).await.unwrap();
    while bench.clock.now() < failing.next_attempt + Duration::from_secs(10) {
        bench.pass(Duration::from_secs(1)).await;
    }
    assert_eq!(bench.store.destination(beta()).await.unwrap().unwrap().items, 0);
    assert_eq!(peer.batches(2).await, [1, 1]);
}

#[tokio::test]
async fn what_nobody_settled_is_tried_when_its_lease_has_lapsed() {
    let (peer, unstarted) = (Peer::new([]), Unstarted::new());
    let draft = Draft::new(MailboxId::from_bytes([1; 32]), START + 30 * DAY, &b"x"[..]);
    let (store, envelopes) = (Arc::clone(&unstarted.store), vec![draft.finish().unwrap()]);
    store.enqueue(beta(), beta(), envelopes, START).await.unwrap();
    let lapses = START + Duration::from_secs(120);
    let window = Window { count: 1, bytes: 1 << 20 };
    assert_eq!(store.lease(beta(), window, START, lapses).await.unwrap().len(), 1);
    let backoff = Backoff {
        failing_since: START,
        class: FailureClass::RemoteFailed,
        class_since: START,
        detail: String::new(),
        next_attempt: START + Duration::from_secs(5),
        failures: 1,
    };
    store.put_backoff(beta(), Some(backoff)).await.unwrap();
    let bench = unstarted.start(&peer, Settings::default());
    bench.advance_until(&peer, 1).await;
    assert!(bench.clock.now() < lapses + Duration::from_secs(180), "{}", bench.clock.now());
}
