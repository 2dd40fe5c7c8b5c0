//! What only an engine with a disk that can be stopped, broken and looked into can show.

mod disk;
pub(super) mod filled;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use postrider_common::supervisor::Supervisor;
use postrider_common::{DeviceId, Domain, Draft, Envelope, MailboxId, Outcome, Timestamp};

use self::disk::{Flush, TestDisk};
use super::engine::{Engine, Options};
use super::kv::Key;
use super::records::{self, MailboxRecord};
use super::{Backoff, Enqueued, Registration, Store, StoreError, TrackingEnd, Verdict, Window, keys};

const NOW: Timestamp = Timestamp::from_secs(1_790_035_200);
const DAY: Duration = Duration::from_secs(86_400);
const MAILBOX: MailboxId = MailboxId::from_bytes([1; 32]);
const DEVICE: DeviceId = DeviceId::from_bytes([2; 32]);
const ALL: Window = Window { count: usize::MAX, bytes: usize::MAX };

fn envelope(body: &str) -> Envelope {
    let draft = Draft::new(MAILBOX, NOW + DAY, body.as_bytes().to_vec());
    draft.finish().unwrap()
}

fn destination() -> Domain {
    "b.example".parse().unwrap()
}

fn open(disk: &Arc<TestDisk>) -> Engine<TestDisk> {
    open_with(disk, &Supervisor::new())
}

fn open_with(disk: &Arc<TestDisk>, supervisor: &Supervisor) -> Engine<TestDisk> {
    Engine::open(Arc::clone(disk), &Options::default(), supervisor).unwrap()
}

async fn with_mailbox(disk: &Arc<TestDisk>) -> Engine<TestDisk> {
    let store = open(disk);
    let created = store.register(MAILBOX, DEVICE, NOW).await;
    assert_eq!(created, Ok(Registration::Created));
    store
}

async fn bodies(store: &impl Store) -> Vec<String> {
    let fetched = store.fetch(MAILBOX, DEVICE, None, ALL, NOW).await.unwrap();
    let bodies = fetched.entries.iter().map(|entry| entry.envelope.body().to_vec());
    bodies.map(|body| String::from_utf8(body).unwrap()).collect()
}

#[tokio::test]
async fn a_read_shows_durable_state_only() {
    let disk = TestDisk::new();
    let store = with_mailbox(&disk).await;
    let _unblock = disk.unblock_at_end();

    let entries = async || store.mailbox(MAILBOX).await.unwrap().map(|state| state.entries);
    let deposit = store.deposit(vec![envelope("a")], NOW);
    disk.while_flushing(deposit, async {
        assert_eq!((bodies(&store).await, entries().await), (vec![], Some(0)));
    })
    .await
    .unwrap();
    assert_eq!((bodies(&store).await, entries().await), (vec!["a".into()], Some(1)));

    let fetched = store.fetch(MAILBOX, DEVICE, None, ALL, NOW).await.unwrap();
    let acknowledge = store.acknowledge(MAILBOX, DEVICE, vec![fetched.entries[0].id]);
    disk.while_flushing(acknowledge, async { assert_eq!(entries().await, Some(1)) }).await.unwrap();
    assert_eq!(entries().await, Some(0));

    let items = async || {
        let destination = store.destination(destination()).await.unwrap();
        destination.map_or(0, |destination| destination.items)
    };
    let enqueue = store.enqueue(destination(), destination(), vec![envelope("b")], NOW);
    let enqueued = disk.while_flushing(enqueue, async {
        assert_eq!((items().await, store.destinations().await), (0, Ok(vec![])));
    });
    let Enqueued::Queued(id) = enqueued.await.unwrap()[0] else { unreachable!("a new envelope is queued") };
    assert_eq!(items().await, 1);

    let leased = store.lease(destination(), ALL, NOW, NOW + DAY).await.unwrap();
    let settle = store.settle(destination(), vec![leased[0].end(Verdict::Delivered)], NOW);
    let end = async || store.tracking(id).await.unwrap().unwrap().end;
    disk.while_flushing(settle, async { assert_eq!((items().await, end().await), (1, None)) }).await.unwrap();
    assert_eq!((items().await, end().await), (0, Some((TrackingEnd::Stored, NOW))));

    let unregister = store.unregister(MAILBOX);
    disk.while_flushing(unregister, async { assert_eq!(entries().await, Some(0)) }).await.unwrap();
    assert_eq!(entries().await, None);
}

