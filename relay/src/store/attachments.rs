//! Attachments: which there are, which of their chunks, and who still needs them. Their bytes are in files, which
//! `relay/src/attachments/` looks after; here is what counts.
//!
//! An attachment that nobody has submitted yet is kept for a while after its last chunk. The first envelope that is
//! taken with it needs it from then on, and so does every further one: each entry, queued item and quarantined
//! envelope is a reference, made and given back in the batch that makes and ends it. With the last reference the record
//! goes, and in the same batch the file is doomed: it is deleted after that, and only then its doom is forgotten. So a
//! crash leaves no file that nothing knows of, and no record without its file.
//!
//! A step concerns the attachments that its envelopes name beside the mailbox or the destination. An engine that is
//! divided by these finds an attachment by its id, which is random, and has to take the reference before the envelope
//! and give it back after it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postrider_common::random::bytes_of;
use postrider_common::{
    Attachment, AttachmentId, Domain, EntryId, Envelope, EnvelopeId, MailboxId, Timestamp,
};

use super::group::Group;
use super::keys;
use super::kv::{Key, Kv};
use super::records::{
    self, AttachedRecord, AttachmentRecord, DoomedRecord, MailboxAttachedRecord, MailboxRecord,
};
use super::view::View;
use super::{Abandoned, AttachmentState, Chunk, Doomed, FileId, Offered, StoreError};

/// How many keys are looked at together.
const PAGE: usize = 256;

/// Attachments that stay, though nobody needs them for a moment. In memory only: a crash ends what is being submitted,
/// too. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pins(Arc<Mutex<HashMap<AttachmentId, usize>>>);

/// For as long as this is there, an attachment that has been taken with one envelope can be taken with another.
#[derive(Debug)]
pub struct Pinned {
    pins: Pins,
    ids: Vec<AttachmentId>,
}

impl Pins {
    pub(crate) fn pin(&self, ids: Vec<AttachmentId>) -> Pinned {
        let mut pins = self.lock();
        for id in &ids {
            *pins.entry(*id).or_default() += 1;
        }
        drop(pins);
        Pinned { pins: self.clone(), ids }
    }

