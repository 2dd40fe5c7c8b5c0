//! Files that are not as they were written.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::store::Report;
use crate::store::embedded::segment::{FIRST_FRAME, Segment};

/// Nothing is moved into the base, so that everything is in the journal.
const JOURNAL_ONLY: Sizes = Sizes {
    segment_bytes: 64 << 10,
    memtable_bytes: usize::MAX,
    unapplied_bytes: u64::MAX,
    base_bytes: u64::MAX,
    interval: Duration::from_secs(3600),
};
const BATCHES: u8 = 12;

/// A store after some batches, and where the journal ended after each.
struct Written {
    directory: TempDir,
    ends: Vec<u64>,
}

impl Written {
    fn new(sizes: Sizes) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let kv = open(directory.path(), sizes).unwrap();
        let ends = (0..BATCHES).map(|number| {
            let body = Bytes::from(vec![number; 300]);
            write(&kv, vec![([number, 0], Some(body)), ([number, 1], Some(Bytes::from(vec![number])))]);
            lock(&kv.shared.journal).newest().end()
        });
        let ends = ends.collect();
        drop(kv);
        Self { directory, ends }
    }

    fn copy(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_into(self.directory.path(), copy.path());
        copy
    }
}

pub(super) fn copy_into(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_into(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(super) fn segments(directory: impl AsRef<Path>) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.as_ref().join("journal")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

pub(super) fn change(path: &Path, change: impl Fn(&fs::File)) {
    change(&fs::OpenOptions::new().read(true).write(true).open(path).unwrap());
}

pub(super) fn flip(file: &fs::File, offset: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

/// How many batches are there: the first ones, each as a whole.
fn batches(directory: &TempDir) -> Result<u8, StoreError> {
    let kv = open(directory.path(), JOURNAL_ONLY)?;
    let found = kv.range(b"", &[0xff], usize::MAX)?;
    let count = u8::try_from(found.len() / 2).unwrap();
    for (number, pair) in (0..count).zip(found.chunks(2)) {
        assert_eq!(pair[0], (Key::from_slice(&[number, 0]), Bytes::from(vec![number; 300])));
        assert_eq!(pair[1], (Key::from_slice(&[number, 1]), Bytes::from(vec![number])));
    }
    // It can be written to, and has that after another restart.
    write(&kv, vec![(b"after", Some(Bytes::from_static(b"wards")))]);
    drop(kv);
    let kv = open(directory.path(), JOURNAL_ONLY)?;
    assert_eq!(kv.get(b"after")?, Some(Bytes::from_static(b"wards")));
    Ok(count)
}

#[test]
fn a_journal_cut_off_anywhere_has_the_batches_before() {
    let written = Written::new(JOURNAL_ONLY);
    let end = *written.ends.last().unwrap();
    for (number, cut) in (FIRST_FRAME..=end).step_by(163).chain(written.ends.clone()).enumerate() {
        let whole = written.ends.iter().filter(|end| **end <= cut).count();
        let copy = written.copy();
        change(&segments(&copy)[0], |file| match number % 3 {
            0 => file.set_len(cut).unwrap(),
            1 => file.write_all_at(&vec![0; usize::try_from(end - cut).unwrap()], cut).unwrap(),
            // A part of the write was left out, and what came after it is there.
            _ => {
                let next = written.ends[(whole).min(written.ends.len() - 1)].max(cut);
                file.write_all_at(&vec![0xa5; usize::try_from(next - cut).unwrap()], cut).unwrap();
                file.set_len(next).unwrap();
            }
        });
        assert_eq!(batches(&copy), Ok(u8::try_from(whole).unwrap()), "cut at {cut}");
    }
}

#[test]
fn damage_before_the_last_frame_is_refused() {
    let written = Written::new(JOURNAL_ONLY);
    let last = written.ends[written.ends.len() - 2];
    for offset in (FIRST_FRAME..last).step_by(117).chain([0, 9, 15, 25, 31]) {
        let copy = written.copy();
        change(&segments(&copy)[0], |file| flip(file, offset));
        let refused = batches(&copy);
        assert!(matches!(refused, Err(StoreError::Damaged(_))), "byte {offset}: {refused:?}");
    }
    let copy = written.copy();
    change(&segments(&copy)[0], |file| flip(file, last + 40));
    assert_eq!(batches(&copy), Ok(BATCHES - 1));
}

#[test]
fn a_damaged_or_missing_file_is_refused() {
    let small = Sizes { segment_bytes: 1000, ..JOURNAL_ONLY };
    let written = Written::new(small);
    let count = segments(&written.directory).len();
    assert!(count >= 5);
    let refused = |damage: &dyn Fn(&TempDir)| {
        let copy = written.copy();
        damage(&copy);
        let refused = open(copy.path(), small).map(drop);
        assert!(matches!(refused, Err(StoreError::Damaged(_))), "{refused:?}");
    };
    refused(&|copy| change(&segments(copy)[1], |file| file.set_len(500).unwrap()));
    refused(&|copy| change(&segments(copy)[1], |file| flip(file, 500)));
    refused(&|copy| change(&segments(copy)[count - 1], |file| file.set_len(20).unwrap()));
    refused(&|copy| fs::remove_file(&segments(copy)[0]).unwrap());
    refused(&|copy| fs::remove_file(&segments(copy)[2]).unwrap());
    refused(&|copy| fs::remove_file(copy.path().join("CURRENT")).unwrap());
    refused(&|copy| fs::write(copy.path().join("CURRENT"), "../elsewhere").unwrap());
    refused(&|copy| fs::write(copy.path().join("CURRENT"), "base-7").unwrap());
    refused(&|copy| fs::write(copy.path().join("CURRENT"), [0xff, 0xfe]).unwrap());
    refused(&|copy| fs::remove_dir_all(copy.path().join("journal")).unwrap());
    refused(&|copy| {
        fs::remove_dir_all(copy.path().join("journal")).unwrap();
        fs::remove_file(copy.path().join("CURRENT")).unwrap();
    });
    assert_eq!(open(written.copy().path(), small).map(drop), Ok(()));
}

#[test]
fn what_is_refused_for_a_wrong_or_missing_current_is_still_there() {
    let written = Written::new(JOURNAL_ONLY);
    let current = fs::read_to_string(written.directory.path().join("CURRENT")).unwrap();
    for wrong in [Some("base-7"), Some("base-0"), Some("base-1\n"), None] {
        let copy = written.copy();
        let file = copy.path().join("CURRENT");
        match wrong {
            Some(name) => fs::write(&file, name).unwrap(),
            None => {
                fs::remove_file(&file).unwrap();
                // As after everything has gone into the base.
                fs::remove_file(&segments(&copy)[0]).unwrap();
                drop(Segment::create(&copy.path().join("journal"), 9, 1000).unwrap());
            }
        }
        let refused = open(copy.path(), JOURNAL_ONLY).map(drop);
        assert!(matches!(refused, Err(StoreError::Damaged(_))), "{wrong:?}: {refused:?}");
        assert!(copy.path().join(&current).join("db").exists(), "{wrong:?}");
        if wrong.is_some() {
            fs::write(&file, &current).unwrap();
            let kv = open(copy.path(), JOURNAL_ONLY).unwrap();
            assert_eq!(kv.get(&[0, 0]).unwrap(), Some(Bytes::from(vec![0; 300])), "{wrong:?}");
        }
    }
}

/// Whatever a creation had made when the process died, the next one makes an empty store.
#[test]
fn a_creation_that_died_is_made_again() {
    let whole = tempfile::tempdir().unwrap();
    drop(open(whole.path(), JOURNAL_ONLY).unwrap());
    for step in 0..4 {
        let copy = tempfile::tempdir().unwrap();
        copy_into(whole.path(), copy.path());
        fs::remove_file(copy.path().join("CURRENT")).unwrap();
        if step < 3 {
            fs::remove_dir_all(copy.path().join("base-1")).unwrap();
        }
        if step == 2 {
            fs::create_dir(copy.path().join("base-1")).unwrap();
            fs::write(copy.path().join("base-1/db"), "half a base").unwrap();
        }
        if step < 1 {
            fs::remove_dir_all(copy.path().join("journal")).unwrap();
        }
        let report = super::super::check(copy.path(), &std::env::temp_dir(), &());
        assert!(step < 1 || report.as_ref().is_ok_and(Report::is_clean), "{step}: {report:?}");
        let kv = open(copy.path(), JOURNAL_ONLY).unwrap();
        write(&kv, vec![(b"key", Some(Bytes::from_static(b"value")))]);
        drop(kv);
        let kv = open(copy.path(), JOURNAL_ONLY).unwrap();
        assert_eq!(kv.get(b"key").unwrap(), Some(Bytes::from_static(b"value")), "{step}");
    }
}

/// Also where its first frame is not whole any more.
#[test]
fn a_store_without_current_is_not_made_anew_for_a_damaged_frame() {
    let written = Written::new(JOURNAL_ONLY);
    fs::remove_file(written.directory.path().join("CURRENT")).unwrap();
    change(&segments(&written.directory)[0], |file| flip(file, FIRST_FRAME + 28));
    let report = super::super::check(written.directory.path(), &std::env::temp_dir(), &()).unwrap();
    assert!(!report.is_clean() && report.notes.is_empty(), "{report:?}");
    let refused = open(written.directory.path(), JOURNAL_ONLY).map(drop);
    assert!(matches!(refused, Err(StoreError::Damaged(_))), "{refused:?}");
}

/// What it would say of a base that `CURRENT` should name is not so.
#[test]
fn a_check_takes_no_base_for_left_over_where_current_is_wrong() {
    let written = Written::new(JOURNAL_ONLY);
    let check = || super::super::check(written.directory.path(), &std::env::temp_dir(), &()).unwrap();
    assert_eq!(check().notes, Vec::<String>::new());
    fs::write(written.directory.path().join("CURRENT"), "base-7").unwrap();
    let report = check();
    assert!(!report.is_clean());
    assert_eq!(report.notes, Vec::<String>::new());
    let (_, found) = report.flaws().next().unwrap();
    assert_eq!(found.places[0].show(false), "base-7: CURRENT names it, and it is not there");
}

/// As a crash or a full disk leaves it while the base is opened.
#[test]
fn an_unfinished_snapshot_keeps_no_store_closed() {
    let written = Written::new(JOURNAL_ONLY);
    let current = fs::read_to_string(written.directory.path().join("CURRENT")).unwrap();
    for left in [&b""[..], b"\0\0\0\0", &[7; 4096]] {
        let copy = written.copy();
        let base = copy.path().join(&current);
        fs::write(base.join("snap.7FFFFFFFFFFFFFFF.generating"), left).unwrap();
        let kv = open(copy.path(), JOURNAL_ONLY).unwrap();
        assert_eq!(kv.get(&[0, 0]).unwrap(), Some(Bytes::from(vec![0; 300])));
    }
}

#[test]
fn a_damaged_value_is_not_handed_out() {
    let written = Written::new(JOURNAL_ONLY);
    let kv = open(written.directory.path(), JOURNAL_ONLY).unwrap();
    let last = written.ends[written.ends.len() - 2];
    change(&segments(&written.directory)[0], |file| flip(file, last + 200));
    assert!(matches!(kv.get(&[BATCHES - 1, 0]), Err(StoreError::Damaged(_))));
    assert_eq!(kv.get(&[0, 0]).unwrap(), Some(Bytes::from(vec![0; 300])));
}
