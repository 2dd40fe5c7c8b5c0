//! Promises about mailboxes.

use postrider::store::{Expiry, MailboxState, Registration, StoreLimits, Window};
use postrider_common::{Draft, Envelope, FailureClass, Outcome};

use super::{ALL, DAY, HOUR, NOW, Subject, bodies, device, envelope, fetch, ids, mailbox, open};

/// A mailbox is made by its first device, takes further ones up to the limit, and doing it again changes nothing.
pub async fn registers_mailboxes_and_devices(subject: &impl Subject) {
    let limits = StoreLimits { devices: 2, ..StoreLimits::default() };
    let store = subject.open(limits).unwrap();
    assert_eq!(store.mailbox(mailbox(1)).await.unwrap(), None);
    let register = async |by| store.register(mailbox(1), device(by), NOW).await.unwrap();
    assert_eq!(register(1).await, Registration::Created);
    assert_eq!(register(1).await, Registration::Unchanged);
    assert_eq!(register(2).await, Registration::DeviceAdded);
    assert_eq!(register(3).await, Registration::TooManyDevices);
    assert_eq!(register(2).await, Registration::Unchanged);
    let state = MailboxState {
        devices: vec![device(1), device(2)],
        entries: 0,
        bytes: 0,
        binding: None,
        has_moved: false,
        suspended: None,
    };
    assert_eq!(store.mailbox(mailbox(1)).await.unwrap(), Some(state));
}