    fn has(&self, id: &AttachmentId) -> bool {
        self.lock().contains_key(id)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AttachmentId, usize>> {
        // No code that can panic runs under this lock half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let mut pins = self.pins.lock();
        for id in &self.ids {
            if let Entry::Occupied(mut count) = pins.entry(*id) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}

impl<K: Kv> Group<'_, K> {
    /// Makes room in the books for an attachment, or finds it there; `None` if the id is another one's.
    pub(crate) fn reserve(
        &mut self,
        attachment: &Attachment,
        origin: Option<&Domain>,
        now: Timestamp,
    ) -> Result<Option<AttachmentState>, StoreError> {
        let until = now + self.rules.limits.attachments.retention;
        let Some(mut record) = self.attachment_record(&attachment.id)? else {
            let record = AttachmentRecord {
                file: bytes_of(&*self.rules.random),
                length: attachment.length,
                chunk_length: attachment.chunk_length,
                present: 0,
                bytes: 0,
                references: 0,
                origin: origin.cloned(),
                until,
            };
            self.put(keys::attachment(&attachment.id), &record);
            self.put(keys::attachment_end(until, &attachment.id), &());
            return Ok(Some(record.state(attachment.id)));
        };
        // Whoever has named it first says what it is. Once it is whole, that is all the same to everybody.
        let is_theirs = record.is_whole() || record.origin.as_ref() == origin;
        if !is_theirs || record.of(attachment.id) != *attachment {
            return Ok(None);
        }
        self.keep_until(&attachment.id, &mut record, until);
        self.put(keys::attachment(&attachment.id), &record);
        Ok(Some(record.state(attachment.id)))
    }

    /// A peer is about to send the attachments of an envelope.
    pub(crate) fn offer(
        &mut self,
        origin: &Domain,
        mailbox: &MailboxId,
        envelope: &EnvelopeId,
        attachments: &[Attachment],
        now: Timestamp,
    ) -> Result<Offered, StoreError> {
        let Some(record) = self.record::<MailboxRecord>(&keys::mailbox(mailbox))? else {
            return Ok(Offered::NotNeeded);
        };
        let mark = self.rules.marks.of_deposit(mailbox, envelope);
        if record.has_moved() || record.suspended.is_some() || self.marked(mark)?.is_some() {
            return Ok(Offered::NotNeeded);
        }
        if !self.has_room(mailbox, attachments)? {
            return Ok(Offered::Full);
        }
        let mut states = Vec::with_capacity(attachments.len());
        for attachment in attachments {
            match self.reserve(attachment, Some(origin), now)? {
                Some(state) => states.push(state),
                None => return Ok(Offered::Busy),
            }
        }
        Ok(Offered::Wanted(states))
    }

    /// A chunk is on stable storage. Whether its attachment is still there.
    pub(crate) fn put_chunk(
        &mut self,
        id: &AttachmentId,
        file: FileId,
        number: u32,
        digest: [u8; 32],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let Some(mut record) = self.attachment_record(id)?.filter(|record| record.file == file.0) else {
            return Ok(false);
        };
        let key = keys::chunk(id, number);
        let (false, Some((_, bytes))) = (self.get(&key)?.is_some(), record.of(*id).chunk(number)) else {
            return Ok(true);
        };
        self.put_new(key, records::encode(&digest));
        record.present += 1;
        record.bytes += u64::from(bytes);
        self.keep_until(id, &mut record, now + self.rules.limits.attachments.retention);
        self.put(keys::attachment(id), &record);
        Ok(true)
    }

    /// Whoever has reserved an attachment does not want it any more.
    pub(crate) fn abandon(&mut self, id: &AttachmentId) -> Result<Abandoned, StoreError> {
        match self.attachment_record(id)? {
            None => Ok(Abandoned::Unknown),
            Some(record) if record.references > 0 || self.rules.pins.has(id) => Ok(Abandoned::InUse),
            Some(record) => {
                self.doom(id, &record)?;
                Ok(Abandoned::Done)
            }
        }
    }

    /// Deletes one that nobody has submitted in time.
    pub(crate) fn expire_attachment(&mut self, id: &AttachmentId) -> Result<bool, StoreError> {
        self.abandon(id).map(|abandoned| abandoned == Abandoned::Done)
    }

    /// The file is deleted.
    pub(crate) fn forget_doomed(&mut self, file: FileId) {
        self.remove(keys::doomed(file));
    }

    /// Whether the mailbox may have these attachments as well.
    pub(super) fn has_room(
        &mut self,
        mailbox: &MailboxId,
        attachments: &[Attachment],
    ) -> Result<bool, StoreError> {
        let has = self.record::<MailboxAttachedRecord>(&keys::mailbox_attached(mailbox))?;
        let bytes = length_of(attachments).saturating_add(has.map_or(0, |record| record.0));
        Ok(bytes <= self.rules.limits.attachments.mailbox_bytes)
    }

    /// Takes a reference to every attachment of an envelope, which `owner` gives back; `false` if one is not whole:
    /// then nothing was done.
    pub(super) fn attach(&mut self, owner: Key, envelope: &Envelope) -> Result<bool, StoreError> {
        for attachment in envelope.attachments() {
            let record = self.attachment_record(&attachment.id)?;
            let fits =
                |record: AttachmentRecord| record.is_whole() && record.of(attachment.id) == *attachment;
            if !record.is_some_and(fits) {
                return Ok(false);
            }
        }
        let mut ids = Vec::with_capacity(envelope.attachments().len());
        for Attachment { id, .. } in envelope.attachments() {
            let Some(mut record) = self.attachment_record(id)? else { continue };
            if record.references == 0 {
                self.remove(keys::attachment_end(record.until, id));
            }
            record.references += 1;
            self.put(keys::attachment(id), &record);
            ids.push(*id);
        }
        self.put(owner, &AttachedRecord { ids, bytes: length_of(envelope.attachments()) });
        Ok(true)
    }

    /// The same for an entry, which counts for its mailbox.
    pub(super) fn attach_to_entry(
        &mut self,
        mailbox: &MailboxId,
        entry: EntryId,
        envelope: &Envelope,
    ) -> Result<bool, StoreError> {
        if !self.attach(keys::attached(mailbox, entry), envelope)? {
            return Ok(false);
        }
        self.count_attached(mailbox, |bytes| bytes.saturating_add(length_of(envelope.attachments())))?;
        Ok(true)
    }

    /// Gives back what `owner` has taken, if it has taken anything: how many bytes that were, whoever else needs them.
    pub(super) fn detach(&mut self, owner: Key) -> Result<u64, StoreError> {
        let Some(AttachedRecord { ids, bytes }) = self.record(&owner)? else { return Ok(0) };
        self.remove(owner);
        for id in ids {
            let mut record = self
                .attachment_record(&id)?
                .ok_or_else(|| StoreError::Damaged("an attachment in use has no record".into()))?;
            record.references = record.references.saturating_sub(1);
            if record.references > 0 {
                self.put(keys::attachment(&id), &record);
            } else if self.rules.pins.has(&id) {
                // Further envelopes need it in a moment. If none does, the next round of expiry finds it.
                record.until = Timestamp::default();
                self.put(keys::attachment_end(record.until, &id), &());
                self.put(keys::attachment(&id), &record);
            } else {
                self.doom(&id, &record)?;
            }
        }
        Ok(bytes)
    }

    /// The same for an entry.
    pub(super) fn detach_from_entry(
        &mut self,
        mailbox: &MailboxId,
        entry: EntryId,
    ) -> Result<(), StoreError> {
        let unused = self.detach(keys::attached(mailbox, entry))?;
        self.count_attached(mailbox, |bytes| bytes.saturating_sub(unused))
    }

    fn count_attached(
        &mut self,
        mailbox: &MailboxId,
        change: impl FnOnce(u64) -> u64,
    ) -> Result<(), StoreError> {
        let key = keys::mailbox_attached(mailbox);
        let before = self.record::<MailboxAttachedRecord>(&key)?.map_or(0, |record| record.0);
        match change(before) {
            0 => self.remove(key),
            bytes => self.put(key, &MailboxAttachedRecord(bytes)),
        }
        Ok(())
    }

    /// The record and its chunks go, and the file from now on belongs to nothing but its deletion.
    fn doom(&mut self, id: &AttachmentId, record: &AttachmentRecord) -> Result<(), StoreError> {
        self.remove(keys::attachment(id));
        for (key, _) in self.all(&keys::chunks(id))? {
            self.remove(key);
        }
        let end = keys::attachment_end(record.until, id);
        if self.get(&end)?.is_some() {
            self.remove(end);
        }
        self.put_new(keys::doomed(FileId(record.file)), records::encode(&DoomedRecord(record.bytes)));
        self.changes().is_attachment_doomed = true;
        Ok(())
    }

    fn attachment_record(&self, id: &AttachmentId) -> Result<Option<AttachmentRecord>, StoreError> {
        self.record(&keys::attachment(id))
    }

    /// One that is in use is kept as long as that.
    fn keep_until(&mut self, id: &AttachmentId, record: &mut AttachmentRecord, until: Timestamp) {
        if record.references > 0 || record.until == until {
            return;
        }
        self.remove(keys::attachment_end(record.until, id));
        self.put(keys::attachment_end(until, id), &());
        record.until = until;
    }
}

impl<K: Kv> View<K> {
    pub(crate) fn attachment(&self, id: &AttachmentId) -> Result<Option<AttachmentState>, StoreError> {
        let bytes = self.get(&keys::attachment(id))?;
        bytes.map(|bytes| Ok(records::decode::<AttachmentRecord>(&bytes)?.state(*id))).transpose()
    }

    /// Of one mailbox, as they count for its limit.
    pub(crate) fn attached_bytes(&self, mailbox: &MailboxId) -> Result<u64, StoreError> {
        let bytes = self.get(&keys::mailbox_attached(mailbox))?;
        let record = bytes.map(|bytes| records::decode::<MailboxAttachedRecord>(&bytes)).transpose()?;
        Ok(record.map_or(0, |record| record.0))
    }

    pub(crate) fn chunks(&self, id: &AttachmentId) -> Result<Vec<Chunk>, StoreError> {
        let mut chunks = Vec::new();
        let prefix = keys::chunks(id);
        let end = keys::end_of(&prefix);
        let mut start = Some(prefix);
        while let Some(from) = start {
            let page = self.range(&from, &end, PAGE)?;
            for (key, value) in &page.pairs {
                chunks.push(Chunk { number: keys::of_chunk(key)?, digest: records::decode(value)? });
            }
            start = page.next;
        }
        Ok(chunks)
    }

    pub(crate) fn chunk(&self, id: &AttachmentId, number: u32) -> Result<Option<[u8; 32]>, StoreError> {
        self.get(&keys::chunk(id, number))?.map(|bytes| records::decode(&bytes)).transpose()
    }

    pub(crate) fn doomed(&self, after: Option<FileId>, count: usize) -> Result<Vec<Doomed>, StoreError> {
        let prefix = [keys::DOOMED];
        let start = after.map_or_else(|| Key::from_slice(&prefix), |after| keys::next(&keys::doomed(after)));
        let page = self.range(&start, &keys::end_of(&prefix), count)?;
        let one = |(key, value): &(Key, bytes::Bytes)| {
            let DoomedRecord(bytes) = records::decode(value)?;
            Ok(Doomed { file: keys::of_doomed(key)?, bytes })
        };
        page.pairs.iter().map(one).collect()
    }

    /// The bytes of all attachments, and of files that are yet to be deleted. It reads the record of each one.
    pub(crate) fn attachment_bytes(&self) -> Result<u64, StoreError> {
        let mut sum = 0_u64;
        for kind in [keys::ATTACHMENTS, keys::DOOMED] {
            let end = keys::end_of(&[kind]);
            let mut start = Some(Key::from_slice(&[kind]));
            while let Some(from) = start {
                let page = self.range(&from, &end, PAGE)?;
                for (_, value) in &page.pairs {
                    sum += match kind {
                        keys::ATTACHMENTS => records::decode::<AttachmentRecord>(value)?.bytes,
                        _ => records::decode::<DoomedRecord>(value)?.0,
                    };
                }
                start = page.next;
            }
        }
        Ok(sum)
    }
}

impl AttachmentRecord {
    fn of(&self, id: AttachmentId) -> Attachment {
        Attachment { id, length: self.length, chunk_length: self.chunk_length }
    }

    fn state(&self, id: AttachmentId) -> AttachmentState {
        AttachmentState {
            attachment: self.of(id),
            file: FileId(self.file),
            present: self.present,
            is_in_use: self.references > 0,
            origin: self.origin.clone(),
            until: self.until,
        }
    }

    /// Whether every chunk is there.
    pub(super) fn is_whole(&self) -> bool {
        self.bytes == self.length
    }
}

/// The bytes of attachments together.
fn length_of(attachments: &[Attachment]) -> u64 {
    attachments.iter().fold(0, |sum, attachment| sum.saturating_add(attachment.length))
}