#[tokio::test]
async fn an_item_is_not_leased_before_it_is_durable() {
    let disk = TestDisk::new();
    let store = open(&disk);
    let _unblock = disk.unblock_at_end();
    let enqueue = store.enqueue(destination(), destination(), vec![envelope("a")], NOW);
    let lease = || store.lease(destination(), ALL, NOW, NOW + DAY);
    disk.while_flushing(enqueue, async { assert_eq!(lease().await.unwrap().len(), 0) }).await.unwrap();
    assert_eq!(lease().await.unwrap().len(), 1);
}

#[tokio::test]
async fn writes_that_wait_share_a_flush() {
    let disk = TestDisk::new();
    let store = with_mailbox(&disk).await;
    let _unblock = disk.unblock_at_end();
    let mut others = join_all((0..25).map(|n| store.deposit(vec![envelope(&n.to_string())], NOW)));
    let before = disk.flushes();
    let first = store.deposit(vec![envelope("first")], NOW);
    disk.while_flushing(first, async { assert_eq!((&mut others).now_or_never(), None) }).await.unwrap();
    for outcomes in others.await {
        assert_eq!(outcomes, Ok(vec![Outcome::Stored]));
    }
    assert_eq!(disk.flushes() - before, 2);
    assert_eq!(bodies(&store).await.len(), 26);
}

#[tokio::test]
async fn a_failed_write_is_an_error_and_never_seen() {
    for broken in [Flush::Fail, Flush::FailApply] {
        let disk = TestDisk::new();
        let store = with_mailbox(&disk).await;
        let _unblock = disk.unblock_at_end();
        store.deposit(vec![envelope("before")], NOW).await.unwrap();
        disk.set(broken);
        let failed = store.deposit(vec![envelope("lost")], NOW).await;
        assert!(matches!(failed, Err(StoreError::Io(_))), "{failed:?}");
        assert_eq!(bodies(&store).await, ["before"]);

        // The disk may be well again; what it has of the failed write nobody knows.
        disk.set(Flush::Pass);
        let refused = store.deposit(vec![envelope("after")], NOW).await;
        assert!(matches!(refused, Err(StoreError::Io(_))), "{refused:?}");
        let leased = store.lease(destination(), ALL, NOW, NOW + DAY).await;
        assert!(matches!(leased, Err(StoreError::Io(_))));
        assert_eq!(bodies(&store).await, ["before"]);
        assert_eq!(store.mailbox(MAILBOX).await.unwrap().unwrap().entries, 1);
        assert!(matches!(store.close().await, Err(StoreError::Io(_))));
        assert_eq!(store.mailbox(MAILBOX).await, Err(StoreError::Closed));
    }
}

#[tokio::test]
async fn a_panic_of_the_writer_is_told_and_nobody_hangs() {
    let disk = TestDisk::new();
    let supervisor = Supervisor::new();
    let store = open_with(&disk, &supervisor);
    disk.set(Flush::Panic);
    let lost = store.register(MAILBOX, DEVICE, NOW).await;
    assert!(matches!(lost, Err(StoreError::Io(_))), "{lost:?}");
    let refused = store.register(MAILBOX, DEVICE, NOW).await;
    assert!(matches!(refused, Err(StoreError::Io(_))), "{refused:?}");
    assert_eq!(store.mailbox(MAILBOX).await, Ok(None));
    assert_eq!(supervisor.failure().unwrap().task, "store-writer");
}

#[tokio::test]
async fn giving_up_the_answer_does_not_give_up_the_write() {
    let disk = TestDisk::new();
    let store = with_mailbox(&disk).await;
    let _unblock = disk.unblock_at_end();
    let first = store.deposit(vec![envelope("first")], NOW);
    disk.while_flushing(first, async {
        assert_eq!(store.deposit(vec![envelope("a")], NOW).now_or_never(), None);
    })
    .await
    .unwrap();
    // Whoever comes behind it is answered after it.
    store.deposit(vec![envelope("b")], NOW).await.unwrap();
    assert_eq!(bodies(&store).await, ["first", "a", "b"]);
}

