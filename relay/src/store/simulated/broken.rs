//! Rules of the store's, broken on purpose: what a batch comes to on its way to the disk.

use super::super::StoreError;
use super::super::keys;
use super::super::kv::{Batch, Key, Kv, Write};
use super::super::memory::MemoryKv;
use super::super::records::{self, AttachmentRecord, MailboxRecord};

/// The parts of a key after its kind.
const MAILBOX: std::ops::Range<usize> = 1..33;
const MAILBOX_AND_DEVICE: std::ops::Range<usize> = 1..65;

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Operations are answered when they are written, and flushed afterwards.
    AnswersBeforeFlush,
    /// Nothing is remembered of what was taken before.
    ForgetsMarks,
    /// What waited for a mailbox's first device is not given to it.
    LosesUnclaimed,
    /// A further device gets what waits for the others.
    GivesOld,
    /// What waits for a device stays when that is removed.
    KeepsOfRemoved,
    /// A mailbox that is to be closed stays open.
    StaysOpen,
    /// An attachment counts as whole when its first chunk is there.
    CountsPartAsWhole,
    /// Nobody knows which attachments an entry needs.
    ForgetsReferences,
}

impl Broken {
    /// Changes a batch as the broken rule does.
    pub(super) fn distort(self, kv: &MemoryKv, batch: &mut Batch) -> Result<(), StoreError> {
        match self {
            // That is for the writer.
            Self::AnswersBeforeFlush => {}
            Self::ForgetsMarks => batch.retain(|(key, _)| !is_of(key, keys::MARKS)),
            Self::ForgetsReferences => batch.retain(|(key, _)| !is_of(key, b'n')),
            Self::LosesUnclaimed => lose_unclaimed(batch),
            Self::GivesOld => give_old(kv, batch)?,
            Self::KeepsOfRemoved => keep_of_removed(batch),
            Self::StaysOpen => rewrite(batch, keys::MAILBOXES, |record: MailboxRecord| MailboxRecord {
                suspended: None,
                ..record
            })?,
            Self::CountsPartAsWhole => rewrite(batch, keys::ATTACHMENTS, |record: AttachmentRecord| {
                let bytes = if record.bytes > 0 { record.length } else { 0 };
                AttachmentRecord { bytes, ..record }
            })?,
        }
        Ok(())
    }
}

/// An entry that is given to a device in the batch that takes it from those that wait.
fn lose_unclaimed(batch: &mut Batch) {
    let claimed: Vec<Key> = removed(batch, b'U');
    let entry = MAILBOX_AND_DEVICE.end..;
    batch.retain(|(key, write)| {
        let is_claimed = |claimed: &Key| {
            claimed.get(MAILBOX) == key.get(MAILBOX) && claimed.get(MAILBOX.end..) == key.get(entry.clone())
        };
        !is_of(key, b'E') || *write == Write::Remove || !claimed.iter().any(is_claimed)
    });
}

fn keep_of_removed(batch: &mut Batch) {
    let devices: Vec<Key> = removed(batch, keys::DEVICES);
    batch.retain(|(key, _)| {
        let is_its = |device: &Key| device.get(MAILBOX_AND_DEVICE) == key.get(MAILBOX_AND_DEVICE);
        !is_of(key, b'E') || !devices.iter().any(is_its)
    });
}

fn give_old(kv: &MemoryKv, batch: &mut Batch) -> Result<(), StoreError> {
    let mut given = Batch::new();
    for (device, _) in batch.iter().filter(|(key, _)| is_of(key, keys::DEVICES)) {
        if kv.get(device)?.is_some() {
            continue;
        }
        let mut entries = Key::from_slice(device);
        entries.truncate(MAILBOX.end);
        if let Some(kind) = entries.first_mut() {
            *kind = b'E';
        }
        for (key, value) in kv.range(&entries, &keys::end_of(&entries), usize::MAX)? {
            let mut entry = Key::from_slice(device);
            entry.extend(key.iter().skip(MAILBOX_AND_DEVICE.end).copied());
            if let Some(kind) = entry.first_mut() {
                *kind = b'E';
            }
            given.push((entry, Write::Put(value)));
        }
    }
    batch.extend(given);
    batch.sort_by(|(one, _), (other, _)| one.cmp(other));
    batch.dedup_by(|(later, _), (earlier, _)| later == earlier);
    Ok(())
}

fn rewrite<T: records::Record>(
    batch: &mut Batch,
    kind: u8,
    change: impl Fn(T) -> T,
) -> Result<(), StoreError> {
    for (_, write) in batch.iter_mut().filter(|(key, _)| is_of(key, kind)) {
        if let Write::New(value) | Write::Put(value) = write {
            *value = records::encode(&change(records::decode(value)?));
        }
    }
    Ok(())
}

fn removed(batch: &Batch, kind: u8) -> Vec<Key> {
    let removals = batch.iter().filter(|(key, write)| is_of(key, kind) && *write == Write::Remove);
    removals.map(|(key, _)| key.clone()).collect()
}

fn is_of(key: &Key, kind: u8) -> bool {
    key.first() == Some(&kind)
}
