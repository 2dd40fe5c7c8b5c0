//! Promises about mailboxes that have moved.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use postrider::store::{
    Change, Enqueued, Leased, Onward, Rebound, SentOn, Source, Store, StoreLimits, TrackingEnd, Verdict,
    Window,
};
use postrider_common::{
    Binding, Domain, Draft, EntryId, Envelope, FailureClass, MailboxId, Outcome, Timestamp,
};

use super::{ALL, DAY, HOUR, NOW, Subject, device, domain, open};

const ONCE: Onward = Onward { moves: 1, held: None };

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

/// A mailbox whose key the test has.
fn owned(number: u8) -> MailboxId {
    MailboxId::from_bytes(key(number).verifying_key().to_bytes())
}

fn binding(of: u8, to: &str, serial: u64) -> Binding {
    Binding::sign(&key(of), domain(to), serial)
}

fn envelope(to: u8, body: &str) -> Envelope {
    Draft::new(owned(to), NOW + DAY, body.as_bytes().to_vec()).finish().unwrap()
}

fn bodies<'a>(envelopes: impl IntoIterator<Item = &'a Envelope>) -> Vec<String> {
    envelopes.into_iter().map(|envelope| String::from_utf8(envelope.body().to_vec()).unwrap()).collect()
}

async fn deposit(store: &Arc<dyn Store>, envelope: &Envelope) -> Outcome {
    store.deposit(vec![envelope.clone()], NOW).await.unwrap().remove(0)
}

async fn send_on(
    store: &Arc<dyn Store>,
    to: &Domain,
    envelope: &Envelope,
    onward: Onward,
    source: Source,
) -> Enqueued {
    let sent_on = SentOn { envelope: envelope.clone(), addressed: None, onward, source };
    store.enqueue_onward(to.clone(), vec![sent_on], NOW).await.unwrap()[0]
}

async fn lease(store: &Arc<dyn Store>, to: &Domain) -> Vec<Leased> {
    store.lease(to.clone(), ALL, NOW, NOW + HOUR).await.unwrap()
}

async fn settle(store: &Arc<dyn Store>, to: &Domain, verdict: Verdict, now: Timestamp) {
    for leased in lease(store, to).await {
        store.settle(to.clone(), vec![leased.end(verdict)], now).await.unwrap();
    }
}

/// Of a mailbox's bindings the one with the highest serial counts, also after a restart. The same once more changes
/// nothing; a lower serial, or the same with something else, is refused.
pub async fn takes_the_binding_with_the_highest_serial(subject: &impl Subject) {
    let store = open(subject);
    let first = binding(1, "b.example", 7);
    assert_eq!(store.put_binding(first.clone(), false).await, Ok(Rebound::NoSuchMailbox));
    store.register(owned(1), device(1), NOW).await.unwrap();
    assert_eq!(store.put_binding(first.clone(), false).await, Ok(Rebound::Bound));
    assert_eq!(store.put_binding(first.clone(), false).await, Ok(Rebound::Unchanged));
    store.close().await.unwrap();
    drop(store);

    let store = open(subject);
    for outdated in [binding(1, "c.example", 7), binding(1, "c.example", 6)] {
        assert_eq!(store.put_binding(outdated, false).await, Ok(Rebound::Outdated(7)));
    }
    let state = store.mailbox(owned(1)).await.unwrap().unwrap();
    assert_eq!((state.binding, state.has_moved), (Some(first), true));
    let back = binding(1, "a.example", 8);
    assert_eq!(store.put_binding(back.clone(), true).await, Ok(Rebound::Bound));
    let state = store.mailbox(owned(1)).await.unwrap().unwrap();
    assert_eq!((state.binding, state.has_moved), (Some(back), false));
    store.unregister(owned(1)).await.unwrap();
    store.register(owned(1), device(1), NOW).await.unwrap();
    assert_eq!(store.mailbox(owned(1)).await.unwrap().unwrap().binding, None, "deleted means gone");
}

