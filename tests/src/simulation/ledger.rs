//! What clients, devices and the network have seen in a run, in the order in which they saw it.
//!
//! Nothing in it comes out of a store: it is what the relays have said and done to the outside, and with that their
//! promises are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postrider::store::StoreError;
use postrider_common::wire::mailbox::Entry;
use postrider_common::wire::submit::SubmitResult;
use postrider_common::{EntryId, Envelope, EnvelopeId, FailureClass};
use tokio::time::Instant;

use super::node::is_failure;
use super::script::{LONG, Letter};
use super::terms;

/// A place in the order of everything that was seen.
pub(super) type Tick = u64;
/// An entry of a mailbox, and the relay where it has it: another relay has numbers of its own.
pub(super) type Place = (u8, EntryId);
/// A mailbox and one of its devices.
pub(super) type Holder = (u8, u8);

/// The books of one run.
#[derive(Debug)]
pub(super) struct Ledger {
    books: Mutex<Books>,
    began: Instant,
}

/// What is in them.
#[derive(Debug, Default)]
pub(super) struct Books {
    tick: Tick,
    hash: u64,
    trace: Option<Vec<String>>,
    pub(super) violations: Vec<String>,
    pub(super) letters: BTreeMap<u16, Posted>,
    pub(super) registrations: BTreeMap<Holder, Vec<Request>>,
    pub(super) deletions: BTreeMap<u8, Vec<Request>>,
    pub(super) removals: BTreeMap<Holder, Vec<Request>>,
    pub(super) suspensions: BTreeMap<u8, Vec<Request>>,
    pub(super) resumptions: BTreeMap<u8, Vec<Request>>,
    /// By letter and number, chunks that were to be brought.
    pub(super) chunks: BTreeMap<(u16, u32), Vec<Request>>,
    pub(super) shelves: BTreeMap<Holder, Shelf>,
    /// Under which entry ids a letter came, and when first, and which letter came under an entry id, by mailbox.
    pub(super) entries: BTreeMap<(u8, u16), BTreeMap<Place, Tick>>,
    pub(super) contents: BTreeMap<(u8, Place), u16>,
    /// The moves of mailboxes, in order.
    pub(super) moves: BTreeMap<u8, Vec<Departure>>,
    /// When a letter was first offered by one relay to another.
    pub(super) offers: BTreeMap<(u8, u8, u16), Tick>,
    pub(super) counts: Counts,
}

/// How much happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Envelopes that a relay answered `stored` or `queued` for.
    pub accepted: u64,
    /// Entries that devices got.
    pub received: u64,
    /// Batches that went from relay to relay.
    pub forwarded: u64,
    /// Relays that died.
    pub crashes: u64,
    /// Mailboxes that moved.
    pub moves: u64,
    /// Mailboxes that were closed.
    pub suspensions: u64,
    /// Attachments that were there when a device asked.
    pub attachments: u64,
}

/// An envelope that was submitted at least once.
#[derive(Debug)]
pub(super) struct Posted {
    pub(super) letter: Letter,
    pub(super) envelope: Envelope,
    pub(super) submissions: Vec<Submission>,
}

/// One submission of it.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) at: u8,
    pub(super) began: Tick,
    /// When and what the relay answered, if it lived to.
    pub(super) answer: Option<(Tick, SubmitResult)>,
}

/// Something else that a client asked for.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) began: Tick,
    /// Whether it was done, and when that was said.
    pub(super) answer: Option<(Tick, bool)>,
}

/// A move that a mailbox's owner has begun.
#[derive(Debug)]
pub(super) struct Departure {
    pub(super) from: u8,
    pub(super) to: u8,
    pub(super) began: Tick,
}

/// What a device has.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    pub(super) has: BTreeSet<u16>,
    pub(super) unacknowledged: BTreeSet<Place>,
    /// Acknowledgements that were sent, whether or not the relay lived to answer.
    pub(super) sent: BTreeSet<Place>,
    /// When the relay said that it knows.
    pub(super) acknowledged: BTreeMap<Place, Tick>,
}

