//! What only this engine can show: files that are cut off or damaged, processes that are killed, space that comes back.

mod damage;
mod killed;
mod offline;
mod unreadable;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use postrider_common::supervisor::Supervisor;
use postrider_common::{DeviceId, Draft, MailboxId, Outcome, Timestamp};

use super::base::Base;
use super::{EmbeddedKv, Shared, Sizes, lock, recovery};
use crate::store::engine::{Engine, Options};
use crate::store::kv::{Batch, Key, Kv, Write};
use crate::store::{Store, StoreError, Window};

const NOW: Timestamp = Timestamp::from_secs(1_790_035_200);
const MAILBOX: MailboxId = MailboxId::from_bytes([1; 32]);
const DEVICE: DeviceId = DeviceId::from_bytes([2; 32]);

/// Everything that happens once in a while happens all the time.
const TINY: Sizes = Sizes {
    segment_bytes: 16 << 10,
    memtable_bytes: 8 << 10,
    unapplied_bytes: 32 << 10,
    base_bytes: 1,
    interval: Duration::from_millis(5),
};

fn options(sizes: Sizes) -> Options {
    Options { cache_bytes: 1 << 20, reserve_bytes: 0, sizes, ..Options::default() }
}

fn open(path: &Path, sizes: Sizes) -> Result<EmbeddedKv, StoreError> {
    EmbeddedKv::open(path, &options(sizes), &Supervisor::new(), &())
}

fn write<K: AsRef<[u8]>>(kv: &EmbeddedKv, changes: Vec<(K, Option<Bytes>)>) {
    let write = |(key, value): (K, Option<Bytes>)| {
        (Key::from_slice(key.as_ref()), value.map_or(Write::Remove, Write::Put))
    };
    commit(kv, changes.into_iter().map(write).collect());
}

fn commit(kv: &EmbeddedKv, batch: Batch) {
    kv.apply(batch).unwrap();
    kv.flush().unwrap();
}

fn size(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(of).sum()
}

/// Waits until the checkpoints have made `is_so` true.
fn await_checkpoints(kv: &EmbeddedKv, is_so: impl Fn() -> bool) {
    let mut signal = kv.shared.signal();
    for _ in 0..500 {
        drop(signal);
        if is_so() {
            return;
        }
        let waited = kv.shared.changed.wait_timeout(kv.shared.signal(), Duration::from_millis(20));
        signal = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
    unreachable!("the checkpoints never came to it");
}

/// Numbers that are always the same.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn it_does_as_an_ordered_map_through_checkpoints_copies_and_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let mut numbers = Numbers(7);
    let mut model: BTreeMap<Key, Bytes> = BTreeMap::new();
    let mut used = 0_u64;
    for round in 0..8_u8 {
        let kv = open(directory.path(), TINY).unwrap();
        for _ in 0..40 {
            let mut batch = BTreeMap::new();
            for _ in 0..1 + numbers.below(20) {
                let key = Key::from_slice(format!("{:04}", numbers.below(600)).as_bytes());
                let length = [3, 200, 256, 257, 2000][usize::try_from(numbers.below(5)).unwrap()];
                let value = || Bytes::from(vec![round; length]);
                batch.insert(key, if numbers.below(3) > 0 { Write::Put(value()) } else { Write::Remove });
                // Keys that are used once, and removed soon or late.
                batch.insert(Key::from_slice(format!("n{used:06}").as_bytes()), Write::New(value()));
                let earlier = used.saturating_sub(numbers.below(60));
                batch.entry(Key::from_slice(format!("n{earlier:06}").as_bytes())).or_insert(Write::Remove);
                used += 1;
            }
            commit(&kv, batch.clone().into_iter().collect());
            for (key, write) in batch {
                match write.value() {
                    Some(value) => model.insert(key, value.clone()),
                    None => model.remove(&key),
                };
            }
            let key = Key::from_slice(format!("{:04}", numbers.below(600)).as_bytes());
            assert_eq!(kv.get(&key).unwrap(), model.get(&key).cloned());
            let limit = usize::try_from(1 + numbers.below(40)).unwrap();
            let found = kv.range(&key, b"0500", limit).unwrap();
            let expected = model.iter().filter(|(k, _)| **k >= key && k.as_slice() < b"0500".as_slice());
            let expected: Vec<_> = expected.take(limit).map(|(k, v)| (k.clone(), v.clone())).collect();
            assert_eq!(found, expected);
        }
    }
    let kv = open(directory.path(), TINY).unwrap();
    let all = kv.range(b"", b"z", usize::MAX).unwrap();
    assert_eq!(all, model.clone().into_iter().collect::<Vec<_>>());
    assert_ne!(fs::read(directory.path().join("CURRENT")).unwrap(), b"base-1", "the base was copied");
    write(&kv, model.into_keys().map(|key| (key, None)).collect());
    await_checkpoints(&kv, || fs::read_dir(directory.path().join("journal")).unwrap().count() == 1);
    assert_eq!(kv.range(b"", b"z", 9).unwrap(), []);
}

