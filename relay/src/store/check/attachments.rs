//! Attachments: that each is needed as often as it counts, has the chunks that it counts, in its file too, and ends.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use postrider_common::{AttachmentId, EntryId, MailboxId};
use sha2::{Digest, Sha256};

use super::{Checker, Flaw, Place, record};
use crate::store::records::{
    AttachedRecord, AttachmentRecord, DoomedRecord, ItemRecord, MailboxAttachedRecord, QuarantineRecord,
};
use crate::store::{FileId, ItemId, Step, StoreError, keys};

/// How much of a file is in memory.
const BUFFER_BYTES: usize = 256 << 10;

/// How often each attachment is needed. Unlike what a mailbox holds, all of that is in memory at once: there are far
/// fewer attachments than envelopes.
type Needed = BTreeMap<AttachmentId, u32>;

impl Checker<'_> {
    pub(super) fn attachments(&mut self) -> Result<(), StoreError> {
        let mut needed = Needed::new();
        self.attached_to_entries(&mut needed)?;
        self.attached_to_items(&mut needed)?;
        let ending = self.each_attachment(&needed)?;
        self.index(keys::ATTACHMENT_ENDS, ending, |checker, key| {
            let id = keys::of_attachment(key)?;
            let record = record::<AttachmentRecord>(checker.pairs, &keys::attachment(&id));
            let at = keys::first_number(key)?;
            Ok(record.is_some_and(|record| record.references == 0 && record.until.as_millis() == at))
        })?;
        let mut cursor = self.cursor(keys::DOOMED);
        while let Some((key, value)) = self.next_formed(&mut cursor)? {
            self.decode::<DoomedRecord>(&key, value);
        }
        Ok(())
    }

    fn attached_to_entries(&mut self, needed: &mut Needed) -> Result<(), StoreError> {
        let mut cursor = self.cursor(b'n');
        let mut of_mailboxes = BTreeMap::<MailboxId, u64>::new();
        while let Some((key, value)) = self.next_formed(&mut cursor)? {
            let Some(owner) = keys::owner(&key).and_then(|owner| owner.first_chunk().copied()) else {
                continue;
            };
            let mailbox = MailboxId::from_bytes(owner);
            let body = keys::body(&mailbox, EntryId(keys::last_number(&key)?));
            if !matches!(self.pairs.get(&keys::piece(&body, 0)), Ok(Some(_))) {
                self.flaw(Flaw::WithoutOwner, &key);
            }
            if let Some(attached) = self.decode::<AttachedRecord>(&key, value) {
                *of_mailboxes.entry(mailbox).or_default() += attached.bytes;
                count(needed, attached);
            }
        }
        let mut cursor = self.cursor(b'b');
        while let Some((key, value)) = self.next_formed(&mut cursor)? {
            let mailbox = keys::owner(&key).and_then(|owner| owner.first_chunk().copied());
            let expected = mailbox.and_then(|mailbox| of_mailboxes.remove(&MailboxId::from_bytes(mailbox)));
            let counted = self.decode::<MailboxAttachedRecord>(&key, value);
            if counted.is_some_and(|counted| Some(counted.0) != expected) {
                self.flaw(Flaw::WrongCount, &key);
            }
        }
        for mailbox in of_mailboxes.into_keys() {
            self.flaw(Flaw::WrongCount, &keys::mailbox_attached(&mailbox));
        }
        Ok(())
    }

    fn attached_to_items(&mut self, needed: &mut Needed) -> Result<(), StoreError> {
        let mut cursor = self.cursor(b'q');
        while let Some((key, value)) = self.next_formed(&mut cursor)? {
            let item = ItemId(keys::last_number(&key)?);
            let domain = keys::of_item(&key)?;
            let is_queued = record::<ItemRecord>(self.pairs, &keys::item(&domain, item)).is_some();
            let is_aside = || record::<QuarantineRecord>(self.pairs, &keys::quarantined(&domain, item));
            if !is_queued && is_aside().is_none() {
                self.flaw(Flaw::WithoutOwner, &key);
            }
            if let Some(attached) = self.decode::<AttachedRecord>(&key, value) {
                count(needed, attached);
            }
        }
        Ok(())
    }

    /// Whether the chunks that are there are what was brought.
    fn file(
        &mut self,
        record: &AttachmentRecord,
        digests: &BTreeMap<u32, [u8; 32]>,
    ) -> Result<(), StoreError> {
        let totals = &mut self.report.totals;
        totals.attachments += 1;
        totals.attachment_bytes += record.bytes;
        let Some(files) = self.files.filter(|_| !digests.is_empty()) else { return Ok(()) };
        let path = files.path(FileId(record.file));
        let is_readable = |error: &io::Error| error.kind() != io::ErrorKind::PermissionDenied;
        let unusable = |error: io::Error| StoreError::Io(format!("{}: {error}", path.display()));
        let mut flaws = Vec::new();
        match files.readable(FileId(record.file)) {
            Err(error) if is_readable(&error) => flaws.push(path.display().to_string()),
            Err(error) => return Err(unusable(error)),
            Ok(file) => {
                let mut buffer = vec![0; BUFFER_BYTES];
                for (number, digest) in digests {
                    if !is_chunk(&file, record, *number, digest, &mut buffer) {
                        flaws.push(format!("{}, chunk {number}", path.display()));
                    }
                    self.attachment_bytes += u64::from(record.chunk_length);
                    self.progress.at(Step::Attachments, self.attachment_bytes, 0);
                }
            }
        }
        for place in flaws {
            self.report.add(Flaw::Attachment, Place::Text(place));
        }
        Ok(())
    }

    /// How many of them the index by time has.
    fn each_attachment(&mut self, needed: &Needed) -> Result<u64, StoreError> {
        let (mut attachments, mut chunks) = (self.cursor(keys::ATTACHMENTS), self.cursor(b'c'));
        let mut ending = 0;
        while let Some((key, value)) = self.next_formed(&mut attachments)? {
            let id = keys::of_attachment(&key)?;
            let of_chunks = keys::chunks(&id);
            while let Some((key, _)) = self.next_if(&mut chunks, |key| *key < *of_chunks)? {
                self.flaw(Flaw::WithoutOwner, &key);
            }
            let mut digests = BTreeMap::new();
            while let Some((key, value)) = self.next_if(&mut chunks, |key| key.starts_with(&of_chunks))? {
                let number = key.last_chunk().map(|bytes| u32::from_be_bytes(*bytes)).unwrap_or_default();
                digests.extend(self.decode::<[u8; 32]>(&key, value).map(|digest| (number, digest)));
            }
            let present = u32::try_from(digests.len()).unwrap_or(u32::MAX);
            let Some(record) = self.decode::<AttachmentRecord>(&key, value) else { continue };
            self.file(&record, &digests)?;
            let references = needed.get(&id).copied().unwrap_or_default();
            let is_agreed = (record.references, record.present) == (references, present);
            if !is_agreed || (references > 0 && !record.is_whole()) {
                self.flaw(Flaw::WrongCount, &key);
            }
            if record.references == 0 {
                let index = keys::attachment_end(record.until, &id);
                ending += u64::from(self.is_indexed(&index, &key)?);
            }
        }
        while let Some((key, _)) = self.next_formed(&mut chunks)? {
            self.flaw(Flaw::WithoutOwner, &key);
        }
        for id in needed.keys() {
            let key = keys::attachment(id);
            if record::<AttachmentRecord>(self.pairs, &key).is_none() {
                self.flaw(Flaw::WithoutEnvelope, &key);
            }
        }
        Ok(ending)
    }
}

/// Whether the file has the chunk with this digest.
fn is_chunk(
    file: &File,
    record: &AttachmentRecord,
    number: u32,
    digest: &[u8; 32],
    buffer: &mut [u8],
) -> bool {
    let chunk_length = u64::from(record.chunk_length);
    let mut at = u64::from(number) * chunk_length;
    let end = record.length.min(at + chunk_length);
    let mut found = Sha256::new();
    while at < end {
        let some = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        // What cannot be read is not what was brought.
        if file.read_exact_at(&mut buffer[..some], at).is_err() {
            return false;
        }
        found.update(&buffer[..some]);
        at += some as u64;
    }
    found.finalize().as_slice() == digest
}

fn count(needed: &mut Needed, attached: AttachedRecord) {
    for id in attached.ids {
        *needed.entry(id).or_default() += 1;
    }
}
