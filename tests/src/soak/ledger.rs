//! The soak's own books: what relays have accepted, and what each device has got.

mod gates;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postrider_client::Entry;
use postrider_common::{EntryId, Envelope, EnvelopeId, FailureClass, Timestamp, TrackingId};
use tokio::sync::watch;
use tokio::time::Instant;

use super::files::Fetched;
use super::letter;
use gates::Gate;

pub(super) use gates::Closure;

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
    shelves: Vec<Vec<Shelf>>,
    accepted: usize,
    faults: Vec<Fault>,
    /// For each user, whether the mailbox is closed.
    gates: Vec<Gate>,
    closures: u64,
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
    standing: Standing,
    /// A bit for each device that has not got it.
    missing: u32,
}

/// What is known of an envelope's submissions.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    /// One has no answer yet.
    is_under_way: bool,
    /// One has never had one, so it may have been taken all the same.
    is_uncertain: bool,
    /// A relay has said that it is in the mailbox.
    is_stored: bool,
    /// Each was refused, so no relay has it.
    is_refused: bool,
    /// Under which closing of its mailbox the one that is under way began, if it can only be refused there.
    closure: Option<Closure>,
}

/// What one device has got.
#[derive(Debug, Default)]
struct Shelf {
    entries: HashMap<EntryId, EnvelopeId>,
    envelopes: HashMap<EnvelopeId, EntryId>,
    /// The relay was told that the device has them.
    told: BTreeSet<EntryId>,
    /// The relay has shown that it knows.
    gone: HashSet<EntryId>,
}

/// Which device, of which user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) user: usize,
    pub(super) device: usize,
}

/// What a device has seen on one connection.
#[derive(Debug, Default)]
pub(super) struct Visit {
    last: Option<EntryId>,
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
    /// Empty, for users with so many devices each.
    pub(super) fn new(devices: impl IntoIterator<Item = usize>) -> Self {
        let shelves = devices.into_iter().map(|count| (0..count).map(|_| Shelf::default()).collect());
        let shelves: Vec<_> = shelves.collect();
        let books = Books {
            letters: HashMap::new(),
            gates: shelves.iter().map(|_| Gate::Open).collect(),
            shelves,
            accepted: 0,
            faults: Vec::new(),
            closures: 0,
        };
        Self { books: Mutex::new(books), open: watch::Sender::new(0), started: Instant::now() }
    }