impl Ledger {
    pub(super) fn new(traced: bool) -> Self {
        // The offset basis of FNV-1a.
        let books = Books { trace: traced.then(Vec::new), hash: 0xcbf2_9ce4_8422_2325, ..Books::default() };
        Self { books: Mutex::new(books), began: Instant::now() }
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was seen; when.
    pub(super) fn note(&self, what: fmt::Arguments<'_>) -> Tick {
        let at = self.began.elapsed().as_millis();
        self.books().note(at, what)
    }

    /// Something was seen that must not be.
    pub(super) fn violation(&self, what: String) {
        self.note(format_args!("VIOLATION {what}"));
        self.books().violations.push(what);
    }

    /// What happened, as one number, and if it was asked for in words.
    pub(super) fn trace(&self) -> (u64, Vec<String>) {
        let mut books = self.books();
        (books.hash, books.trace.take().unwrap_or_default())
    }

    /// A client has sent its batch.
    pub(super) fn submitting(&self, at: u8, batch: &[(Letter, Envelope)]) -> Tick {
        let numbers: Vec<_> = batch.iter().map(|(letter, _)| letter.number).collect();
        let began = self.note(format_args!("submit {numbers:?} at {at}"));
        let mut books = self.books();
        for (letter, envelope) in batch {
            let posted = books.letters.entry(letter.number).or_insert_with(|| Posted {
                letter: *letter,
                envelope: envelope.clone(),
                submissions: Vec::new(),
            });
            posted.submissions.push(Submission { at, began, answer: None });
        }
        began
    }

    /// It was answered.
    pub(super) fn submitted(&self, began: Tick, batch: &[(Letter, Envelope)], results: &[SubmitResult]) {
        let ended = self.note(format_args!("answered {began}: {results:?}"));
        if results.len() != batch.len() {
            self.violation(format!("{} envelopes were answered with {} results", batch.len(), results.len()));
        }
        let mut books = self.books();
        for ((letter, _), result) in batch.iter().zip(results) {
            if !matches!(result, SubmitResult::Refused { .. }) {
                books.counts.accepted += 1;
            }
            let submissions = books.letters.get_mut(&letter.number).map(|posted| &mut posted.submissions);
            for submission in submissions.into_iter().flatten().filter(|submission| submission.began == began)
            {
                submission.answer = Some((ended, result.clone()));
            }
        }
    }

    /// A device got a page of a relay, having asked for it at `asked`.
    pub(super) fn received(&self, holder: Holder, relay: u8, asked: Tick, entries: &[Entry]) {
        for entry in entries {
            if let Err(wrong) = self.receive_one(holder, relay, asked, entry) {
                self.violation(format!("device {holder:?}, entry {}: {wrong}", entry.id));
            }
        }
    }

    fn receive_one(&self, holder: Holder, relay: u8, asked: Tick, entry: &Entry) -> Result<(), String> {
        let number = number_of(entry.envelope.id());
        let place = (relay, entry.id);
        let tick = self.note(format_args!("{holder:?} gets {number} as {} at {relay}", entry.id));
        let mut books = self.books();
        books.counts.received += 1;
        books.came_from(number, holder, &entry.envelope)?;
        if books.letters.get(&number).is_some_and(|posted| posted.letter.ephemeral) {
            return Err(format!("{number} is ephemeral, and was stored"));
        }
        // Each time that the mailbox comes to the relay, what it had elsewhere comes with it.
        let moves = books.moves.get(&holder.0).into_iter().flatten();
        let stays = 1 + moves.filter(|departure| departure.to == relay).count();
        let ids = books.entries.entry((holder.0, number)).or_default();
        ids.entry(place).or_insert(tick);
        if ids.keys().filter(|(at, _)| *at == relay).count() > stays {
            return Err(format!("{number} has arrived twice: {ids:?}"));
        }
        let before = books.contents.insert((holder.0, place), number);
        if let Some(before) = before.filter(|before| *before != number) {
            return Err(format!("is {number}, and was {before}"));
        }
        let shelf = books.shelves.entry(holder).or_default();
        if shelf.acknowledged.get(&place).is_some_and(|acknowledged| *acknowledged < asked) {
            return Err(format!("{number} came again after it was acknowledged"));
        }
        shelf.has.insert(number);
        if !shelf.acknowledged.contains_key(&place) {
            shelf.unacknowledged.insert(place);
        }
        Ok(())
    }

    /// A device got an ephemeral envelope.
    pub(super) fn handed_over(&self, holder: Holder, envelope: &Envelope) {
        let number = number_of(envelope.id());
        let tick = self.note(format_args!("{holder:?} is handed {number}"));
        let mut came = self.books().came_from(number, holder, envelope);
        if came.is_ok() && !self.books().letters.get(&number).is_some_and(|posted| posted.letter.ephemeral) {
            came = Err(format!("{number} is not ephemeral"));
        }
        if came.is_ok() && terms::is_closed(&self.books(), holder.0, tick, tick) {
            came = Err(format!("its mailbox is closed, and it got {number}"));
        }
        if let Err(wrong) = came {
            self.violation(format!("device {holder:?}, handed over: {wrong}"));
        }
    }

    /// A device says that it has these.
    pub(super) fn acknowledging(&self, holder: Holder, relay: u8, entries: &[EntryId]) {
        let places = entries.iter().map(|entry| (relay, *entry));
        self.books().shelves.entry(holder).or_default().sent.extend(places);
    }

    /// The relay said that it knows that a device has these.
    pub(super) fn acknowledged(&self, holder: Holder, relay: u8, entries: &[EntryId]) {
        let tick = self.note(format_args!("{holder:?} has acknowledged {entries:?} at {relay}"));
        let mut books = self.books();
        let shelf = books.shelves.entry(holder).or_default();
        for place in entries.iter().map(|entry| (relay, *entry)) {
            shelf.unacknowledged.remove(&place);
            shelf.acknowledged.entry(place).or_insert(tick);
        }
    }

    /// A device asks for the attachment of what it was just shown. It must be there until the device has acknowledged
    /// that, or everything goes anyway.
    pub(super) fn asked_for_attachment(&self, holder: Holder, place: Place, is_there: bool) {
        let mut books = self.books();
        if is_there {
            books.counts.attachments += 1;
            return;
        }
        let number = books.contents.get(&(holder.0, place)).copied();
        let letter = number.and_then(|number| books.letters.get(&number)).map(|posted| posted.letter);
        let has_said = books.shelves.get(&holder).is_some_and(|shelf| shelf.sent.contains(&place));
        let is_excused = letter.is_none_or(|letter| letter.expires != LONG)
            || books.deletions.contains_key(&holder.0)
            || books.moves.contains_key(&holder.0)
            || books.removals.contains_key(&holder);
        drop(books);
        if !has_said && !is_excused {
            self.violation(format!(
                "{holder:?} was shown {number:?} as {place:?}, and its attachment is gone"
            ));
        }
    }

    /// A relay sends envelopes to another.
    pub(super) fn offered(&self, from: u8, to: u8, envelopes: &[Envelope]) {
        let numbers: Vec<_> = envelopes.iter().map(|envelope| number_of(envelope.id())).collect();
        let tick = self.note(format_args!("{from} offers {numbers:?} to {to}"));
        let mut books = self.books();
        books.counts.forwarded += 1;
        for number in numbers {
            books.offers.entry((from, to, number)).or_insert(tick);
        }
    }

    /// A request failed; only a relay that ends may do that.
    pub(super) fn request_failed(&self, relay: u8, error: &StoreError) {
        if is_failure(error) {
            self.store_failed(relay, error);
        }
    }

    /// A relay that is alive has a store that is not.
    pub(super) fn store_failed(&self, relay: u8, error: &StoreError) {
        self.violation(format!("relay {relay}: {error}"));
    }
}

impl Submission {
    /// Whether the client knows that it was not taken: not if there was no answer, nor if the store was gone.
    pub(super) const fn is_refused_for_certain(&self) -> bool {
        match &self.answer {
            Some((_, SubmitResult::Refused { reason, .. })) => !matches!(reason, FailureClass::Unavailable),
            _ => false,
        }
    }
}

impl Books {
    /// What was asked of administrators: to close mailboxes, or to open them.
    pub(super) const fn gate(&mut self, closes: bool) -> &mut BTreeMap<u8, Vec<Request>> {
        if closes { &mut self.suspensions } else { &mut self.resumptions }
    }