#[tokio::test]
async fn an_operation_that_fails_leaves_nothing() {
    let disk = TestDisk::new();
    let store = with_mailbox(&disk).await;
    let damaged = MailboxId::from_bytes([9; 32]);
    disk.write(keys::mailbox(&damaged), b"?".as_slice().into());
    let good = envelope("good");
    let bad = Draft::new(damaged, NOW + DAY, &b"bad"[..]).finish().unwrap();
    let failed = store.deposit(vec![good.clone(), bad], NOW).await;
    assert!(matches!(failed, Err(StoreError::Damaged(_))), "{failed:?}");
    assert_eq!(bodies(&store).await, Vec::<String>::new());
    let again = store.deposit(vec![good], NOW).await;
    assert_eq!(again, Ok(vec![Outcome::Stored]), "neither kept nor marked");
}

#[tokio::test]
async fn the_first_device_gets_what_waited_for_it() {
    let disk = TestDisk::new();
    let store = open(&disk);
    let alone = MailboxRecord {
        devices: vec![],
        entries: 0,
        bytes: 0,
        next_entry: 1,
        suspended: None,
        binding: None,
    };
    disk.write(keys::mailbox(&MAILBOX), records::encode(&alone));
    let soon = Draft::new(MAILBOX, NOW + Duration::from_secs(60), &b"soon"[..]);
    let batch = vec![soon.finish().unwrap(), envelope("a"), envelope("b")];
    let stored = store.deposit(batch, NOW).await.unwrap();
    assert_eq!(stored, [Outcome::Stored, Outcome::Stored, Outcome::Stored]);
    let later = NOW + Duration::from_secs(60);
    assert_eq!(store.expire(later, 9).await.unwrap().entries, 1);
    let added = store.register(MAILBOX, DEVICE, later).await;
    assert_eq!(added, Ok(Registration::DeviceAdded));
    assert_eq!(bodies(&store).await, ["a", "b"]);
    let second = DeviceId::from_bytes([3; 32]);
    store.register(MAILBOX, second, later).await.unwrap();
    let fetched = store.fetch(MAILBOX, second, None, ALL, later).await.unwrap();
    assert_eq!(fetched.entries, []);
}

/// Whatever was put is deleted in the end: nothing stays on the disk but what belongs to no mailbox and no destination.
#[tokio::test]
async fn nothing_is_left_behind() {
    let disk = TestDisk::new();
    let store = with_mailbox(&disk).await;
    let second = DeviceId::from_bytes([3; 32]);
    store.register(MAILBOX, second, NOW).await.unwrap();
    let large = Draft::new(MAILBOX, NOW + DAY, vec![1; 100_000]);
    let batch = vec![envelope("a"), envelope("b"), large.finish().unwrap()];
    store.deposit(batch.clone(), NOW).await.unwrap();
    let fetched = store.fetch(MAILBOX, DEVICE, None, ALL, NOW).await.unwrap();
    let ids: Vec<_> = fetched.entries.iter().map(|entry| entry.id).collect();
    store.acknowledge(MAILBOX, DEVICE, ids[1..].into()).await.unwrap();
    store.acknowledge(MAILBOX, second, ids[1..].into()).await.unwrap();
    assert_eq!(disk.kinds(), "!!BDDDEEMRXddoo", "one entry for two devices, three marks");
    store.acknowledge(MAILBOX, second, ids[..1].into()).await.unwrap();
    assert_eq!(disk.kinds(), "!!BDDDEMXddoo");
    store.unregister(MAILBOX).await.unwrap();
    assert_eq!(disk.kinds(), "!!!DDD");

    store.enqueue(destination(), destination(), batch, NOW).await.unwrap();
    let leased = store.lease(destination(), ALL, NOW, NOW).await.unwrap();
    let retry = Verdict::Retry { reason: postrider_common::FailureClass::RemoteBusy, not_before: NOW };
    let settlements = leased.iter().map(|leased| leased.end(retry)).collect();
    store.settle(destination(), settlements, NOW).await.unwrap();
    let again = store.lease(destination(), ALL, NOW, NOW).await.unwrap();
    let settlements = again.iter().map(|leased| leased.end(retry)).collect();
    assert_eq!(store.settle(destination(), settlements, NOW).await, Ok(vec![true; 3]));
    store.settle(destination(), vec![leased[0].end(Verdict::Delivered)], NOW).await.unwrap();
    let backoff = Backoff {
        failing_since: NOW,
        failures: 1,
        class: postrider_common::FailureClass::ConnectFailed,
        class_since: NOW,
        detail: "refused".into(),
        next_attempt: NOW,
    };
    store.fail(destination(), backoff.clone(), NOW).await.unwrap();
    store.fail(destination(), backoff, NOW + Duration::from_secs(1)).await.unwrap();
    store.pause(destination(), Some(NOW)).await.unwrap();
    store.put_backoff(destination(), None).await.unwrap();
    store.expire(NOW + DAY, 100).await.unwrap();
    assert_eq!(disk.kinds(), "!!!DDDDDDHINTTTZZZaaah");
    store.pause(destination(), None).await.unwrap();
    store.expire(NOW + 30 * DAY, 100).await.unwrap();
    assert_eq!(disk.kinds(), "!!!");
}

