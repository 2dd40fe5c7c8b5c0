use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use postrider_common::{EntryId, Timestamp};

use super::*;
use crate::store::FileId;
use crate::store::memory::MemoryKv;
use crate::store::records::{AttachmentRecord, EntryRecord, MailboxRecord, RemainingRecord};
use crate::store::tests::filled::{self, DEVICES, MAILBOXES};

type Map = BTreeMap<Key, Bytes>;

async fn filled() -> Map {
    filled::content().await.into_iter().collect()
}

fn check(map: &Map) -> Report {
    let kv = MemoryKv::new(Arc::new(RwLock::new(map.clone())));
    let mut report = Report::default();
    records(&kv, None, 0, &(), &mut report).unwrap();
    report
}

fn flaws(map: &Map) -> Vec<Flaw> {
    check(map).flaws().map(|(flaw, _)| flaw).collect()
}

/// The first key of a kind.
fn first(map: &Map, kind: u8) -> Key {
    map.range(Key::from_slice(&[kind])..).next().unwrap().0.clone()
}

#[tokio::test]
async fn a_store_with_something_of_everything_is_clean() {
    let map = filled().await;
    let kinds: std::collections::BTreeSet<_> = map.keys().map(|key| key[0]).collect();
    let all: std::collections::BTreeSet<_> =
        keys::KINDS.iter().copied().filter(|kind| *kind != b'U').collect();
    assert_eq!(kinds, all, "the test has something of every kind");
    let report = check(&map);
    assert!(report.is_clean(), "{report:?}");
    let Totals { records, mailboxes, entries, destinations, items, tracking, quarantined, marks, .. } =
        report.totals;
    // The index keys are counted, too.
    assert_eq!(records, map.len() as u64);
    assert_eq!((mailboxes, entries), (3, 10));
    assert_eq!((destinations, items, tracking, quarantined), (3, 13, 18, 1));
    assert_eq!(marks, 15 + 18);
}

#[tokio::test]
async fn entries_that_wait_for_a_first_device_are_checked_like_others() {
    let mut map = filled().await;
    // As if the mailbox's only device had never come.
    let one = MAILBOXES[1];
    let mailbox = keys::mailbox(&one);
    let record: MailboxRecord = records::decode(&map[&mailbox]).unwrap();
    map.insert(mailbox, records::encode(&MailboxRecord { devices: Vec::new(), ..record }));
    map.retain(|key, _| !(matches!(key[0], b'd' | b'o') && keys::of_device(key).unwrap().0 == one));
    let entries: Vec<_> =
        map.iter().filter(|(key, _)| key.starts_with(&keys::entries_of_mailbox(&one))).collect();
    let entries: Vec<_> = entries.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    for (key, value) in entries {
        map.remove(&key);
        map.insert(keys::unclaimed(&one, EntryId(keys::last_number(&key).unwrap())), value);
    }
    assert_eq!(flaws(&map), []);
    let entry = first(&map, b'U');
    map.remove(&entry);
    assert_eq!(flaws(&map), [Flaw::StrayPiece, Flaw::WrongCount, Flaw::StrayIndex]);
}

#[tokio::test]
async fn every_record_that_is_missing_is_noticed() {
    let whole = filled().await;
    for key in whole.keys() {
        let mut map = whole.clone();
        map.remove(key);
        // Nothing else says that a mark was made, what was answered, that somebody holds a destination back, that a file is to
        // be deleted, or up to where ids have been used.
        let is_missed = !matches!(key[0], b'D' | b'a' | b'H' | b'O') && key.as_slice() != keys::FLOOR;
        assert_eq!(!check(&map).is_clean(), is_missed, "{:?}", Place::Record(key.to_vec()).show(false));
    }
}

#[tokio::test]
async fn every_record_of_another_version_or_cut_off_is_noticed() {
    let whole = filled().await;
    for (key, value) in &whole {
        let mut other = value.to_vec();
        other[0] += 1;
        let cut = value[..value.len() - 1].to_vec();
        // The format's number, and what is in a body: of these any value is possible.
        let is_any = key.as_slice() == keys::FORMAT || is_later_piece(key);
        for changed in [other, cut] {
            if is_any && changed.len() == value.len() {
                continue;
            }
            let mut map = whole.clone();
            map.insert(key.clone(), changed.into());
            assert!(!check(&map).is_clean(), "{:?}", Place::Record(key.to_vec()).show(false));
        }
    }
}

