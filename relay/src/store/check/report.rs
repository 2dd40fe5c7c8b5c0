//! What a check has found.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// How many places are kept of each flaw.
const EXAMPLES: usize = 5;

/// One kind of flaw, of files or of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// A file of the journal is none, or ends elsewhere than it should.
    Segment,
    /// Bytes of the journal are not those that were written, or not in the order in which they were.
    Frame,
    /// Opening would refuse the store; the records were not looked at.
    Opening,
    /// A part of the base is not what was written.
    Block,
    /// The base's own counts are wrong.
    BaseCount,
    /// A key is of no kind that there is.
    UnknownKey,
    /// What every store has is missing.
    Setting,
    /// A value is not what was written, or not where it should be.
    Unreadable,
    /// A record has not the parts of its kind.
    Undecodable,
    /// A record belongs to a mailbox or a destination that there is not.
    WithoutOwner,
    /// An envelope is missing, or a part of it.
    WithoutEnvelope,
    /// A part of an envelope belongs to nothing.
    StrayPiece,
    /// An envelope is another than its record says.
    WrongEnvelope,
    /// A mailbox or a destination counts otherwise than there is.
    WrongCount,
    /// How many devices have yet to acknowledge is wrong.
    WrongRemaining,
    /// Something is kept for a device that its mailbox does not have, or a device has no record.
    WrongDevice,
    /// An id would be given out again.
    IdInUse,
    /// A record is missing in an index by time: it would not end.
    NotIndexed,
    /// An index names what there is not.
    StrayIndex,
    /// A queued envelope and what is told of it do not agree.
    WrongTracking,
    /// A part of an attachment is not in its file, or not as it was brought.
    Attachment,
}

impl Flaw {
    /// A word for programs that never changes.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Frame => "frame",
            Self::Opening => "opening",
            Self::Block => "block",
            Self::BaseCount => "base-count",
            Self::UnknownKey => "unknown-key",
            Self::Setting => "setting",
            Self::Unreadable => "unreadable",
            Self::Undecodable => "undecodable",
            Self::WithoutOwner => "without-owner",
            Self::WithoutEnvelope => "without-envelope",
            Self::StrayPiece => "stray-piece",
            Self::WrongEnvelope => "wrong-envelope",
            Self::WrongCount => "wrong-count",
            Self::WrongRemaining => "wrong-remaining",
            Self::WrongDevice => "wrong-device",
            Self::IdInUse => "id-in-use",
            Self::NotIndexed => "not-indexed",
            Self::StrayIndex => "stray-index",
            Self::WrongTracking => "wrong-tracking",
            Self::Attachment => "attachment",
        }
    }

    /// A sentence for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Segment => "files of the journal are none, or end elsewhere than they should",
            Self::Frame => "frames of the journal are not what was written, or not in order",
            Self::Opening => "the relay would refuse the store; its records were not checked",
            Self::Block => "parts of the base are not what was written",
            Self::BaseCount => "counts of the base are wrong",
            Self::UnknownKey => "keys are of no known kind",
            Self::Setting => "what every store has is missing or wrong",
            Self::Unreadable => "values are not what was written, or not where they should be",
            Self::Undecodable => "records have not the parts of their kind",
            Self::WithoutOwner => "records belong to a mailbox or a destination that does not exist",
            Self::WithoutEnvelope => "envelopes are missing, or parts of them",
            Self::StrayPiece => "parts of envelopes belong to nothing",
            Self::WrongEnvelope => "envelopes are others than their records say",
            Self::WrongCount => "mailboxes or destinations count otherwise than there is",
            Self::WrongRemaining => "counts of devices that have yet to acknowledge are wrong",
            Self::WrongDevice => {
                "something is kept for devices that their mailboxes do not have, or devices have no record"
            }
            Self::IdInUse => "ids would be given out again",
            Self::NotIndexed => "records are missing in an index by time and would not end",
            Self::StrayIndex => "entries of indexes name what does not exist",
            Self::WrongTracking => "queued envelopes and what is told of them do not agree",
            Self::Attachment => "parts of attachments are not in their files, or not as they were brought",
        }
    }
}

