//! The soak's own books: what relays have accepted, and what each device has got.

mod gates;
mod homes;
mod shelf;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postrider_common::{Envelope, EnvelopeId, FailureClass, Timestamp, TrackingId};
use tokio::sync::watch;
use tokio::time::Instant;

use gates::Gate;
use homes::Home;
use shelf::Shelves;

pub(super) use gates::Closure;
pub(super) use shelf::{Holder, Visit};

/// Everything that is known.
#[derive(Debug)]
pub(super) struct Ledger {
    books: Mutex<Books>,
    /// How many accepted envelopes some device has not got.
    open: watch::Sender<usize>,
    started: Instant,
}

#[derive(Debug)]
struct Books {
    letters: HashMap<EnvelopeId, Letter>,
    shelves: Shelves,
    accepted: usize,
    faults: Vec<Fault>,
    /// For each user, whether the mailbox is closed.
    gates: Vec<Gate>,
    closures: u64,
    /// For each user, where the mailbox is kept.
    homes: Vec<Home>,
}

/// An envelope on its way.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    /// The relay that it was submitted to.
    pub(super) origin: usize,
    /// Whose it is.
    pub(super) user: usize,
    pub(super) expires_at: Timestamp,
    /// When the relay said that it has it, since the beginning.
    pub(super) accepted: Option<Duration>,
    pub(super) tracking: Option<TrackingId>,
    /// Its mailbox may have been closed since it was written.
    pub(super) was_closed: bool,
    /// How often its mailbox had moved when it was written.
    moves: usize,
    standing: Standing,
    /// A bit for each device that has not got it.
    missing: u32,
}

/// What is known of an envelope's submissions.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    /// How many.
    count: usize,
    /// One has no answer yet.
    is_under_way: bool,
    /// One has never had one, so it may have been taken all the same.
    is_uncertain: bool,
    /// A relay has said that it is in the mailbox.
    is_stored: bool,
    /// Each device had got it, and it was deleted, before the mailbox moved for the first time after it was written.
    is_over: bool,
    /// Each was refused, so no relay has it.
    is_refused: bool,
    /// Under which closing of its mailbox the one that is under way began, if it can only be refused there.
    closure: Option<Closure>,
}

/// A broken promise, other than one that nobody has kept yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// An envelope is in a mailbox more than once, or came again after it was gone.
    Duplicated(String),
    /// What arrived is not what was sent.
    Damaged(String),
    /// A relay did something else that it must not.
    Broken(String),
}

impl Ledger {
    /// Empty, for users whose mailbox is at that relay and has so many devices.
    pub(super) fn new(users: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let (relays, devices): (Vec<_>, Vec<_>) = users.into_iter().unzip();
        let books = Books {
            letters: HashMap::new(),
            gates: relays.iter().map(|_| Gate::Open).collect(),
            homes: relays.into_iter().map(Home::new).collect(),
            shelves: Shelves::new(devices),
            accepted: 0,
            faults: Vec::new(),
            closures: 0,
        };
        Self { books: Mutex::new(books), open: watch::Sender::new(0), started: Instant::now() }
    }

    /// Before an envelope is submitted for the first time.
    pub(super) fn written(&self, envelope: &Envelope, origin: usize, user: usize) {
        let mut books = self.books();
        let missing = (1 << books.shelves.devices(user)) - 1;
        let moves = books.homes[user].ended();
        let expires_at = envelope.expires_at();
        let was_closed = books.gates[user] != Gate::Open;
        let (accepted, tracking, standing) = (None, None, Standing::default());
        let letter =
            Letter { origin, user, expires_at, accepted, tracking, was_closed, moves, standing, missing };
        books.letters.insert(*envelope.id(), letter);
    }

