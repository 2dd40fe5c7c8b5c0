//! Promises to an operator: what is told of a queue, and what can be done with it.

use std::time::Duration;

use postrider::store::{
    Backoff, Enqueued, ItemId, MET_ENTRIES, Met, StoreLimits, TrackingEnd, Verdict, Window,
};
use postrider_common::{Draft, FailureClass, Timestamp};

use super::queue::{destination, enqueue, lease, settle};
use super::{ALL, DAY, HOUR, NOW, Subject, domain, leased_bodies, mailbox, open};

const SECOND: Duration = Duration::from_secs(1);

fn failing(class: FailureClass, detail: &str, failures: u32) -> Backoff {
    Backoff {
        failing_since: NOW,
        failures,
        class,
        class_since: NOW,
        detail: detail.into(),
        next_attempt: NOW + HOUR,
    }
}

/// What was met first, last, and how often.
fn told(met: &[Met]) -> Vec<(FailureClass, &str, Timestamp, Timestamp, u32)> {
    met.iter().map(|met| (met.class, &*met.detail, met.first, met.last, met.times)).collect()
}

/// A destination's failures are told, the same in a row once; they outlive its queue, its back-off and a restart, and are
/// forgotten some time after the last one.
pub async fn keeps_how_a_destination_has_failed(subject: &impl Subject) {
    let (b, c) = (domain("b.example"), domain("b.example.org"));
    let store = open(subject);
    assert_eq!(store.history(b.clone()).await, Ok(vec![]));
    let (refused, expired) = (FailureClass::ConnectFailed, FailureClass::TlsExpired);
    for (after, class, detail) in
        [(0, refused, "refused"), (5, refused, "refused"), (20, refused, "no answer"), (50, expired, "over")]
    {
        store.fail(b.clone(), failing(class, detail, 1), NOW + SECOND * after).await.unwrap();
    }
    let state = destination(&store, &b).await.unwrap();
    assert_eq!(state.backoff, Some(failing(expired, "over", 1)), "it is the back-off, too");
    store.put_backoff(b.clone(), None).await.unwrap();
    assert_eq!(destination(&store, &b).await, None);
    store.close().await.unwrap();
    drop(store);

    let store = open(subject);
    let expected = [
        (refused, "refused", NOW, NOW + SECOND * 5, 2),
        (refused, "no answer", NOW + SECOND * 20, NOW + SECOND * 20, 1),
        (expired, "over", NOW + SECOND * 50, NOW + SECOND * 50, 1),
    ];
    assert_eq!(told(&store.history(b.clone()).await.unwrap()), expected);
    assert_eq!(store.history(c.clone()).await, Ok(vec![]));
    let end = NOW + SECOND * 50 + StoreLimits::default().tracking_retention;
    store.expire(end - SECOND, 100).await.unwrap();
    assert_eq!(store.history(b.clone()).await.unwrap().len(), 3);
    store.expire(end, 100).await.unwrap();
    assert_eq!(store.history(b).await, Ok(vec![]));

    for number in 0..MET_ENTRIES + 3 {
        store.fail(c.clone(), failing(refused, &number.to_string(), 1), NOW).await.unwrap();
    }
    let kept = store.history(c).await.unwrap();
    let kept: Vec<_> = kept.iter().map(|met| met.detail.parse::<usize>().unwrap()).collect();
    assert_eq!(kept, (3..MET_ENTRIES + 3).collect::<Vec<_>>(), "the latest are kept");
}