    /// Before an envelope is submitted for the first time.
    pub(super) fn written(&self, envelope: &Envelope, origin: usize, user: usize) {
        let mut books = self.books();
        let missing = (1 << books.shelves[user].len()) - 1;
        let expires_at = envelope.expires_at();
        let was_closed = books.gates[user] != Gate::Open;
        let (accepted, tracking, standing) = (None, None, Standing::default());
        let letter = Letter { origin, user, expires_at, accepted, tracking, was_closed, standing, missing };
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
            letter.standing = Standing { is_under_way: true, is_refused: false, closure, ..letter.standing };
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
        let Books { letters, faults, gates, .. } = &mut *books;
        let Some(letter) = letters.get_mut(id) else { return };
        letter.standing.is_under_way = false;
        if tracking.is_none() {
            let closure = letter.standing.closure;
            if closure.is_some() && closure == gates[letter.user].closure() {
                faults.push(Fault::Broken(format!("{id}: stored in a mailbox that was closed")));
            }
            letter.standing.is_stored = true;
        }
        if letter.accepted.is_some() {
            // What was refused for a closed mailbox is queued anew.
            if letter.was_closed && tracking.is_some() {
                letter.tracking = tracking;
            } else if letter.tracking != tracking {
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
        let Books { letters, faults, .. } = &mut *books;
        let Some(letter) = letters.get_mut(id) else { return };
        let is_allowed = match reason {
            FailureClass::Expired => letter.expires_at <= now,
            FailureClass::MailboxRefused | FailureClass::AttachmentMissing => {
                letter.was_closed && !letter.standing.is_stored
            }
            _ => false,
        };
        if !is_allowed {
            faults.push(Fault::Broken(format!("{id}: refused for good: {reason}")));
        }
        letter.standing.is_under_way = false;
        letter.standing.is_refused = letter.accepted.is_none() && !letter.standing.is_uncertain;
    }

    /// A device has fetched what an entry has attached. It is there for as long as the entry is, and that may end while
    /// it is fetched once more: when the relay gets to an acknowledgement that an earlier connection had sent.
    pub(super) fn fetched(&self, holder: Holder, entry: &Entry, fetched: Fetched) {
        let (envelope, id, Holder { user, device }) = (entry.envelope.id(), entry.id, holder);
        let mut books = self.books();
        let is_told = books.shelves[user][device].told.contains(&id);
        let what = match fetched {
            Fetched::AsSent => return,
            Fetched::Gone if is_told => return,
            Fetched::Gone => "its attachment is gone before it was acknowledged",
            Fetched::Changed => "its attachment is not what was sent",
        };
        let told = format!("{envelope} as entry {id} of user {user}, device {device}: {what}");
        books.faults.push(Fault::Damaged(told));
    }

    /// A device has recorded an entry.
    pub(super) fn arrived(&self, holder: Holder, visit: &mut Visit, entry: &Entry) {
        let mut books = self.books();
        let Books { letters, shelves, faults, .. } = &mut *books;
        let shelf = &mut shelves[holder.user][holder.device];
        let (id, envelope) = (entry.id, *entry.envelope.id());
        let told = |what: &str| format!("{envelope} as entry {id} of user {}: {what}", holder.user);
        match visit.last {
            // The oldest that is left comes first, so what was acknowledged before it is no longer there.
            None => shelf.left_from(id),
            Some(last) if id <= last => {
                faults.push(Fault::Duplicated(told("pushed twice, or out of order, on one connection")));
            }
            Some(_) => {}
        }
        visit.last = Some(id);
        if shelf.gone.contains(&id) {
            faults.push(Fault::Duplicated(told("delivered again after it was deleted")));
        }
        if shelf.entries.insert(id, envelope).is_some_and(|before| before != envelope) {
            faults.push(Fault::Broken(told("the entry was another envelope before")));
        }
        if let Some(before) = shelf.envelopes.insert(envelope, id)
            && before != id
        {
            faults.push(Fault::Duplicated(told(&format!("it is entry {before} as well"))));
        }
        let Some(letter) = letters.get_mut(&envelope) else {
            faults.push(Fault::Damaged(told("nobody has sent it")));
            return;
        };
        if letter.user != holder.user || !letter::is_as_written(&entry.envelope) {
            faults.push(Fault::Damaged(told("it is not what was sent")));
        }
        if letter.standing.is_refused {
            faults.push(Fault::Broken(told("whoever submitted it was told that it was refused")));
        }
        let was_open = letter.missing != 0;
        letter.missing &= !(1 << holder.device);
        let is_closed = was_open && letter.missing == 0 && letter.accepted.is_some();
        drop(books);
        if is_closed {
            self.open.send_modify(|open| *open = open.saturating_sub(1));
        }
    }

    /// A device has begun to acknowledge entries; whether the relay learns of it is open.
    pub(super) fn acknowledging(&self, holder: Holder, entries: &[EntryId]) {
        let mut books = self.books();
        let shelf = &mut books.shelves[holder.user][holder.device];
        shelf.told.extend(entries.iter().filter(|entry| !shelf.gone.contains(entry)));
    }

    /// The relay has answered that the acknowledged entries are deleted.
    pub(super) fn deleted(&self, holder: Holder, entries: &[EntryId]) {
        let mut books = self.books();
        let shelf = &mut books.shelves[holder.user][holder.device];
        for entry in entries {
            shelf.told.remove(entry);
            shelf.gone.insert(*entry);
        }
    }

    /// The relay has shown that nothing waits for the device: what it has acknowledged is deleted.
    pub(super) fn empty(&self, holder: Holder) {
        self.books().shelves[holder.user][holder.device].left_from(EntryId(u64::MAX));
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

impl Shelf {
    fn has(&self, envelope: &EnvelopeId) -> bool {
        self.envelopes.contains_key(envelope)
    }

    /// The relay has shown what it holds, and the oldest of it is `first`.
    fn left_from(&mut self, first: EntryId) {
        let left = self.told.split_off(&first);
        self.gone.extend(std::mem::replace(&mut self.told, left));
    }
}
