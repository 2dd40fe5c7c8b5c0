//! A store that is looked at while no relay has it open.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Mutex;

use tempfile::TempDir;

use super::damage::{change, copy_into, flip, segments};
use super::*;
use crate::store::embedded::segment::FIRST_FRAME;
use crate::store::tests::filled;
use crate::store::{Flaw, Place, Progress, Report, Step, check};

/// A store that has something of everything, in one segment of the journal after the other and in the base, as a
/// process leaves it that is killed.
async fn killed(sizes: Sizes) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let kv = Arc::new(open(directory.path(), sizes).unwrap());
    let store = Engine::open(Arc::clone(&kv), &options(sizes), &Supervisor::new()).unwrap();
    filled::fill(&store).await;
    // Everything is moved that is to be.
    if sizes.interval < Duration::from_secs(1) {
        await_checkpoints(&kv, || {
            let tables = kv.shared.tables();
            tables.frozen.is_none() && tables.active.bytes() == 0
        });
    }
    // Closing writes nothing; a base that is being copied would not be caught whole.
    drop(store);
    drop(kv);
    recovery::settle(directory.path()).unwrap();
    let copy = tempfile::tempdir().unwrap();
    copy_into(directory.path(), copy.path());
    copy
}

fn checked(directory: &TempDir) -> Report {
    check(directory.path(), &std::env::temp_dir(), &()).unwrap()
}

fn flaws(directory: &TempDir) -> Vec<Flaw> {
    flaws_of(&checked(directory))
}

/// Beside that attachments have no files, which nobody makes here.
fn flaws_of(report: &Report) -> Vec<Flaw> {
    report.flaws().map(|(flaw, _)| flaw).filter(|flaw| *flaw != Flaw::Attachment).collect()
}

/// Every file and directory with its bytes and the time of its last change.
fn everything(directory: &Path) -> BTreeMap<PathBuf, (i64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(path) = todo.pop() {
        let metadata = fs::metadata(&path).unwrap();
        let bytes = if metadata.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else {
            fs::read(&path).unwrap()
        };
        found.insert(path, (metadata.mtime(), metadata.mtime_nsec(), bytes));
    }
    found
}

/// Nothing is moved into the base, so that everything is in the journal.
const JOURNAL_ONLY: Sizes = Sizes {
    segment_bytes: 64 << 10,
    memtable_bytes: usize::MAX,
    unapplied_bytes: u64::MAX,
    base_bytes: u64::MAX,
    interval: Duration::from_secs(3600),
};
/// Everything is moved into the base, and stays in the segment where it is.
const BASE: Sizes = Sizes { interval: Duration::from_millis(5), base_bytes: u64::MAX, ..JOURNAL_ONLY };

#[tokio::test]
async fn a_check_finds_nothing_in_a_whole_store_and_changes_nothing() {
    for sizes in [TINY, JOURNAL_ONLY, BASE] {
        let directory = killed(sizes).await;
        // What a crash leaves is no damage, and stays as it is, too.
        let path = directory.path();
        fs::create_dir(path.join("base-99")).unwrap();
        fs::write(path.join("journal/00000000000000ff.new"), "half a header").unwrap();
        let newest = segments(&directory).pop().unwrap();
        let before = everything(path);
        let report = checked(&directory);
        assert_eq!(flaws_of(&report), [], "{report:?}");
        let expected = filled::content().await.len() as u64;
        assert_eq!(report.totals.records, expected, "{:?}", report.totals);
        assert!(report.totals.frames > 0 && report.notes.len() == 1, "{:?}", report.notes);
        assert_eq!(report.totals.blocks > 1, sizes != JOURNAL_ONLY, "{:?}", report.totals);
        assert!(everything(path) == before, "bytes and times are as they were");

        // A write that was cut off: behind the last frame there is something that is none.
        let end = {
            let kv = open(path, sizes).unwrap();
            let end = lock(&kv.shared.journal).newest().end();
            drop(kv);
            end
        };
        let newest = segments(&directory).pop().unwrap_or(newest);
        change(&newest, |file| file.write_all_at(&[0xa5; 100], end).unwrap());
        let before = everything(path);
        let report = checked(&directory);
        assert_eq!(flaws_of(&report), [], "{report:?}");
        assert!(report.notes[0].contains("a write that is not whole"), "{:?}", report.notes);
        assert!(everything(path) == before, "bytes and times are as they were");
        // And a relay opens it.
        open(path, sizes).unwrap();
    }
}