/// Whether the key is of a piece of an envelope that does not say the envelope's version.
fn is_later_piece(key: &[u8]) -> bool {
    matches!(key[0], b'B' | b'P' | b'k') && !key.ends_with(&[0, 0])
}

#[tokio::test]
async fn what_is_too_much_is_noticed() {
    let whole = filled().await;
    let [two, ..] = MAILBOXES;
    let nobody = postrider_common::MailboxId::from_bytes([9; 32]);
    let short = records::encode(&EntryRecord {
        expires_at: Timestamp::from_secs(5),
        bytes: 1,
        shared: false,
        laden: false,
    });
    let domain = filled::destination("b.example");
    let item = crate::store::ItemId(77);
    let at = Timestamp::from_secs(1);
    let nothing = records::nothing;
    let cases: Vec<(Key, Bytes, &[Flaw])> = vec![
        (Key::from_slice(b"!other"), nothing(), &[Flaw::UnknownKey]),
        (Key::from_slice(b"V"), nothing(), &[Flaw::UnknownKey]),
        (Key::from_slice(b"\0"), nothing(), &[Flaw::UnknownKey]),
        (Key::from_slice(b"zz"), nothing(), &[Flaw::UnknownKey]),
        (Key::from_slice(b"Mshort"), nothing(), &[Flaw::UnknownKey]),
        (Key::from_slice(b"QB.example\0\0\0\0\0\0\0\0\x01"), nothing(), &[Flaw::UnknownKey]),
        (keys::piece(&keys::body(&two, EntryId(1)), 0), nothing(), &[Flaw::StrayPiece]),
        (keys::piece(&keys::body(&two, EntryId(u64::MAX)), 0), nothing(), &[Flaw::StrayPiece]),
        (keys::piece(&keys::item_body(&domain, item), 0), nothing(), &[Flaw::StrayPiece]),
        (keys::piece(&keys::quarantined_body(&domain, item), 0), nothing(), &[Flaw::StrayPiece]),
        (keys::remaining(&two, EntryId(1)), records::encode(&RemainingRecord(2)), &[Flaw::WrongRemaining]),
        (keys::entry_expiry(at, &two, EntryId(1)), nothing(), &[Flaw::StrayIndex]),
        (keys::item_expiry(at, &domain, item), nothing(), &[Flaw::StrayIndex]),
        (keys::quarantine_end(at, &domain, item), nothing(), &[Flaw::StrayIndex]),
        (keys::delayed(&domain, at, item), nothing(), &[Flaw::StrayIndex]),
        (keys::holding(&two), nothing(), &[Flaw::StrayIndex]),
        (keys::learnt_end(at, &two), nothing(), &[Flaw::StrayIndex]),
        (keys::contact(at, &two, &DEVICES[0]), nothing(), &[Flaw::StrayIndex]),
        (
            keys::invite_end(at, &postrider_common::InviteId::from_bytes([3; 16])),
            nothing(),
            &[Flaw::StrayIndex],
        ),
        (
            keys::tracking_end(at, &postrider_common::TrackingId::from_bytes([3; 16])),
            nothing(),
            &[Flaw::StrayIndex],
        ),
        (
            keys::entry(&nobody, &DEVICES[0], EntryId(3)),
            short.clone(),
            &[Flaw::WithoutOwner, Flaw::WithoutEnvelope, Flaw::NotIndexed],
        ),
        (
            keys::entry(&two, &postrider_common::DeviceId::from_bytes([8; 32]), EntryId(3)),
            short,
            &[Flaw::WithoutEnvelope, Flaw::WrongCount, Flaw::WrongDevice, Flaw::NotIndexed],
        ),
    ];
    for (key, value, expected) in cases {
        let mut map = whole.clone();
        assert!(map.insert(key.clone(), value).is_none());
        assert_eq!(flaws(&map), expected, "{}", String::from_utf8_lossy(&key));
    }
}