    /// Envelopes are about to be submitted, for the first time or again.
    pub(super) fn submitting<'a>(&self, ids: impl IntoIterator<Item = &'a EnvelopeId>) {
        let mut books = self.books();
        let Books { letters, gates, .. } = &mut *books;
        for id in ids {
            let Some(letter) = letters.get_mut(id) else { continue };
            let is_new = letter.accepted.is_none() && !letter.standing.is_uncertain;
            let closure = gates[letter.user].closure().filter(|_| is_new);
            let count = letter.standing.count + 1;
            let is_refused = false;
            letter.standing = Standing { count, is_under_way: true, is_refused, closure, ..letter.standing };
        }
    }

    /// Nobody knows what the relay has done with them.
    pub(super) fn unanswered<'a>(&self, ids: impl IntoIterator<Item = &'a EnvelopeId>) {
        let mut books = self.books();
        for id in ids {
            let Some(letter) = books.letters.get_mut(id) else { continue };
            letter.standing = Standing { is_under_way: false, is_uncertain: true, ..letter.standing };
        }
    }

    /// The relay says that it does not take an envelope now.
    pub(super) fn put_off(&self, id: &EnvelopeId) {
        let mut books = self.books();
        let Some(letter) = books.letters.get_mut(id) else { return };
        letter.standing.is_under_way = false;
    }

    /// The relay says that it has the envelope, for the first time or again.
    pub(super) fn accepted(&self, id: &EnvelopeId, tracking: Option<TrackingId>) {
        let at = self.started.elapsed();
        let mut books = self.books();
        let Books { letters, faults, gates, homes, .. } = &mut *books;
        let Some(letter) = letters.get_mut(id) else { return };
        letter.standing.is_under_way = false;
        let has_moved = homes[letter.user].has_moved();
        if tracking.is_none() {
            let closure = letter.standing.closure;
            if closure.is_some() && closure == gates[letter.user].closure() {
                faults.push(Fault::Broken(format!("{id}: stored in a mailbox that was closed")));
            }
            letter.standing.is_stored = true;
        }
        if letter.accepted.is_some() {
            // What was refused for a closed mailbox is queued anew. And what is for one that has moved has another way as
            // soon as the origin learns where to, however early that was.
            if (letter.was_closed || has_moved) && tracking.is_some() {
                letter.standing.is_uncertain |= has_moved && letter.tracking != tracking;
                letter.tracking = tracking;
            } else if letter.tracking != tracking && !has_moved {
                let fault = format!("{id}: submitted again, it has another tracking id");
                faults.push(Fault::Broken(fault));
            }
            return;
        }
        letter.accepted = Some(at);
        letter.tracking = tracking;
        let is_open = letter.missing != 0;
        books.accepted += 1;
        drop(books);
        if is_open {
            self.open.send_modify(|open| *open += 1);
        }
    }

    /// The relay has refused an envelope for good, which it may only if the envelope's time was over, or its mailbox was
    /// closed and had not taken it before. What was refused there no longer has its attachment if it comes again.
    pub(super) fn refused(&self, id: &EnvelopeId, reason: FailureClass, now: Timestamp) {
        let mut books = self.books();
        let Books { letters, faults, homes, .. } = &mut *books;
        let Some(letter) = letters.get_mut(id) else { return };
        let has_moved = homes[letter.user].has_moved_since(letter);
        let is_allowed = match reason {
            FailureClass::Expired => letter.expires_at <= now,
            FailureClass::MailboxRefused | FailureClass::AttachmentMissing => {
                letter.was_closed && (has_moved || !letter.standing.is_stored)
            }
            _ => false,
        };
        if !is_allowed {
            faults.push(Fault::Broken(format!("{id}: refused for good: {reason} ({letter:?})")));
        }
        letter.standing.is_under_way = false;
        letter.standing.is_refused = letter.accepted.is_none() && !letter.standing.is_uncertain;
    }

    /// How many accepted envelopes some device has not got, expired ones included.
    pub(super) fn open(&self) -> watch::Receiver<usize> {
        self.open.subscribe()
    }

    /// How many were accepted.
    pub(super) fn count_accepted(&self) -> usize {
        self.books().accepted
    }

    /// How many of them all their devices have got.
    pub(super) fn count_delivered(&self) -> usize {
        let delivered = |letter: &&Letter| letter.accepted.is_some() && letter.missing == 0;
        self.books().letters.values().filter(delivered).count()
    }

    /// Accepted envelopes that some device has not got.
    pub(super) fn undelivered(&self) -> Vec<(EnvelopeId, Letter)> {
        let books = self.books();
        let open =
            books.letters.iter().filter(|(_, letter)| letter.accepted.is_some() && letter.missing != 0);
        open.map(|(id, letter)| (*id, letter.clone())).collect()
    }

    /// What went wrong so far.
    pub(super) fn faults(&self) -> Vec<Fault> {
        self.books().faults.clone()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
