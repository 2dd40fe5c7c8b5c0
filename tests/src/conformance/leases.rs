//! Promises about leases: who works on what is queued, and until when.

use postrider::store::{TrackingEnd, Verdict, Window};
use postrider_common::{FailureClass, TrackingId};

use super::queue::{SECOND, destination, enqueue, lease, settle};
use super::{HOUR, NOW, Subject, domain, leased_bodies, open};

/// Items are leased oldest first, as many as fit but at least one, and none that somebody has.
pub async fn leases_in_order_and_once(subject: &impl Subject) {
    let store = open(subject);
    let to = domain("b.example");
    let names: Vec<_> = (0..200).map(|n| format!("{n:03}")).collect();
    let bodies: Vec<_> = names.iter().map(String::as_str).collect();
    enqueue(&store, &to, &bodies).await;
    let first = lease(&store, &to, 3, NOW).await;
    assert_eq!(leased_bodies(&first), names[..3]);
    assert!(first.iter().all(|leased| leased.attempts == 0));
    let size = first[0].envelope.encoded().len();
    let by_bytes = Window { count: 100, bytes: 2 * size };
    let second = store.lease(to.clone(), by_bytes, NOW, NOW + HOUR).await;
    assert_eq!(leased_bodies(&second.unwrap()), names[3..5]);
    let least = Window { count: 1, bytes: 0 };
    let third = store.lease(to.clone(), least, NOW, NOW + HOUR).await;
    assert_eq!(leased_bodies(&third.unwrap()), names[5..6]);
    assert_eq!(leased_bodies(&lease(&store, &to, usize::MAX, NOW).await), names[6..]);
    assert_eq!(lease(&store, &to, 1, NOW).await, []);
    let items = first.iter().map(|leased| leased.item);
    assert!(items.is_sorted());
    let state = destination(&store, &to).await.unwrap();
    assert_eq!((state.items, state.bytes), (200, 200 * size as u64));
    enqueue(&store, &to, &["new"]).await;
    assert_eq!(leased_bodies(&lease(&store, &to, 9, NOW).await), ["new"]);
}

/// A lease ends at its time, or when it is given back; the item is leased again, in its old place.
pub async fn lapses_and_releases_leases(subject: &impl Subject) {
    let store = open(subject);
    let to = domain("b.example");
    enqueue(&store, &to, &["a", "b", "c", "d"]).await;
    let held = lease(&store, &to, 3, NOW).await;
    settle(&store, &to, &held[1], Verdict::Released, NOW).await;
    let again = lease(&store, &to, 1, NOW + SECOND).await;
    assert_eq!(leased_bodies(&again), ["b"]);
    assert_eq!(again[0].attempts, 0, "the destination has not answered");

    assert_eq!(leased_bodies(&lease(&store, &to, 9, NOW + HOUR - SECOND).await), ["d"]);
    assert_eq!(leased_bodies(&lease(&store, &to, 9, NOW + HOUR).await), ["a", "c"]);
    // It was delivered although the lease had lapsed: what the destination has is not sent again.
    settle(&store, &to, &held[0], Verdict::Delivered, NOW + HOUR).await;
    let late = NOW + 10 * HOUR;
    assert_eq!(leased_bodies(&lease(&store, &to, 9, late).await), ["b", "c", "d"]);
}

/// Whose lease has lapsed can only say that the envelope has arrived, or has gone on: whatever else they say leaves the
/// item to whoever has it now, and to the next one if nobody has.
pub async fn leaves_an_item_to_its_present_lease(subject: &impl Subject) {
    let store = open(subject);
    let to = domain("b.example");
    let ids = enqueue(&store, &to, &["a", "b", "c", "d", "e", "f"]).await;
    let late = lease(&store, &to, 6, NOW).await;
    let now = NOW + HOUR;
    let present = lease(&store, &to, 5, now).await;
    assert_eq!(leased_bodies(&present), ["a", "b", "c", "d", "e"]);
    let retry = Verdict::Retry { reason: FailureClass::RemoteBusy, not_before: now };
    let failed = FailureClass::NoSuchMailbox;
    let verdicts = [retry, Verdict::Failed(failed), Verdict::Released, Verdict::Expired];
    let others = [Verdict::Delivered, Verdict::Quarantined(FailureClass::TooLarge)];
    let verdicts = verdicts.into_iter().chain(others);
    let settlements = late.iter().zip(verdicts).map(|(leased, verdict)| leased.end(verdict)).collect();
    let counted = store.settle(to.clone(), settlements, now).await;
    assert_eq!(counted, Ok(vec![false, false, false, false, true, false]));
    let end = async |index: usize| store.tracking(ids[index]).await.unwrap().unwrap().end;
    assert_eq!(end(4).await, Some((TrackingEnd::Stored, now)));
    assert_eq!(leased_bodies(&lease(&store, &to, 9, now + SECOND).await), ["f"], "four are under way");
    assert_eq!(store.quarantined(to.clone()).await, Ok(vec![]));

    let moved = Verdict::Moved(TrackingId::random());
    assert_eq!(store.settle(to.clone(), vec![late[1].end(moved)], now).await, Ok(vec![true]));
    let settlements = present.iter().map(|leased| leased.end(Verdict::Failed(failed))).collect();
    let counted = store.settle(to.clone(), settlements, now).await;
    assert_eq!(counted, Ok(vec![true, false, true, true, false]), "what is gone is passed over");
    assert_eq!(end(0).await, Some((TrackingEnd::Failed(failed), now)));
    assert_eq!(end(4).await, Some((TrackingEnd::Stored, now)));
}

/// Whoever leased may have died with the process: after a restart everything is there to be leased, in order.
pub async fn forgets_leases_when_reopened(subject: &impl Subject) {
    let to = domain("b.example");
    let store = open(subject);
    enqueue(&store, &to, &["a", "b", "c"]).await;
    assert_eq!(lease(&store, &to, 2, NOW).await.len(), 2);
    drop(store);
    let store = open(subject);
    assert_eq!(leased_bodies(&lease(&store, &to, 9, NOW).await), ["a", "b", "c"]);
}
