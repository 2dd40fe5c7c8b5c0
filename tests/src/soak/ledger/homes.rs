//! Mailboxes that move from relay to relay.

use postrider::route::MAX_MOVES;
use postrider_common::{EnvelopeId, TrackingId};

use super::{Books, Fault, Holder, Ledger, Letter, Visit};

/// Where a mailbox is kept.
#[derive(Debug)]
pub(super) struct Home {
    /// At which relays, one after the other; at least one.
    stays: Vec<usize>,
    /// Where it is on its way to.
    to: Option<usize>,
}

impl Ledger {
    /// The relay that keeps a user's mailbox, as far as is known.
    pub(in super::super) fn home(&self, user: usize) -> usize {
        self.books().homes[user].at()
    }

    /// All relays that have kept it.
    pub(in super::super) fn stays(&self, user: usize) -> Vec<usize> {
        self.books().homes[user].stays.clone()
    }

    /// A device goes to the relay that keeps the mailbox.
    pub(in super::super) fn visit(&self, user: usize) -> (usize, Visit) {
        let home = &self.books().homes[user];
        (home.at(), Visit::after(home.begun()))
    }

    /// A user's mailbox may be kept by another relay from now on.
    pub(in super::super) fn leaving(&self, user: usize, to: usize) {
        let mut books = self.books();
        let Books { letters, shelves, homes, .. } = &mut *books;
        let home = &mut homes[user];
        for (id, letter) in letters.iter_mut().filter(|(_, letter)| letter.user == user) {
            if letter.missing == 0 && !home.has_moved_since(letter) {
                letter.standing.is_over = shelves.is_over(user, home.at(), id);
            }
        }
        home.to = Some(to);
    }

    /// Both relays have said that it is.
    pub(in super::super) fn moved(&self, user: usize) {
        let home = &mut self.books().homes[user];
        home.stays.extend(home.to.take());
    }

    /// A relay has told a device that the mailbox is kept by another one, which is none of the cluster if it is `None`.
    pub(in super::super) fn sent_away(&self, holder: Holder, visit: &Visit, to: Option<usize>) {
        let mut books = self.books();
        let home = &books.homes[holder.user];
        let is_known = to.is_some_and(|to| to != holder.relay && home.stays_at(to) > 0);
        if !is_known || home.has_stayed(holder.relay, visit.moves) {
            let fault = format!("{holder:?} was told that the mailbox has moved to {to:?}: {home:?}");
            books.faults.push(Fault::Broken(fault));
        }
    }

    /// Which of those that are under way may have been refused since they were queued, and where, and under which tracking
    /// id: for mailboxes that were closed, or that have moved more often than an envelope follows.
    pub(in super::super) fn doubtful(&self) -> Vec<(EnvelopeId, usize, TrackingId)> {
        let books = self.books();
        let doubtful = books.letters.iter().filter(|(_, letter)| {
            let is_under_way = letter.accepted.is_some() && letter.missing != 0;
            is_under_way && (letter.was_closed || books.homes[letter.user].may_be_lost_track_of())
        });
        doubtful.filter_map(|(id, letter)| Some((*id, letter.origin, letter.tracking?))).collect()
    }
}

impl Home {
    pub(super) fn new(relay: usize) -> Self {
        Self { stays: vec![relay], to: None }
    }

    fn at(&self) -> usize {
        self.stays.last().copied().unwrap_or_default()
    }

    /// How many moves have ended.
    pub(super) const fn ended(&self) -> usize {
        self.stays.len().saturating_sub(1)
    }

    fn begun(&self) -> usize {
        self.ended() + usize::from(self.to.is_some())
    }

    /// Whether it may have moved since an envelope was written.
    pub(super) fn has_moved_since(&self, letter: &Letter) -> bool {
        self.begun() > letter.moves
    }

    /// Whether it has ever moved or begun to.
    pub(super) fn has_moved(&self) -> bool {
        self.begun() > 0
    }

    /// Whether it was at a relay all the time since so many moves had begun.
    pub(super) fn has_stayed(&self, relay: usize, moves: usize) -> bool {
        self.to.is_none() && self.at() == relay && self.ended() == moves
    }

    /// How often it has come to a relay.
    pub(super) fn stays_at(&self, relay: usize) -> usize {
        self.stays.iter().chain(&self.to).filter(|at| **at == relay).count()
    }

    /// Whether an envelope for it may end as one that goes round in circles.
    pub(super) fn may_be_lost_track_of(&self) -> bool {
        self.begun() > usize::from(MAX_MOVES)
    }
}
