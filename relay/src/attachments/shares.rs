//! Who has brought what no envelope needs yet: nobody may fill the relay with it.
//!
//! An attachment counts with its whole length from its first chunk on, so that one that was begun can be brought to its end. For
//! everybody else what has yet to come of it is no room for as long as it is being brought.
//! Who brings it is in memory alone, since nothing on the disk is to say so: what was brought before a restart counts for nobody,
//! and goes when its time is over. Whether an envelope needs it is in the store alone, and looked up once one was
//! submitted that names it, and when somebody has no room left.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postrider_common::{AttachmentId, Domain, MailboxId, Timestamp};

use crate::admission::ClientAddress;

/// How many attachments one may have that no envelope needs yet. They are looked up one by one.
const MOST: usize = 512;
/// And how long not again, when somebody has no room left, who asks often.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// How long after something of an attachment has come the rest is expected.
const EXPECTED: Duration = Duration::from_secs(1800);
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
#[derive(Debug)]
pub(super) struct Shares {
    books: Mutex<Books>,
    /// How long after something of it has come the store may still know an attachment.
    kept: Duration,
}

#[derive(Debug, Default)]
struct Books {
    waiting: HashMap<AttachmentId, Waiting>,
    held: HashMap<Bringer, Held>,
    /// What is expected to come of all of them.
    coming: u64,
}

/// An attachment that no envelope needs yet, as far as is known.
#[derive(Debug)]
struct Waiting {
    bringer: Bringer,
    last: Timestamp,
    /// What is expected to come of it.
    coming: u64,
    /// Whether a chunk of it is there.
    is_there: bool,
}

/// What one has brought.
#[derive(Debug, Default)]
struct Held {
    /// The length of each; none before its first chunk.
    bytes: HashMap<AttachmentId, u64>,
    looked_up: Timestamp,
}

/// How large an attachment is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) length: u64,
    /// What has yet to come of it.
    pub(super) missing: u64,
}