/// Nothing comes into a mailbox that has moved. What is in it is held until it is released, and released it is gone
/// with its mark; if the mailbox is back before that, it stays.
pub async fn holds_what_is_in_a_mailbox_that_moves(subject: &impl Subject) {
    let store = open(subject);
    let mut changes = store.watch();
    for by in [1, 2] {
        store.register(owned(1), device(by), NOW).await.unwrap();
    }
    let all: Vec<_> = ["a", "b", "c"].iter().map(|body| envelope(1, body)).collect();
    for envelope in &all {
        assert_eq!(deposit(&store, envelope).await, Outcome::Stored);
    }
    let of_device = store.fetch(owned(1), device(1), None, ALL, NOW).await.unwrap().entries;
    store.acknowledge(owned(1), device(1), vec![of_device[0].id]).await.unwrap();
    assert_eq!(store.held(owned(1), ALL).await, Ok(vec![]), "it has not moved");
    assert_eq!(store.holding(None, 9).await, Ok(vec![]));

    let away = binding(1, "b.example", 1);
    store.put_binding(away.clone(), false).await.unwrap();
    let moved = async { while changes.recv().await.unwrap() != Change::Moved(owned(1)) {} };
    moved.await;
    // It is here, and about to go: nothing may rely on either.
    let later = deposit(&store, &all[0]).await;
    assert!(matches!(later, Outcome::Retry { reason: FailureClass::Moved, .. }), "{later:?}");
    assert_eq!(deposit(&store, &envelope(1, "d")).await, Outcome::Moved(Box::new(away)));
    store.close().await.unwrap();
    drop(store);

    let store = open(subject);
    assert_eq!(store.holding(None, 9).await, Ok(vec![owned(1)]));
    assert_eq!(store.holding(Some(owned(1)), 9).await, Ok(vec![]));
    let held = store.held(owned(1), ALL).await.unwrap();
    assert_eq!(bodies(held.iter().map(|entry| &entry.envelope)), ["a", "b", "c"]);
    let one = Window { count: 1, bytes: 0 };
    assert_eq!(store.held(owned(1), one).await.unwrap(), held[..1]);
    store.release_held(owned(1), 9, held.clone()).await.unwrap();
    assert_eq!(store.held(owned(1), ALL).await.unwrap(), held, "another binding counts");
    store.release_held(owned(1), 1, held[..2].to_vec()).await.unwrap();
    assert_eq!(store.held(owned(1), ALL).await.unwrap(), held[2..]);
    assert_eq!(store.holding(None, 9).await, Ok(vec![owned(1)]));
    let state = store.mailbox(owned(1)).await.unwrap().unwrap();
    assert_eq!((state.entries, state.bytes), (1, all[2].encoded().len() as u64));

    store.put_binding(binding(1, "a.example", 2), true).await.unwrap();
    assert_eq!(store.holding(None, 9).await, Ok(vec![]));
    store.release_held(owned(1), 2, held.clone()).await.unwrap();
    assert_eq!(deposit(&store, &all[2]).await, Outcome::Duplicate, "it has stayed");
    assert_eq!(deposit(&store, &all[0]).await, Outcome::Stored, "it comes back");
    for by in [1, 2] {
        let entries = store.fetch(owned(1), device(by), None, ALL, NOW).await.unwrap().entries;
        assert_eq!(bodies(entries.iter().map(|entry| &entry.envelope)), ["c", "a"]);
        store
            .acknowledge(owned(1), device(by), entries.iter().map(|entry| entry.id).collect())
            .await
            .unwrap();
    }
    store.put_binding(binding(1, "b.example", 3), false).await.unwrap();
    assert_eq!(store.holding(None, 9).await, Ok(vec![]), "it holds nothing");
    assert_eq!(deposit(&store, &all[0]).await, Outcome::Duplicate, "its devices have it");

    store.put_binding(binding(1, "a.example", 4), true).await.unwrap();
    deposit(&store, &envelope(1, "e")).await;
    store.put_binding(binding(1, "b.example", 5), false).await.unwrap();
    let rest = store.held(owned(1), ALL).await.unwrap();
    store.release_held(owned(1), 5, rest).await.unwrap();
    assert_eq!(store.holding(None, 9).await, Ok(vec![]));
}

