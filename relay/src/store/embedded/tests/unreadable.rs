//! Envelopes whose bytes are not as they were written, among others.

use ed25519_dalek::SigningKey;
use postrider_common::{Binding, DeviceId, Domain, Envelope, FailureClass};

use super::damage::{change, flip, segments};
use super::*;
use crate::store::{Enqueued, TransferError, Unreadables, Verdict, export, import};

const ALL: Window = Window { count: 100, bytes: 1 << 20 };
const DAY: Duration = Duration::from_secs(86_400);
const BODY: usize = 2048;

fn envelope(to: MailboxId, fill: u8) -> Envelope {
    Draft::new(to, NOW + DAY, vec![fill; BODY]).finish().unwrap()
}

/// Flips a bit in the body of so many bytes `fill`, wherever it is in the journal; or flips it back.
fn damage(store: &Path, fill: u8) {
    let mut found = 0;
    for path in segments(store) {
        let content = fs::read(&path).unwrap();
        let half = content.windows(BODY / 2).position(|window| window.iter().all(|byte| *byte == fill));
        if let Some(at) = half {
            change(&path, |file| flip(file, (at + BODY / 2) as u64 + 7));
            found += 1;
        }
    }
    assert_eq!(found, 1);
}

fn opened(store: &Path, interval: Duration) -> (Arc<EmbeddedKv>, Engine<EmbeddedKv>) {
    let sizes = Sizes { interval, ..Sizes::default() };
    let kv = Arc::new(open(store, sizes).unwrap());
    (Arc::clone(&kv), Engine::open(kv, &options(sizes), &Supervisor::new()).unwrap())
}

#[tokio::test]
async fn an_unreadable_envelope_keeps_no_others_from_a_device() {
    let directory = tempfile::tempdir().unwrap();
    let (_, store) = opened(directory.path(), DAY);
    store.register(MAILBOX, DEVICE, NOW).await.unwrap();
    store.deposit((1..=4).map(|fill| envelope(MAILBOX, fill)).collect(), NOW).await.unwrap();
    damage(directory.path(), 1);
    damage(directory.path(), 3);

    let fills = async |window| {
        let (mut after, mut fills) = (None, Vec::new());
        loop {
            let fetched = store.fetch(MAILBOX, DEVICE, after, window, NOW).await.unwrap();
            after = fetched.entries.last().map(|entry| entry.id);
            fills.extend(fetched.entries.iter().map(|entry| entry.envelope.body()[0]));
            if !fetched.more {
                return fills;
            }
        }
    };
    assert_eq!(fills(ALL).await, [2, 4]);
    assert_eq!(fills(Window { count: 1, ..ALL }).await, [2, 4]);
    assert_eq!(store.statistics().unreadable.count(), 2);

    // They count until their time is over, and are gone then.
    assert_eq!(store.mailbox(MAILBOX).await.unwrap().unwrap().entries, 4);
    store.expire(NOW + 2 * DAY, 100).await.unwrap();
    assert_eq!(store.mailbox(MAILBOX).await.unwrap().unwrap().entries, 0);
    assert_eq!(store.statistics().unreadable.count(), 0);
}

#[tokio::test]
async fn an_unreadable_envelope_keeps_no_others_from_going() {
    let directory = tempfile::tempdir().unwrap();
    let (_, store) = opened(directory.path(), DAY);
    let to: Domain = "b.example".parse().unwrap();
    let envelopes = (1..=4).map(|fill| envelope(MAILBOX, fill)).collect();
    let enqueued = store.enqueue(to.clone(), to.clone(), envelopes, NOW).await.unwrap();
    let Enqueued::Queued(second) = enqueued[1] else { unreachable!("{enqueued:?}") };
    damage(directory.path(), 2);

    // Also where it is all that there was room for, there is something to be sent.
    let mut fills = Vec::new();
    for _ in 0..3 {
        let leased = store.lease(to.clone(), Window { count: 1, ..ALL }, NOW, NOW + DAY).await.unwrap();
        fills.extend(leased.iter().map(|leased| leased.envelope.body()[0]));
        let ends = leased.iter().map(|leased| leased.end(Verdict::Delivered)).collect();
        store.settle(to.clone(), ends, NOW).await.unwrap();
    }
    assert_eq!(fills, [1, 3, 4]);
    assert_eq!(store.lease(to.clone(), ALL, NOW, NOW + DAY).await, Ok(vec![]));
    assert_eq!(store.statistics().unreadable.count(), 1);

    // A disk that has come to its senses gives it back, and then does not again.
    let hour = Duration::from_secs(3600);
    damage(directory.path(), 2);
    // As when a destination is given up: that looks ahead, and says nothing about what time it is.
    assert_eq!(store.lease(to.clone(), ALL, NOW + 400 * DAY, NOW + DAY + hour / 2).await, Ok(vec![]));
    let leased = store.lease(to.clone(), ALL, NOW + hour, NOW + DAY + hour).await.unwrap();
    assert_eq!(leased.len(), 1);
    damage(directory.path(), 2);
    assert_eq!(store.lease(to.clone(), ALL, NOW + 2 * DAY, NOW + 3 * DAY).await, Ok(vec![]));

    // It is there to be seen, and to be given up.
    let queued = store.queued(to.clone(), None, 10, NOW).await.unwrap();
    assert_eq!((queued.len(), queued[0].unreadable, queued[0].leased), (1, true, false));
    assert!(store.tracking(second).await.unwrap().unwrap().is_unreadable);
    assert_eq!(store.queued_envelopes(to.clone(), None, ALL, NOW).await, Ok(vec![]));
    assert_eq!(store.discard(to.clone(), vec![queued[0].item], NOW).await, Ok(1));
    let told = store.tracking(second).await.unwrap().unwrap();
    assert!(!told.is_unreadable, "{told:?}");
    assert!(
        matches!(told.end, Some((crate::store::TrackingEnd::Failed(FailureClass::Dropped), _))),
        "{told:?}"
    );
    assert_eq!(store.destination(to).await, Ok(None));
}