/// That a destination has asked for an envelope again is told as long as its tracking is.
pub async fn keeps_what_was_answered_about_an_envelope(subject: &impl Subject) {
    let store = open(subject);
    let to = domain("b.example");
    let ids = enqueue(&store, &to, &["a", "b"]).await;
    let (full, busy) = (FailureClass::MailboxFull, FailureClass::RemoteBusy);
    let mut now = NOW;
    for reason in [full, full, busy] {
        let held = lease(&store, &to, 1, now).await;
        let retry = Verdict::Retry { reason, not_before: now + SECOND };
        settle(&store, &to, &held[0], retry, now).await;
        now = now + SECOND;
    }
    let expected = [(full, "", NOW, NOW + SECOND, 2), (busy, "", NOW + SECOND * 2, NOW + SECOND * 2, 1)];
    assert_eq!(told(&store.answers(ids[0]).await.unwrap()), expected);
    assert_eq!(store.answers(ids[1]).await, Ok(vec![]));
    for leased in &lease(&store, &to, 9, now).await {
        settle(&store, &to, leased, Verdict::Delivered, now).await;
    }
    assert_eq!(store.answers(ids[0]).await.unwrap().len(), 2, "also after its end");
    store.expire(now + StoreLimits::default().tracking_retention, 100).await.unwrap();
    assert_eq!(store.tracking(ids[0]).await, Ok(None));
    assert_eq!(store.answers(ids[0]).await, Ok(vec![]));
}

/// A paused destination is listed until it is resumed, with or without items, across restarts.
pub async fn keeps_a_pause(subject: &impl Subject) {
    let (b, c) = (domain("b.example"), domain("c.example"));
    let store = open(subject);
    store.pause(b.clone(), Some(NOW)).await.unwrap();
    enqueue(&store, &c, &["1"]).await;
    store.pause(c.clone(), Some(NOW + SECOND)).await.unwrap();
    store.close().await.unwrap();
    drop(store);

    let store = open(subject);
    let paused =
        |state: Option<postrider::store::Destination>| state.map(|state| (state.items, state.paused));
    assert_eq!(paused(destination(&store, &b).await), Some((0, Some(NOW))));
    assert_eq!(paused(destination(&store, &c).await), Some((1, Some(NOW + SECOND))));
    assert_eq!(store.destinations().await.unwrap().len(), 2);
    store.put_backoff(b.clone(), None).await.unwrap();
    for leased in &lease(&store, &c, 9, NOW).await {
        settle(&store, &c, leased, Verdict::Delivered, NOW).await;
    }
    assert_eq!(paused(destination(&store, &b).await), Some((0, Some(NOW))), "whatever else ends");
    assert_eq!(paused(destination(&store, &c).await), Some((0, Some(NOW + SECOND))));
    enqueue(&store, &b, &["2"]).await;
    for to in [&b, &c] {
        store.pause(to.clone(), None).await.unwrap();
        store.pause(to.clone(), None).await.unwrap();
    }
    assert_eq!(paused(destination(&store, &b).await), Some((1, None)));
    assert_eq!(destination(&store, &c).await, None);
}

/// A queue is shown oldest first, from any item on, with what is under way; with the envelopes within a window.
pub async fn shows_a_queue_page_by_page(subject: &impl Subject) {
    let store = open(subject);
    let to = domain("b.example");
    let names: Vec<_> = (0..150).map(|n| format!("{n:03}")).collect();
    let ids = enqueue(&store, &to, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    enqueue(&store, &domain("b.example.org"), &["another's"]).await;
    let held = lease(&store, &to, 2, NOW).await;
    let retry = Verdict::Retry { reason: FailureClass::MailboxFull, not_before: NOW + HOUR };
    settle(&store, &to, &held[1], retry, NOW).await;

    let mut shown = Vec::new();
    loop {
        let after = shown.last().map(|queued: &postrider::store::Queued| queued.item);
        let page = store.queued(to.clone(), after, 64, NOW).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 64);
        shown.extend(page);
    }
    assert_eq!(shown.iter().map(|queued| queued.tracking).collect::<Vec<_>>(), ids);
    let states: Vec<_> =
        shown.iter().map(|queued| (queued.leased, queued.attempts, queued.not_before)).collect();
    assert_eq!(states[..3], [(true, 0, None), (false, 1, Some(NOW + HOUR)), (false, 0, None)]);
    assert!(shown.iter().all(|queued| queued.expires_at == NOW + DAY));

    let all = store.queued_envelopes(to.clone(), None, ALL, NOW).await.unwrap();
    let bodies: Vec<_> = all.iter().map(|(_, envelope)| envelope.body().to_vec()).collect();
    assert_eq!(bodies, names.iter().map(|name| name.clone().into_bytes()).collect::<Vec<_>>());
    assert_eq!(all.into_iter().map(|(queued, _)| queued).collect::<Vec<_>>(), shown);
    let size = shown[0].bytes as usize;
    for (window, count) in [
        (Window { count: 3, ..ALL }, 3),
        (Window { count: 100, bytes: 2 * size }, 2),
        (Window { count: 1, bytes: 0 }, 1),
    ] {
        let some = store.queued_envelopes(to.clone(), Some(shown[9].item), window, NOW).await.unwrap();
        let items: Vec<_> = some.iter().map(|(queued, _)| queued.item).collect();
        let expected: Vec<_> = shown[10..10 + count].iter().map(|queued| queued.item).collect();
        assert_eq!(items, expected);
    }
}