/// What others tell of their mailboxes is remembered by the highest serial, for so long and so much of it; nothing of
/// mailboxes that are registered here.
pub async fn remembers_where_other_mailboxes_are_kept(subject: &impl Subject) {
    let limits = StoreLimits { learnt_bindings: 3, ..StoreLimits::default() };
    let store = subject.open(limits).unwrap();
    let learn = async |store: &Arc<dyn Store>, binding: &Binding, until| {
        store.learn(binding.clone(), domain("b.example"), until).await.unwrap()
    };
    let at = |of, name: &str| (owned(of), domain(name));
    assert_eq!(store.learnt(vec![at(1, "b.example")]).await, Ok(vec![None]));
    let (old, new) = (binding(1, "b.example", 1), binding(1, "c.example", 2));
    assert_eq!(learn(&store, &new, NOW + HOUR).await, new);
    for outdated in [&old, &binding(1, "d.example", 2)] {
        assert_eq!(learn(&store, outdated, NOW + 2 * HOUR).await, new, "what counts");
    }
    let asked = vec![at(2, "b.example"), at(1, "b.example"), at(1, "e.example")];
    assert_eq!(
        store.learnt(asked.clone()).await,
        Ok(vec![None, Some(new.clone()), None]),
        "who told it counts"
    );
    assert_eq!(store.learn(old, domain("e.example"), NOW + HOUR).await, Ok(new.clone()));
    assert_eq!(store.learnt(asked).await, Ok(vec![None, Some(new.clone()), None]), "nor by what is outdated");
    store.close().await.unwrap();
    drop(store);

    let store = subject.open(limits).unwrap();
    let others: Vec<_> = (2..=4).map(|of| binding(of, "b.example", 1)).collect();
    for (hours, other) in (3..).zip(&others) {
        learn(&store, other, NOW + hours * HOUR).await;
    }
    let all: Vec<_> = (1..=4).map(|of| at(of, "b.example")).collect();
    let known = async || store.learnt(all.clone()).await.unwrap().into_iter().flatten().collect::<Vec<_>>();
    assert_eq!(known().await, others, "the first to be forgotten has made room");
    store.expire(NOW + 3 * HOUR, 100).await.unwrap();
    assert_eq!(known().await, others[1..]);
    store.register(owned(3), device(1), NOW).await.unwrap();
    assert_eq!(known().await, others[2..]);
    learn(&store, &others[1], NOW + 9 * HOUR).await;
    assert_eq!(known().await, others[2..]);
}