#[tokio::test]
async fn a_reserve_of_the_disk_is_kept() {
    let disk = TestDisk::new();
    let store = with_mailbox(&disk).await;
    store.deposit(vec![envelope("a")], NOW).await.unwrap();
    disk.set_free(Some(100 << 20));
    let later = NOW + Duration::from_secs(1);
    assert_eq!(store.deposit(vec![envelope("b")], later).await, Err(StoreError::Full));
    let refused = store.enqueue(destination(), destination(), vec![envelope("b")], later).await;
    assert_eq!(refused, Err(StoreError::Full));
    let fetched = store.fetch(MAILBOX, DEVICE, None, ALL, later).await.unwrap();
    let acknowledged = store.acknowledge(MAILBOX, DEVICE, vec![fetched.entries[0].id]);
    assert_eq!(acknowledged.await, Ok(1));
    disk.set_free(Some(300 << 20));
    let later = later + Duration::from_secs(1);
    let stored = store.deposit(vec![envelope("c")], later).await;
    assert_eq!(stored, Ok(vec![Outcome::Stored]));
    // Not asked for every envelope, but before much has been taken on an old answer.
    disk.set_free(Some(0));
    let large = || Draft::new(MAILBOX, NOW + DAY, vec![0; 600_000]).finish().unwrap();
    assert_eq!(store.deposit(vec![large()], later).await, Ok(vec![Outcome::Stored]));
    assert_eq!(store.deposit(vec![large()], later).await, Err(StoreError::Full));
}

#[tokio::test]
async fn a_store_of_another_version_is_refused() {
    let disk = TestDisk::new();
    drop(with_mailbox(&disk).await);
    let later = (records::FORMAT + 1).to_be_bytes();
    let put = |format: &[u8]| disk.write(Key::from_slice(keys::FORMAT), format.to_vec().into());
    put(&later);
    let open = || Engine::open(Arc::clone(&disk), &Options::default(), &Supervisor::new()).map(drop);
    let refused = StoreError::TooNew { found: records::FORMAT + 1, supported: records::FORMAT };
    assert_eq!(open(), Err(refused));
    for unknown in [&b"?"[..], &1_u32.to_be_bytes()] {
        put(unknown);
        assert!(matches!(open(), Err(StoreError::Damaged(_))));
    }
    put(&records::FORMAT.to_be_bytes());
    assert_eq!(open(), Ok(()));
}

#[tokio::test]
async fn a_directory_is_opened_once_and_again_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { cache_bytes: 1 << 20, reserve_bytes: 0, ..Options::default() };
    let open = || super::open(directory.path(), &options, &Supervisor::new());
    for _ in 0..5 {
        let store = open().unwrap();
        assert_eq!(open().map(drop), Err(StoreError::InUse));
        store.register(MAILBOX, DEVICE, NOW).await.unwrap();
    }
    let no_room = Options { reserve_bytes: u64::MAX, ..options };
    let store = super::open(directory.path(), &no_room, &Supervisor::new()).unwrap();
    assert_eq!(store.deposit(vec![envelope("a")], NOW).await, Err(StoreError::Full));
}
