//! Who has brought what no envelope needs yet: nobody may fill the relay with it.
//!
//! An attachment counts with its whole length from its first chunk on, so that one that was begun can be brought to its end.
//! Who brings it is in memory alone, since nothing on the disk is to say so: what was brought before a restart counts for nobody,
//! and goes when its time is over. Whether an envelope needs it is in the store alone, and looked up when somebody has no
//! room left.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postrider_common::{AttachmentId, Domain, MailboxId, Timestamp};

use crate::admission::ClientAddress;

/// How many attachments one may have that no envelope needs yet. They are looked up one by one.
const MOST: usize = 512;
/// Of the room that is left, one may fill so small a part with them. However many do that, there is room left for others.
const PART: u64 = 4;

/// Who brings an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Bringer {
    /// A member of this relay, where only members may.
    Member(MailboxId),
    /// A client of which nothing but its address is known.
    Client(ClientAddress),
    /// Another relay.
    Peer(Domain),
}

/// What each has brought.
#[derive(Debug, Default)]
pub(super) struct Shares(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    waiting: HashMap<AttachmentId, Waiting>,
    held: HashMap<Bringer, HashMap<AttachmentId, u64>>,
}

/// An attachment that no envelope needs yet, as far as is known.
#[derive(Debug)]
struct Waiting {
    bringer: Bringer,
    until: Timestamp,
}

impl Bringer {
    pub(super) const fn peer(&self) -> Option<&Domain> {
        match self {
            Self::Peer(domain) => Some(domain),
            Self::Member(_) | Self::Client(_) => None,
        }
    }
}

impl Shares {
    /// One more that somebody announces, of which nothing is there yet; whether they may.
    pub(super) fn announce(&self, id: AttachmentId, bringer: &Bringer, until: Timestamp) -> bool {
        self.lock().have(id, bringer, until)
    }

    /// A chunk of an attachment comes. Whoever has announced it brings it, and else who brings this; whether they may, if one
    /// may have `most` bytes.
    pub(super) fn admit(
        &self,
        id: AttachmentId,
        length: u64,
        bringer: &Bringer,
        most: u64,
        until: Timestamp,
    ) -> bool {
        let mut books = self.lock();
        if !books.have(id, bringer, until) {
            return false;
        }
        let Some(Waiting { bringer, .. }) = books.waiting.get(&id) else { return false };
        let bringer = bringer.clone();
        let Some(held) = books.held.get_mut(&bringer) else { return false };
        let others: u64 = held.iter().filter(|(other, _)| **other != id).map(|(_, bytes)| bytes).sum();
        let Some(admitted) = held.get_mut(&id) else { return false };
        if *admitted == 0 && others.saturating_add(length) > most {
            return false;
        }
        *admitted = length;
        true
    }

    /// What may wait of the same bringer's as this one.
    pub(super) fn beside(&self, id: &AttachmentId, bringer: &Bringer) -> Vec<AttachmentId> {
        let books = self.lock();
        let bringer = books.waiting.get(id).map_or(bringer, |waiting| &waiting.bringer);
        books.held.get(bringer).into_iter().flat_map(HashMap::keys).copied().collect()
    }

    /// This one does not wait: an envelope needs it, or it is gone.
    pub(super) fn settle(&self, id: &AttachmentId) {
        self.lock().forget(id);
    }

    /// This one is kept longer, if it waits.
    pub(super) fn prolong(&self, id: &AttachmentId, until: Timestamp) {
        if let Some(waiting) = self.lock().waiting.get_mut(id) {
            waiting.until = until;
        }
    }

    /// Forgets those whose time is over, which the store does not have any more.
    pub(super) fn tidy(&self, now: Timestamp) {
        let mut books = self.lock();
        let over = books.waiting.iter().filter(|(_, waiting)| waiting.until < now);
        for id in over.map(|(id, _)| *id).collect::<Vec<_>>() {
            books.forget(&id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // No code that can panic runs under this lock half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Whether it is there, or may be.
    fn have(&mut self, id: AttachmentId, bringer: &Bringer, until: Timestamp) -> bool {
        if let Some(waiting) = self.waiting.get_mut(&id) {
            waiting.until = until;
            return true;
        }
        if self.held.get(bringer).is_some_and(|held| held.len() >= MOST) {
            return false;
        }
        self.held.entry(bringer.clone()).or_default().insert(id, 0);
        self.waiting.insert(id, Waiting { bringer: bringer.clone(), until });
        true
    }

    fn forget(&mut self, id: &AttachmentId) {
        let Some(Waiting { bringer, .. }) = self.waiting.remove(id) else { return };
        if let Some(held) = self.held.get_mut(&bringer) {
            held.remove(id);
            if held.is_empty() {
                self.held.remove(&bringer);
            }
        }
    }
}

/// How many bytes one may have waiting while there is so much room: a part of it, and always one attachment, however large.
pub(super) const fn most(room: u64, largest: u64) -> u64 {
    let part = room / PART;
    if part > largest { part } else { largest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> AttachmentId {
        AttachmentId::from_bytes([n; 32])
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn member(n: u8) -> Bringer {
        Bringer::Member(MailboxId::from_bytes([n; 32]))
    }

    #[test]
    fn one_that_was_begun_is_brought_to_its_end_and_counts_for_who_announced_it() {
        let shares = Shares::default();
        let (one, other) = (member(1), member(2));
        assert!(shares.announce(id(1), &one, at(10)));
        assert!(shares.admit(id(1), 60, &other, 100, at(20)));
        assert!(shares.admit(id(2), 60, &other, 100, at(20)), "theirs is empty");
        assert!(!shares.admit(id(3), 60, &one, 100, at(30)));
        assert!(shares.admit(id(1), 60, &one, 1, at(20)), "though there is less room by now");
        assert_eq!(shares.beside(&id(1), &other).len(), 2);
        shares.settle(&id(1));
        shares.settle(&id(9));
        assert!(shares.admit(id(3), 60, &one, 100, at(30)));
        shares.prolong(&id(3), at(40));
        shares.tidy(at(31));
        assert_eq!(shares.lock().held.keys().collect::<Vec<_>>(), [&one]);
        shares.tidy(at(41));
        let books = shares.lock();
        assert_eq!((books.held.len(), books.waiting.len()), (0, 0));
    }

    #[test]
    fn one_announces_so_many_and_no_more() {
        let shares = Shares::default();
        let ids = (0..=MOST as u64).map(|n| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            AttachmentId::from_bytes(bytes)
        });
        let announced = ids.filter(|id| shares.announce(*id, &member(1), at(10))).count();
        assert_eq!(announced, MOST);
        assert!(!shares.admit(id(9), 1, &member(1), 100, at(10)));
        assert!(shares.announce(id(9), &member(2), at(10)));
    }

    #[test]
    fn however_many_fill_their_part_there_is_room_left() {
        let (total, largest) = (16 << 30, 100 << 20);
        let mut room = total;
        for _ in 0..10 {
            room -= most(room, largest);
        }
        assert!(most(room, largest) > largest, "{room}");
        assert_eq!(most(1, largest), largest);
    }
}