/// Where a flaw was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file, or in words.
    Text(String),
    /// In the journal.
    Segment {
        /// Number of the segment.
        number: u64,
        /// From its beginning.
        byte: u64,
    },
    /// The block of the base with this number, from one.
    Block(u64),
    /// The record under this key.
    Record(Vec<u8>),
}

impl Place {
    /// In words. A key names mailboxes, devices and domains: unless it is asked for `in_full`, its kind and the
    /// beginning of its SHA-256 stand for it, from which it cannot be computed.
    pub fn show(&self, in_full: bool) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Segment { number, byte } => format!("segment {number:x}, byte {byte}"),
            Self::Block(number) => format!("block {number} of the base"),
            Self::Record(key) if in_full => HEXLOWER.encode(key),
            Self::Record(key) => {
                let kind = key.first().map_or('?', |kind| char::from(*kind));
                let digest = Sha256::digest(key);
                format!("{} #{}", name_of(kind), HEXLOWER.encode(&digest[..4]))
            }
        }
    }
}

/// What the records of a kind are called.
const fn name_of(kind: char) -> &'static str {
    match kind {
        '!' => "setting",
        'M' => "mailbox",
        'E' | 'U' => "entry",
        'R' => "remaining",
        'B' | 'P' | 'k' => "piece",
        'X' | 'Y' | 'Z' | 'J' | 'L' | 'W' | 'G' => "index",
        'F' => "binding",
        'N' => "destination",
        'Q' => "item",
        'T' => "tracking",
        'K' => "quarantined",
        'D' => "mark",
        _ => "key",
    }
}

/// How often a flaw was found, and where first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// How often.
    pub count: u64,
    /// The first few places.
    pub places: Vec<Place>,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Totals {
    /// Files of the journal.
    pub segments: u64,
    /// Whole frames in them.
    pub frames: u64,
    /// Blocks of the base.
    pub blocks: u64,
    /// Keys with their values.
    pub records: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Mailboxes.
    pub mailboxes: u64,
    /// Envelopes that wait in mailboxes.
    pub entries: u64,
    /// Destinations with a queue or a back-off.
    pub destinations: u64,
    /// Envelopes that wait for other relays.
    pub items: u64,
    /// What is told of queued envelopes, waiting or ended.
    pub tracking: u64,
    /// Envelopes in quarantine.
    pub quarantined: u64,
    /// Marks of what was taken.
    pub marks: u64,
    /// Attachments, whole or not.
    pub attachments: u64,
    /// Bytes of their chunks.
    pub attachment_bytes: u64,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// How much was looked at.
    pub totals: Totals,
    /// What is no flaw and worth a word.
    pub notes: Vec<String>,
    found: BTreeMap<Flaw, Found>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    /// What is wrong, files first.
    pub fn flaws(&self) -> impl Iterator<Item = (Flaw, &Found)> {
        self.found.iter().map(|(flaw, found)| (*flaw, found))
    }

    pub(crate) fn add(&mut self, flaw: Flaw, place: Place) {
        let found = self.found.entry(flaw).or_default();
        found.count += 1;
        if found.places.len() < EXAMPLES {
            found.places.push(place);
        }
    }

    /// A flaw that was found so often, nobody knows where.
    pub(crate) fn add_count(&mut self, flaw: Flaw, count: u64) {
        if count > 0 {
            self.found.entry(flaw).or_default().count += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_shown_unless_it_is_asked_for() {
        let key = [b"M".as_slice(), &[0xab; 32]].concat();
        let place = Place::Record(key);
        assert!(!place.show(false).contains("abab"), "{}", place.show(false));
        assert!(place.show(false).starts_with("mailbox #"));
        assert_eq!(place.show(true), format!("4d{}", "ab".repeat(32)));
    }

    #[test]
    fn the_first_places_are_kept_and_all_are_counted() {
        let mut report = Report::default();
        (0..9).for_each(|byte| report.add(Flaw::Frame, Place::Segment { number: 0x1f, byte }));
        let (_, found) = report.flaws().next().unwrap();
        assert_eq!((found.count, found.places.len()), (9, EXAMPLES));
        assert_eq!(found.places[1].show(false), "segment 1f, byte 1");
    }
}
