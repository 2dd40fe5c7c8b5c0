//! Whether a store is what it should be: every file and every record, and whether the records agree. Nothing is changed.
//!
//! The files of the embedded engine are checked in `embedded/check.rs`. What is here looks at pairs of keys and
//! values, whatever engine has them: at each in the order of its kind, with those of one mailbox or one destination
//! together. So memory grows with the largest mailbox and with nothing else.

mod attachments;
mod bindings;
mod invites;
mod mailboxes;
mod queue;
mod report;

use bytes::Bytes;
use postrider_common::Envelope;

use super::kv::Key;
use super::pairs::{Cursor, Pairs};
use super::records::{self, FloorRecord, MarkRecord, Record};
use super::{Progress, Step, StoreError, keys};
use crate::attachments::Files;

pub use report::{Flaw, Found, Place, Report, Totals};

/// A pair whose value could be read, or not: then that was reported.
type Seen = (Key, Option<Bytes>);

/// Checks all records, and the files of attachments that they name; `about_bytes` of keys and values are expected. An error means that keys cannot be read, and that
/// some records were not looked at.
pub(crate) fn records(
    pairs: &dyn Pairs,
    files: Option<&Files>,
    about_bytes: u64,
    progress: &dyn Progress,
    report: &mut Report,
) -> Result<(), StoreError> {
    let mut checker = Checker { pairs, files, report, progress, about_bytes, attachment_bytes: 0 };
    checker.settings()?;
    checker.unknown_kinds()?;
    checker.mailboxes()?;
    checker.bindings()?;
    checker.invites()?;
    checker.queue()?;
    checker.attachments()?;
    checker.marks()
}

/// What a check carries along.
struct Checker<'a> {
    pairs: &'a dyn Pairs,
    /// Where the attachments are.
    files: Option<&'a Files>,
    report: &'a mut Report,
    progress: &'a dyn Progress,
    about_bytes: u64,
    /// Of attachments' chunks that were read.
    attachment_bytes: u64,
}

impl<'a> Checker<'a> {
    fn settings(&mut self) -> Result<(), StoreError> {
        let mut cursor = self.cursor(keys::SETTINGS);
        let (mut has_format, mut has_secret) = (false, false);
        while let Some((key, value)) = self.next(&mut cursor)? {
            match key.as_slice() {
                keys::FORMAT => {
                    has_format = value.is_some_and(|value| records::decode_format(&value).is_ok());
                }
                keys::SECRET => has_secret = self.decode::<[u8; 32]>(&key, value).is_some(),
                keys::FLOOR => {
                    self.decode::<FloorRecord>(&key, value);
                }
                _ => self.flaw(Flaw::UnknownKey, &key),
            }
        }
        if !has_format {
            self.report.add(Flaw::Setting, Place::Text("the format's number".into()));
        }
        if !has_secret {
            self.report.add(Flaw::Setting, Place::Text("the key of the marks".into()));
        }
        Ok(())
    }

    fn unknown_kinds(&mut self) -> Result<(), StoreError> {
        let mut kinds = keys::KINDS.to_vec();
        kinds.sort_unstable();
        let mut start = Key::new();
        for kind in kinds {
            self.all_unknown(start, Key::from_slice(&[kind]))?;
            start = Key::from_slice(&[kind + 1]);
        }
        // A key of the highest byte alone is the last one looked for; the embedded engine has none behind it.
        self.all_unknown(start, Key::from_elem(u8::MAX, 64))
    }

    fn all_unknown(&mut self, start: Key, end: Key) -> Result<(), StoreError> {
        let mut cursor = Cursor::new(self.pairs, start, end);
        while let Some((key, _)) = self.next(&mut cursor)? {
            self.flaw(Flaw::UnknownKey, &key);
        }
        Ok(())
    }

    fn marks(&mut self) -> Result<(), StoreError> {
        let mut cursor = self.cursor(keys::MARKS);
        while let Some((key, value)) = self.next_formed(&mut cursor)? {
            self.report.totals.marks += 1;
            self.decode::<MarkRecord>(&key, value);
        }
        Ok(())
    }

    /// The envelope that should be in the pieces below `body`, from where `pieces` stands; the pieces in front of them
    /// that are in `prefix` belong to nothing. If it is not as it should be, that was reported of `owner`.
    fn envelope(
        &mut self,
        pieces: &mut Cursor<'a>,
        prefix: &[u8],
        body: &[u8],
        bytes: u32,
        owner: &[u8],
    ) -> Result<Option<Envelope>, StoreError> {
        while let Some((key, _)) = self.next_if(pieces, |key| key.starts_with(prefix) && key < body)? {
            self.flaw(Flaw::StrayPiece, &key);
        }
        let expected = records::pieces(bytes).unwrap_or(u16::MAX);
        let (mut found, mut is_readable, mut is_complete) = (Vec::new(), true, true);
        while let Some((key, value)) = self.next_if(pieces, |key| key.starts_with(body))? {
            let number = key.last_chunk().map(|bytes| u16::from_be_bytes(*bytes));
            if number.is_none_or(|number| number >= expected) {
                self.flaw(Flaw::StrayPiece, &key);
                continue;
            }
            is_complete &= number.map(usize::from) == Some(found.len());
            is_readable &= value.is_some();
            found.push(value.unwrap_or_default());
        }
        if !is_readable {
            return Ok(None);
        }
        if !is_complete || found.len() != usize::from(expected) {
            self.flaw(Flaw::WithoutEnvelope, owner);
            return Ok(None);
        }
        match records::assemble(&found) {
            Ok(envelope) if envelope.encoded().len() == bytes as usize => Ok(Some(envelope)),
            Ok(_) | Err(_) => {
                self.flaw(Flaw::WrongEnvelope, owner);
                Ok(None)
            }
        }
    }

