//! What the books find, and what they let pass.

use postrider_client::Entry;
use postrider_common::{EntryId, MailboxId};

use super::*;
use crate::dice::Dice;
use crate::soak::files::Fetched;
use crate::soak::letter;

const LATER: Timestamp = Timestamp::from_secs(1_000_000);
const PHONE: Holder = Holder { user: 0, device: 0, relay: 0 };
const LAPTOP: Holder = Holder { user: 0, device: 1, relay: 0 };

fn ledger_with(devices: usize) -> (Ledger, Envelope) {
    let ledger = Ledger::new([(0, devices)]);
    let envelope = letter::write(&mut Dice::new(1), MailboxId::from_bytes([1; 32]), LATER, Vec::new());
    ledger.written(&envelope, 0, 0);
    ledger.accepted(envelope.id(), None);
    (ledger, envelope)
}

fn entry(id: u64, envelope: &Envelope) -> Entry {
    Entry::new(EntryId(id), envelope.clone())
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

fn write(ledger: &Ledger, seed: u64) -> Envelope {
    let envelope = letter::write(&mut Dice::new(seed), MailboxId::from_bytes([1; 32]), LATER, Vec::new());
    ledger.written(&envelope, 0, 0);
    ledger.submitting([envelope.id()]);
    envelope
}

fn tracking(number: u8) -> TrackingId {
    TrackingId::from_bytes([number; 16])
}

fn refuse(ledger: &Ledger, envelope: &Envelope) {
    ledger.refused(envelope.id(), FailureClass::MailboxRefused, Timestamp::default());
}

#[test]
fn only_a_closed_mailbox_refuses_and_only_what_it_had_not_taken_before() {
    let (ledger, stored) = ledger_with(1);
    let on_its_way = write(&ledger, 2);
    ledger.closing(0);
    let while_closed = write(&ledger, 3);
    refuse(&ledger, &on_its_way);
    refuse(&ledger, &while_closed);
    ledger.refused(while_closed.id(), FailureClass::AttachmentMissing, Timestamp::default());
    assert_eq!(ledger.faults(), []);
    refuse(&ledger, &stored);
    assert_eq!(ledger.faults().len(), 1, "it was in the mailbox");
    ledger.opened(0);
    refuse(&ledger, &write(&ledger, 4));
    assert_eq!(ledger.faults().len(), 2, "the mailbox was open");
}

#[test]
fn what_was_refused_later_counts_as_not_accepted() {
    let (ledger, _) = ledger_with(1);
    ledger.closing(0);
    let envelope = write(&ledger, 2);
    ledger.accepted(envelope.id(), Some(tracking(1)));
    assert_eq!((ledger.count_accepted(), *ledger.open().borrow()), (2, 2));
    ledger.refused_later(envelope.id(), tracking(2), FailureClass::MailboxRefused);
    ledger.submitting([envelope.id()]);
    ledger.refused_later(envelope.id(), tracking(1), FailureClass::MailboxRefused);
    assert_eq!(
        ledger.count_accepted(),
        2,
        "another one was refused, or it may be queued anew at this moment"
    );
    ledger.accepted(envelope.id(), Some(tracking(1)));
    ledger.refused_later(envelope.id(), tracking(1), FailureClass::MailboxRefused);
    assert_eq!((ledger.count_accepted(), *ledger.open().borrow()), (1, 1));
    ledger.submitting([envelope.id()]);
    ledger.accepted(envelope.id(), Some(tracking(3)));
    assert_eq!((ledger.count_accepted(), *ledger.open().borrow()), (2, 2));
    assert_eq!(ledger.faults(), []);
}

#[test]
fn what_was_refused_must_not_arrive_unless_it_may_have_been_taken() {
    let (ledger, _) = ledger_with(2);
    ledger.closing(0);
    let arrive = |id, envelope| ledger.arrived(PHONE, &mut Visit::default(), &entry(id, envelope));
    let (uncertain, again) = (write(&ledger, 2), write(&ledger, 3));
    ledger.unanswered([uncertain.id()]);
    ledger.submitting([uncertain.id()]);
    refuse(&ledger, &uncertain);
    refuse(&ledger, &again);
    ledger.submitting([again.id()]);
    arrive(1, &uncertain);
    arrive(2, &again);
    assert_eq!(ledger.faults(), []);
    let (refused, refused_later, contradicted) = (write(&ledger, 4), write(&ledger, 5), write(&ledger, 6));
    refuse(&ledger, &refused);
    arrive(3, &refused);
    assert_eq!(ledger.faults().len(), 1);
    for queued in [&refused_later, &contradicted] {
        ledger.accepted(queued.id(), Some(tracking(1)));
    }
    ledger.refused_later(refused_later.id(), tracking(1), FailureClass::MailboxRefused);
    arrive(4, &refused_later);
    assert_eq!(ledger.faults().len(), 2);
    arrive(5, &contradicted);
    ledger.refused_later(contradicted.id(), tracking(1), FailureClass::MailboxRefused);
    assert_eq!(ledger.faults().len(), 3, "one device has got it");
}

#[test]
fn a_closed_mailbox_takes_nothing_and_lets_nobody_in() {
    let (ledger, _) = ledger_with(1);
    ledger.closing(0);
    ledger.accepted(write(&ledger, 2).id(), None);
    ledger.let_in(PHONE, ledger.closure(0));
    ledger.closed(0);
    let (closure, envelopes) = (ledger.closure(0), [3, 4, 5, 6].map(|seed| write(&ledger, seed)));
    ledger.unanswered([envelopes[0].id()]);
    ledger.submitting([envelopes[0].id()]);
    ledger.accepted(envelopes[0].id(), None);
    ledger.accepted(envelopes[1].id(), Some(tracking(1)));
    assert_eq!(
        ledger.faults(),
        [],
        "it was not certain yet, or may have been taken before, or is only queued"
    );
    ledger.accepted(envelopes[2].id(), None);
    assert_eq!(ledger.faults().len(), 1);
    ledger.let_in(PHONE, closure);
    assert_eq!(ledger.faults().len(), 2);
    ledger.opening(0);
    ledger.accepted(envelopes[3].id(), None);
    ledger.let_in(PHONE, closure);
    ledger.opened(0);
    ledger.closing(0);
    ledger.closed(0);
    ledger.let_in(PHONE, closure);
    assert_eq!(ledger.faults().len(), 2, "it may have been open in between");
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
    ledger.fetched(PHONE, &Visit::default(), &entry, Fetched::AsSent);
    ledger.arrived(PHONE, &mut Visit::default(), &entry);
    ledger.acknowledging(PHONE, &[entry.id]);
    ledger.fetched(PHONE, &Visit::default(), &entry, Fetched::Gone);
    assert_eq!(ledger.faults(), []);
    ledger.fetched(PHONE, &Visit::default(), &entry, Fetched::Changed);
    let unacknowledged = Entry::new(EntryId(2), envelope);
    ledger.fetched(PHONE, &Visit::default(), &unacknowledged, Fetched::Gone);
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

/// With a mailbox of one device, at another relay from now on.
fn moved(ledger: &Ledger, to: usize) -> Holder {
    ledger.leaving(0, to);
    ledger.moved(0);
    assert_eq!(ledger.home(0), to);
    Holder { relay: to, ..PHONE }
}

#[test]
fn each_relay_that_a_mailbox_comes_to_may_bring_an_envelope_once_more() {
    let (ledger, envelope) = ledger_with(1);
    let arrive = |holder, id| ledger.arrived(holder, &mut Visit::default(), &entry(id, &envelope));
    arrive(PHONE, 5);
    let there = moved(&ledger, 1);
    arrive(there, 5);
    assert_eq!(ledger.faults(), [], "it was not acknowledged");
    arrive(there, 6);
    assert_eq!(duplicates(&ledger), 1);
    let back = moved(&ledger, 0);
    arrive(back, 7);
    assert_eq!(duplicates(&ledger), 1);
    arrive(back, 8);
    assert_eq!(duplicates(&ledger), 2);
}

#[test]
fn what_was_deleted_before_its_mailbox_moved_stays_behind() {
    let ledger = Ledger::new([(0, 2)]);
    let envelopes = [1, 2, 3, 4].map(|seed| write(&ledger, seed));
    let [deleted, by_one, unknown, again] = &envelopes;
    for holder in [PHONE, LAPTOP] {
        let mut visit = Visit::default();
        for (id, envelope) in (1..).zip(&envelopes) {
            ledger.accepted(envelope.id(), None);
            ledger.arrived(holder, &mut visit, &entry(id, envelope));
            ledger.acknowledging(holder, &[EntryId(id)]);
        }
    }
    ledger.deleted(PHONE, &[EntryId(1), EntryId(2), EntryId(4)]);
    ledger.deleted(LAPTOP, &[EntryId(1), EntryId(4)]);
    ledger.submitting([again.id()]);
    let there = moved(&ledger, 1);
    for (id, envelope) in (11..).zip([by_one, unknown, again]) {
        ledger.arrived(there, &mut Visit::default(), &entry(id, envelope));
    }
    assert_eq!(ledger.faults(), []);
    ledger.arrived(there, &mut Visit::default(), &entry(14, deleted));
    assert_eq!(duplicates(&ledger), 1);
}

#[test]
fn what_is_written_to_a_mailbox_that_moves_may_take_another_way() {
    let ledger = Ledger::new([(0, 1)]);
    let [stored, queued, later, unmoved] = [1, 2, 3, 4].map(|seed| write(&ledger, seed));
    ledger.accepted(stored.id(), None);
    ledger.accepted(queued.id(), Some(tracking(1)));
    ledger.accepted(unmoved.id(), Some(tracking(7)));
    ledger.accepted(unmoved.id(), Some(tracking(8)));
    assert_eq!(ledger.faults().len(), 1, "the mailbox has not moved");
    moved(&ledger, 1);
    ledger.accepted(stored.id(), Some(tracking(2)));
    ledger.accepted(queued.id(), Some(tracking(3)));
    let after = write(&ledger, 5);
    ledger.accepted(after.id(), Some(tracking(4)));
    ledger.accepted(after.id(), Some(tracking(5)));
    assert_eq!((ledger.faults().len(), ledger.count_accepted()), (1, 4));
    // In circles, which is no excuse before it has moved often enough.
    ledger.accepted(later.id(), Some(tracking(6)));
    let refuse = || {
        for (envelope, number) in [(&stored, 2), (&later, 6)] {
            ledger.refused_later(envelope.id(), tracking(number), FailureClass::Loop);
        }
    };
    refuse();
    assert_eq!((ledger.count_accepted(), ledger.doubtful()), (5, vec![]));
    for to in [2, 0, 1] {
        moved(&ledger, to);
    }
    assert_eq!(ledger.doubtful().len(), 5);
    refuse();
    assert_eq!(ledger.count_accepted(), 4, "what was stored once goes along");
}

#[test]
fn a_mailbox_that_moves_takes_attachments_along() {
    let (ledger, envelope) = ledger_with(1);
    let (relay, visit) = ledger.visit(0);
    assert_eq!(relay, 0);
    let gone = |visit| ledger.fetched(PHONE, visit, &entry(1, &envelope), Fetched::Gone);
    ledger.leaving(0, 1);
    gone(&visit);
    ledger.moved(0);
    gone(&visit);
    moved(&ledger, 0);
    gone(&visit);
    assert_eq!(ledger.faults(), []);
    gone(&ledger.visit(0).1);
    assert!(matches!(&ledger.faults()[..], [Fault::Damaged(_)]));
}

#[test]
fn no_relay_sends_away_whom_it_keeps() {
    let (ledger, _) = ledger_with(1);
    let (_, before) = ledger.visit(0);
    ledger.leaving(0, 1);
    ledger.sent_away(PHONE, &before, Some(1));
    ledger.moved(0);
    ledger.sent_away(PHONE, &before, Some(1));
    assert_eq!(ledger.faults(), []);
    for to in [None, Some(0), Some(2)] {
        ledger.sent_away(PHONE, &before, to);
    }
    assert_eq!(ledger.faults().len(), 3, "the mailbox has never been there");
    let (relay, now) = ledger.visit(0);
    ledger.sent_away(Holder { relay, ..PHONE }, &now, Some(0));
    assert_eq!(ledger.faults().len(), 4);
}
