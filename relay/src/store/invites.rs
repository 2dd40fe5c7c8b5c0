//! Invites: by whom a mailbox may be made that is not everybody.
//!
//! Of an invite's secret only a hash is known. A use is taken in the batch that makes the mailbox, so that neither is ever
//! there without the other. An index has the end of each.

use postrider_common::{InviteId, InviteRefusal, Timestamp};

use super::group::Group;
use super::keys;
use super::kv::{Key, Kv};
use super::records::{self, InviteRecord};
use super::view::View;
use super::{Invited, StoreError};

impl<K: Kv> Group<'_, K> {
    /// Keeps invites. One that there is stays as it is.
    pub(crate) fn add_invites(&mut self, invites: &[Invited]) -> Result<(), StoreError> {
        for invited in invites {
            let key = keys::invite(&invited.id);
            if self.get(&key)?.is_none() {
                self.put(key, &InviteRecord::from(invited));
                self.put(keys::invite_end(invited.expires_at, &invited.id), &());
            }
        }
        Ok(())
    }

    /// Takes one use of an invite.
    pub(super) fn use_invite(
        &mut self,
        id: &InviteId,
        now: Timestamp,
    ) -> Result<Result<(), InviteRefusal>, StoreError> {
        let key = keys::invite(id);
        let Some(mut record) = self.record::<InviteRecord>(&key)? else {
            return Ok(Err(InviteRefusal::Unknown));
        };
        if record.expires_at <= now {
            return Ok(Err(InviteRefusal::Over));
        }
        if record.used >= record.uses {
            return Ok(Err(InviteRefusal::UsedUp));
        }
        record.used += 1;
        self.put(key, &record);
        Ok(Ok(()))
    }

    /// Deletes an invite; whether there was one.
    pub(crate) fn remove_invite(&mut self, id: &InviteId) -> Result<bool, StoreError> {
        let key = keys::invite(id);
        let Some(record) = self.record::<InviteRecord>(&key)? else {
            return Ok(false);
        };
        self.remove(key);
        self.remove(keys::invite_end(record.expires_at, id));
        Ok(true)
    }
}

impl<K: Kv> View<K> {
    /// Invites after `after`, as many as that.
    pub(crate) fn invites(&self, after: Option<InviteId>, count: usize) -> Result<Vec<Invited>, StoreError> {
        let prefix = [keys::INVITES];
        let start = match after {
            Some(after) => keys::next(&keys::invite(&after)),
            None => Key::from_slice(&prefix),
        };
        let page = self.range(&start, &keys::end_of(&prefix), count)?;
        let invite = |(key, value): &(Key, bytes::Bytes)| {
            let InviteRecord { uses, used, expires_at } = records::decode(value)?;
            Ok(Invited { id: keys::of_invite(key)?, uses, used, expires_at })
        };
        page.pairs.iter().map(invite).collect()
    }
}

impl From<&Invited> for InviteRecord {
    fn from(invited: &Invited) -> Self {
        Self { uses: invited.uses, used: invited.used, expires_at: invited.expires_at }
    }
}