/// What follows a binding is queued once from where it was, whatever becomes of it; whatever else is queued for the
/// destination under the same name is another item. How it has come is known when it is leased, also after a restart.
pub async fn queues_once_what_goes_on(subject: &impl Subject) {
    let (store, to, once) = (open(subject), domain("b.example"), envelope(1, "once"));
    let held = |serial| Source::Held { entry: EntryId(5), serial };
    let from_here = Onward { moves: 0, held: Some(1) };
    let plain = store.enqueue(to.clone(), to.clone(), vec![once.clone()], NOW).await.unwrap()[0];
    let Enqueued::Queued(plain) = plain else { unreachable!("it is new") };
    let Enqueued::Queued(first) = send_on(&store, &to, &once, from_here, held(1)).await else {
        unreachable!("what is queued already may rely on the entry")
    };
    assert_eq!(send_on(&store, &to, &once, from_here, held(1)).await, Enqueued::Duplicate(first));
    store.close().await.unwrap();
    drop(store);

    let store = open(subject);
    let leased = lease(&store, &to).await;
    let ids: Vec<_> = leased.iter().map(|leased| (leased.tracking, leased.onward)).collect();
    assert_eq!(ids, [(plain, None), (first, Some(from_here))]);
    let retry = Verdict::Retry { reason: FailureClass::MailboxFull, not_before: NOW };
    let settlements = leased.iter().map(|leased| leased.end(retry));
    store.settle(to.clone(), settlements.collect(), NOW).await.unwrap();
    let again = lease(&store, &to).await;
    assert_eq!((again[1].onward, again[1].attempts), (Some(from_here), 1));
    let settlements = again.iter().map(|leased| leased.end(Verdict::Delivered));
    store.settle(to.clone(), settlements.collect(), NOW).await.unwrap();
    assert_eq!(send_on(&store, &to, &once, from_here, held(1)).await, Enqueued::Duplicate(first));
    assert_eq!(
        store.enqueue(to.clone(), to.clone(), vec![once.clone()], NOW).await,
        Ok(vec![Enqueued::Duplicate(plain)])
    );
    // The mailbox was here in between; the envelope comes from elsewhere; it goes elsewhere.
    let mut others = vec![send_on(&store, &to, &once, from_here, held(2)).await];
    others.push(send_on(&store, &to, &once, ONCE, Source::Item(plain)).await);
    others.push(send_on(&store, &domain("c.example"), &once, ONCE, Source::Item(plain)).await);
    assert!(others.iter().all(|answer| matches!(answer, Enqueued::Queued(_))), "{others:?}");
}

/// An envelope's tracking id tells what becomes of it where it has gone on to, for as long as that is known.
pub async fn tracks_an_envelope_that_goes_on(subject: &impl Subject) {
    let store = open(subject);
    let (b, c, a) = (domain("b.example"), domain("c.example"), domain("a.example"));
    let once = Draft::new(owned(1), NOW + 30 * DAY, &b"once"[..]).finish().unwrap();
    let Enqueued::Queued(first) =
        store.enqueue(b.clone(), b.clone(), vec![once.clone()], NOW).await.unwrap()[0]
    else {
        unreachable!("it is new")
    };
    let (mut from, mut last) = (b.clone(), first);
    for (moves, to) in (1..).zip([&c, &a, &b]) {
        let onward = Onward { moves, held: None };
        let Enqueued::Queued(next) = send_on(&store, to, &once, onward, Source::Item(last)).await else {
            unreachable!("it is new there, or comes from elsewhere")
        };
        last = next;
        settle(&store, &from, Verdict::Moved(next), NOW + HOUR).await;
        assert_eq!(store.destination(from).await.unwrap(), None);
        let told = store.tracking(first).await.unwrap().unwrap();
        assert_eq!((&told.destination, told.queued_at), (to, NOW));
        assert_eq!((told.attempts, told.end), (moves.into(), None));
        from = to.clone();
    }
    store.close().await.unwrap();
    drop(store);

    let store = open(subject);
    let retention = StoreLimits::default().tracking_retention;
    let late = NOW + HOUR + 2 * retention;
    store.expire(NOW + DAY / 2 + retention, 100).await.unwrap();
    assert!(store.tracking(first).await.unwrap().is_some(), "it waits");
    settle(&store, &b, Verdict::Failed(FailureClass::Loop), late).await;
    let told = store.tracking(first).await.unwrap().unwrap();
    assert_eq!((told.end, told.attempts), (Some((TrackingEnd::Failed(FailureClass::Loop), late)), 4));
    let end = late + retention;
    let just_before = Timestamp::from_millis(end.as_millis() - 1);
    store.expire(just_before, 100).await.unwrap();
    assert!(store.tracking(first).await.unwrap().is_some());
    store.expire(end, 100).await.unwrap();
    assert_eq!(store.tracking(first).await, Ok(None));
}