#[tokio::test]
async fn a_store_in_use_is_not_looked_at() {
    let directory = killed(TINY).await;
    let kv = open(directory.path(), TINY).unwrap();
    let refused = check(directory.path(), &std::env::temp_dir(), &());
    assert_eq!(refused.unwrap_err(), StoreError::InUse);
    drop(kv);
    assert_eq!(flaws(&directory), []);
}

#[tokio::test]
async fn the_copy_is_deleted() {
    let directory = killed(BASE).await;
    let scratch = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        check(directory.path(), scratch.path(), &()).unwrap();
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
    let nowhere = check(directory.path(), &scratch.path().join("missing"), &());
    assert!(matches!(nowhere, Err(StoreError::Io(_))), "{nowhere:?}");
}

#[tokio::test]
async fn a_damaged_byte_of_the_journal_is_found_and_named() {
    for sizes in [JOURNAL_ONLY, BASE] {
        let whole = killed(sizes).await;
        for (index, path) in segments(&whole).into_iter().enumerate() {
            let number: u64 = u64::from_str_radix(path.file_stem().unwrap().to_str().unwrap(), 16).unwrap();
            let len = fs::metadata(&path).unwrap().len();
            let is_newest = index + 1 == segments(&whole).len();
            for at in [3, FIRST_FRAME + 1, FIRST_FRAME + 30, len / 2, len - 1] {
                let copy = tempfile::tempdir().unwrap();
                copy_into(whole.path(), copy.path());
                change(&segments(&copy)[index], |file| flip(file, at));
                let report = checked(&copy);
                if is_newest && at > FIRST_FRAME + 30 {
                    // The newest one has room at its end, and what is cut off there was answered to nobody.
                    continue;
                }
                let in_segment = |place: &Place| match place {
                    Place::Segment { number: found, byte } => *found == number && *byte <= at,
                    Place::Text(text) => text.contains(&format!("segment {number:x} ")),
                    _ => false,
                };
                let named = report.flaws().any(|(_, found)| found.places.iter().any(in_segment));
                assert!(named, "segment {number:x}, byte {at}: {report:?}");
            }
        }
    }
}

#[tokio::test]
async fn damage_in_what_the_base_has_is_never_taken_for_a_write_that_was_cut_off() {
    let directory = killed(BASE).await;
    let kv = open(directory.path(), BASE).unwrap();
    let end = lock(&kv.shared.journal).newest().end();
    drop(kv);
    let newest = segments(&directory).pop().unwrap();
    for zeros in [1, 60] {
        change(&newest, |file| {
            file.write_all_at(&vec![0xff * u8::from(zeros == 1); zeros], end - 60).unwrap()
        });
        let report = checked(&directory);
        assert_eq!(report.notes, [""; 0]);
        assert!(report.flaws().any(|(flaw, _)| flaw == Flaw::Frame), "{report:?}");
    }
}