#[test]
fn readers_find_values_that_are_moved_under_their_hands() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path(), TINY).unwrap();
    let key = |number: u32| number.to_be_bytes().to_vec();
    let value = |number: u32| Bytes::from(vec![u8::try_from(number % 251).unwrap(); 700]);
    write(&kv, (0..200).map(|number| (key(number), Some(value(number)))).collect());
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for number in (0..200).step_by(10).cycle().take(5000) {
                assert_eq!(kv.get(&key(number)).unwrap(), Some(value(number)));
            }
        });
        // Nine of ten in each segment die; what is left is moved, again and again.
        for round in 0..20 {
            let doomed = (0..200).filter(|number| number % 10 != 0);
            write(&kv, doomed.clone().map(|number| (key(number), None)).collect());
            write(&kv, doomed.map(|number| (key(number), Some(value(number + round)))).collect());
        }
        reader.join().unwrap();
    });
    write(&kv, (0..200).filter(|number| number % 10 != 0).map(|number| (key(number), None)).collect());
    let journal = directory.path().join("journal");
    await_checkpoints(&kv, || fs::read_dir(&journal).unwrap().count() <= 4);
    assert_eq!(kv.range(b"", &[0xff], 999).unwrap().len(), 20);
}

#[tokio::test]
async fn space_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let sizes = Sizes {
        segment_bytes: 256 << 10,
        memtable_bytes: 128 << 10,
        unapplied_bytes: 1 << 20,
        base_bytes: 1 << 20,
        interval: Duration::from_millis(10),
    };
    let kv = Arc::new(open(directory.path(), sizes).unwrap());
    let store = Engine::open(Arc::clone(&kv), &options(sizes), &Supervisor::new()).unwrap();
    let empty = size(directory.path());
    store.register(MAILBOX, DEVICE, NOW).await.unwrap();
    for _ in 0..30 {
        let draft = || Draft::new(MAILBOX, NOW + Duration::from_secs(60), vec![5; 2000]);
        let envelopes: Vec<_> = (0..100).map(|_| draft().finish().unwrap()).collect();
        let stored = store.deposit(envelopes, NOW).await.unwrap();
        assert!(stored.iter().all(|outcome| *outcome == Outcome::Stored));
    }
    await_checkpoints(&kv, || kv.shared.tables().active.bytes() == 0);
    let full = size(directory.path());
    assert!(full > 6_000_000 && full < 12_500_000 + empty, "{empty} → {full}");
    let window = Window { count: 200, bytes: usize::MAX };
    loop {
        let fetched = store.fetch(MAILBOX, DEVICE, None, window, NOW).await.unwrap();
        if fetched.entries.is_empty() {
            break;
        }
        let entries = fetched.entries.iter().map(|entry| entry.id).collect();
        store.acknowledge(MAILBOX, DEVICE, entries).await.unwrap();
    }
    // The marks stay, and sled's file has a size of its own even when nothing is in it.
    await_checkpoints(&kv, || size(directory.path()) < empty + (2 << 20));
}

