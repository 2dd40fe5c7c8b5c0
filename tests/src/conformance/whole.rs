//! Promises about a store as a whole.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use postrider::store::{Change, StoreError, StoreLimits, Verdict};
use postrider_common::{FailureClass, Outcome, TrackingId};

use super::{ALL, HOUR, NOW, Subject, bodies, device, domain, envelope, fetch, ids, mailbox, open};

/// Those who watch are told of new entries, of new and returned items, and of removed mailboxes; of nothing else.
pub async fn tells_what_has_become_durable(subject: &impl Subject) {
    let store = open(subject);
    let mut changes = store.watch();
    let to = domain("b.example");
    store.register(mailbox(1), device(1), NOW).await.unwrap();
    let duplicate = envelope(1, "a");
    let batch = vec![duplicate.clone(), envelope(1, "b"), envelope(9, "nobody")];
    store.deposit(batch, NOW).await.unwrap();
    assert_eq!(changes.recv().await, Ok(Change::Deposited(mailbox(1))));
    store.deposit(vec![duplicate], NOW).await.unwrap();
    store.enqueue(to.clone(), to.clone(), vec![envelope(1, "c")], NOW).await.unwrap();
    assert_eq!(changes.recv().await, Ok(Change::Enqueued(to.clone())));
    for verdict in [Verdict::Released, Verdict::Retry { reason: FailureClass::RemoteBusy, not_before: NOW }] {
        let leased = store.lease(to.clone(), ALL, NOW, NOW + HOUR).await.unwrap();
        store.settle(to.clone(), vec![leased[0].end(verdict)], NOW).await.unwrap();
        assert_eq!(changes.recv().await, Ok(Change::Enqueued(to.clone())));
    }
    let entries = ids(&fetch(&store, 1, 1).await);
    store.acknowledge(mailbox(1), device(1), entries).await.unwrap();
    store.unregister(mailbox(9)).await.unwrap();
    store.unregister(mailbox(1)).await.unwrap();
    assert_eq!(changes.recv().await, Ok(Change::Removed(mailbox(1))));
    assert!(changes.is_empty());
}

/// A closed store refuses every operation, may be closed again, and can be opened anew.
pub async fn refuses_everything_once_closed(subject: &impl Subject) {
    let store = open(subject);
    store.register(mailbox(1), device(1), NOW).await.unwrap();
    store.close().await.unwrap();
    store.close().await.unwrap();
    let to = domain("b.example");
    let closed = Err(StoreError::Closed);
    assert_eq!(store.register(mailbox(1), device(2), NOW).await.map(|_| ()), closed);
    assert_eq!(store.unregister(mailbox(1)).await.map(|_| ()), closed);
    assert_eq!(store.mailbox(mailbox(1)).await.map(|_| ()), closed);
    assert_eq!(store.deposit(vec![envelope(1, "a")], NOW).await.map(|_| ()), closed);
    let fetched = store.fetch(mailbox(1), device(1), None, ALL, NOW).await;
    assert_eq!(fetched.map(|_| ()), closed);
    assert_eq!(store.acknowledge(mailbox(1), device(1), vec![]).await.map(|_| ()), closed);
    let enqueued = store.enqueue(to.clone(), to.clone(), vec![envelope(1, "a")], NOW).await;
    assert_eq!(enqueued.map(|_| ()), closed);
    let leased = store.lease(to.clone(), ALL, NOW, NOW + HOUR).await;
    assert_eq!(leased.map(|_| ()), closed);
    assert_eq!(store.settle(to.clone(), vec![], NOW).await.map(|_| ()), closed);
    assert_eq!(store.destinations().await.map(|_| ()), closed);
    assert_eq!(store.destination(to.clone()).await.map(|_| ()), closed);
    assert_eq!(store.put_backoff(to, None).await, closed);
    assert_eq!(store.tracking(TrackingId::random()).await.map(|_| ()), closed);
    assert_eq!(store.expire(NOW, 1).await.map(|_| ()), closed);
    let anew = open(subject);
    assert!(anew.mailbox(mailbox(1)).await.unwrap().is_some());
}

/// What was answered is there, even if the process never got to close the store.
pub async fn keeps_everything_without_a_close(subject: &impl Subject) {
    let to = domain("b.example");
    let store = open(subject);
    store.register(mailbox(1), device(1), NOW).await.unwrap();
    store.deposit(vec![envelope(1, "a"), envelope(1, "b")], NOW).await.unwrap();
    store.enqueue(to.clone(), to.clone(), vec![envelope(1, "c")], NOW).await.unwrap();
    let before = fetch(&store, 1, 1).await;
    let first = ids(&before)[0];
    store.acknowledge(mailbox(1), device(1), vec![first]).await.unwrap();
    drop(store);
    let store = open(subject);
    let after = fetch(&store, 1, 1).await;
    assert_eq!(after.entries, before.entries[1..], "with the same ids");
    assert_eq!(store.destination(to).await.unwrap().unwrap().items, 1);
    let state = store.mailbox(mailbox(1)).await.unwrap().unwrap();
    assert_eq!(state.entries, 1);
    store.deposit(vec![envelope(1, "d")], NOW).await.unwrap();
    let fetched = fetch(&store, 1, 1).await;
    assert_eq!(bodies(&fetched), ["b", "d"]);
    assert!(ids(&fetched).is_sorted());
}

/// A store that is open is not opened a second time.
pub async fn is_open_once_at_a_time(subject: &impl Subject) {
    let store = open(subject);
    let second = subject.open(StoreLimits::default());
    assert_eq!(second.map(|_| ()), Err(StoreError::InUse));
    store.register(mailbox(1), device(1), NOW).await.unwrap();
}

/// Writes that come at the same time are all answered, each envelope is there once, and none is lost.
pub async fn takes_concurrent_writes(subject: &impl Subject) {
    let store = open(subject);
    for of in 0..4 {
        store.register(mailbox(of), device(1), NOW).await.unwrap();
    }
    let same = envelope(0, "same");
    let writes = (0..200_u8).map(|n| {
        let store = Arc::clone(&store);
        let envelope = match n % 4 {
            0 => same.clone(),
            of => envelope(of, &n.to_string()),
        };
        async move { store.deposit(vec![envelope], NOW).await.unwrap().remove(0) }
    });
    let outcomes = join_all(writes).await;
    let stored = outcomes.iter().filter(|outcome| **outcome == Outcome::Stored);
    assert_eq!(stored.count(), 151);
    let duplicates = outcomes.iter().filter(|outcome| **outcome == Outcome::Duplicate);
    assert_eq!(duplicates.count(), 49);
    assert_eq!(bodies(&fetch(&store, 0, 1).await), ["same"]);
    for of in 1..4 {
        let fetched = fetch(&store, of, 1).await;
        let distinct: HashSet<_> = ids(&fetched).into_iter().collect();
        assert_eq!((fetched.entries.len(), distinct.len()), (50, 50));
    }
}
