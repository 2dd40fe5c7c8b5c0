use std::collections::BTreeSet;
use std::sync::Mutex;

use tempfile::TempDir;

use super::*;
use crate::store::kv::Write as Change;
use crate::store::memory::{Content, MemoryKv};
use crate::store::tests::filled::{self, DEVICES, MAILBOXES, NOW};
use crate::store::{MemoryDisk, Outcome, Sizes, Store, StoreLimits, Window, open};

const ALL: Window = Window { count: usize::MAX, bytes: usize::MAX };

/// A data directory with a store that has something of everything, in the journal and in the base, and with the files of
/// its attachments.
async fn filled() -> TempDir {
    let data = tempfile::tempdir().unwrap();
    let sizes = Sizes { memtable_bytes: 4 << 10, ..Sizes::default() };
    let options = Options { sizes, ..Options::default() };
    let store = open(&data.path().join("store"), &options, &Supervisor::new()).unwrap();
    filled::fill(&*store).await;
    let files = Files::open(&data.path().join("attachments")).unwrap();
    for (n, chunks) in [(1, 2), (2, 1)] {
        let state = store.attachment(filled::attachment(n).id).await.unwrap().unwrap();
        files.writable(state.file, false).unwrap().write_all(&filled::brought(n, chunks)).unwrap();
    }
    store.close().await.unwrap();
    data
}

fn exported(data: &TempDir) -> Vec<u8> {
    let mut file = Vec::new();
    export(&data.path().join("store"), &std::env::temp_dir(), &mut file, Unreadables::Refuse, &()).unwrap();
    file
}

fn opened(data: &TempDir) -> std::sync::Arc<dyn Store> {
    open(&data.path().join("store"), &Options::default(), &Supervisor::new()).unwrap()
}

fn in_memory(file: &[u8]) -> Result<Content, TransferError> {
    let content = Content::default();
    let kv = MemoryKv::new(std::sync::Arc::clone(&content));
    let data = tempfile::tempdir().unwrap();
    let receiver = Receiver::new(data.path().join("attachments"));
    read(&kv, Reader::new(file)?, receiver, 0, &())?;
    Ok(content)
}

