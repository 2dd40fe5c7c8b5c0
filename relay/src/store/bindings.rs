//! Mailboxes that have moved: where, what they leave to be sent on, and what other relays have told of theirs.
//!
//! A mailbox's own binding is in its record. What is still in a mailbox when it moves is held until it is queued for
//! the new relay: first that is durable, and then the entry goes, each in a batch of its own, so that a crash in
//! between leaves both, and the new relay takes one. An index has the mailboxes that hold something.

use std::sync::atomic::Ordering::Relaxed;

use postrider_common::limits::MAX_ENVELOPE_BYTES;
use postrider_common::wire::mailbox::Entry;
use postrider_common::{Binding, Domain, EntryId, MailboxId, Timestamp};

use super::group::Group;
use super::keys;
use super::kv::{Key, Kv};
use super::records::{self, BindingRecord, LearntRecord, MailboxRecord, OwnBindingRecord};
use super::view::View;
use super::{Rebound, StoreError, Window};

/// How many keys are looked at together.
const PAGE: usize = 256;
// An envelope's pieces are fewer, so that a page that begins with one has all of them.
const _: () = assert!(MAX_ENVELOPE_BYTES.div_ceil(records::PIECE_BYTES) < PAGE);

impl<K: Kv> Group<'_, K> {
    /// The owner of a mailbox says where it is kept: here, or at another relay.
    pub(crate) fn put_binding(&mut self, binding: &Binding, is_here: bool) -> Result<Rebound, StoreError> {
        let mailbox = binding.mailbox();
        let key = keys::mailbox(mailbox);
        let Some(mut record) = self.record::<MailboxRecord>(&key)? else {
            return Ok(Rebound::NoSuchMailbox);
        };
        if let Some(OwnBindingRecord { binding: known, .. }) = &record.binding
            && known.serial >= binding.serial()
        {
            let is_the_same = known.of(mailbox) == *binding;
            return Ok(if is_the_same { Rebound::Unchanged } else { Rebound::Outdated(known.serial) });
        }
        let holds = !is_here && record.entries > 0;
        record.binding = Some(OwnBindingRecord { binding: binding.into(), is_here });
        self.put(key, &record);
        self.note_holding(mailbox, holds)?;
        if !is_here {
            self.changes().moved.insert(*mailbox);
        }
        Ok(Rebound::Bound)
    }

    /// Deletes entries of a mailbox that the binding with this serial has moved, which are queued for where it is now.
    /// Their marks go with them: if the mailbox comes back with them, they are taken again.
    ///
    /// If another binding counts by now, the mailbox may have been back in between, and what is queued may have found the
    /// entry here, and ended.
    pub(crate) fn release_held(
        &mut self,
        mailbox: &MailboxId,
        serial: u64,
        entries: &[Entry],
    ) -> Result<(), StoreError> {
        let key = keys::mailbox(mailbox);
        let own = self.record::<MailboxRecord>(&key)?.and_then(|record| record.binding);
        if !own.is_some_and(|own| !own.is_here && own.binding.serial == serial) {
            return Ok(());
        }
        for Entry { id, envelope, .. } in entries {
            self.expire_entry(mailbox, *id)?;
            let mark = self.rules.marks.of_deposit(mailbox, envelope.id());
            if let Some((key, _)) = self.marked(mark)? {
                self.remove(key);
            }
        }
        let left = self.record::<MailboxRecord>(&key)?.map_or(0, |record| record.entries);
        self.note_holding(mailbox, left > 0)
    }

    /// Another relay says where a mailbox is kept, in the mailbox's own words; the binding that counts from then on. Of
    /// mailboxes of this relay's the owner alone tells it, so nothing is kept of these.
    pub(crate) fn learn(
        &mut self,
        binding: &Binding,
        told_by: Domain,
        until: Timestamp,
    ) -> Result<Binding, StoreError> {
        let mailbox = binding.mailbox();
        if let Some(record) = self.record::<MailboxRecord>(&keys::mailbox(mailbox))? {
            let own = record.binding.map(|own| own.binding.of(mailbox));
            return Ok(own.filter(|own| own.serial() >= binding.serial()).unwrap_or_else(|| binding.clone()));
        }
        let key = keys::learnt(mailbox);
        let (mut newest, mut told_by) = (binding.clone(), told_by);
        if let Some(known) = self.record::<LearntRecord>(&key)? {
            if known.binding.serial >= binding.serial() {
                (newest, told_by) = (known.binding.of(mailbox), known.told_by);
            }
            self.remove(keys::learnt_end(known.until, mailbox));
        } else {
            self.make_room_for_learnt()?;
            self.rules.learnt.fetch_add(1, Relaxed);
        }
        let record = LearntRecord { binding: BindingRecord::from(&newest), told_by, until };
        self.put(key, &record);
        self.put(keys::learnt_end(until, mailbox), &());
        Ok(newest)
    }

    /// Forgets what was told of a mailbox.
    pub(crate) fn forget_learnt(&mut self, mailbox: &MailboxId) -> Result<(), StoreError> {
        let key = keys::learnt(mailbox);
        if let Some(record) = self.record::<LearntRecord>(&key)? {
            self.remove(key);
            self.remove(keys::learnt_end(record.until, mailbox));
            self.rules.learnt.fetch_sub(1, Relaxed);
        }
        Ok(())
    }

    /// The one that would be forgotten next makes room for another.
    fn make_room_for_learnt(&mut self) -> Result<(), StoreError> {
        if self.rules.learnt.load(Relaxed) < self.rules.limits.learnt_bindings {
            return Ok(());
        }
        let start = [keys::LEARNT_ENDS];
        let first = self.range(&start, &keys::end_of(&start), 1)?;
        match first.first() {
            Some((key, _)) => self.forget_learnt(&keys::of_learnt_end(key)?),
            None => Ok(()),
        }
    }

    /// Keeps the index of mailboxes that hold something.
    pub(super) fn note_holding(&mut self, mailbox: &MailboxId, holds: bool) -> Result<(), StoreError> {
        let key = keys::holding(mailbox);
        match (self.get(&key)?.is_some(), holds) {
            (false, true) => self.put(key, &()),
            (true, false) => self.remove(key),
            _ => {}
        }
        Ok(())
    }
}

