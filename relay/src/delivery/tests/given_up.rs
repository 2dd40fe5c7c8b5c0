//! What waits for a destination that is given up, and what is held for a mailbox that has moved.

use std::time::Duration;

use postrider_common::clock::Clock;
use postrider_common::{Binding, DeviceId, Draft, EntryId, FailureClass, MailboxId, Outcome};

use super::super::*;
use super::bench::{Bench, DAY, Peer, START, beta};
use crate::store::{Enqueued, Onward, SentOn, Source, TrackingEnd};

#[tokio::test]
async fn all_that_waits_fails_with_a_destination_that_is_given_up() {
    let later = Outcome::retry(FailureClass::MailboxFull, Duration::from_secs(1800));
    let peer =
        Peer::new([Ok(later), Err(FailureClass::DiscoveryDeclined), Err(FailureClass::DiscoveryDeclined)]);
    let small = Window { count: 3, bytes: 1 << 20 };
    let settings = Settings { batch: small, batches_in_flight: 1, ..Settings::default() };
    let bench = Bench::with(&peer, settings);
    let delayed = bench.enqueue(1).await[0];
    bench.tracked(delayed, |tracking| tracking.attempts == 1).await;
    let ids = bench.enqueue(20).await;
    let failed = TrackingEnd::Failed(FailureClass::DiscoveryDeclined);
    for id in ids {
        assert_eq!(bench.end(id).await, failed);
    }
    assert_eq!(bench.end(delayed).await, failed, "also what had a time of its own");
    assert_eq!(peer.batches(2).await.len(), 2, "one attempt was enough");
    assert_eq!(bench.clock.now(), START, "no time had to pass");

    // What comes while that is fresh has failed too; what comes later is a fresh attempt, and the next one gets through.
    assert_eq!(bench.end(bench.enqueue(1).await[0]).await, failed);
    assert_eq!(peer.batches(2).await.len(), 2);
    let until = bench.backoff(Option::is_some).await.unwrap().next_attempt;
    bench.clock.set(until);
    while peer.batches(2).await.len() < 3 {
        // The worker may be about to give up one more by the time before.
        assert_eq!(bench.end(bench.enqueue(1).await[0]).await, failed);
    }
    bench.delivery.retry(&bench.destination);
    assert_eq!(bench.backoff(Option::is_none).await, None);
    assert_eq!(bench.end(bench.enqueue(1).await[0]).await, TrackingEnd::Stored);
}

#[tokio::test]
async fn what_has_attachments_fails_with_a_destination_that_is_given_up() {
    // As many as are under way at a time.
    let peer = Peer::new([(); 2].map(|()| Err(FailureClass::DiscoveryDeclined)));
    let small = Window { count: 3, bytes: 1 << 20 };
    let bench = Bench::with(&peer, Settings { batch: small, ..Settings::default() });
    for id in bench.enqueue_laden(8).await {
        assert_eq!(bench.end(id).await, TrackingEnd::Failed(FailureClass::DiscoveryDeclined));
    }
    assert_eq!(bench.clock.now(), START, "no time had to pass");
}

#[tokio::test]
async fn what_is_held_outlives_a_destination_that_is_given_up() {
    let peer = Peer::new([(); 2].map(|()| Err(FailureClass::DiscoveryDeclined)));
    let small = Window { count: 3, bytes: 1 << 20 };
    let bench = Bench::with(&peer, Settings { batch: small, batches_in_flight: 1, ..Settings::default() });
    let held: Vec<_> = (0..10)
        .map(|number| {
            let draft = Draft::new(MailboxId::from_bytes([1; 32]), START + 30 * DAY, vec![number]);
            SentOn {
                envelope: draft.finish().unwrap(),
                addressed: None,
                onward: Onward { moves: 0, held: Some(1) },
                source: Source::Held { entry: EntryId(number.into()), serial: 1 },
            }
        })
        .collect();
    let answers = bench.store.enqueue_onward(bench.destination.clone(), held, START).await.unwrap();
    let ids = bench.enqueue(10).await;
    for id in ids {
        assert_eq!(bench.end(id).await, TrackingEnd::Failed(FailureClass::DiscoveryDeclined));
    }
    let id = |answer| match answer {
        Enqueued::Queued(id) => id,
        other => panic!("{other:?}"),
    };
    let held: Vec<_> = answers.into_iter().map(id).collect();
    for id in &held {
        assert_eq!(bench.tracked(*id, |tracking| tracking.attempts > 0).await.end, None);
    }
    for _ in 0..100 {
        bench.pass(Duration::ZERO).await;
    }
    for id in held {
        let attempts = bench.store.tracking(id).await.unwrap().unwrap().attempts;
        assert!(attempts <= 2, "it is put back once, and not {attempts} times");
    }
    while bench.store.destination(beta()).await.unwrap().is_some_and(|state| state.items > 0) {
        bench.pass(Duration::from_secs(60)).await;
    }
    assert!(bench.clock.now() < START + DAY, "it was tried again");
}

