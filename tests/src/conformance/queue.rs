//! Promises about the outbound queue.

use std::sync::Arc;
use std::time::Duration;

use postrider::store::{
    Backoff, Destination, Enqueued, Leased, Onward, QUARANTINE_ITEMS, Quarantined, SentOn, Source, Store,
    StoreLimits, TrackingEnd, Verdict, Window,
};
use postrider_common::backoff::MAX_RETRY_AFTER;
use postrider_common::{Domain, Draft, EntryId, Envelope, FailureClass, Timestamp, TrackingId};

use super::{ALL, DAY, HOUR, NOW, Subject, domain, envelope, leased_bodies, mailbox, open};

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) async fn enqueue(store: &Arc<dyn Store>, to: &Domain, bodies: &[&str]) -> Vec<TrackingId> {
    let envelopes = bodies.iter().map(|body| envelope(1, body)).collect();
    let enqueued = store.enqueue(to.clone(), to.clone(), envelopes, NOW).await.unwrap();
    let id = |enqueued: Enqueued| match enqueued {
        Enqueued::Queued(id) => Some(id),
        Enqueued::Duplicate(_) | Enqueued::QueueFull | Enqueued::AttachmentMissing => None,
    };
    enqueued.into_iter().map(|answer| id(answer).unwrap()).collect()
}

pub(super) async fn lease(store: &Arc<dyn Store>, to: &Domain, count: usize, now: Timestamp) -> Vec<Leased> {
    let window = Window { count, ..ALL };
    store.lease(to.clone(), window, now, now + HOUR).await.unwrap()
}

pub(super) async fn settle(
    store: &Arc<dyn Store>,
    to: &Domain,
    leased: &Leased,
    verdict: Verdict,
    now: Timestamp,
) {
    store.settle(to.clone(), vec![leased.end(verdict)], now).await.unwrap();
}

pub(super) async fn destination(store: &Arc<dyn Store>, to: &Domain) -> Option<Destination> {
    store.destination(to.clone()).await.unwrap()
}

/// Tracking tells each state; settling what is not there is passed over; a record is dropped after its retention.
pub async fn tracks_an_envelope_to_its_end(subject: &impl Subject) {
    let store = open(subject);
    let to = domain("b.example");
    let tracking = enqueue(&store, &to, &["a", "b", "c", "d"]).await;
    let state = async |index: usize| store.tracking(tracking[index]).await.unwrap().unwrap();
    let queued = state(0).await;
    assert_eq!((&queued.destination, queued.queued_at), (&to, NOW));
    assert_eq!((queued.attempts, queued.reason), (0, None));
    assert_eq!((queued.not_before, queued.end), (None, None));
    assert_eq!(store.tracking(TrackingId::random()).await, Ok(None));

    let held = lease(&store, &to, 9, NOW).await;
    let later = NOW + SECOND;
    let retry = Verdict::Retry { reason: FailureClass::MailboxFull, not_before: NOW + HOUR };
    settle(&store, &to, &held[0], retry, later).await;
    let waiting = state(0).await;
    assert_eq!((waiting.attempts, waiting.reason), (1, Some(FailureClass::MailboxFull)));
    assert_eq!((waiting.not_before, waiting.end), (Some(NOW + HOUR), None));

    let failed = FailureClass::NoSuchMailbox;
    settle(&store, &to, &held[1], Verdict::Delivered, later).await;
    settle(&store, &to, &held[2], Verdict::Failed(failed), later).await;
    settle(&store, &to, &held[3], Verdict::Expired, later).await;
    assert_eq!(state(1).await.end, Some((TrackingEnd::Stored, later)));
    assert_eq!(state(2).await.end, Some((TrackingEnd::Failed(failed), later)));
    assert_eq!(state(3).await.end, Some((TrackingEnd::Expired, later)));
    settle(&store, &to, &held[1], Verdict::Failed(failed), later).await;
    assert_eq!(state(1).await.end, Some((TrackingEnd::Stored, later)), "the first verdict");
    assert_eq!(destination(&store, &to).await.unwrap().items, 1);

    let retention = StoreLimits::default().tracking_retention;
    store.expire(later + retention - SECOND, 100).await.unwrap();
    assert!(store.tracking(tracking[1]).await.unwrap().is_some());
    store.expire(later + retention, 100).await.unwrap();
    assert_eq!(store.tracking(tracking[1]).await, Ok(None));
    assert_eq!(store.tracking(tracking[3]).await, Ok(None));
}