#[tokio::test]
async fn a_value_that_is_gone_or_another_is_found() {
    let whole = killed(BASE).await;
    // A body in a segment that the base has locations of: the frame and the value are not what they were.
    let copy = tempfile::tempdir().unwrap();
    copy_into(whole.path(), copy.path());
    let path = &segments(&copy)[0];
    let bytes = fs::read(path).unwrap();
    let body = bytes.windows(64).position(|window| window.iter().all(|byte| *byte == 4)).unwrap();
    change(path, |file| flip(file, body as u64));
    let report = checked(&copy);
    let found: Vec<_> = report.flaws().map(|(flaw, found)| (flaw, found.count)).collect();
    assert!(found.contains(&(Flaw::Frame, 1)) && found.contains(&(Flaw::Unreadable, 1)), "{report:?}");

    // The same value under another key: the frame is damaged, and the value is not that of the record.
    let copy = tempfile::tempdir().unwrap();
    copy_into(whole.path(), copy.path());
    let key = [b"B".as_slice(), &[0x11; 32]].concat();
    let (at, path) = segments(&copy)
        .into_iter()
        .find_map(|path| {
            let bytes = fs::read(&path).unwrap();
            bytes.windows(33).rposition(|window| window == key).map(|at| (at, path))
        })
        .unwrap();
    change(&path, |file| flip(file, at as u64 + 9));
    let report = checked(&copy);
    assert!(report.flaws().any(|(flaw, found)| flaw == Flaw::Unreadable && found.count == 1), "{report:?}");

    let copy = tempfile::tempdir().unwrap();
    copy_into(whole.path(), copy.path());
    fs::remove_file(&segments(&copy)[0]).unwrap();
    assert!(flaws(&copy).contains(&Flaw::Opening));
    fs::remove_file(copy.path().join("CURRENT")).unwrap();
    assert!(flaws(&copy).contains(&Flaw::Opening));
}

#[tokio::test]
async fn a_damaged_base_is_found() {
    let whole = killed(BASE).await;
    let db = |directory: &TempDir| {
        let name = fs::read_to_string(directory.path().join("CURRENT")).unwrap();
        directory.path().join(name).join("db")
    };
    let bytes = fs::read(db(&whole)).unwrap();
    // Every sixteenth byte in which something is: sled keeps more than the current state in its file.
    let written: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let mut noticed = 0;
    for at in written.iter().step_by(written.len() / 16).take(16) {
        let copy = tempfile::tempdir().unwrap();
        copy_into(whole.path(), copy.path());
        change(&db(&copy), |file| flip(file, *at as u64));
        let before = everything(copy.path());
        let report = check(copy.path(), &std::env::temp_dir(), &());
        noticed += u32::from(!report.is_ok_and(|report| report.is_clean()));
        assert!(everything(copy.path()) == before);
    }
    assert!(noticed > 0, "no damage is noticed");
    let copy = tempfile::tempdir().unwrap();
    copy_into(whole.path(), copy.path());
    fs::remove_file(db(&copy)).unwrap();
    assert!(flaws(&copy).contains(&Flaw::Opening), "{:?}", checked(&copy));
}

#[tokio::test]
async fn opening_after_a_crash_tells_how_far_it_has_come() {
    #[derive(Default)]
    struct Heard(Mutex<Vec<(Step, u64, u64)>>, Mutex<Vec<(u64, u64)>>);
    impl Progress for Heard {
        fn at(&self, step: Step, done: u64, of: u64) {
            self.0.lock().unwrap().push((step, done, of));
        }
        fn replayed(&self, frames: u64, bytes: u64) {
            self.1.lock().unwrap().push((frames, bytes));
        }
    }
    let directory = killed(JOURNAL_ONLY).await;
    let report = checked(&directory);
    let heard = Heard::default();
    let kv = EmbeddedKv::open(directory.path(), &options(JOURNAL_ONLY), &Supervisor::new(), &heard).unwrap();
    drop(kv);
    let Heard(at, replayed) = heard;
    let (at, replayed) = (at.into_inner().unwrap(), replayed.into_inner().unwrap());
    assert_eq!(at.iter().filter(|(step, ..)| *step == Step::Base).count(), 2);
    let journal: Vec<_> = at.iter().filter(|(step, ..)| *step == Step::Journal).collect();
    // Once for each frame, rising, and at the end everything.
    assert_eq!(journal.len() as u64, report.totals.frames + 1);
    assert!(journal.is_sorted(), "{journal:?}");
    assert_eq!(journal.last().map(|(_, done, of)| done == of), Some(true));
    let [(frames, bytes)] = replayed[..] else { panic!("{replayed:?}") };
    assert_eq!(frames, report.totals.frames);
    assert!(bytes > report.totals.bytes && bytes < journal[0].2, "{bytes}");
}
