//! What must be true of what a mailbox leaves behind when it moves.

use postrider::store::StoreLimits;

use super::super::ledger::{Books, Departure, Posted};
use super::super::script::DEVICES;
use super::super::source::START;
use super::super::terms;
use super::Facts;

impl Facts {
    /// What all devices had acknowledged before their mailbox began to move does not come again elsewhere.
    pub(super) fn check_behind(&self, books: &Books, posted: &Posted, broken: &mut Vec<String>) {
        let (number, mailbox) = (posted.letter.number, posted.letter.mailbox);
        let Some(moves) = books.moves.get(&mailbox) else { return };
        let mut origins = posted.submissions.iter().map(|submission| submission.at);
        let Some(origin) = origins.next() else { return };
        // Another relay does not know what this one has done with it, and this one only for some time.
        let is_known = origins.all(|other| other == origin)
            && self.latest.since(START) < StoreLimits::default().mark_retention;
        if !is_known || self.may_have_expired(posted) {
            return;
        }
        let Some(places) = books.entries.get(&(mailbox, number)) else { return };
        // A relay that it has left before has forgotten it, if it went along.
        let first = terms::first_submission(posted);
        let Some(departure) = moves.iter().find(|departure| departure.began > first) else { return };
        if !is_over(books, posted, departure) {
            return;
        }
        // Where it was submitted it may still be on its way when its mailbox comes.
        let mut elsewhere = places.iter().filter(|((at, _), _)| *at != departure.from && *at != origin);
        if let Some((place, _)) = elsewhere.find(|(_, tick)| **tick > departure.began) {
            broken.push(format!("{number} was over before {departure:?}, and came again as {place:?}"));
        }
    }
}

/// Whether every device that it was for had acknowledged one entry of it, and been told so, before the mailbox was to
/// move.
fn is_over(books: &Books, posted: &Posted, departure: &Departure) -> bool {
    let (number, mailbox) = (posted.letter.number, posted.letter.mailbox);
    let is_meant = |index: &u8| match posted.letter.device {
        Some(device) => device == *index,
        None => books.registrations.contains_key(&(mailbox, *index)),
    };
    let meant: Vec<_> = (0..DEVICES).filter(is_meant).collect();
    let has_acknowledged = |place, index: &u8| {
        let shelf = books.shelves.get(&(mailbox, *index));
        shelf.and_then(|shelf| shelf.acknowledged.get(place)).is_some_and(|tick| *tick < departure.began)
    };
    let places = books.entries.get(&(mailbox, number)).into_iter().flat_map(|places| places.keys());
    let mut there = places.filter(|(at, _)| *at == departure.from);
    !meant.is_empty() && there.any(|place| meant.iter().all(|index| has_acknowledged(place, index)))
}