/// An item whose retry time has not come is passed over; when it is due it goes first.
pub async fn delays_items_by_their_own_time(subject: &impl Subject) {
    let to = domain("b.example");
    let retry = |at| Verdict::Retry { reason: FailureClass::RemoteBusy, not_before: at };
    let (soon, late) = (NOW + HOUR, NOW + 2 * HOUR);
    let store = open(subject);
    enqueue(&store, &to, &["a", "b", "c", "d"]).await;
    assert_eq!(destination(&store, &to).await.unwrap().next_retry, None);
    let held = lease(&store, &to, 3, NOW).await;
    settle(&store, &to, &held[0], retry(late), NOW).await;
    settle(&store, &to, &held[2], retry(soon), NOW).await;
    assert_eq!(destination(&store, &to).await.unwrap().next_retry, Some(soon));
    assert_eq!(leased_bodies(&lease(&store, &to, 1, NOW).await), ["d"]);
    enqueue(&store, &to, &["e"]).await;
    store.close().await.unwrap();
    drop(store);

    let store = open(subject);
    let before = lease(&store, &to, 9, soon - SECOND).await;
    assert_eq!(leased_bodies(&before), ["b", "d", "e"]);
    for leased in &before {
        settle(&store, &to, leased, Verdict::Released, soon).await;
    }
    let due = lease(&store, &to, 2, soon).await;
    assert_eq!(leased_bodies(&due), ["c", "b"]);
    assert_eq!((due[0].attempts, due[1].attempts), (1, 0));
    assert_eq!(destination(&store, &to).await.unwrap().next_retry, Some(late));
    // Again, for a time before one at which delayed items were leased already.
    settle(&store, &to, &due[0], retry(soon - SECOND), soon).await;
    let again = lease(&store, &to, 1, soon).await;
    assert_eq!((leased_bodies(&again), again[0].attempts), (vec!["c".into()], 2));
    settle(&store, &to, &again[0], Verdict::Delivered, soon).await;
    let rest = lease(&store, &to, 9, late).await;
    assert_eq!(leased_bodies(&rest), ["a", "b", "d", "e"]);
    assert_eq!(destination(&store, &to).await.unwrap().next_retry, None);
}

