//! Promises about closed mailboxes, lists of them, and their devices.

use postrider::store::{Change, Registration, StoreLimits};
use postrider_common::{Draft, EntryId, FailureClass, Outcome, Timestamp};

use super::{DAY, HOUR, NOW, Subject, bodies, device, envelope, fetch, ids, mailbox, open};

/// A mailbox without a device keeps what comes for the first one; making one that there is changes nothing.
pub async fn makes_mailboxes_for_those_who_come_later(subject: &impl Subject) {
    let store = open(subject);
    assert!(store.make(mailbox(1), NOW).await.unwrap());
    assert!(!store.make(mailbox(1), NOW).await.unwrap());
    let stored = store.deposit(vec![envelope(1, "welcome")], NOW).await.unwrap();
    assert_eq!(stored, [Outcome::Stored]);
    assert_eq!(store.register(mailbox(1), device(1), NOW).await.unwrap(), Registration::DeviceAdded);
    assert_eq!(bodies(&fetch(&store, 1, 1).await), ["welcome"]);
    assert!(!store.make(mailbox(1), NOW).await.unwrap());
    assert_eq!(bodies(&fetch(&store, 1, 1).await), ["welcome"]);
}

/// A closed mailbox takes nothing and registers nobody, also after the store was opened anew, and keeps what it has.
pub async fn closes_a_mailbox_and_opens_it_again(subject: &impl Subject) {
    let store = open(subject);
    store.register(mailbox(1), device(1), NOW).await.unwrap();
    let before = envelope(1, "before");
    store.deposit(vec![before.clone()], NOW).await.unwrap();
    assert!(!store.suspend(mailbox(9), true, NOW).await.unwrap(), "there is none");
    let mut changes = store.watch();
    assert!(store.suspend(mailbox(1), true, NOW).await.unwrap());
    assert_eq!(changes.recv().await, Ok(Change::Suspended(mailbox(1))));
    drop(store);
    let store = open(subject);
    assert!(store.suspend(mailbox(1), true, NOW + DAY).await.unwrap());
    let state = store.mailbox(mailbox(1)).await.unwrap().unwrap();
    assert_eq!((state.suspended, state.entries), (Some(NOW), 1), "since the first time");
    let outcomes = store.deposit(vec![before, envelope(1, "meanwhile")], NOW).await.unwrap();
    assert_eq!(outcomes, [Outcome::Duplicate, Outcome::reject(FailureClass::MailboxRefused)]);
    for by in [1, 2] {
        let refused = store.register(mailbox(1), device(by), NOW).await.unwrap();
        assert_eq!(refused, Registration::Suspended);
    }
    assert!(store.suspend(mailbox(1), false, NOW + DAY).await.unwrap());
    assert_eq!(store.register(mailbox(1), device(1), NOW).await.unwrap(), Registration::Unchanged);
    let stored = store.deposit(vec![envelope(1, "after")], NOW).await.unwrap();
    assert_eq!(stored, [Outcome::Stored]);
    assert_eq!(bodies(&fetch(&store, 1, 1).await), ["before", "after"]);
}

/// Mailboxes are listed in the order of their ids, a page at a time, each once.
pub async fn lists_mailboxes_page_by_page(subject: &impl Subject) {
    let store = open(subject);
    for of in [5, 1, 4, 2, 3] {
        store.register(mailbox(of), device(of), NOW).await.unwrap();
    }
    store.deposit(vec![envelope(2, "waits")], NOW).await.unwrap();
    let (mut after, mut all) = (None, Vec::new());
    loop {
        let page = store.mailboxes(after, 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        all.extend(page);
    }
    assert_eq!(all.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2, 3, 4, 5].map(mailbox));
    assert_eq!(all[1].1, store.mailbox(mailbox(2)).await.unwrap().unwrap());
    assert_eq!((all[1].1.entries, &all[1].1.devices), (1, &vec![device(2)]));
}