    fn note(&mut self, at: u128, what: fmt::Arguments<'_>) -> Tick {
        self.tick += 1;
        // Hashed as it is written, so that a run that is not traced allocates nothing for it.
        let mut hasher = Hasher(self.hash);
        let _ = fmt::write(&mut hasher, format_args!("{at} {what}\n"));
        self.hash = hasher.0;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>6} {at:>9} ms  {what}", self.tick));
        }
        self.tick
    }

    /// Whether the envelope is one that was submitted, unchanged, and for that device.
    fn came_from(&self, number: u16, holder: Holder, envelope: &Envelope) -> Result<(), String> {
        let posted = self.letters.get(&number).filter(|posted| posted.envelope == *envelope);
        let posted = posted.ok_or_else(|| format!("{number} was never submitted like that"))?;
        let Letter { mailbox, device, .. } = posted.letter;
        if mailbox != holder.0 || device.is_some_and(|device| device != holder.1) {
            return Err(format!("{number} is for mailbox {mailbox}, device {device:?}"));
        }
        Ok(())
    }
}

/// The envelope id of a letter's number.
pub(super) fn id_of(number: u16) -> EnvelopeId {
    let mut id = [0x5a; EnvelopeId::SIZE];
    id[..2].copy_from_slice(&number.to_be_bytes());
    EnvelopeId::from_bytes(id)
}

fn number_of(id: &EnvelopeId) -> u16 {
    let [high, low, ..] = *id.as_bytes();
    u16::from_be_bytes([high, low])
}

/// FNV-1a: the same everywhere, unlike the standard library's.
struct Hasher(u64);

impl fmt::Write for Hasher {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
