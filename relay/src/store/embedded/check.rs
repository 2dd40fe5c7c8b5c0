//! Whether the files are what was written: every frame of the journal, every block of the base, and whether the two
//! agree. Then the records in them, by `store/check.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::block::{Entries, Found};
use super::memtable::Location;
use super::offline::{self, Offline};
use super::segment::{self, FIRST_FRAME, Listed, Segment};
use super::{of_io, recovery};
use crate::attachments::Files;
use crate::store::check::{self, Flaw, Place, Report};
use crate::store::kv::Key;
use crate::store::transfer::ATTACHMENTS;
use crate::store::{Progress, Step, StoreError};

/// Checks the store in the directory `path`, of which nothing is changed, not even the times of its files.
///
/// The copy of the base that it needs is made in `scratch` and deleted at the end. Fails with [`StoreError::InUse`]
/// while a relay has the store open; otherwise an error says that there is no store, or that it cannot be read.
pub fn check(path: &Path, scratch: &Path, progress: &dyn Progress) -> Result<Report, StoreError> {
    let lock = offline::hold(path)?;
    let mut report = Report::default();
    unfinished(path, &mut report)?;
    let tail = journal(path, progress, &mut report)?;
    if recovery::current(path).is_ok_and(|name| name.is_none()) && recovery::was_never_used(path).is_ok() {
        report
            .notes
            .push("a store was begun here and never finished: the next start makes an empty one".into());
        return Ok(report);
    }
    let opened = match Offline::open_held(path, scratch, lock, progress) {
        Err(StoreError::Damaged(what)) => {
            report.add(Flaw::Opening, Place::Text(what));
            None
        }
        opened => Some(opened?),
    };
    let Some(offline) = opened else {
        return Ok(report);
    };
    if let Some(tail) = tail {
        tail.judge(&offline, &mut report)?;
    }
    let files = Files::at(&path.with_file_name(ATTACHMENTS));
    let checked = base(&offline, progress, &mut report)
        .and_then(|()| check::records(&offline, Some(&files), offline.about_bytes(), progress, &mut report));
    match checked {
        Err(StoreError::Damaged(what)) => {
            report.add(Flaw::Block, Place::Text(what));
            report.notes.push("the records after the damaged part of the base were not checked".into());
            Ok(report)
        }
        checked => checked.map(|()| report),
    }
}

/// What a crash has left: the next start clears it away.
fn unfinished(path: &Path, report: &mut Report) -> Result<(), StoreError> {
    let current = match recovery::current(path) {
        // Opening says what is wrong with it.
        Err(StoreError::Damaged(_)) => return Ok(()),
        current => current?,
    };
    let is_wrong = match &current {
        Some(name) => !path.join(name).is_dir(),
        None => recovery::was_never_used(path).is_err(),
    };
    if is_wrong {
        // Then one of the others may be the store.
        return Ok(());
    }
    let mut count = recovery::bases(path)?.iter().filter(|name| Some(*name) != current.as_ref()).count();
    for directory in [path.to_owned(), path.join(recovery::JOURNAL)].into_iter().filter(|path| path.is_dir())
    {
        for entry in fs::read_dir(directory).map_err(of_io)? {
            let path = entry.map_err(of_io)?.path();
            count += usize::from(path.extension().is_some_and(|extension| extension == segment::UNFINISHED));
        }
    }
    if count > 0 {
        report.notes.push(format!("{count} unfinished or replaced files will be deleted at the next start"));
    }
    Ok(())
}

/// The newest segment, and where the last of its frames ends that follow each other.
struct Tail {
    segment: Segment,
    end: u64,
}

impl Tail {
    /// What the newest segment ends with is room, or what a crash has cut off; unless the base has it already.
    fn judge(&self, offline: &Offline, report: &mut Report) -> Result<(), StoreError> {
        let (number, byte) = (self.segment.number(), self.end);
        let known =
            offline.segments().find(|segment| segment.number() == number).map(|segment| segment.end());
        if known.is_some_and(|known| known > byte) {
            report.add(Flaw::Frame, Place::Segment { number, byte });
        } else if !self.segment.is_room(byte)? {
            report.notes.push(format!(
                "segment {number:x} ends with a write that is not whole, at byte {byte}: a crash leaves one that was \
                 answered to nobody. The next start cuts it away"
            ));
        }
        Ok(())
    }
}

