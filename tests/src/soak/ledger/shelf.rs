//! What devices have got, and what relays have shown of what they still hold for them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use postrider_client::Entry;
use postrider_common::{EntryId, EnvelopeId};

use super::{Books, Fault, Ledger};
use crate::soak::files::Fetched;
use crate::soak::letter;

/// Which device, of which user, at which relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in super::super) struct Holder {
    pub(in super::super) user: usize,
    pub(in super::super) device: usize,
    pub(in super::super) relay: usize,
}

/// What a device has seen on one connection.
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct Visit {
    last: Option<EntryId>,
    /// How many moves of the mailbox had begun before.
    pub(super) moves: usize,
}

/// What all devices have got, at each relay by itself: entry ids are a relay's own.
#[derive(Debug)]
pub(super) struct Shelves {
    devices: Vec<usize>,
    shelves: HashMap<Holder, Shelf>,
}

/// What one device has got at one relay.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    entries: HashMap<EntryId, EnvelopeId>,
    envelopes: BTreeMap<EnvelopeId, BTreeSet<EntryId>>,
    /// The relay was told that the device has them.
    told: BTreeSet<EntryId>,
    /// The relay has shown that it knows.
    gone: HashSet<EntryId>,
}

impl Visit {
    /// One that begins after so many moves.
    pub(super) const fn after(moves: usize) -> Self {
        Self { last: None, moves }
    }
}

impl Ledger {
    /// A device has fetched what an entry has attached. It is there for as long as the entry is, and that may end while
    /// it is fetched once more: when the relay gets to an acknowledgement that an earlier connection had sent.
    /// It goes along when the mailbox moves.
    pub(in super::super) fn fetched(&self, holder: Holder, visit: &Visit, entry: &Entry, fetched: Fetched) {
        let (envelope, id, Holder { user, device, .. }) = (entry.envelope.id(), entry.id, holder);
        let mut books = self.books();
        let may_be_gone = books.shelves.of(holder).told.contains(&id)
            || !books.homes[user].has_stayed(holder.relay, visit.moves);
        let what = match fetched {
            Fetched::AsSent => return,
            Fetched::Gone if may_be_gone => return,
            Fetched::Gone => "its attachment is gone before it was acknowledged",
            Fetched::Changed => "its attachment is not what was sent",
        };
        let told = format!("{envelope} as entry {id} of user {user}, device {device}: {what}");
        books.faults.push(Fault::Damaged(told));
    }

    /// A device has recorded an entry.
    pub(in super::super) fn arrived(&self, holder: Holder, visit: &mut Visit, entry: &Entry) {
        let mut books = self.books();
        let Books { letters, shelves, faults, homes, .. } = &mut *books;
        let shelf = shelves.of(holder);
        let (id, envelope) = (entry.id, *entry.envelope.id());
        let Holder { user, relay, .. } = holder;
        let told = |what: &str| format!("{envelope} as entry {id} of user {user} at relay {relay}: {what}");
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
        let ids = shelf.envelopes.entry(envelope).or_default();
        let is_another = ids.insert(id);
        // Each time that the mailbox comes to the relay, what it had elsewhere comes with it.
        if ids.len() > homes[user].stays_at(relay) {
            faults.push(Fault::Duplicated(told(&format!("it is several entries: {ids:?}"))));
        }
        let Some(letter) = letters.get_mut(&envelope) else {
            faults.push(Fault::Damaged(told("nobody has sent it")));
            return;
        };
        if letter.user != holder.user || !letter::is_as_written(&entry.envelope) {
            faults.push(Fault::Damaged(told("it is not what was sent")));
        }
        if is_another && letter.standing.is_over && letter.standing.count == 1 {
            faults.push(Fault::Duplicated(told("all devices had got it before the mailbox moved")));
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
    pub(in super::super) fn acknowledging(&self, holder: Holder, entries: &[EntryId]) {
        let mut books = self.books();
        let shelf = books.shelves.of(holder);
        shelf.told.extend(entries.iter().filter(|entry| !shelf.gone.contains(entry)));
    }

    /// The relay has answered that the acknowledged entries are deleted.
    pub(in super::super) fn deleted(&self, holder: Holder, entries: &[EntryId]) {
        let mut books = self.books();
        let shelf = books.shelves.of(holder);
        for entry in entries {
            shelf.told.remove(entry);
            shelf.gone.insert(*entry);
        }
    }

    /// The relay has shown that nothing waits for the device: what it has acknowledged is deleted.
    pub(in super::super) fn empty(&self, holder: Holder) {
        self.books().shelves.of(holder).left_from(EntryId(u64::MAX));
    }
}

impl Shelves {
    pub(super) fn new(devices: Vec<usize>) -> Self {
        Self { devices, shelves: HashMap::new() }
    }

    /// How many devices a user has.
    pub(super) fn devices(&self, user: usize) -> usize {
        self.devices[user]
    }

    fn of(&mut self, holder: Holder) -> &mut Shelf {
        self.shelves.entry(holder).or_default()
    }

    /// Whether any device has got an envelope, wherever.
    pub(super) fn has_arrived(&self, user: usize, envelope: &EnvelopeId) -> bool {
        let of_user = self.shelves.iter().filter(|(holder, _)| holder.user == user);
        of_user.map(|(_, shelf)| shelf).any(|shelf| shelf.envelopes.contains_key(envelope))
    }

    /// Whether a relay has shown for each device that it has deleted an envelope after that had got it.
    pub(super) fn is_over(&self, user: usize, relay: usize, envelope: &EnvelopeId) -> bool {
        (0..self.devices[user]).all(|device| {
            let shelf = self.shelves.get(&Holder { user, device, relay });
            let ids = shelf.and_then(|shelf| Some((shelf, shelf.envelopes.get(envelope)?)));
            ids.is_some_and(|(shelf, ids)| ids.iter().all(|id| shelf.gone.contains(id)))
        })
    }
}

impl Shelf {
    /// The relay has shown what it holds, and the oldest of it is `first`.
    fn left_from(&mut self, first: EntryId) {
        let left = self.told.split_off(&first);
        self.gone.extend(std::mem::replace(&mut self.told, left));
    }
}