impl<K: Kv> View<K> {
    /// What is held of a mailbox that has moved, oldest first, as much as fits the window (at least one).
    pub(crate) fn held(&self, mailbox: &MailboxId, window: Window) -> Result<Vec<Entry>, StoreError> {
        let (mut held, mut bytes) = (Vec::new(), 0_usize);
        let is_held = self.mailbox_record(mailbox)?.is_some_and(|record| record.has_moved());
        let prefix = keys::bodies_of(mailbox);
        let end = keys::end_of(&prefix);
        let mut next = is_held.then_some(prefix);
        while let Some(from) = next {
            let page = self.kv().keys(&from, &end, PAGE)?;
            let mut seen = 0;
            next = None;
            for pieces in page.chunk_by(|one, other| keys::body_of(one) == keys::body_of(other)) {
                let body = keys::body_of(&pieces[0]);
                seen += pieces.len();
                if seen == PAGE {
                    // It may have more of them.
                    next = Some(Key::from_slice(body));
                    break;
                }
                let Some(envelope) =
                    self.envelope_in(body, u16::try_from(pieces.len()).unwrap_or(u16::MAX))?
                else {
                    continue;
                };
                bytes = bytes.saturating_add(envelope.encoded().len());
                if !held.is_empty() && (held.len() >= window.count || bytes > window.bytes) {
                    return Ok(held);
                }
                held.push(Entry::new(EntryId(keys::last_number(body)?), envelope));
            }
        }
        Ok(held)
    }

    /// Mailboxes after `after` that have moved and hold something, as many as that.
    pub(crate) fn holding(
        &self,
        after: Option<MailboxId>,
        count: usize,
    ) -> Result<Vec<MailboxId>, StoreError> {
        let prefix = [keys::HOLDING];
        let start = match after {
            Some(after) => keys::next(&keys::holding(&after)),
            None => Key::from_slice(&prefix),
        };
        let page = self.range(&start, &keys::end_of(&prefix), count)?;
        page.pairs.iter().map(|(key, _)| keys::of_holding(key)).collect()
    }

    /// What the relays of these addresses have told of the mailboxes, each in its place.
    pub(crate) fn learnt(
        &self,
        addresses: &[(MailboxId, Domain)],
    ) -> Result<Vec<Option<Binding>>, StoreError> {
        let one = |(mailbox, domain): &(MailboxId, Domain)| {
            let bytes = self.get(&keys::learnt(mailbox))?;
            let record = bytes.map(|bytes| records::decode::<LearntRecord>(&bytes)).transpose()?;
            let record = record.filter(|record| record.told_by == *domain);
            Ok(record.map(|record| record.binding.of(mailbox)))
        };
        addresses.iter().map(one).collect()
    }

    pub(super) fn mailbox_record(&self, mailbox: &MailboxId) -> Result<Option<MailboxRecord>, StoreError> {
        self.get(&keys::mailbox(mailbox))?.map(|bytes| records::decode(&bytes)).transpose()
    }
}

impl MailboxRecord {
    /// Whether it is kept at another relay.
    pub(super) fn has_moved(&self) -> bool {
        self.binding.as_ref().is_some_and(|binding| !binding.is_here)
    }
}