#[tokio::test]
async fn records_that_contradict_each_other_are_noticed() {
    let whole = filled().await;
    let [two, one, _] = MAILBOXES;
    let changed = |key: Key, change: &dyn Fn(&mut MailboxRecord)| {
        let mut map = whole.clone();
        let mut record: MailboxRecord = records::decode(&map[&key]).unwrap();
        change(&mut record);
        map.insert(key, records::encode(&record));
        flaws(&map)
    };
    assert_eq!(changed(keys::mailbox(&two), &|record| record.entries += 1), [Flaw::WrongCount]);
    assert_eq!(changed(keys::mailbox(&two), &|record| record.bytes -= 1), [Flaw::WrongCount]);
    assert_eq!(changed(keys::mailbox(&two), &|record| record.next_entry = 7), [Flaw::IdInUse]);
    assert_eq!(changed(keys::mailbox(&one), &|record| record.devices.clear()), [Flaw::WrongDevice]);

    // A binding of another mailbox's.
    let moved = keys::mailbox(&filled::moved());
    let away = records::decode::<MailboxRecord>(&whole[&moved]).unwrap().binding;
    assert_eq!(
        changed(keys::mailbox(&one), &|record| record.binding.clone_from(&away)),
        [Flaw::Undecodable, Flaw::NotIndexed]
    );

    // The envelope of another mailbox, of the same length.
    let mut map = whole.clone();
    let pieces: Vec<_> = map.keys().filter(|key| key.starts_with(&[b'B', 0x22])).cloned().collect();
    let other = map
        .iter()
        .find(|(key, value)| key.starts_with(&[b'B', 0x11]) && value.len() == map[&pieces[0]].len());
    let (_, other) = other.unwrap();
    map.insert(pieces[0].clone(), other.clone());
    assert_eq!(flaws(&map), [Flaw::WrongEnvelope]);

    // One that is told of as if it had ended.
    let mut map = whole.clone();
    let (waiting, ended): (Vec<Key>, Vec<Key>) = map
        .keys()
        .filter(|key| key[0] == b'T')
        .cloned()
        .partition(|key| records::decode::<records::TrackingRecord>(&map[key]).unwrap().end.is_none());
    map.insert(waiting[0].clone(), map[&ended[0]].clone());
    assert_eq!(flaws(&map), [Flaw::NotIndexed, Flaw::WrongTracking]);
    // And one that waits for nothing.
    let mut map = whole;
    map.insert(keys::tracking(&postrider_common::TrackingId::from_bytes([1; 16])), map[&waiting[0]].clone());
    assert_eq!(flaws(&map), [Flaw::WrongTracking]);
}

#[tokio::test]
async fn no_key_is_refused_that_the_store_makes() {
    for (key, _) in filled::content().await {
        assert_eq!(keys::owner(&key).is_some(), key[0] != b'!', "{}", String::from_utf8_lossy(&key));
    }
}

#[tokio::test]
async fn the_files_of_attachments_are_checked() {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().unwrap();
    let files = Files::open(&directory.path().join("attachments")).unwrap();
    let mut map = filled().await;
    let id = filled::attachment(1).id;
    map.retain(|key, _| key[0] != b'A' || keys::of_attachment(key) == Ok(id));
    let record: AttachmentRecord = records::decode(&map[&keys::attachment(&id)]).unwrap();
    let found = || {
        let kv = MemoryKv::new(Arc::new(RwLock::new(map.clone())));
        let mut report = Report::default();
        records(&kv, Some(&files), 0, &(), &mut report).unwrap();
        let found = report.flaws().find(|(flaw, _)| *flaw == Flaw::Attachment);
        found.map(|(_, found)| found.places.iter().map(|place| place.show(false)).collect::<Vec<_>>())
    };
    let path = files.path(FileId(record.file)).display().to_string();
    assert_eq!(found(), Some(vec![path.clone()]), "the file is missing");
    let file = files.writable(FileId(record.file), false).unwrap();
    file.write_all_at(&filled::brought(1, 2), 0).unwrap();
    assert_eq!(found(), None);
    file.write_all_at(b"x", record.length - 1).unwrap();
    assert_eq!(found(), Some(vec![format!("{path}, chunk 1")]));
    file.set_len(3).unwrap();
    assert_eq!(found(), Some(vec![format!("{path}, chunk 0"), format!("{path}, chunk 1")]));
}
