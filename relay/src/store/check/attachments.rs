//! Attachments: that each is needed as often as it counts, has the chunks that it counts, in its file too, and ends.

use std::collections::BTreeMap;
use std::io;

use postrider_common::{AttachmentId, EntryId, MailboxId};

use super::{Checker, Flaw, Place, record};
use crate::store::chunks::{self, Digests};
use crate::store::records::{
    AttachedRecord, AttachmentRecord, DoomedRecord, ItemRecord, MailboxAttachedRecord, QuarantineRecord,
};
use crate::store::{FileId, ItemId, Step, StoreError, keys};

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
    fn file(&mut self, record: &AttachmentRecord, digests: &Digests) -> Result<(), StoreError> {
        let totals = &mut self.report.totals;
        totals.attachments += 1;
        totals.attachment_bytes += record.bytes;
        let Some(files) = self.files.filter(|_| !digests.is_empty()) else { return Ok(()) };
        let path = files.path(FileId(record.file)).display().to_string();
        let flaws = match files.readable(FileId(record.file)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(StoreError::Io(format!("{path}: {error}")));
            }
            Err(_) => vec![path],
            Ok(file) => {
                let (read, progress) = (&mut self.attachment_bytes, self.progress);
                let wrong = chunks::wrong(&file, record, digests, |bytes| {
                    *read += bytes;
                    progress.at(Step::Attachments, *read, 0);
                });
                wrong.into_iter().map(|number| format!("{path}, chunk {number}")).collect()
            }
        };
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
            let mut digests = Digests::new();
            while let Some((key, value)) = self.next_if(&mut chunks, |key| key.starts_with(&of_chunks))? {
                let digest = self.decode::<[u8; 32]>(&key, value);
                digests.extend(digest.map(|digest| (chunks::number(&key), digest)));
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

fn count(needed: &mut Needed, attached: AttachedRecord) {
    for id in attached.ids {
        *needed.entry(id).or_default() += 1;
    }
}