/// An item that waits for longer than any wait lasts was delayed on a clock that has been set back since: it is due.
pub async fn takes_what_waits_by_a_clock_that_was_set_back(subject: &impl Subject) {
    let to = domain("b.example");
    let retry = |at| Verdict::Retry { reason: FailureClass::RemoteBusy, not_before: at };
    let store = open(subject);
    let bodies: Vec<_> = (0..150).map(|number| format!("{number:03}")).collect();
    enqueue(&store, &to, &bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let tomorrow = NOW + DAY;
    for leased in lease(&store, &to, 150, tomorrow).await {
        settle(&store, &to, &leased, retry(tomorrow + HOUR), tomorrow).await;
    }
    let farthest = tomorrow + HOUR - MAX_RETRY_AFTER;
    assert_eq!(lease(&store, &to, 1, farthest).await, [], "a peer may have asked for so long a wait");
    let few = lease(&store, &to, 3, farthest - SECOND).await;
    assert_eq!(leased_bodies(&few), bodies[..3]);
    settle(&store, &to, &few[0], Verdict::Delivered, NOW).await;
    settle(&store, &to, &few[1], retry(NOW + HOUR), NOW).await;
    settle(&store, &to, &few[2], Verdict::Released, NOW).await;
    let rest = leased_bodies(&lease(&store, &to, 150, NOW).await);
    assert_eq!(rest.len(), 148);
    assert!(rest.contains(&bodies[2]) && !rest.contains(&bodies[1]));
    assert_eq!(leased_bodies(&lease(&store, &to, 150, NOW + HOUR).await)[0], bodies[1], "when it is due");
}

/// The same envelope for the same address has one item and one tracking id, wherever that leads by now; for another
/// address, others.
pub async fn queues_an_envelope_once_per_address(subject: &impl Subject) {
    let (b, c) = (domain("b.example"), domain("c.example"));
    let same = envelope(1, "once");
    let batch = vec![same.clone(), same.clone()];
    let store = open(subject);
    let enqueued = store.enqueue(b.clone(), b.clone(), batch.clone(), NOW).await.unwrap();
    let Enqueued::Queued(id) = enqueued[0] else { unreachable!("a new envelope is queued: {enqueued:?}") };
    assert_eq!(enqueued[1], Enqueued::Duplicate(id));
    let elsewhere = store.enqueue(c.clone(), c, vec![same.clone()], NOW).await.unwrap();
    assert!(matches!(elsewhere[0], Enqueued::Queued(other) if other != id));
    let held = lease(&store, &b, 9, NOW).await;
    assert_eq!(held.len(), 1);
    settle(&store, &b, &held[0], Verdict::Delivered, NOW).await;
    store.close().await.unwrap();
    drop(store);
    let store = open(subject);
    let again = store.enqueue(b.clone(), b.clone(), batch, NOW + 6 * DAY).await;
    assert_eq!(again, Ok(vec![Enqueued::Duplicate(id); 2]), "also after its delivery");
    assert_eq!(lease(&store, &b, 9, NOW + 6 * DAY).await, []);
    let d = domain("d.example");
    let by_another_way = store.enqueue(d.clone(), b, vec![same], NOW + 6 * DAY).await;
    assert_eq!(by_another_way, Ok(vec![Enqueued::Duplicate(id)]), "also if its mailbox has moved");
    assert_eq!(lease(&store, &d, 9, NOW + 6 * DAY).await, []);
}

/// What ended without having arrived is queued anew when it is submitted again; what has arrived is not.
pub async fn queues_a_failed_envelope_again(subject: &impl Subject) {
    let store = open(subject);
    let to = domain("b.example");
    for (end, is_new) in [
        (Verdict::Failed(FailureClass::NoSuchMailbox), true),
        (Verdict::Expired, true),
        (Verdict::Delivered, false),
    ] {
        let batch = vec![envelope(1, "again")];
        let Enqueued::Queued(first) =
            store.enqueue(to.clone(), to.clone(), batch.clone(), NOW).await.unwrap()[0]
        else {
            unreachable!("it is new")
        };
        settle(&store, &to, &lease(&store, &to, 1, NOW).await[0], end, NOW).await;
        let second = store.enqueue(to.clone(), to.clone(), batch, NOW).await.unwrap()[0];
        if !is_new {
            assert_eq!(second, Enqueued::Duplicate(first));
            assert_eq!(lease(&store, &to, 1, NOW).await, []);
            continue;
        }
        let Enqueued::Queued(second) = second else { unreachable!("{end:?}: {second:?}") };
        assert_ne!(second, first);
        let leased = lease(&store, &to, 1, NOW).await;
        assert_eq!(leased_bodies(&leased), ["again"]);
        settle(&store, &to, &leased[0], Verdict::Delivered, NOW).await;
        let ends = [first, second].map(|id| store.tracking(id));
        let [first, second] = futures_util::future::join_all(ends).await.try_into().unwrap();
        assert!(first.unwrap().unwrap().end.is_some_and(|(end, _)| end != TrackingEnd::Stored));
        assert!(second.unwrap().unwrap().end.is_some_and(|(end, _)| end == TrackingEnd::Stored));
    }
}

/// A destination's queue holds so many items and bytes.
pub async fn bounds_a_destination(subject: &impl Subject) {
    let size = envelope(1, "1").encoded().len() as u64;
    let limits = StoreLimits { queue_items: 3, queue_bytes: 2 * size + 1, ..StoreLimits::default() };
    let store = subject.open(limits).unwrap();
    let (b, c) = (domain("b.example"), domain("c.example"));
    let batch: Vec<_> = ["1", "2", "3"].map(|body| envelope(1, body)).into();
    let enqueued = store.enqueue(b.clone(), b.clone(), batch.clone(), NOW).await.unwrap();
    assert_eq!(enqueued[2], Enqueued::QueueFull);
    let again = store.enqueue(b.clone(), b.clone(), batch[..1].into(), NOW).await.unwrap();
    assert!(matches!(again[..], [Enqueued::Duplicate(_)]));
    let elsewhere = store.enqueue(c.clone(), c, batch[2..].into(), NOW).await.unwrap();
    assert!(matches!(elsewhere[..], [Enqueued::Queued(_)]));
    let held = lease(&store, &b, 1, NOW).await;
    settle(&store, &b, &held[0], Verdict::Delivered, NOW).await;
    let third = store.enqueue(b.clone(), b, batch[2..].into(), NOW).await.unwrap();
    assert!(matches!(third[..], [Enqueued::Queued(_)]));
}

/// What mailboxes that have moved hold leaves room for the others.
pub async fn leaves_room_beside_what_was_held(subject: &impl Subject) {
    let store = subject.open(StoreLimits { queue_items: 4, ..StoreLimits::default() }).unwrap();
    let b = domain("b.example");
    let onward = Onward { moves: 0, held: Some(1) };
    let sent_on = |number: u64| {
        let source = Source::Held { entry: EntryId(number), serial: 1 };
        SentOn { envelope: envelope(1, &number.to_string()), addressed: None, onward, source }
    };
    let held = store.enqueue_onward(b.clone(), (0..3).map(sent_on).collect(), NOW).await.unwrap();
    assert!(matches!(held[..], [Enqueued::Queued(_), Enqueued::Queued(_), Enqueued::QueueFull]), "{held:?}");
    let batch = ["a", "b", "c"].map(|body| envelope(1, body));
    let others = store.enqueue(b.clone(), b, batch.into(), NOW).await.unwrap();
    assert!(
        matches!(others[..], [Enqueued::Queued(_), Enqueued::Queued(_), Enqueued::QueueFull]),
        "{others:?}"
    );
}

/// A destination is listed while it has items or a back-off; a back-off stays until it is cleared, across restarts.
pub async fn keeps_backoffs(subject: &impl Subject) {
    let (b, c) = (domain("b.example"), domain("c.example"));
    let backoff = Backoff {
        failing_since: NOW,
        failures: 3,
        class: FailureClass::TlsExpired,
        class_since: NOW + SECOND,
        detail: "the certificate ended yesterday".into(),
        next_attempt: NOW + HOUR,
    };
    let store = open(subject);
    assert_eq!(store.destinations().await, Ok(vec![]));
    assert_eq!(destination(&store, &b).await, None);
    store.put_backoff(b.clone(), Some(backoff.clone())).await.unwrap();
    enqueue(&store, &c, &["1"]).await;
    store.close().await.unwrap();
    drop(store);

    let store = open(subject);
    let listed = store.destinations().await.unwrap();
    let expected = Destination {
        domain: b.clone(),
        items: 0,
        bytes: 0,
        backoff: Some(backoff),
        next_retry: None,
        paused: None,
    };
    assert!(listed.contains(&expected), "{listed:?}");
    assert_eq!(listed.len(), 2);
    assert_eq!(destination(&store, &b).await, Some(expected));
    enqueue(&store, &b, &["2"]).await;
    assert_eq!(leased_bodies(&lease(&store, &b, 9, NOW).await), ["2"]);
    store.put_backoff(b.clone(), None).await.unwrap();
    let cleared = destination(&store, &b).await.unwrap();
    assert_eq!((cleared.items, cleared.backoff), (1, None));
    store.expire(NOW + 2 * DAY, 100).await.unwrap();
    assert_eq!(store.destinations().await, Ok(vec![]));
    // A queue that was empty goes on with new items, even if the clock was set back.
    enqueue(&store, &b, &["3"]).await;
    assert_eq!(leased_bodies(&lease(&store, &b, 9, NOW).await), ["3"]);
}

/// Items expire where they wait, and tracking says so; one that is leased is left to its lease.
pub async fn expires_queued_items_but_not_leased_ones(subject: &impl Subject) {
    let store = open(subject);
    let to = domain("b.example");
    let tracking = enqueue(&store, &to, &["leased", "given back", "delayed", "waiting"]).await;
    let late = Draft::new(mailbox(1), NOW + 3 * DAY, &b"late"[..]).finish().unwrap();
    store.enqueue(to.clone(), to.clone(), vec![late], NOW).await.unwrap();
    let over = NOW + DAY;
    let held = store.lease(to.clone(), Window { count: 3, ..ALL }, NOW, over + HOUR);
    let held = held.await.unwrap();
    settle(&store, &to, &held[1], Verdict::Released, NOW).await;
    let retry = Verdict::Retry { reason: FailureClass::RemoteBusy, not_before: NOW + HOUR };
    settle(&store, &to, &held[2], retry, NOW).await;

    assert_eq!(store.expire(over - SECOND, 100).await.unwrap().items, 0);
    let first = store.expire(over, 2).await.unwrap();
    assert_eq!((first.entries, first.items, first.more), (0, 2, true));
    let second = store.expire(over, 2).await.unwrap();
    assert_eq!((second.items, second.more), (1, false));
    let state = async |index: usize| store.tracking(tracking[index]).await.unwrap().unwrap().end;
    assert_eq!(state(0).await, None);
    for index in 1..4 {
        assert_eq!(state(index).await, Some((TrackingEnd::Expired, over)));
    }
    let left = destination(&store, &to).await.unwrap();
    assert_eq!((left.items, left.next_retry), (2, None));

    // Its lease lapses: an expired item is leased all the same, for the caller to settle.
    let lapsed = lease(&store, &to, 9, over + HOUR).await;
    assert_eq!(leased_bodies(&lapsed), ["leased", "late"]);
    settle(&store, &to, &lapsed[0], Verdict::Expired, over + HOUR).await;
    assert_eq!(state(0).await, Some((TrackingEnd::Expired, over + HOUR)));
}

/// What its destination cannot take has failed for the sender, is out of the queue, and is kept for the operator:
/// the latest few, for a while, and apart from other destinations'.
pub async fn keeps_what_is_quarantined_aside(subject: &impl Subject) {
    let (b, c) = (domain("b.example"), domain("c.example"));
    let store = open(subject);
    let large = Draft::new(mailbox(1), NOW + DAY, vec![7; 100 << 10]).finish().unwrap();
    store.enqueue(b.clone(), b.clone(), vec![large.clone()], NOW).await.unwrap();
    let ids = enqueue(&store, &b, &["poison", "good"]).await;
    let held = lease(&store, &b, 9, NOW).await;
    settle(&store, &b, &held[0], Verdict::Quarantined(FailureClass::TooLarge), NOW).await;
    settle(&store, &b, &held[1], Verdict::Quarantined(FailureClass::Malformed), NOW + SECOND).await;
    let tracking = store.tracking(ids[0]).await.unwrap().unwrap();
    let failed = TrackingEnd::Failed(FailureClass::Malformed);
    assert_eq!(tracking.end, Some((failed, NOW + SECOND)));
    assert_eq!(destination(&store, &b).await.unwrap().items, 1, "only the good one waits");
    let expected = [
        Quarantined { item: held[0].item, envelope: large, class: FailureClass::TooLarge, at: NOW },
        Quarantined {
            item: held[1].item,
            envelope: held[1].envelope.clone(),
            class: FailureClass::Malformed,
            at: NOW + SECOND,
        },
    ];
    assert_eq!(store.quarantined(b.clone()).await.unwrap(), expected);
    assert_eq!(store.quarantined(c.clone()).await.unwrap(), []);
    store.close().await.unwrap();
    drop(store);

    let store = open(subject);
    assert_eq!(store.quarantined(b.clone()).await.unwrap(), expected);
    let retention = StoreLimits::default().tracking_retention;
    store.expire(NOW + retention, 100).await.unwrap();
    assert_eq!(store.quarantined(b.clone()).await.unwrap(), expected[1..]);
    store.expire(NOW + retention + SECOND, 100).await.unwrap();
    assert_eq!(store.quarantined(b).await.unwrap(), []);

    let names: Vec<_> = (0..QUARANTINE_ITEMS + 3).map(|n| format!("{n:03}")).collect();
    enqueue(&store, &c, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for leased in &lease(&store, &c, usize::MAX, NOW).await {
        settle(&store, &c, leased, Verdict::Quarantined(FailureClass::Malformed), NOW).await;
    }
    let kept = store.quarantined(c).await.unwrap();
    let kept: Vec<_> = kept.iter().map(|kept| kept.envelope.body().to_vec()).collect();
    assert_eq!(kept, names[3..].iter().map(|name| name.clone().into_bytes()).collect::<Vec<_>>());
}

/// The tracking of an envelope that expired tells the reason met last: its own, or else its destination's.
pub async fn tells_why_an_envelope_expired(subject: &impl Subject) {
    let store = open(subject);
    let to = domain("b.example");
    let ids = enqueue(&store, &to, &["answered for", "never sent"]).await;
    let held = lease(&store, &to, 1, NOW).await;
    let retry = Verdict::Retry { reason: FailureClass::MailboxFull, not_before: NOW + HOUR };
    settle(&store, &to, &held[0], retry, NOW).await;
    let backoff = Backoff {
        failing_since: NOW,
        failures: 1,
        class: FailureClass::ConnectFailed,
        class_since: NOW,
        detail: "refused".into(),
        next_attempt: NOW + 2 * DAY,
    };
    store.put_backoff(to, Some(backoff)).await.unwrap();
    store.expire(NOW + DAY, 100).await.unwrap();
    for (id, reason) in ids.into_iter().zip([FailureClass::MailboxFull, FailureClass::ConnectFailed]) {
        let tracking = store.tracking(id).await.unwrap().unwrap();
        assert_eq!(tracking.end, Some((TrackingEnd::Expired, NOW + DAY)));
        assert_eq!(tracking.reason, Some(reason));
    }
}

/// One destination's items are never another's, however alike their names.
pub async fn keeps_destinations_apart(subject: &impl Subject) {
    let store = open(subject);
    let names = ["a.example", "a.example.org", "a.exampl", "aa.example", "b.a.example"];
    for name in names {
        enqueue(&store, &domain(name), &[name]).await;
    }
    for name in names {
        let leased: Vec<Envelope> =
            lease(&store, &domain(name), 9, NOW).await.into_iter().map(|leased| leased.envelope).collect();
        assert_eq!(leased.len(), 1);
        assert_eq!(&leased[0].body()[..], name.as_bytes());
        let state = destination(&store, &domain(name)).await.unwrap();
        assert_eq!(state.items, 1);
    }
    assert_eq!(store.destinations().await.unwrap().len(), names.len());
    assert_eq!(lease(&store, &domain("example"), 9, NOW).await, []);
}