#[tokio::test]
async fn an_unreadable_envelope_keeps_no_others_from_moving() {
    let directory = tempfile::tempdir().unwrap();
    let (_, store) = opened(directory.path(), DAY);
    let owner = SigningKey::from_bytes(&[5; 32]);
    let mailbox = MailboxId::from_bytes(owner.verifying_key().to_bytes());
    store.register(mailbox, DeviceId::from_bytes([2; 32]), NOW).await.unwrap();
    store.deposit((1..=4).map(|fill| envelope(mailbox, fill)).collect(), NOW).await.unwrap();
    // As many pieces as an envelope can have.
    let header = vec![6; 16 << 10].into();
    let draft = Draft { header, ..Draft::new(mailbox, NOW + DAY, vec![5; 1000 << 10]) };
    store.deposit(vec![draft.finish().unwrap(), envelope(mailbox, 7)], NOW).await.unwrap();
    damage(directory.path(), 2);
    let binding = Binding::sign(&owner, "b.example".parse().unwrap(), 7);
    store.put_binding(binding, false).await.unwrap();

    let held = store.held(mailbox, Window { count: 100, bytes: 1 << 30 }).await.unwrap();
    let fills: Vec<_> = held.iter().map(|entry| entry.envelope.body()[0]).collect();
    assert_eq!(fills, [1, 3, 4, 5, 7]);
    store.release_held(mailbox, 7, held).await.unwrap();
    assert_eq!(store.held(mailbox, ALL).await, Ok(vec![]));
}

#[tokio::test]
async fn what_cannot_be_read_is_left_out_of_an_export_if_that_is_asked_for() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, to) = (from.path().join("store"), to.path().join("store"));
    let (kv, store) = opened(&from, Duration::from_millis(1));
    store.register(MAILBOX, DEVICE, NOW).await.unwrap();
    store.deposit((1..=3).map(|fill| envelope(MAILBOX, fill)).collect(), NOW).await.unwrap();
    // What the base has not is read at every start, which would refuse it.
    await_checkpoints(&kv, || {
        let tables = kv.shared.tables();
        tables.frozen.is_none() && tables.unapplied == 0
    });
    store.close().await.unwrap();
    drop((kv, store));
    damage(&from, 2);

    let export = |out: &mut Vec<u8>, unreadables| export(&from, &std::env::temp_dir(), out, unreadables, &());
    let refused = export(&mut Vec::new(), Unreadables::Refuse);
    assert!(matches!(refused, Err(TransferError::Unreadable(StoreError::Damaged(_)))), "{refused:?}");
    let mut file = Vec::new();
    assert_eq!(export(&mut file, Unreadables::LeaveOut).unwrap().unreadable, 1);
    import(&to, &file[..], 0, &()).unwrap();

    let (_, store) = opened(&to, DAY);
    let found = store.fetch(MAILBOX, DEVICE, None, ALL, NOW).await.unwrap();
    let fills: Vec<_> = found.entries.iter().map(|entry| entry.envelope.body()[0]).collect();
    assert_eq!(fills, [1, 3]);
    store.expire(NOW, 100).await.unwrap();
    assert_eq!(store.statistics().unreadable.count(), 1, "that one is missing is told");
}

/// What is alive in it cannot be moved out, and it stays as it is; all else goes on.
#[test]
fn a_segment_that_cannot_be_read_stops_no_writes() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path(), Sizes { segment_bytes: 16 << 10, ..TINY }).unwrap();
    let put = |key: u8, fill: u8| write(&kv, vec![([key], Some(Bytes::from(vec![fill; 1000])))]);
    (0..40).for_each(|key| put(key, key));
    let is_idle = || {
        let tables = kv.shared.tables();
        tables.frozen.is_none() && tables.unapplied == 0
    };
    await_checkpoints(&kv, is_idle);
    let first = segments(directory.path()).remove(0);
    change(&first, |file| file.set_len(100).unwrap());
    // Mostly dead from now on.
    (1..40).for_each(|key| put(key, 0xff));
    for round in 0..3 {
        await_checkpoints(&kv, is_idle);
        put(99, round);
    }
    await_checkpoints(&kv, is_idle);
    assert_eq!(kv.shared.signal().failed, None);
    assert!(matches!(kv.get(&[0]), Err(StoreError::Damaged(_))));
    assert_eq!(kv.get(&[1]).unwrap(), Some(Bytes::from(vec![0xff; 1000])));
    assert!(first.exists());
}