fn names(directory: &TempDir) -> BTreeSet<String> {
    let entries = fs::read_dir(directory.path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_store_is_the_same_after_a_journey_through_another_engine() {
    let data = filled().await;
    let file = exported(&data);
    let content = in_memory(&file).unwrap();
    assert!(filled::pairs(&content).len() > 100);

    // Out of memory again, into a directory.
    let mut again = Vec::new();
    let kv = MemoryKv::new(std::sync::Arc::clone(&content));
    let files = Files::at(&data.path().join("attachments"));
    let source = Source { pairs: &kv, files: &files, unreadables: Unreadables::Refuse };
    let moved = write(&source, &mut again, 0, &()).unwrap();
    assert!(again == file, "the same records are the same bytes");
    // The one file is two pieces.
    assert_eq!(moved.records, filled::pairs(&content).len() as u64 + 3);
    assert_eq!((moved.attachments, moved.missing), (2, 0));
    let other = tempfile::tempdir().unwrap();
    assert_eq!(import(&other.path().join("store"), &again[..], 0, &()).unwrap(), moved);
    assert_eq!(names(&other), ["attachments".to_owned(), "store".to_owned()].into());
    assert!(exported(&other) == file);

    // Both can be used, and go on where the first one stopped.
    let memory = MemoryDisk::of(content).open(StoreLimits::default(), &Supervisor::new()).unwrap();
    let first = opened(&data);
    for store in [memory, opened(&other)] {
        for mailbox in &MAILBOXES[..2] {
            let found = store.fetch(*mailbox, DEVICES[0], None, ALL, NOW).await.unwrap();
            assert_eq!(found, first.fetch(*mailbox, DEVICES[0], None, ALL, NOW).await.unwrap());
            assert!(!found.entries.is_empty());
            let envelope = found.entries[0].envelope.clone();
            assert_eq!(store.deposit(vec![envelope], NOW).await.unwrap(), [Outcome::Duplicate]);
            let another = filled::envelope(*mailbox, 9, 5_000);
            assert_eq!(store.deposit(vec![another.clone()], NOW).await.unwrap(), [Outcome::Stored]);
            let after = store.fetch(*mailbox, DEVICES[0], None, ALL, NOW).await.unwrap().entries;
            assert_eq!(after.last().unwrap().envelope, another);
        }
        for (n, chunks) in [(1, 2), (2, 1)] {
            let state = store.attachment(filled::attachment(n).id).await.unwrap().unwrap();
            let path = Files::at(&other.path().join("attachments")).path(state.file);
            assert!(fs::read(&path).unwrap() == filled::brought(n, chunks), "attachment {n}");
        }
        let domain = filled::destination("b.example");
        let found = store.destinations().await.unwrap();
        assert_eq!(found, first.destinations().await.unwrap());
        assert_eq!(
            store.quarantined(domain.clone()).await.unwrap(),
            first.quarantined(domain.clone()).await.unwrap()
        );
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn an_export_changes_nothing_and_waits_for_no_relay() {
    let data = filled().await;
    let before = in_memory(&exported(&data)).unwrap();
    let store = opened(&data);
    let refused =
        export(&data.path().join("store"), &std::env::temp_dir(), io::sink(), Unreadables::Refuse, &());
    assert!(matches!(refused, Err(TransferError::Store(StoreError::InUse))), "{refused:?}");
    store.close().await.unwrap();
    assert_eq!(filled::pairs(&in_memory(&exported(&data)).unwrap()), filled::pairs(&before));
}

#[tokio::test]
async fn a_file_that_is_not_what_was_written_makes_no_store() {
    let file = exported(&filled().await);
    let data = tempfile::tempdir().unwrap();
    let store = data.path().join("store");
    let refused = |file: &[u8]| {
        let refused = import(&store, file, 0, &()).unwrap_err();
        assert_eq!(names(&data), BTreeSet::new(), "{refused}");
        refused
    };
    let flipped = |at: usize| {
        let mut file = file.clone();
        file[at] ^= 0x10;
        file
    };
    // Each import makes a store's files: every byte of the header, and some of everything else.
    for at in (0..40).chain((40..file.len()).step_by(file.len() / 12)).chain(file.len() - 60..file.len()) {
        match in_memory(&flipped(at)) {
            Err(
                TransferError::Damaged { .. }
                | TransferError::NoExport
                | TransferError::TooNew { .. }
                | TransferError::CutOff { .. },
            ) => {}
            other => panic!("byte {at}: {other:?}"),
        }
    }
    let damaged = refused(&flipped(file.len() / 2));
    let TransferError::Damaged { at, .. } = damaged else { panic!("{damaged:?}") };
    let at = usize::try_from(at).unwrap();
    assert!(at <= file.len() / 2 && file.len() / 2 - at < (1 << 20) + 12, "{damaged}");
    for end in [0, 7, 8, 30, file.len() / 2, file.len() - 1] {
        match refused(&file[..end]) {
            TransferError::NoExport => assert!(end < 8),
            TransferError::CutOff { at } => assert!(at <= end as u64 && end >= 8),
            other => panic!("cut at {end}: {other:?}"),
        }
    }
    let more = [&file[..], b"x"].concat();
    assert!(matches!(refused(&more), TransferError::Damaged { at, .. } if at == file.len() as u64));
    assert!(matches!(refused(b"no export at all"), TransferError::NoExport));
    import(&store, &file[..], 0, &()).unwrap();
}

#[tokio::test]
async fn nothing_is_left_out_moved_or_mixed() {
    // Small chunks are not written; so what is put together here has two.
    let mut file = Vec::new();
    let mut writer = Writer::new(&mut file, records::FORMAT).unwrap();
    writer.put(keys::FORMAT, &records::encode_format()).unwrap();
    for number in 0..200_u8 {
        writer.put(&[b'D', number], &[number; 16 << 10]).unwrap();
    }
    writer.finish().unwrap();
    let whole = filled::pairs(&in_memory(&file).unwrap());
    assert_eq!(whole.len(), 201);
    let header = 20 + format!("postrider/{}", env!("CARGO_PKG_VERSION")).len() + 2;
    let length = |at: usize| 12 + u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let (first, second) = (header, header + length(header));
    let third = second + length(second);
    let without = |from: usize, to: usize| [&file[..from], &file[to..]].concat();
    let swapped = [&file[..first], &file[second..third], &file[first..second], &file[third..]].concat();
    for changed in [without(first, second), without(second, third), swapped, without(first, file.len() - 60)]
    {
        assert!(matches!(in_memory(&changed), Err(TransferError::Damaged { .. })));
    }
    // A record that was changed together with its checksum is not the one that the end speaks of.
    let mut changed = file.clone();
    changed[second + 2000] ^= 1;
    let own = format::checksum(u32::try_from(third - second - 12).unwrap(), 2, &changed[second + 12..third]);
    changed[second + 8..second + 12].copy_from_slice(&own.to_be_bytes());
    assert!(matches!(in_memory(&changed), Err(TransferError::Damaged { at, .. }) if at > third as u64));
    // A length that nobody writes takes no memory.
    let mut long = file.clone();
    long[first..first + 4].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(matches!(in_memory(&long), Err(TransferError::Damaged { at, .. }) if at == first as u64));
    // Nor is what is no whole store taken for one.
    let mut file = Vec::new();
    Writer::new(&mut file, records::FORMAT).unwrap().finish().unwrap();
    assert!(matches!(in_memory(&file), Err(TransferError::Damaged { .. })));
    let mut file = Vec::new();
    Writer::new(&mut file, records::FORMAT + 1).unwrap().finish().unwrap();
    assert!(matches!(in_memory(&file), Err(TransferError::TooNew { .. })));
}

#[tokio::test]
async fn an_import_that_did_not_end_is_refused_until_it_is_repeated() {
    let from = filled().await;
    let file = exported(&from);
    let data = tempfile::tempdir().unwrap();
    let store = data.path().join("store");
    // A process that ends in the middle leaves what it has made so far.
    fs::create_dir(data.path().join("store.import")).unwrap();
    let half = EmbeddedKv::open(&beside(&store), &Options::default(), &Supervisor::new(), &()).unwrap();
    half.apply(vec![(Key::from_slice(keys::FORMAT), Change::Put(records::encode_format()))]).unwrap();
    half.flush().unwrap();
    half.flush().unwrap();
    let refused = import(&store, &file[..], 0, &());
    assert!(matches!(refused, Err(TransferError::Store(StoreError::InUse))), "{refused:?}");
    drop(half);
    let refused = open(&store, &Options::default(), &Supervisor::new());
    assert!(matches!(refused, Err(StoreError::HalfImported(_))), "{refused:?}");
    fs::create_dir_all(data.path().join("attachments.import/half")).unwrap();
    import(&store, &file[..], 0, &()).unwrap();
    assert_eq!(names(&data), ["attachments".to_owned(), "store".to_owned()].into());
    assert!(!data.path().join("attachments/half").exists(), "what was half made is made anew");
    assert!(exported(&data) == file);

    let refused = import(&store, &file[..], 0, &());
    assert!(matches!(refused, Err(TransferError::Exists(_))), "{refused:?}");
    assert!(exported(&data) == file, "what is there stays as it is");
}

#[tokio::test]
async fn attachments_are_not_mixed_with_what_is_there_and_may_be_missing() {
    let from = filled().await;
    let file = exported(&from);
    let to = tempfile::tempdir().unwrap();
    fs::create_dir_all(to.path().join("attachments/ab")).unwrap();
    let refused = import(&to.path().join("store"), &file[..], 0, &());
    assert!(
        matches!(&refused, Err(TransferError::Exists(path)) if path.ends_with("attachments")),
        "{refused:?}"
    );
    assert_eq!(names(&to), ["attachments".to_owned()].into());

    let export =
        |unreadables| export(&from.path().join("store"), &std::env::temp_dir(), io::sink(), unreadables, &());
    // Not as they were brought, and not there.
    let folders = fs::read_dir(from.path().join("attachments")).unwrap();
    let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    fs::write(&files[0], "").unwrap();
    fs::remove_file(&files[1]).unwrap();
    let refused = export(Unreadables::Refuse).unwrap_err();
    assert!(matches!(refused, TransferError::Unreadable(StoreError::Damaged(_))), "{refused:?}");
    assert!(refused.to_string().contains("attachments/"), "{refused}");
    let moved = export(Unreadables::LeaveOut).unwrap();
    assert_eq!((moved.attachments, moved.missing), (0, 2));
}

#[test]
fn pieces_that_do_not_follow_one_another_are_damage() {
    let put = |at: u64| {
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file, records::FORMAT).unwrap();
        writer.put(keys::FORMAT, &records::encode_format()).unwrap();
        let key = |at: u64| [&[0xff][..], &[7; 16], &at.to_be_bytes()].concat();
        writer.put(&key(0), b"abc").unwrap();
        writer.put(&key(at), b"def").unwrap();
        writer.finish().unwrap();
        in_memory(&file)
    };
    put(3).unwrap();
    for at in [2, 4] {
        assert!(matches!(put(at), Err(TransferError::Damaged { .. })), "{at}");
    }
}

#[tokio::test]
async fn whoever_waits_is_told() {
    #[derive(Default)]
    struct Heard(Mutex<Vec<(Step, u64, u64)>>);
    impl Progress for Heard {
        fn at(&self, step: Step, done: u64, of: u64) {
            self.0.lock().unwrap().push((step, done, of));
        }
    }
    let (from, to) = (filled().await, tempfile::tempdir().unwrap());
    let (mut file, heard) = (Vec::new(), Heard::default());
    export(&from.path().join("store"), &std::env::temp_dir(), &mut file, Unreadables::Refuse, &heard)
        .unwrap();
    let of = file.len() as u64;
    import(&to.path().join("store"), &file[..], of, &heard).unwrap();
    let heard = heard.0.into_inner().unwrap();
    let steps: BTreeSet<_> = heard.iter().map(|(step, ..)| *step).collect();
    let expected = [Step::Base, Step::Journal, Step::Copying, Step::Exporting, Step::Importing];
    assert_eq!(steps, expected.into());
    assert!(heard.iter().all(|(_, done, of)| done <= of), "{heard:?}");
    assert!(heard.iter().any(|(step, done, _)| *step == Step::Importing && *done > of / 2));
}