/// Items with a later time of their own become due, in an answer's place or not; what is under way is left alone.
pub async fn hastens_what_waits_for_its_own_time(subject: &impl Subject) {
    let store = open(subject);
    let to = domain("b.example");
    let ids = enqueue(&store, &to, &["a", "b", "c"]).await;
    let held = lease(&store, &to, 2, NOW).await;
    let retry = Verdict::Retry { reason: FailureClass::MailboxFull, not_before: NOW + HOUR };
    settle(&store, &to, &held[0], retry, NOW).await;
    let shown = store.queued(to.clone(), None, 9, NOW).await.unwrap();
    let mut items: Vec<_> = shown.iter().map(|queued| queued.item).collect();
    items.push(ItemId(1));
    assert_eq!(store.hasten(to.clone(), items, NOW + SECOND).await, Ok(1));
    let tracking = store.tracking(ids[0]).await.unwrap().unwrap();
    let told = (tracking.attempts, tracking.reason, tracking.not_before);
    assert_eq!(told, (1, Some(FailureClass::MailboxFull), Some(NOW + SECOND)), "nobody has answered anew");
    let again = lease(&store, &to, 9, NOW + SECOND).await;
    assert_eq!(leased_bodies(&again), ["a", "c"], "b is under way");
}

/// What is discarded is gone, its tracking says so, and it can be queued again; what is under way is left alone.
pub async fn discards_what_is_not_under_way(subject: &impl Subject) {
    let store = open(subject);
    let to = domain("b.example");
    let ids = enqueue(&store, &to, &["a", "b", "c"]).await;
    let held = lease(&store, &to, 1, NOW).await;
    let shown = store.queued(to.clone(), None, 9, NOW).await.unwrap();
    let mut items: Vec<_> = shown.iter().map(|queued| queued.item).collect();
    items.push(ItemId(1));
    assert_eq!(store.discard(to.clone(), items.clone(), NOW).await, Ok(2));
    assert_eq!(store.discard(to.clone(), items, NOW).await, Ok(0));
    let ends = [None, Some((TrackingEnd::Failed(FailureClass::Dropped), NOW))];
    for (id, end) in [(ids[0], ends[0]), (ids[1], ends[1]), (ids[2], ends[1])] {
        let tracking = store.tracking(id).await.unwrap().unwrap();
        assert_eq!((tracking.end, tracking.attempts), (end, 0));
    }
    settle(&store, &to, &held[0], Verdict::Delivered, NOW).await;
    assert_eq!(destination(&store, &to).await, None);

    let poison = Draft::new(mailbox(1), NOW + DAY, b"poison".to_vec()).finish().unwrap();
    let queued = store.enqueue(to.clone(), to.clone(), vec![poison], NOW).await.unwrap();
    assert!(matches!(queued[..], [Enqueued::Queued(_)]));
    let held = lease(&store, &to, 1, NOW).await;
    settle(&store, &to, &held[0], Verdict::Quarantined(FailureClass::Malformed), NOW).await;
    assert_eq!(store.discard_quarantined(to.clone(), ItemId(1)).await, Ok(false));
    assert_eq!(store.discard_quarantined(to.clone(), held[0].item).await, Ok(true));
    assert_eq!(store.quarantined(to).await, Ok(vec![]));
}
