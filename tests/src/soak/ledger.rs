//! The soak's own books: what relays have accepted, and what each device has got.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postrider_client::Entry;
use postrider_common::{EntryId, Envelope, EnvelopeId, FailureClass, Timestamp, TrackingId};
use tokio::sync::watch;
use tokio::time::Instant;

use super::files::Fetched;
use super::letter;

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
    /// A bit for each device that has not got it.
    missing: u32,
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
        let books =
            Books { letters: HashMap::new(), shelves: shelves.collect(), accepted: 0, faults: Vec::new() };
        Self { books: Mutex::new(books), open: watch::Sender::new(0), started: Instant::now() }
    }

    /// Before an envelope is submitted for the first time.
    pub(super) fn written(&self, envelope: &Envelope, origin: usize, user: usize) {
        let mut books = self.books();
        let missing = (1 << books.shelves[user].len()) - 1;
        let expires_at = envelope.expires_at();
        let letter = Letter { origin, user, expires_at, accepted: None, tracking: None, missing };
        books.letters.insert(*envelope.id(), letter);
    }

    /// The relay says that it has the envelope, for the first time or again.
    pub(super) fn accepted(&self, id: &EnvelopeId, tracking: Option<TrackingId>) {
        let at = self.started.elapsed();
        let mut books = self.books();
        let Some(letter) = books.letters.get_mut(id) else { return };
        if letter.accepted.is_some() {
            if letter.tracking != tracking {
                let fault = format!("{id}: submitted again, it has another tracking id");
                books.faults.push(Fault::Broken(fault));
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

    /// The relay has refused an envelope for good, which it may only if the envelope's time was over.
    pub(super) fn refused(&self, id: &EnvelopeId, reason: FailureClass, now: Timestamp) {
        let mut books = self.books();
        let is_over = books.letters.get(id).is_some_and(|letter| letter.expires_at <= now);
        if !(is_over && reason == FailureClass::Expired) {
            books.faults.push(Fault::Broken(format!("{id}: refused for good: {reason}")));
        }
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
    /// The relay has shown what it holds, and the oldest of it is `first`.
    fn left_from(&mut self, first: EntryId) {
        let left = self.told.split_off(&first);
        self.gone.extend(std::mem::replace(&mut self.told, left));
    }
}

#[cfg(test)]
mod tests {
    use postrider_common::MailboxId;

    use super::*;
    use crate::dice::Dice;

    const LATER: Timestamp = Timestamp::from_secs(1_000_000);
    const PHONE: Holder = Holder { user: 0, device: 0 };
    const LAPTOP: Holder = Holder { user: 0, device: 1 };

    fn ledger_with(devices: usize) -> (Ledger, Envelope) {
        let ledger = Ledger::new([devices]);
        let envelope = letter::write(&mut Dice::new(1), MailboxId::from_bytes([1; 32]), LATER, Vec::new());
        ledger.written(&envelope, 0, 0);
        ledger.accepted(envelope.id(), None);
        (ledger, envelope)
    }

    fn entry(id: u64, envelope: &Envelope) -> Entry {
        Entry { id: EntryId(id), envelope: envelope.clone() }
    }

    fn duplicates(ledger: &Ledger) -> usize {
        ledger.faults().iter().filter(|fault| matches!(fault, Fault::Duplicated(_))).count()
    }

    #[test]
    fn an_envelope_is_delivered_when_each_device_has_it() {
        let (ledger, envelope) = ledger_with(2);
        ledger.arrived(PHONE, &mut Visit::default(), &entry(1, &envelope));
        assert_eq!((ledger.count_accepted(), ledger.count_delivered(), *ledger.open().borrow()), (1, 0, 1));
        assert_eq!(ledger.undelivered().len(), 1);
        ledger.arrived(LAPTOP, &mut Visit::default(), &entry(1, &envelope));
        assert_eq!((ledger.count_delivered(), *ledger.open().borrow()), (1, 0));
        assert_eq!((ledger.undelivered().len(), ledger.faults()), (0, vec![]));
    }

    #[test]
    fn the_same_entry_may_come_again_until_it_is_known_to_be_deleted() {
        let (ledger, envelope) = ledger_with(1);
        for _ in 0..3 {
            ledger.arrived(PHONE, &mut Visit::default(), &entry(1, &envelope));
            ledger.acknowledging(PHONE, &[EntryId(1)]);
        }
        assert_eq!(ledger.faults(), []);
        ledger.deleted(PHONE, &[EntryId(1)]);
        ledger.arrived(PHONE, &mut Visit::default(), &entry(1, &envelope));
        assert_eq!(duplicates(&ledger), 1);
    }

    #[test]
    fn a_later_entry_at_the_beginning_shows_that_earlier_ones_are_deleted() {
        let (ledger, first) = ledger_with(1);
        let second = letter::write(&mut Dice::new(2), MailboxId::from_bytes([1; 32]), LATER, Vec::new());
        ledger.written(&second, 0, 0);
        ledger.arrived(PHONE, &mut Visit::default(), &entry(1, &first));
        ledger.acknowledging(PHONE, &[EntryId(1)]);
        ledger.arrived(PHONE, &mut Visit::default(), &entry(2, &second));
        ledger.arrived(PHONE, &mut Visit::default(), &entry(1, &first));
        assert_eq!(duplicates(&ledger), 1);
        ledger.acknowledging(PHONE, &[EntryId(2)]);
        ledger.empty(PHONE);
        ledger.arrived(PHONE, &mut Visit::default(), &entry(2, &second));
        assert_eq!(duplicates(&ledger), 2);
    }

    #[test]
    fn two_entries_of_one_envelope_are_a_duplicate() {
        let (ledger, envelope) = ledger_with(1);
        ledger.arrived(PHONE, &mut Visit::default(), &entry(1, &envelope));
        ledger.arrived(PHONE, &mut Visit::default(), &entry(2, &envelope));
        assert_eq!(duplicates(&ledger), 1);
    }

    #[test]
    fn an_entry_comes_once_on_a_connection() {
        let (ledger, envelope) = ledger_with(1);
        let mut visit = Visit::default();
        ledger.arrived(PHONE, &mut visit, &entry(1, &envelope));
        ledger.arrived(PHONE, &mut visit, &entry(1, &envelope));
        assert_eq!(duplicates(&ledger), 1);
    }

    #[test]
    fn what_arrives_is_what_was_sent() {
        let (ledger, envelope) = ledger_with(1);
        let mut body = envelope.body().to_vec();
        body[9] ^= 1;
        let draft = postrider_common::Draft::new(*envelope.mailbox(), LATER, body);
        let changed = postrider_common::Draft { id: *envelope.id(), ..draft }.finish().unwrap();
        ledger.arrived(PHONE, &mut Visit::default(), &entry(1, &changed));
        assert!(matches!(&ledger.faults()[..], [Fault::Damaged(_)]));
    }

    #[test]
    fn an_attachment_may_be_gone_once_it_was_acknowledged_and_never_changed() {
        let (ledger, envelope) = ledger_with(1);
        let entry = entry(1, &envelope);
        ledger.fetched(PHONE, &entry, Fetched::AsSent);
        ledger.arrived(PHONE, &mut Visit::default(), &entry);
        ledger.acknowledging(PHONE, &[entry.id]);
        ledger.fetched(PHONE, &entry, Fetched::Gone);
        assert_eq!(ledger.faults(), []);
        ledger.fetched(PHONE, &entry, Fetched::Changed);
        let unacknowledged = Entry { id: EntryId(2), envelope };
        ledger.fetched(PHONE, &unacknowledged, Fetched::Gone);
        assert!(matches!(&ledger.faults()[..], [Fault::Damaged(_), Fault::Damaged(_)]));
    }

    #[test]
    fn a_relay_may_refuse_for_good_only_what_is_over() {
        let (ledger, envelope) = ledger_with(1);
        ledger.refused(envelope.id(), FailureClass::Expired, LATER);
        assert_eq!(ledger.faults(), []);
        ledger.refused(envelope.id(), FailureClass::Expired, Timestamp::from_secs(5));
        ledger.refused(envelope.id(), FailureClass::NoSuchMailbox, LATER);
        assert_eq!(ledger.faults().len(), 2);
    }
}
