//! Who has brought what no envelope needs yet: nobody may fill the relay with it.
//!
//! It is in memory alone, since nothing on the disk is to say who brings an attachment. What was brought before a restart
//! counts for nobody, and goes when its time is over.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postrider_common::{AttachmentId, Domain, MailboxId, Timestamp};

use super::AttachmentError;
use crate::admission::ClientAddress;

/// How many attachments one may have announced that no envelope needs yet.
const MOST: usize = 1024;
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
    held: HashMap<Bringer, Held>,
}

/// An attachment that no envelope needs yet.
#[derive(Debug)]
struct Waiting {
    bringer: Bringer,
    /// Of its chunks, those included that are on their way.
    bytes: u64,
    until: Timestamp,
}

#[derive(Debug, Default)]
struct Held {
    attachments: usize,
    bytes: u64,
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
    /// One more that somebody announces, unless they have announced too many.
    pub(super) fn announce(
        &self,
        id: AttachmentId,
        bringer: &Bringer,
        until: Timestamp,
    ) -> Result<(), AttachmentError> {
        let mut books = self.lock();
        if books.held.get(bringer).is_some_and(|held| held.attachments >= MOST) {
            return Err(AttachmentError::TooMuchWaits);
        }
        books.waiting(id, bringer, until);
        Ok(())
    }

    /// A chunk is on its way. Whoever has announced the attachment has brought it, and else who brings this: how many bytes
    /// that makes of theirs.
    pub(super) fn add(&self, id: AttachmentId, bringer: &Bringer, bytes: u64, until: Timestamp) -> u64 {
        let mut books = self.lock();
        let waiting = books.waiting(id, bringer, until);
        waiting.bytes += bytes;
        let bringer = waiting.bringer.clone();
        let held = books.held.entry(bringer).or_default();
        held.bytes += bytes;
        held.bytes
    }

    /// The chunk is not there after all.
    pub(super) fn take_back(&self, id: &AttachmentId, bytes: u64) {
        let mut books = self.lock();
        let Some(waiting) = books.waiting.get_mut(id) else { return };
        waiting.bytes = waiting.bytes.saturating_sub(bytes);
        let bringer = waiting.bringer.clone();
        if let Some(held) = books.held.get_mut(&bringer) {
            held.bytes = held.bytes.saturating_sub(bytes);
        }
    }

    /// These wait no more: envelopes need them, or they are gone.
    pub(super) fn settle(&self, ids: impl IntoIterator<Item = AttachmentId>) {
        let mut books = self.lock();
        for id in ids {
            books.forget(&id);
        }
    }

    /// Forgets those whose time is over, which the store does not have any more.
    pub(super) fn tidy(&self, now: Timestamp) {
        let mut books = self.lock();
        let over: Vec<_> =
            books.waiting.iter().filter(|(_, waiting)| waiting.until < now).map(|(id, _)| *id).collect();
        for id in over {
            books.forget(&id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // No code that can panic runs under this lock half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn waiting(&mut self, id: AttachmentId, bringer: &Bringer, until: Timestamp) -> &mut Waiting {
        let held = &mut self.held;
        let waiting = self.waiting.entry(id).or_insert_with(|| {
            held.entry(bringer.clone()).or_default().attachments += 1;
            Waiting { bringer: bringer.clone(), bytes: 0, until }
        });
        waiting.until = until;
        waiting
    }

    fn forget(&mut self, id: &AttachmentId) {
        let Some(Waiting { bringer, bytes, .. }) = self.waiting.remove(id) else { return };
        if let Some(held) = self.held.get_mut(&bringer) {
            held.attachments -= 1;
            held.bytes = held.bytes.saturating_sub(bytes);
            if held.attachments == 0 {
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
    fn what_an_envelope_needs_counts_for_nobody() {
        let shares = Shares::default();
        let (one, other) = (member(1), member(2));
        shares.announce(id(1), &one, at(10)).unwrap();
        assert_eq!(shares.add(id(1), &other, 5, at(20)), 5, "counts for whoever has announced it");
        assert_eq!(shares.add(id(2), &other, 7, at(20)), 7);
        assert_eq!(shares.add(id(3), &one, 7, at(30)), 12);
        shares.take_back(&id(3), 7);
        assert_eq!(shares.add(id(3), &one, 1, at(30)), 6);
        shares.settle([id(1), id(9)]);
        shares.take_back(&id(1), 5);
        assert_eq!(shares.add(id(3), &one, 1, at(30)), 2);
        shares.tidy(at(21));
        assert_eq!(shares.lock().held.keys().collect::<Vec<_>>(), [&one]);
        shares.tidy(at(31));
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
        let announced = ids.map(|id| shares.announce(id, &member(1), at(10))).filter(Result::is_ok).count();
        assert_eq!(announced, MOST);
        assert_eq!(shares.announce(id(9), &member(2), at(10)), Ok(()));
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