/// Each envelope of a batch has its own outcome, also one that is in it twice.
pub async fn answers_each_envelope_in_order(subject: &impl Subject) {
    let store = open(subject);
    store.register(mailbox(1), device(1), NOW).await.unwrap();
    store.register(mailbox(2), device(2), NOW).await.unwrap();
    let twice = envelope(1, "twice");
    let stranger =
        Draft { device: Some(device(9)), ..Draft::new(mailbox(1), NOW + DAY, &b"no such device"[..]) };
    let batch = vec![
        twice.clone(),
        envelope(9, "no such mailbox"),
        twice,
        stranger.finish().unwrap(),
        envelope(2, "another mailbox"),
    ];
    let outcomes = store.deposit(batch, NOW).await.unwrap();
    let expected = [
        Outcome::Stored,
        Outcome::reject(FailureClass::NoSuchMailbox),
        Outcome::Duplicate,
        Outcome::reject(FailureClass::NoSuchDevice),
        Outcome::Stored,
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(bodies(&fetch(&store, 1, 1).await), ["twice"]);
    assert_eq!(bodies(&fetch(&store, 2, 2).await), ["another mailbox"]);
    assert_eq!(bodies(&fetch(&store, 2, 1).await), Vec::<String>::new());
    assert_eq!(store.deposit(Vec::new(), NOW).await.unwrap(), []);
}

/// Entries come oldest first, from after the one that is named, as many as fit but at least one; `more` says whether
/// there are others.
pub async fn fetches_oldest_first_within_a_window(subject: &impl Subject) {
    let store = open(subject);
    store.register(mailbox(1), device(1), NOW).await.unwrap();
    let envelopes: Vec<_> = (0..150).map(|n| envelope(1, &format!("{n:03}"))).collect();
    let size = envelopes[0].encoded().len();
    store.deposit(envelopes, NOW).await.unwrap();
    let all = fetch(&store, 1, 1).await;
    let names: Vec<_> = (0..150).map(|n| format!("{n:03}")).collect();
    assert_eq!((bodies(&all), all.more), (names.clone(), false));
    assert!(ids(&all).is_sorted());
    assert_eq!(fetch(&store, 1, 1).await, all, "the same again, ids included");

    let fetch = async |after: Option<usize>, count, bytes| {
        let after = after.map(|index| all.entries[index].id);
        let window = Window { count, bytes };
        let fetched = store.fetch(mailbox(1), device(1), after, window, NOW).await;
        let fetched = fetched.unwrap();
        (bodies(&fetched), fetched.more)
    };
    assert_eq!(fetch(None, 2, usize::MAX).await, (names[..2].into(), true));
    assert_eq!(fetch(Some(99), 50, usize::MAX).await, (names[100..].into(), false));
    assert_eq!(fetch(Some(9), 100, 3 * size).await, (names[10..13].into(), true));
    assert_eq!(fetch(Some(9), 100, 3 * size - 1).await, (names[10..12].into(), true));
    assert_eq!(fetch(Some(9), 1, 1).await, (names[10..11].into(), true));
    assert_eq!(fetch(Some(149), 1, 1).await, (vec![], false));
}

/// An entry comes until it was acknowledged; acknowledging what is not there passes it over.
pub async fn keeps_entries_until_acknowledged(subject: &impl Subject) {
    let store = open(subject);
    store.register(mailbox(1), device(1), NOW).await.unwrap();
    let envelopes = ["a", "b", "c"].map(|body| envelope(1, body));
    let size = envelopes[0].encoded().len() as u64;
    store.deposit(envelopes.into(), NOW).await.unwrap();
    let ids = ids(&fetch(&store, 1, 1).await);
    let acknowledge =
        async |of, by, entries| store.acknowledge(mailbox(of), device(by), entries).await.unwrap();
    assert_eq!(acknowledge(1, 2, ids.clone()).await, 0, "another device");
    assert_eq!(acknowledge(2, 1, ids.clone()).await, 0, "another mailbox");
    assert_eq!(acknowledge(1, 1, vec![ids[1], ids[1]]).await, 1, "the same one twice");
    assert_eq!(bodies(&fetch(&store, 1, 1).await), ["a", "c"]);
    let state = store.mailbox(mailbox(1)).await.unwrap().unwrap();
    assert_eq!((state.entries, state.bytes), (2, 2 * size));
    assert_eq!(acknowledge(1, 1, ids).await, 2);
    let state = store.mailbox(mailbox(1)).await.unwrap().unwrap();
    assert_eq!((state.entries, state.bytes), (0, 0));
}

/// Each device acknowledges for itself; the envelope counts once, until the last one has it.
pub async fn keeps_an_envelope_until_its_last_device_has_it(subject: &impl Subject) {
    let store = open(subject);
    for by in 1..=3 {
        store.register(mailbox(1), device(by), NOW).await.unwrap();
    }
    let deposited = envelope(1, "for all three");
    let size = deposited.encoded().len() as u64;
    store.deposit(vec![deposited], NOW).await.unwrap();
    let ids = ids(&fetch(&store, 1, 1).await);
    for by in 1..=3 {
        assert_eq!(bodies(&fetch(&store, 1, by).await), ["for all three"]);
        let state = store.mailbox(mailbox(1)).await.unwrap().unwrap();
        assert_eq!((state.entries, state.bytes), (1, size));
        let known = store.acknowledge(mailbox(1), device(by), ids.clone()).await;
        assert_eq!(known, Ok(1));
        assert_eq!(fetch(&store, 1, by).await.entries, []);
    }
    let state = store.mailbox(mailbox(1)).await.unwrap().unwrap();
    assert_eq!((state.entries, state.bytes), (0, 0));
}

/// A device does not get what was deposited before it came.
pub async fn starts_a_further_device_from_now(subject: &impl Subject) {
    let store = open(subject);
    store.register(mailbox(1), device(1), NOW).await.unwrap();
    store.deposit(vec![envelope(1, "before")], NOW).await.unwrap();
    store.register(mailbox(1), device(2), NOW).await.unwrap();
    store.deposit(vec![envelope(1, "after")], NOW).await.unwrap();
    assert_eq!(bodies(&fetch(&store, 1, 1).await), ["before", "after"]);
    assert_eq!(bodies(&fetch(&store, 1, 2).await), ["after"]);
}

/// An envelope that names a device is that device's alone, and gone once it has it.
pub async fn gives_an_envelope_for_one_device_to_that_one(subject: &impl Subject) {
    let store = open(subject);
    store.register(mailbox(1), device(1), NOW).await.unwrap();
    store.register(mailbox(1), device(2), NOW).await.unwrap();
    let draft = Draft { device: Some(device(2)), ..Draft::new(mailbox(1), NOW + DAY, &b"for one"[..]) };
    store.deposit(vec![draft.finish().unwrap()], NOW).await.unwrap();
    assert_eq!(fetch(&store, 1, 1).await.entries, []);
    let fetched = fetch(&store, 1, 2).await;
    assert_eq!(bodies(&fetched), ["for one"]);
    store.acknowledge(mailbox(1), device(2), ids(&fetched)).await.unwrap();
    let state = store.mailbox(mailbox(1)).await.unwrap().unwrap();
    assert_eq!((state.entries, state.bytes), (0, 0));
}

/// An envelope is stored once: while it waits, after its delivery, after a restart, for the whole retention. Later
/// its mark is forgotten. In another mailbox the same id is another envelope.
pub async fn recognises_duplicates_for_the_retention(subject: &impl Subject) {
    let limits = StoreLimits { mark_retention: 7 * DAY, ..StoreLimits::default() };
    let draft = Draft::new(mailbox(1), NOW + 30 * DAY, &b"once"[..]);
    let once = draft.clone().finish().unwrap();
    let elsewhere = Draft { mailbox: mailbox(2), ..draft };
    let deposit = vec![once];
    {
        let store = subject.open(limits).unwrap();
        store.register(mailbox(1), device(1), NOW).await.unwrap();
        store.register(mailbox(2), device(1), NOW).await.unwrap();
        let stored = store.deposit(deposit.clone(), NOW).await;
        assert_eq!(stored, Ok(vec![Outcome::Stored]));
        let again = store.deposit(deposit.clone(), NOW).await;
        assert_eq!(again, Ok(vec![Outcome::Duplicate]));
        let other = store.deposit(vec![elsewhere.finish().unwrap()], NOW).await;
        assert_eq!(other, Ok(vec![Outcome::Stored]));
        let ids = ids(&fetch(&store, 1, 1).await);
        store.acknowledge(mailbox(1), device(1), ids).await.unwrap();
        store.close().await.unwrap();
    }
    let store = subject.open(limits).unwrap();
    for days in 0..7 {
        let now = NOW + DAY * days;
        store.expire(now, 100).await.unwrap();
        let again = store.deposit(deposit.clone(), now).await;
        assert_eq!(again, Ok(vec![Outcome::Duplicate]), "{days} days after");
    }
    assert_eq!(fetch(&store, 1, 1).await.entries, []);
    let late = NOW + 15 * DAY;
    while store.expire(late, 1).await.unwrap().more {}
    let anew = store.deposit(deposit, late).await;
    assert_eq!(anew, Ok(vec![Outcome::Stored]));
}

/// A mailbox holds so many entries and bytes; what is delivered makes room; a duplicate needs none.
pub async fn bounds_a_mailbox(subject: &impl Subject) {
    let full = |outcome: &Outcome| matches!(outcome, Outcome::Retry { reason: FailureClass::MailboxFull, after } if !after.is_zero());
    let size = envelope(1, "1").encoded().len() as u64;
    let limits = StoreLimits { mailbox_entries: 3, mailbox_bytes: 3 * size + 5, ..StoreLimits::default() };
    let store = subject.open(limits).unwrap();
    store.register(mailbox(1), device(1), NOW).await.unwrap();
    let batch: Vec<_> = ["1", "2", "3", "4"].map(|body| envelope(1, body)).into();
    let outcomes = store.deposit(batch.clone(), NOW).await.unwrap();
    assert_eq!(outcomes[..3], [Outcome::Stored, Outcome::Stored, Outcome::Stored]);
    assert!(full(&outcomes[3]), "{outcomes:?}");
    let again = store.deposit(batch[..1].into(), NOW).await;
    assert_eq!(again, Ok(vec![Outcome::Duplicate]));

    let ids = ids(&fetch(&store, 1, 1).await);
    store.acknowledge(mailbox(1), device(1), ids[..1].into()).await.unwrap();
    let long = store.deposit(vec![envelope(1, "1234567")], NOW).await.unwrap();
    assert!(full(&long[0]), "there is room for an entry, not for its bytes");
    let fourth = store.deposit(batch[3..].into(), NOW).await;
    assert_eq!(fourth, Ok(vec![Outcome::Stored]), "it was refused, not marked");
}

/// An entry is not given out from the second in which it expires, whether or not it was deleted yet.
pub async fn leaves_out_what_has_expired(subject: &impl Subject) {
    let store = open(subject);
    store.register(mailbox(1), device(1), NOW).await.unwrap();
    let soon = Draft::new(mailbox(1), NOW + HOUR, &b"soon"[..]);
    store.deposit(vec![soon.finish().unwrap(), envelope(1, "late")], NOW).await.unwrap();
    let window = Window { count: 1, ..ALL };
    let fetch = async |now| store.fetch(mailbox(1), device(1), None, window, now).await.unwrap();
    let before = fetch(NOW + HOUR - std::time::Duration::from_secs(1)).await;
    assert_eq!((bodies(&before), before.more), (vec!["soon".into()], true));
    let after = fetch(NOW + HOUR).await;
    assert_eq!((bodies(&after), after.more), (vec!["late".into()], false));
}

/// Expired entries are deleted for all their devices, no more than the budget at a time, and nothing else is.
pub async fn expires_within_a_budget(subject: &impl Subject) {
    let store = open(subject);
    store.register(mailbox(1), device(1), NOW).await.unwrap();
    store.register(mailbox(1), device(2), NOW).await.unwrap();
    let soon = |n: u64| -> Envelope {
        let at = NOW + HOUR + std::time::Duration::from_secs(n);
        Draft::new(mailbox(1), at, n.to_string().into_bytes()).finish().unwrap()
    };
    let batch = (0..5).map(soon).chain([envelope(1, "late")]).collect();
    store.deposit(batch, NOW).await.unwrap();
    assert_eq!(store.expire(NOW, 100).await.unwrap(), Expiry::default());
    let third = NOW + HOUR + std::time::Duration::from_secs(2);
    let first = store.expire(third, 2).await.unwrap();
    assert_eq!((first.entries, first.items, first.more), (2, 0, true));
    let rest = store.expire(third, 2).await.unwrap();
    assert_eq!((rest.entries, rest.more), (1, false));
    for by in 1..=2 {
        assert_eq!(bodies(&fetch(&store, 1, by).await), ["3", "4", "late"]);
    }
    store.expire(NOW + 2 * HOUR, 100).await.unwrap();
    let state = store.mailbox(mailbox(1)).await.unwrap().unwrap();
    assert_eq!(state.entries, 1);
    assert_eq!(state.bytes, envelope(1, "late").encoded().len() as u64);
}

/// With a mailbox goes all that is in it, and nothing of it is in one of the same name made later; nor is an entry
/// id used again.
pub async fn unregisters_with_everything(subject: &impl Subject) {
    let store = open(subject);
    store.register(mailbox(1), device(1), NOW).await.unwrap();
    store.register(mailbox(2), device(1), NOW).await.unwrap();
    let batch = vec![envelope(1, "old"), envelope(1, "older"), envelope(2, "other")];
    store.deposit(batch, NOW).await.unwrap();
    let old = ids(&fetch(&store, 1, 1).await);
    assert_eq!(store.unregister(mailbox(1)).await, Ok(true));
    assert_eq!(store.unregister(mailbox(1)).await, Ok(false));
    assert_eq!(store.mailbox(mailbox(1)).await, Ok(None));
    assert_eq!(fetch(&store, 1, 1).await.entries, []);
    let gone = store.deposit(vec![envelope(1, "nobody")], NOW).await;
    assert_eq!(gone, Ok(vec![Outcome::reject(FailureClass::NoSuchMailbox)]));

    // Even where no time has passed since, or the clock was set back.
    let earlier = NOW - HOUR;
    let again = store.register(mailbox(1), device(1), earlier).await;
    assert_eq!(again, Ok(Registration::Created));
    store.deposit(vec![envelope(1, "new")], NOW).await.unwrap();
    let fetched = fetch(&store, 1, 1).await;
    assert_eq!(bodies(&fetched), ["new"]);
    assert!(fetched.entries[0].id > old[1]);
    assert_eq!(bodies(&fetch(&store, 2, 1).await), ["other"]);
    let expired = store.expire(NOW + 2 * DAY, 100).await.unwrap();
    assert_eq!(expired.entries, 2, "only what was there to expire");
}

/// An envelope comes back byte for byte, however large.
pub async fn keeps_envelopes_of_every_size(subject: &impl Subject) {
    let store = open(subject);
    store.register(mailbox(1), device(1), NOW).await.unwrap();
    let sizes = [1, 512, 16 << 10, 17_000, 64 << 10, 128 << 10, 900_000];
    let envelopes: Vec<_> = sizes
        .into_iter()
        .zip(0_u8..)
        .map(|(size, fill)| {
            let draft = Draft::new(mailbox(1), NOW + DAY, vec![fill; size]);
            draft.finish().unwrap()
        })
        .collect();
    store.deposit(envelopes.clone(), NOW).await.unwrap();
    let to = super::domain("b.example");
    store.enqueue(to.clone(), to.clone(), envelopes.clone(), NOW).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let store = open(subject);
    let fetched = fetch(&store, 1, 1).await;
    let kept: Vec<_> = fetched.entries.iter().map(|entry| entry.envelope.clone()).collect();
    assert!(kept == envelopes);
    let leased = store.lease(to, ALL, NOW, NOW + HOUR).await.unwrap();
    let kept: Vec<_> = leased.into_iter().map(|leased| leased.envelope).collect();
    assert!(kept == envelopes);
    store.acknowledge(mailbox(1), device(1), ids(&fetched)).await.unwrap();
    assert_eq!(fetch(&store, 1, 1).await.entries, []);
}