    /// The pieces below `prefix` that are left.
    fn stray_pieces(&mut self, pieces: &mut Cursor<'a>, prefix: &[u8]) -> Result<(), StoreError> {
        while let Some((key, _)) = self.next_if(pieces, |key| key.starts_with(prefix))? {
            self.flaw(Flaw::StrayPiece, &key);
        }
        Ok(())
    }

    /// Whether an index has `key`; if not, it was reported of `owner`.
    fn is_indexed(&mut self, key: &[u8], owner: &[u8]) -> Result<bool, StoreError> {
        let is_there = matches!(self.pairs.get(key), Ok(Some(_)));
        if !is_there {
            self.flaw(Flaw::NotIndexed, owner);
        }
        Ok(is_there)
    }

    /// Checks that an index has no more keys than the `expected` that were looked up, and otherwise which of them
    /// `names` nothing.
    fn index(
        &mut self,
        kind: u8,
        expected: u64,
        names: impl Fn(&Self, &[u8]) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let mut cursor = self.cursor(kind);
        let mut count = 0;
        while let Some((key, value)) = self.next_formed(&mut cursor)? {
            count += 1;
            self.decode::<()>(&key, value);
        }
        if count <= expected {
            return Ok(());
        }
        let mut cursor = self.cursor(kind);
        while let Some((key, _)) = cursor.next()? {
            if keys::owner(&key).is_some() && !names(self, &key).unwrap_or(false) {
                self.flaw(Flaw::StrayIndex, &key);
            }
        }
        Ok(())
    }

    fn cursor(&self, kind: u8) -> Cursor<'a> {
        Cursor::new(self.pairs, Key::from_slice(&[kind]), Key::from_slice(&[kind + 1]))
    }

    /// Whose the next pair is that has the form of its kind.
    fn owner(&mut self, cursor: &mut Cursor<'a>) -> Result<Option<Key>, StoreError> {
        loop {
            match cursor.head()?.map(|key| keys::owner(key).map(Key::from_slice)) {
                None => return Ok(None),
                Some(Some(owner)) => return Ok(Some(owner)),
                Some(None) => {
                    if let Some((key, _)) = self.next(cursor)? {
                        self.flaw(Flaw::UnknownKey, &key);
                    }
                }
            }
        }
    }

    /// The next pair that has the form of its kind.
    fn next_formed(&mut self, cursor: &mut Cursor<'a>) -> Result<Option<Seen>, StoreError> {
        self.owner(cursor)?;
        self.next(cursor)
    }

    /// The same, if its key is as `wanted`.
    fn next_if(
        &mut self,
        cursor: &mut Cursor<'a>,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<Seen>, StoreError> {
        self.owner(cursor)?;
        match cursor.head()? {
            Some(key) if wanted(key) => self.next(cursor),
            _ => Ok(None),
        }
    }

    fn next(&mut self, cursor: &mut Cursor<'a>) -> Result<Option<Seen>, StoreError> {
        let Some((key, value)) = cursor.next()? else {
            return Ok(None);
        };
        let totals = &mut self.report.totals;
        totals.records += 1;
        totals.bytes += (key.len() + value.as_ref().map_or(0, Bytes::len)) as u64;
        self.progress.at(Step::Records, totals.bytes, self.about_bytes.max(totals.bytes));
        if value.is_err() {
            self.flaw(Flaw::Unreadable, &key);
        }
        Ok(Some((key, value.ok())))
    }

    /// The record in a value that could be read.
    fn decode<T: Record>(&mut self, key: &[u8], value: Option<Bytes>) -> Option<T> {
        let record = records::decode(&value?);
        if record.is_err() {
            self.flaw(Flaw::Undecodable, key);
        }
        record.ok()
    }

    fn flaw(&mut self, flaw: Flaw, key: &[u8]) {
        self.report.add(flaw, Place::Record(key.to_vec()));
    }
}

/// Looks a record up: `None` too if it cannot be read, which was or will be reported where it is.
fn record<T: Record>(pairs: &dyn Pairs, key: &[u8]) -> Option<T> {
    pairs.get(key).ok().flatten().and_then(|bytes| records::decode(&bytes).ok())
}

#[cfg(test)]
mod tests;