/// A device that is removed takes with it what waited for it, and what waited for nobody else; the others keep theirs.
pub async fn removes_a_device_with_what_waits_for_it_alone(subject: &impl Subject) {
    let store = open(subject);
    for by in [1, 2] {
        store.register(mailbox(1), device(by), NOW).await.unwrap();
    }
    let only = Draft { device: Some(device(1)), ..Draft::new(mailbox(1), NOW + DAY, &b"for the first"[..]) };
    let batch = vec![envelope(1, "for both"), only.finish().unwrap(), envelope(1, "for both, too")];
    let size = batch[0].encoded().len() as u64;
    store.deposit(batch, NOW).await.unwrap();
    let known = ids(&fetch(&store, 1, 2).await);
    store.acknowledge(mailbox(1), device(2), vec![known[1]]).await.unwrap();

    let mut changes = store.watch();
    assert!(store.remove_device(mailbox(1), device(1)).await.unwrap());
    assert_eq!(changes.recv().await, Ok(Change::DeviceRemoved(mailbox(1), device(1))));
    assert!(!store.remove_device(mailbox(1), device(1)).await.unwrap());
    assert!(!store.remove_device(mailbox(9), device(1)).await.unwrap());
    assert_eq!(bodies(&fetch(&store, 1, 1).await), Vec::<String>::new());
    assert_eq!(bodies(&fetch(&store, 1, 2).await), ["for both"]);
    let state = store.mailbox(mailbox(1)).await.unwrap().unwrap();
    assert_eq!((state.devices, state.entries, state.bytes), (vec![device(2)], 1, size));

    // It is a new device if it comes again: it starts from then.
    assert_eq!(store.register(mailbox(1), device(1), NOW).await.unwrap(), Registration::DeviceAdded);
    assert_eq!(bodies(&fetch(&store, 1, 1).await), Vec::<String>::new());
    // Where none is left, what comes waits for the next first one.
    for by in [1, 2] {
        assert!(store.remove_device(mailbox(1), device(by)).await.unwrap());
    }
    assert_eq!(store.mailbox(mailbox(1)).await.unwrap().unwrap().entries, 0);
    store.deposit(vec![envelope(1, "for whoever comes")], NOW).await.unwrap();
    store.register(mailbox(1), device(3), NOW).await.unwrap();
    assert_eq!(bodies(&fetch(&store, 1, 3).await), ["for whoever comes"]);
}

/// Of a device the day of its last contact is kept, and what its owner calls it.
pub async fn knows_devices_by_the_day_and_the_name(subject: &impl Subject) {
    let store = open(subject);
    for by in [2, 1] {
        store.register(mailbox(1), device(by), NOW + HOUR).await.unwrap();
    }
    let known = async || -> Vec<_> {
        let devices = store.devices(mailbox(1)).await.unwrap();
        devices.into_iter().map(|known| (known.device, known.name, known.last_contact)).collect()
    };
    assert_eq!(known().await, [(device(2), vec![], NOW), (device(1), vec![], NOW)], "the day only");
    store.note_contact(mailbox(1), device(1), NOW + DAY + HOUR).await.unwrap();
    store.note_contact(mailbox(1), device(1), NOW + DAY + 2 * HOUR).await.unwrap();
    store.note_contact(mailbox(1), device(9), NOW).await.unwrap();
    assert!(store.name_device(mailbox(1), device(2), b"sealed".to_vec()).await.unwrap());
    assert!(!store.name_device(mailbox(1), device(9), b"sealed".to_vec()).await.unwrap());
    assert!(!store.name_device(mailbox(9), device(1), b"sealed".to_vec()).await.unwrap());
    let expected = [(device(2), b"sealed".to_vec(), NOW), (device(1), vec![], NOW + DAY)];
    assert_eq!(known().await, expected);
    assert_eq!(store.devices(mailbox(9)).await.unwrap(), []);
    store.unregister(mailbox(1)).await.unwrap();
    store.register(mailbox(1), device(2), NOW).await.unwrap();
    assert_eq!(known().await, [(device(2), vec![], NOW)], "nothing is left of the earlier one");
}