#[tokio::test]
async fn what_fails_in_the_background_stops_writes_and_no_reads() {
    let directory = tempfile::tempdir().unwrap();
    let kv = Arc::new(open(directory.path(), Sizes::default()).unwrap());
    let store = Engine::open(Arc::clone(&kv), &Options::default(), &Supervisor::new()).unwrap();
    store.register(MAILBOX, DEVICE, NOW).await.unwrap();
    kv.shared.fail(StoreError::Io("broken".into()));
    assert_eq!(store.unregister(MAILBOX).await, Err(StoreError::Io("broken".into())));
    assert!(store.mailbox(MAILBOX).await.unwrap().is_some());
}

#[test]
fn what_a_crash_left_unfinished_is_cleared_away() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let kv = open(path, TINY).unwrap();
    write(&kv, vec![(b"a", Some(Bytes::from_static(b"1")))]);
    drop(kv);
    fs::create_dir(path.join("base-99")).unwrap();
    fs::write(path.join("base-99/db"), "half a copy").unwrap();
    fs::write(path.join("CURRENT.new"), "base-").unwrap();
    fs::write(path.join("journal/00000000000000ff.new"), "half a header").unwrap();
    let kv = open(path, TINY).unwrap();
    assert_eq!(kv.get(b"a").unwrap(), Some(Bytes::from_static(b"1")));
    assert!(!path.join("base-99").exists());
    assert!(!path.join("journal/00000000000000ff.new").exists());
}

/// A store in which nothing is frozen or moved but by the test.
fn still(path: &Path, unapplied_bytes: u64) -> Shared {
    recovery::open(path, &options(Sizes { unapplied_bytes, ..Sizes::default() }), &()).unwrap()
}

fn put(key: &[u8], value: &'static [u8]) -> (Key, Write) {
    (Key::from_slice(key), Write::New(Bytes::from_static(value)))
}

fn freeze(shared: &Shared) {
    let mut journal = lock(&shared.journal);
    shared.write_tables().freeze(journal.freeze());
}

/// Whoever goes on behind what was found, a device or a destination's leases, never looks at a gap again.
#[test]
fn a_range_has_no_gap_when_the_base_is_changed_while_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let shared = still(directory.path(), u64::MAX);
    let is_changed = AtomicBool::new(false);
    let older = |base: &Base, start: &[u8], end: &[u8], limit: usize| {
        let mut pairs = base.range(start, b"2", limit)?;
        if !is_changed.swap(true, Ordering::Relaxed) {
            shared.commit(&mut lock(&shared.journal), vec![put(b"1", b"a"), put(b"2", b"b")])?;
            freeze(&shared);
            let frozen = shared.tables().frozen.clone().unwrap();
            assert!(base.take(&frozen.table, || false)?);
        }
        pairs.extend(base.range(b"2", end, limit)?);
        Ok(pairs)
    };
    let found = shared.range_over(older, b"", &[0xff], 100).unwrap();
    assert_eq!(found.iter().map(|(key, _)| key.as_slice()).collect::<Vec<_>>(), [b"1", b"2"]);
}

/// What a start has to read after a crash is bounded also when all that comes goes again at once.
#[test]
fn a_journal_that_the_base_is_far_behind_holds_up_writes() {
    let directory = tempfile::tempdir().unwrap();
    let shared = still(directory.path(), 16 << 10);
    freeze(&shared);
    for _ in 0..10 {
        assert!(!shared.tables().is_crowded(&shared.sizes));
        for write in [put(b"1", &[1; 2000]), (Key::from_slice(b"1"), Write::Remove)] {
            shared.commit(&mut lock(&shared.journal), vec![write]).unwrap();
        }
        assert_eq!(shared.tables().active.bytes(), 0);
        if lock(&shared.journal).unapplied() >= 16 << 10 {
            break;
        }
    }
    assert!(shared.tables().is_crowded(&shared.sizes));
}