/// What has gone on is known when it is enqueued again, by whatever way, until it fails where it went. What was held in a
/// mailbox here is, too, and what was queued for the same address before and has ended does not hide it.
pub async fn knows_again_what_goes_on(subject: &impl Subject) {
    let (store, once) = (open(subject), envelope(1, "once"));
    let (a, b, c) = (domain("a.example"), domain("b.example"), domain("c.example"));
    let again = |addressed: &Domain| store.enqueue(c.clone(), addressed.clone(), vec![once.clone()], NOW);
    let Enqueued::Queued(first) =
        store.enqueue(b.clone(), b.clone(), vec![once.clone()], NOW).await.unwrap()[0]
    else {
        unreachable!("it is new")
    };
    let Enqueued::Queued(second) = send_on(&store, &c, &once, ONCE, Source::Item(first)).await else {
        unreachable!("it comes from elsewhere")
    };
    settle(&store, &b, Verdict::Moved(second), NOW).await;
    assert_eq!(again(&b).await, Ok(vec![Enqueued::Duplicate(first)]));
    settle(&store, &c, Verdict::Failed(FailureClass::NoSuchMailbox), NOW).await;
    let anew = again(&b).await.unwrap();
    assert!(matches!(anew[..], [Enqueued::Queued(id)] if id != first && id != second), "{anew:?}");

    let before = again(&a).await.unwrap();
    settle(&store, &c, Verdict::Delivered, NOW).await;
    assert!(matches!(before[..], [Enqueued::Queued(id)] if id != first && id != second), "{before:?}");
    let onward = Onward { moves: 0, held: Some(1) };
    let source = Source::Held { entry: EntryId(5), serial: 1 };
    let sent_on = SentOn { envelope: once.clone(), addressed: Some(a.clone()), onward, source };
    let held = store.enqueue_onward(c.clone(), vec![sent_on], NOW).await.unwrap()[0];
    let Enqueued::Queued(held) = held else { unreachable!("it was in a mailbox") };
    assert_eq!(again(&a).await, Ok(vec![Enqueued::Duplicate(held)]));
    settle(&store, &c, Verdict::Failed(FailureClass::NoSuchMailbox), NOW).await;
    let anew = again(&a).await.unwrap();
    assert!(matches!(anew[..], [Enqueued::Queued(id)] if id != held), "{anew:?}");
}

/// What was submitted while its mailbox was elsewhere and has arrived there is a duplicate if it is submitted again after
/// the mailbox has come back. What is still on its way is taken, and so is what relays bring: it may be the only one.
pub async fn knows_again_what_has_arrived_elsewhere(subject: &impl Subject) {
    let store = open(subject);
    let (a, b, c) = (domain("a.example"), domain("b.example"), domain("c.example"));
    store.register(owned(1), device(1), NOW).await.unwrap();
    store.put_binding(binding(1, "b.example", 1), false).await.unwrap();
    let all = ["once", "under way", "refused", "went on"].map(|body| envelope(1, body));
    let submit = || store.deposit_submitted(a.clone(), all.to_vec(), NOW);
    assert!(submit().await.unwrap().iter().all(|outcome| matches!(outcome, Outcome::Moved(_))));
    store.enqueue(b.clone(), a.clone(), all.to_vec(), NOW).await.unwrap();
    let leased = lease(&store, &b).await;
    let source = Source::Item(leased[3].tracking);
    let Enqueued::Queued(further) = send_on(&store, &c, &all[3], ONCE, source).await else {
        unreachable!("it comes from elsewhere")
    };
    let ends = [
        leased[0].end(Verdict::Delivered),
        leased[2].end(Verdict::Failed(FailureClass::MailboxRefused)),
        leased[3].end(Verdict::Moved(further)),
    ];
    store.settle(b.clone(), ends.to_vec(), NOW).await.unwrap();
    settle(&store, &c, Verdict::Delivered, NOW).await;
    store.put_binding(binding(1, "a.example", 2), true).await.unwrap();
    let (here, there) = (Outcome::Stored, Outcome::Duplicate);
    assert_eq!(submit().await, Ok(vec![there.clone(), here.clone(), here, there]));
    assert_eq!(deposit(&store, &all[0]).await, Outcome::Stored);
}
