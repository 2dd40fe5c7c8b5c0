//! Invites, and the index of their ends.

use super::{Checker, Flaw, record};
use crate::store::records::InviteRecord;
use crate::store::{StoreError, keys};

impl Checker<'_> {
    pub(super) fn invites(&mut self) -> Result<(), StoreError> {
        let mut indexed = 0;
        let mut cursor = self.cursor(keys::INVITES);
        while let Some((key, value)) = self.next_formed(&mut cursor)? {
            let Some(invite) = self.decode::<InviteRecord>(&key, value) else { continue };
            if invite.used > invite.uses {
                self.flaw(Flaw::WrongCount, &key);
            }
            let end = keys::invite_end(invite.expires_at, &keys::of_invite(&key)?);
            indexed += u64::from(self.is_indexed(&end, &key)?);
        }
        self.index(keys::INVITE_ENDS, indexed, |checker, key| {
            let invite = record::<InviteRecord>(checker.pairs, &keys::invite(&keys::of_invite(key)?));
            let at = keys::first_number(key)?;
            Ok(invite.is_some_and(|invite| invite.expires_at.as_millis() == at))
        })
    }
}