/// What there is room for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    pub(super) room: u64,
    /// What an attachment may have at most.
    pub(super) largest: u64,
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
    /// None yet. The store has none any more of which nothing has come for so long.
    pub(super) fn new(kept: Duration) -> Self {
        Self { books: Mutex::default(), kept }
    }

    /// One more that somebody announces, of which nothing is there yet; whether they may.
    pub(super) fn announce(&self, id: AttachmentId, bringer: &Bringer, now: Timestamp) -> bool {
        self.lock().have(id, bringer, now)
    }

    /// A chunk of an attachment comes. Whoever has announced it brings it, and else who brings this; whether they may.
    pub(super) fn admit(
        &self,
        id: AttachmentId,
        size: Size,
        bringer: &Bringer,
        left: Left,
        now: Timestamp,
    ) -> bool {
        let mut books = self.lock();
        if !books.have(id, bringer, now) {
            return false;
        }
        let Books { waiting, held, coming } = &mut *books;
        let Some(waiting) = waiting.get_mut(&id) else { return false };
        let Some(held) = held.get_mut(&waiting.bringer) else { return false };
        let is_begun = held.bytes.get(&id).is_some_and(|admitted| *admitted > 0);
        let others = || held.bytes.values().sum::<u64>();
        if !is_begun && others().saturating_add(size.length) > left.most(*coming) {
            return false;
        }
        held.bytes.insert(id, size.length);
        // How much is missing was looked up before other chunks of it came.
        let expected = match waiting.coming {
            0 => size.missing,
            expected => expected.min(size.missing),
        };
        *coming = *coming - waiting.coming + expected;
        waiting.coming = expected;
        waiting.is_there |= size.missing < size.length;
        true
    }

    /// So much of an attachment of this length has come.
    pub(super) fn brought(&self, id: AttachmentId, bytes: u64, length: u64) {
        let mut books = self.lock();
        books.expect_less(&id, bytes);
        let Books { waiting, held, .. } = &mut *books;
        let Some(waiting) = waiting.get_mut(&id) else { return };
        waiting.is_there = true;
        // Of the same name there may have been another one, which was left meanwhile.
        if let Some(held) = held.get_mut(&waiting.bringer) {
            held.bytes.insert(id, length);
        }
    }

    /// Nobody brings an attachment at present: it takes no room if nothing of it is there.
    pub(super) fn left(&self, id: &AttachmentId) {
        let mut books = self.lock();
        let Books { waiting, held, .. } = &mut *books;
        let Some(waiting) = waiting.get(id).filter(|waiting| !waiting.is_there) else { return };
        if let Some(bytes) = held.get_mut(&waiting.bringer).and_then(|held| held.bytes.get_mut(id)) {
            *bytes = 0;
        }
        books.expect_less(id, u64::MAX);
    }

    /// What may wait of the same bringer's as this one, and is known to the store if it does. Nothing, if that was looked up a
    /// moment ago.
    pub(super) fn beside(&self, id: &AttachmentId, bringer: &Bringer, now: Timestamp) -> Vec<AttachmentId> {
        let mut books = self.lock();
        let held = books.held_beside(id, bringer).filter(|held| {
            // A clock that was set back does not keep it from being looked up.
            held.looked_up > now || now.since(held.looked_up) >= BETWEEN_LOOKS
        });
        let begun = held.into_iter().flat_map(|held| &held.bytes).filter(|(_, bytes)| **bytes > 0);
        begun.map(|(id, _)| *id).collect()
    }

    /// That was looked up now.
    pub(super) fn looked_up(&self, id: &AttachmentId, bringer: &Bringer, now: Timestamp) {
        if let Some(held) = self.lock().held_beside(id, bringer) {
            held.looked_up = now;
        }
    }

    /// Those of them that wait, as far as is known.
    pub(super) fn among(&self, ids: &[AttachmentId]) -> HashSet<AttachmentId> {
        let books = self.lock();
        ids.iter().filter(|id| books.waiting.contains_key(id)).copied().collect()
    }

    /// This one does not wait: an envelope needs it, or it is gone.
    pub(super) fn settle(&self, id: &AttachmentId) {
        self.lock().forget(id);
    }

    /// This one is kept longer, if it waits.
    pub(super) fn prolong(&self, id: &AttachmentId, now: Timestamp) {
        if let Some(waiting) = self.lock().waiting.get_mut(id) {
            waiting.last = now;
        }
    }

    /// Forgets those whose time is over, and does not expect any more what nobody brings.
    pub(super) fn tidy(&self, now: Timestamp) {
        let mut books = self.lock();
        let quiet = books.waiting.iter().map(|(id, waiting)| (*id, now.since(waiting.last)));
        for (id, quiet) in quiet.collect::<Vec<_>>() {
            if quiet > self.kept {
                books.forget(&id);
            } else if quiet > EXPECTED {
                books.expect_less(&id, u64::MAX);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // No code that can panic runs under this lock half way through a change.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Whether it is there, or may be.
    fn have(&mut self, id: AttachmentId, bringer: &Bringer, now: Timestamp) -> bool {
        if let Some(waiting) = self.waiting.get_mut(&id) {
            waiting.last = now;
            return true;
        }
        if self.held.get(bringer).is_some_and(|held| held.bytes.len() >= MOST) {
            return false;
        }
        self.held.entry(bringer.clone()).or_default().bytes.insert(id, 0);
        self.waiting.insert(id, Waiting { bringer: bringer.clone(), last: now, coming: 0, is_there: false });
        true
    }

    fn held_beside(&mut self, id: &AttachmentId, bringer: &Bringer) -> Option<&mut Held> {
        let bringer = self.waiting.get(id).map_or(bringer, |waiting| &waiting.bringer);
        self.held.get_mut(bringer)
    }

    fn expect_less(&mut self, id: &AttachmentId, bytes: u64) {
        let Some(waiting) = self.waiting.get_mut(id) else { return };
        let less = bytes.min(waiting.coming);
        waiting.coming -= less;
        self.coming -= less;
    }

    fn forget(&mut self, id: &AttachmentId) {
        let Some(Waiting { bringer, coming, .. }) = self.waiting.remove(id) else { return };
        self.coming -= coming;
        if let Some(held) = self.held.get_mut(&bringer) {
            held.bytes.remove(id);
            if held.bytes.is_empty() {
                self.held.remove(&bringer);
            }
        }
    }
}

impl Left {
    /// How many bytes one may have waiting: a part of the room that nothing is `coming` for, and always one attachment,
    /// however large.
    const fn most(self, coming: u64) -> u64 {
        let part = self.room.saturating_sub(coming) / PART;
        if part > self.largest { part } else { self.largest }
    }
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

    const HOUR: Duration = Duration::from_secs(3600);
    const LENGTH: u64 = 60;

    /// With as much room as two take of what one may have.
    fn admits(shares: &Shares, n: u8, bringer: &Bringer, until: Timestamp) -> bool {
        let size = Size { length: LENGTH, missing: LENGTH };
        shares.admit(id(n), size, bringer, Left { room: 0, largest: 100 }, until)
    }

    #[test]
    fn one_that_was_begun_is_brought_to_its_end_and_counts_for_who_announced_it() {
        let shares = Shares::new(HOUR);
        let (one, other) = (member(1), member(2));
        assert!(shares.announce(id(1), &one, at(10)));
        assert!(admits(&shares, 1, &other, at(20)));
        assert!(admits(&shares, 2, &other, at(20)), "theirs is empty");
        assert!(!admits(&shares, 3, &one, at(30)));
        assert!(admits(&shares, 1, &one, at(20)), "it was begun");
        shares.settle(&id(1));
        shares.settle(&id(9));
        assert!(admits(&shares, 3, &one, at(30)));
        shares.prolong(&id(3), at(40));
        shares.tidy(at(20 + 3601));
        assert_eq!(shares.lock().held.keys().collect::<Vec<_>>(), [&one]);
        shares.tidy(at(40 + 3601));
        let books = shares.lock();
        assert_eq!((books.held.len(), books.waiting.len(), books.coming), (0, 0, 0));
    }

    #[test]
    fn what_is_expected_is_no_room_for_others_while_it_is_brought() {
        let shares = Shares::new(HOUR);
        let coming = || shares.lock().coming;
        assert!(admits(&shares, 1, &member(1), at(1)));
        assert!(admits(&shares, 2, &member(2), at(1)));
        shares.brought(id(1), LENGTH / 2, LENGTH);
        assert_eq!(coming(), LENGTH / 2 + LENGTH);
        for n in [1, 2] {
            shares.left(&id(n));
        }
        assert_eq!(coming(), LENGTH / 2, "nothing has come of one of them");
        let counted = |n: u8| shares.lock().held[&member(n)].bytes[&id(n)];
        assert_eq!([counted(1), counted(2)], [LENGTH, 0]);
        shares.brought(id(2), LENGTH, LENGTH);
        assert_eq!(counted(2), LENGTH, "though it was left");
        shares.tidy(at(1802));
        assert_eq!(coming(), 0, "it comes no more");
        assert!(!admits(&shares, 3, &member(1), at(1803)), "and is there all the same");
        let rest = Size { length: LENGTH, missing: LENGTH / 2 };
        assert!(shares.admit(id(1), rest, &member(1), Left { room: 0, largest: 0 }, at(1803)));
        assert_eq!(coming(), LENGTH / 2, "but for when it does");
        shares.brought(id(1), LENGTH, LENGTH);
        assert_eq!(coming(), 0);
    }

    #[test]
    fn what_may_not_wait_any_more_is_looked_up_now_and_then() {
        let shares = Shares::new(HOUR);
        let (one, other) = (member(1), member(2));
        for n in [1, 2] {
            assert!(shares.announce(id(n), &one, at(10)));
        }
        assert!(shares.beside(&id(1), &other, at(10)).is_empty(), "the store may have yet to know them");
        assert!(admits(&shares, 1, &one, at(10)));
        for (asked, by) in [(id(2), &other), (id(9), &one)] {
            assert_eq!(shares.beside(&asked, by, at(10)), [id(1)], "by who announced it, or brings it");
        }
        shares.looked_up(&id(2), &other, at(10));
        assert!(shares.beside(&id(2), &other, at(10)).is_empty(), "they were looked up just now");
        for when in [at(11), at(9)] {
            assert_eq!(shares.beside(&id(2), &other, when), [id(1)]);
        }
        assert_eq!(shares.among(&[id(9), id(2), id(2)]), HashSet::from([id(2)]));
    }

    #[test]
    fn one_announces_so_many_and_no_more() {
        let shares = Shares::new(HOUR);
        let ids = (0..=MOST as u64).map(|n| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            AttachmentId::from_bytes(bytes)
        });
        let announced = ids.filter(|id| shares.announce(*id, &member(1), at(10))).count();
        assert_eq!(announced, MOST);
        assert!(!admits(&shares, 9, &member(1), at(10)));
        assert!(shares.announce(id(9), &member(2), at(10)));
    }

    #[test]
    fn however_many_fill_their_part_there_is_room_left() {
        let largest = 100;
        let shares = Shares::new(HOUR);
        // Each begins as many as it may, and brings nothing more.
        let left = |room| Left { room, largest };
        let size = Size { length: 100, missing: 100 };
        let begun = |by: u8| {
            let mine = (0..=u8::MAX)
                .map(|n| AttachmentId::from_bytes([[by; 16], [n; 16]].concat().try_into().unwrap()));
            mine.filter(|id| shares.admit(*id, size, &member(by), left(16_000), at(10))).count()
        };
        assert_eq!([begun(1), begun(2), begun(3)], [32, 25, 20], "each a quarter of what the others leave");
    }
}