/// Reads all frames, and says what the newest segment ends with.
fn journal(path: &Path, progress: &dyn Progress, report: &mut Report) -> Result<Option<Tail>, StoreError> {
    let Listed { segments, .. } = match segment::look(&path.join(recovery::JOURNAL)) {
        Err(StoreError::Damaged(what)) => {
            report.add(Flaw::Segment, Place::Text(what));
            return Ok(None);
        }
        listed => listed?,
    };
    let newest = segments.last().map(|(number, _)| *number);
    let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    let of = segments.iter().map(|(_, path)| size(path)).sum();
    let mut done = 0;
    // Which frame comes next, if the segment before is there and whole.
    let mut next: Option<(u64, u64)> = None;
    for (number, path) in segments {
        report.totals.segments += 1;
        let expected = next.take().filter(|(after, _)| after + 1 == number).map(|(_, sequence)| sequence);
        match Segment::open_to_read(&path, number) {
            Ok(segment) => {
                let told = |bytes| progress.at(Step::Frames, done + bytes, of);
                let (end, sequence) = frames(&segment, expected, told, report)?;
                if newest == Some(number) {
                    return Ok(Some(Tail { segment, end }));
                }
                if end == segment.end() {
                    next = sequence.map(|sequence| (number, sequence));
                } else if segment.is_room(end)? {
                    report.add(Flaw::Segment, Place::Segment { number, byte: end });
                } else {
                    report.add(Flaw::Frame, Place::Segment { number, byte: end });
                }
            }
            Err(StoreError::Damaged(what)) => report.add(Flaw::Segment, Place::Text(what)),
            Err(error) => return Err(error),
        }
        done += size(&path);
    }
    Ok(None)
}

/// Reads a segment's frames: where the last one ends, and the number of the one that comes after it, if that is known.
fn frames(
    segment: &Segment,
    mut expected: Option<u64>,
    told: impl Fn(u64),
    report: &mut Report,
) -> Result<(u64, Option<u64>), StoreError> {
    let number = segment.number();
    let mut offset = FIRST_FRAME;
    loop {
        match segment.frame(offset, None) {
            Ok(Some(frame)) => {
                report.totals.frames += 1;
                if expected.is_some_and(|expected| expected != frame.sequence) {
                    report.add(Flaw::Frame, Place::Segment { number, byte: offset });
                }
                expected = Some(frame.sequence + 1);
                offset = frame.end;
                told(offset);
                continue;
            }
            Ok(None) | Err(StoreError::Damaged(_)) => {}
            Err(error) => return Err(error),
        }
        let Some(after) = segment.frame_after(offset) else {
            return Ok((offset, expected));
        };
        report.add(Flaw::Frame, Place::Segment { number, byte: offset });
        // How many have gone is not known.
        (offset, expected) = (after, None);
    }
}

/// Reads the base's blocks, and whether what they have locations of is in the journal.
fn base(offline: &Offline, progress: &dyn Progress, report: &mut Report) -> Result<(), StoreError> {
    let Some(base) = offline.base() else {
        return Ok(());
    };
    let ends: BTreeMap<u64, u64> =
        offline.segments().map(|segment| (segment.number(), segment.end())).collect();
    let state = base.state();
    let (mut bytes, mut live) = (0, BTreeMap::<u64, u64>::new());
    let mut last: Option<Key> = None;
    let mut number = 0;
    let result = base.each_block(|bound, block| {
        number += 1;
        bytes += (bound.len() + block.len()) as u64;
        progress.at(Step::Blocks, bytes, state.bytes.max(bytes));
        let mut entries = Entries::new(block);
        let mut is_in_order = true;
        loop {
            let (key, found) = match entries.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(_) => {
                    report.add(Flaw::Block, Place::Block(number));
                    break;
                }
            };
            is_in_order &= key >= &bound[1..] && last.as_ref().is_none_or(|last| last.as_slice() < key);
            last = Some(Key::from_slice(key));
            if let Found::Stored(Location { segment, offset, bytes, .. }) = found {
                *live.entry(segment).or_default() += u64::from(bytes);
                let end = u64::from(offset) + u64::from(bytes);
                if ends.get(&segment).is_none_or(|segment_end| *segment_end < end) {
                    report.add(Flaw::Block, Place::Segment { number: segment, byte: offset.into() });
                }
            }
        }
        if !is_in_order {
            report.add(Flaw::Block, Place::Block(number));
        }
    });
    report.totals.blocks = number;
    result?;
    if bytes != state.bytes {
        report.add(Flaw::BaseCount, Place::Text("bytes of its blocks".into()));
    }
    let numbers = live.keys().chain(state.live.keys()).collect::<std::collections::BTreeSet<_>>();
    for number in numbers {
        if live.get(number) != state.live.get(number) {
            report.add(Flaw::BaseCount, Place::Text(format!("bytes alive in segment {number:x}")));
        }
    }
    Ok(())
}