/// The devices of a closed mailbox stay, with what waits for them: none of them could be here. When it is opened again, their
/// time begins anew.
pub async fn keeps_the_devices_of_a_closed_mailbox(subject: &impl Subject) {
    let limits = StoreLimits { device_idle: 10 * DAY, ..StoreLimits::default() };
    let store = subject.open(limits).unwrap();
    for of in [1, 2] {
        store.register(mailbox(of), device(of), NOW).await.unwrap();
    }
    let far = Draft::new(mailbox(1), NOW + 40 * DAY, &b"stays"[..]).finish().unwrap();
    store.deposit(vec![far], NOW).await.unwrap();
    store.suspend(mailbox(1), true, NOW + DAY).await.unwrap();
    assert_eq!(store.expire(NOW + 20 * DAY, 100).await.unwrap().devices, 1, "the other mailbox's");
    assert_eq!(store.expire(NOW + 21 * DAY, 100).await.unwrap().devices, 0);
    let state = store.mailbox(mailbox(1)).await.unwrap().unwrap();
    assert_eq!((state.devices, state.entries), (vec![device(1)], 1));
    store.suspend(mailbox(1), false, NOW + 21 * DAY).await.unwrap();
    store.suspend(mailbox(1), false, NOW + 22 * DAY).await.unwrap();
    assert_eq!(store.expire(NOW + 30 * DAY, 100).await.unwrap().devices, 0);
    assert_eq!(bodies(&fetch(&store, 1, 1).await), ["stays"]);
    assert_eq!(store.expire(NOW + 31 * DAY, 100).await.unwrap().devices, 1, "since it was opened");
}

/// A device that has been away for the limit is removed as by its owner; one that was here is not.
pub async fn drops_devices_that_stay_away(subject: &impl Subject) {
    let limits = StoreLimits { device_idle: 10 * DAY, ..StoreLimits::default() };
    let store = subject.open(limits).unwrap();
    for by in [1, 2] {
        store.register(mailbox(1), device(by), NOW).await.unwrap();
    }
    let far = Draft::new(mailbox(1), NOW + 30 * DAY, &b"for both"[..]).finish().unwrap();
    store.deposit(vec![far], NOW).await.unwrap();
    store.note_contact(mailbox(1), device(2), NOW + 5 * DAY).await.unwrap();
    let devices = async |now: Timestamp| {
        let expired = store.expire(now, 100).await.unwrap();
        let state = store.mailbox(mailbox(1)).await.unwrap().unwrap();
        (expired.devices, state.devices.len(), state.entries)
    };
    let second = std::time::Duration::from_secs(1);
    assert_eq!(devices(NOW + 10 * DAY - second).await, (0, 2, 1));
    assert_eq!(devices(NOW + 10 * DAY).await, (1, 1, 1), "the other one has yet to get it");
    assert_eq!(devices(NOW + 15 * DAY).await, (1, 0, 0), "nobody waits for it any more");
    assert_eq!(store.register(mailbox(1), device(1), NOW).await.unwrap(), Registration::DeviceAdded);
}

/// What waits for a device is deleted with it, and counts.
pub async fn drops_few_devices_at_a_time_for_which_much_waits(subject: &impl Subject) {
    let limits = StoreLimits { device_idle: DAY, ..StoreLimits::default() };
    let store = subject.open(limits).unwrap();
    for n in 1..=3 {
        store.register(mailbox(n), device(1), NOW).await.unwrap();
        let far = |at: u64| Draft::new(mailbox(n), NOW + 30 * DAY, at.to_string()).finish().unwrap();
        store.deposit((0..4).map(far).collect(), NOW).await.unwrap();
    }
    let mut rounds = Vec::new();
    for _ in 0..3 {
        let expired = store.expire(NOW + 2 * DAY, 6).await.unwrap();
        rounds.push((expired.devices, expired.more));
    }
    assert_eq!(rounds, [(2, true), (1, false), (0, false)]);
}

/// Of any entries, those are told that a device has yet to acknowledge, in the order in which they were asked about.
pub async fn tells_what_a_device_has_yet_to_acknowledge(subject: &impl Subject) {
    let store = open(subject);
    for by in [1, 2] {
        store.register(mailbox(1), device(by), NOW).await.unwrap();
    }
    store.deposit(vec![envelope(1, "one"), envelope(1, "two"), envelope(1, "three")], NOW).await.unwrap();
    let known = ids(&fetch(&store, 1, 1).await);
    let unknown = EntryId(known[2].0 + 1);
    let asked = vec![unknown, known[2], known[0], EntryId(0), known[1]];
    let waiting = async |of, by| store.unacknowledged(mailbox(of), device(by), asked.clone()).await.unwrap();
    assert_eq!(waiting(1, 1).await, [known[2], known[0], known[1]]);
    store.acknowledge(mailbox(1), device(1), vec![known[0]]).await.unwrap();
    assert_eq!(waiting(1, 1).await, [known[2], known[1]]);
    assert_eq!(waiting(1, 2).await, [known[2], known[0], known[1]], "the other device's are its own");
    for (of, by) in [(1, 3), (9, 1)] {
        assert_eq!(waiting(of, by).await, [], "there is no such device");
    }
}
