//! What is kept of mailboxes that have moved: those that hold something, and what was learnt of other relays'.

use postrider_common::MailboxId;

use super::{Checker, Flaw, record};
use crate::store::records::{LearntRecord, MailboxRecord};
use crate::store::{StoreError, keys};

impl Checker<'_> {
    /// That each mailbox that holds something is in the index was looked at with it.
    pub(super) fn bindings(&mut self) -> Result<(), StoreError> {
        let mut cursor = self.cursor(keys::HOLDING);
        while let Some((key, value)) = self.next_formed(&mut cursor)? {
            self.decode::<()>(&key, value);
            let mailbox = keys::of_holding(&key)?;
            let of_mailbox = record::<MailboxRecord>(self.pairs, &keys::mailbox(&mailbox));
            if !of_mailbox.is_some_and(|record| record.has_moved() && record.entries > 0) {
                self.flaw(Flaw::StrayIndex, &key);
            }
        }
        let mut indexed = 0;
        let mut cursor = self.cursor(keys::LEARNT);
        while let Some((key, value)) = self.next_formed(&mut cursor)? {
            let Some(learnt) = self.decode::<LearntRecord>(&key, value) else { continue };
            let mailbox = keys::of_holding(&key)?;
            if !learnt.binding.is_signed_by(&mailbox) {
                self.flaw(Flaw::Undecodable, &key);
            }
            indexed += u64::from(self.is_indexed(&keys::learnt_end(learnt.until, &mailbox), &key)?);
        }
        self.index(keys::LEARNT_ENDS, indexed, |checker, key| {
            let learnt = record::<LearntRecord>(checker.pairs, &keys::learnt(&keys::of_learnt_end(key)?));
            let at = keys::first_number(key)?;
            Ok(learnt.is_some_and(|learnt| learnt.until.as_millis() == at))
        })
    }

    /// A mailbox's own binding.
    pub(super) fn own_binding(
        &mut self,
        mailbox: &MailboxId,
        of_mailbox: &MailboxRecord,
        key: &[u8],
    ) -> Result<(), StoreError> {
        let Some(own) = &of_mailbox.binding else { return Ok(()) };
        if !own.binding.is_signed_by(mailbox) {
            self.flaw(Flaw::Undecodable, key);
        }
        if of_mailbox.has_moved() && of_mailbox.entries > 0 {
            self.is_indexed(&keys::holding(mailbox), key)?;
        }
        Ok(())
    }
}