/// Also when its owner has said that it is kept here, and there is no room for it.
#[tokio::test]
async fn what_is_held_and_cannot_go_where_its_owner_says_keeps_nothing_from_failing() {
    let peer = Peer::new([(); 3].map(|()| Err(FailureClass::DiscoveryDeclined)));
    let small = Window { count: 3, bytes: 1 << 20 };
    let bench = Bench::with(&peer, Settings { batch: small, ..Settings::default() });
    let key = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    let mailbox = MailboxId::from_bytes(key.verifying_key().to_bytes());
    bench.store.register(mailbox, DeviceId::from_bytes([1; 32]), START).await.unwrap();
    let here = Binding::sign(&key, bench.delivery.0.domain.clone(), 2);
    bench.store.put_binding(here, true).await.unwrap();
    bench.store.suspend(mailbox, true, START).await.unwrap();
    let sent_on = SentOn {
        envelope: Draft::new(mailbox, START + 30 * DAY, &b"held"[..]).finish().unwrap(),
        addressed: None,
        onward: Onward { moves: 0, held: Some(1) },
        source: Source::Held { entry: EntryId(1), serial: 1 },
    };
    let answers = bench.store.enqueue_onward(beta(), vec![sent_on], START).await.unwrap();
    let [Enqueued::Queued(held)] = answers[..] else { panic!("{answers:?}") };
    for id in bench.enqueue_laden(4).await {
        assert_eq!(bench.end(id).await, TrackingEnd::Failed(FailureClass::DiscoveryDeclined));
    }
    for _ in 0..100 {
        bench.pass(Duration::ZERO).await;
    }
    let held = bench.store.tracking(held).await.unwrap().unwrap();
    assert!(held.end.is_none() && held.attempts <= 2, "{held:?}");
}

#[tokio::test]
async fn what_is_held_follows_each_word_of_its_owners_however_often_it_has_been_sent_on() {
    let refused = Ok(Outcome::reject(FailureClass::NoSuchMailbox));
    let peer = Peer::new(vec![refused; 1000]);
    let bench = Bench::new(&peer);
    let key = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    let mailbox = MailboxId::from_bytes(key.verifying_key().to_bytes());
    bench.store.register(mailbox, DeviceId::from_bytes([1; 32]), START).await.unwrap();
    let here = |serial| Binding::sign(&key, bench.delivery.0.domain.clone(), serial);
    bench.store.put_binding(here(7), true).await.unwrap();
    // One has followed what its owner has said last, and the others that it has been sent to: it stays where it is.
    for (number, held) in [(1, 7), (2, 6)] {
        let draft = Draft::new(mailbox, START + 30 * DAY, vec![number]);
        let sent_on = SentOn {
            envelope: draft.finish().unwrap(),
            addressed: None,
            onward: Onward { moves: crate::route::MAX_MOVES, held: Some(held) },
            source: Source::Held { entry: EntryId(number.into()), serial: held },
        };
        bench.store.enqueue_onward(bench.destination.clone(), vec![sent_on], START).await.unwrap();
    }
    let entries = async || bench.store.mailbox(mailbox).await.unwrap().unwrap().entries;
    while entries().await == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(entries().await, 1);
    bench.store.put_binding(here(8), true).await.unwrap();
    while entries().await < 2 {
        bench.pass(Duration::from_secs(60)).await;
    }
    assert!(bench.clock.now() < START + DAY);
}
