//! Mailboxes that are closed and opened again, and what they refuse meanwhile.

use postrider_common::{EnvelopeId, FailureClass, TrackingId};

use super::{Books, Fault, Holder, Ledger};

/// Which closing of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Closure(u64);

/// Whether a mailbox is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// For certain not.
    Open,
    /// Its relay was told to close it, or to open it, and has not answered yet.
    Unsure,
    /// For certain, also if its relay is killed meanwhile.
    Closed(Closure),
}

impl Ledger {
    /// A user's mailbox may be closed from now on.
    pub(in super::super) fn closing(&self, user: usize) {
        let mut books = self.books();
        let Books { letters, gates, homes, .. } = &mut *books;
        gates[user] = Gate::Unsure;
        for letter in letters.values_mut().filter(|letter| letter.user == user) {
            // A relay that a mailbox comes back to may have forgotten what it had.
            letter.was_closed |= letter.missing != 0 || homes[user].has_moved_since(letter);
        }
    }

    /// Its relay has said that it is.
    pub(in super::super) fn closed(&self, user: usize) {
        let mut books = self.books();
        books.closures += 1;
        books.gates[user] = Gate::Closed(Closure(books.closures));
    }

    /// It may be open again from now on.
    pub(in super::super) fn opening(&self, user: usize) {
        self.books().gates[user] = Gate::Unsure;
    }

    /// Its relay has said that it is.
    pub(in super::super) fn opened(&self, user: usize) {
        self.books().gates[user] = Gate::Open;
    }

    /// The closing that a user's mailbox is under for certain.
    pub(in super::super) fn closure(&self, user: usize) -> Option<Closure> {
        self.books().gates[user].closure()
    }

    /// A device has got a session, which it began to ask for under `closure`: that one must be over.
    pub(in super::super) fn let_in(&self, holder: Holder, closure: Option<Closure>) {
        let mut books = self.books();
        if closure.is_some() && books.gates[holder.user].closure() == closure {
            let Holder { user, device, .. } = holder;
            let fault = format!("user {user}, device {device}, got a session while the mailbox was closed");
            books.faults.push(Fault::Broken(fault));
        }
    }

    /// The tracking of what was queued says that it was refused, because its mailbox was closed, or has moved too often: it
    /// counts as not accepted.
    pub(in super::super) fn refused_later(&self, id: &EnvelopeId, refused: TrackingId, reason: FailureClass) {
        let mut books = self.books();
        let Books { letters, shelves, faults, homes, .. } = &mut *books;
        let Some(letter) = letters.get_mut(id) else { return };
        let is_allowed = match reason {
            FailureClass::MailboxRefused => letter.was_closed,
            FailureClass::Loop => homes[letter.user].may_be_lost_track_of(),
            _ => false,
        };
        let is_the_last = letter.tracking == Some(refused) && !letter.standing.is_under_way;
        // What a mailbox had taken goes along with it, whatever becomes of another copy.
        let may_end = is_allowed && is_the_last && !letter.standing.is_stored;
        if !may_end || letter.accepted.is_none() || letter.missing == 0 {
            return;
        }
        letter.standing.is_refused = !letter.standing.is_uncertain;
        if letter.standing.is_refused && shelves.has_arrived(letter.user, id) {
            faults.push(Fault::Broken(format!("{id}: its tracking says {reason}, and a device has got it")));
        }
        (letter.accepted, letter.tracking) = (None, None);
        books.accepted -= 1;
        drop(books);
        self.open.send_modify(|open| *open = open.saturating_sub(1));
    }
}

impl Gate {
    /// The one that it is under for certain.
    pub(super) const fn closure(self) -> Option<Closure> {
        match self {
            Self::Closed(closure) => Some(closure),
            Self::Open | Self::Unsure => None,
        }
    }
}
