//! What must be true of devices that come and go, of mailboxes that are closed, and of attachments.

use std::time::Duration;

use postrider::store::StoreLimits;
use postrider_common::wire::submit::SubmitResult;

use super::super::files::{attachment, attachment_of};
use super::super::ledger::{Books, Posted, Submission, Tick};
use super::super::script::DEVICES;
use super::super::source::START;
use super::super::terms;
use super::super::world::World;
use super::Facts;

impl Facts {
    /// A device gets what came when it was registered, and the first one what waited.
    pub(super) fn check_beginning(&self, books: &Books, posted: &Posted, broken: &mut Vec<String>) {
        let (number, mailbox) = (posted.letter.number, posted.letter.mailbox);
        if books.moves.contains_key(&mailbox) || posted.letter.ephemeral {
            return;
        }
        let stored = posted.submissions.iter().filter_map(|submission| match submission.answer {
            Some((tick, SubmitResult::Stored)) => Some(tick),
            _ => None,
        });
        let Some(until) = stored.min() else { return };
        let from = terms::first_submission(posted);
        let has_it =
            |device| books.shelves.get(&(mailbox, device)).is_some_and(|shelf| shelf.has.contains(&number));
        for device in (0..DEVICES).filter(|device| has_it(*device)) {
            let mut others = (0..DEVICES).filter(|other| *other != device);
            // Where there may have been no other, it may have waited for the first one.
            if !terms::may_be_registered(books, (mailbox, device), from, until)
                && others.any(|other| terms::is_registered_since(books, (mailbox, other), from))
            {
                broken.push(format!(
                    "{number} came before device {device} of {mailbox} was there, and it got it"
                ));
            }
        }
    }

    /// What is for a mailbox without a device waits for the first one that comes.
    pub(super) fn check_somebody_has_it(&self, books: &Books, posted: &Posted, broken: &mut Vec<String>) {
        let (number, mailbox) = (posted.letter.number, posted.letter.mailbox);
        if posted.letter.device.is_some()
            || books.moves.contains_key(&mailbox)
            || books.deletions.contains_key(&mailbox)
        {
            return;
        }
        let first = terms::first_submission(posted);
        let removals = (0..DEVICES).filter_map(|device| books.removals.get(&(mailbox, device)));
        let mut removals = removals.flatten();
        let mut shelves = (0..DEVICES).filter_map(|device| books.shelves.get(&(mailbox, device)));
        // Else it may have been for those that are no more.
        if removals.all(|removal| terms::last_tick(removal) < first)
            && !shelves.any(|shelf| shelf.has.contains(&number))
        {
            broken.push(format!("{number} is lost: no device of mailbox {mailbox} has ever got it"));
        }
    }

    /// What was taken while its mailbox was closed.
    pub(super) fn check_closed(
        &self,
        books: &Books,
        posted: &Posted,
        submission: &Submission,
        answered: Tick,
        broken: &mut Vec<String>,
    ) {
        let mailbox = posted.letter.mailbox;
        // A repetition is known, and its answer is that of the first time.
        let is_first =
            posted.submissions.iter().all(|other| other.began == submission.began || other.began > answered);
        if is_first && terms::is_closed(books, mailbox, submission.began, answered) {
            let number = posted.letter.number;
            broken.push(format!("{number} was stored while mailbox {mailbox} was closed"));
        }
    }

    /// Nothing is taken without all of its attachment.
    pub(super) fn check_laden(
        &self,
        books: &Books,
        posted: &Posted,
        answered: Tick,
        broken: &mut Vec<String>,
    ) {
        let number = posted.letter.number;
        let Some(attachment) = attachment_of(&posted.letter) else { return };
        for chunk in 0..attachment.chunks() {
            let mut puts = books.chunks.get(&(number, chunk)).into_iter().flatten();
            if !puts.any(|put| put.began < answered) {
                broken.push(format!("{number} was taken without chunk {chunk} of its attachment"));
            }
        }
    }

    /// Why an envelope could not be refused for its attachment.
    pub(super) fn attachment_refusal(
        &self,
        books: &Books,
        posted: &Posted,
        submission: &Submission,
    ) -> Option<&'static str> {
        let Some(attachment) = attachment_of(&posted.letter) else { return Some("it has no attachment") };
        let is_there = (0..attachment.chunks()).all(|chunk| {
            let mut puts = books.chunks.get(&(posted.letter.number, chunk)).into_iter().flatten();
            puts.any(|put| put.answer.is_some_and(|(tick, is_done)| is_done && tick < submission.began))
        });
        // The envelope that takes it takes it away again.
        let earlier = posted.submissions.iter().filter(|other| other.began < submission.began);
        let may_be_gone = !earlier.into_iter().all(Submission::is_refused_for_certain)
            || self.latest.since(START) >= retention();
        (is_there && !may_be_gone).then_some("its attachment was there")
    }
}

/// An attachment is gone where its envelope is, unless somebody brings it still.
pub(super) async fn check_attachments(world: &World, broken: &mut Vec<String>) {
    let delivered: Vec<_> = {
        let books = world.ledger.books();
        let laden = books.letters.values().filter(|posted| posted.letter.attachment.is_some());
        let taken = laden.filter_map(|posted| {
            let stored = posted
                .submissions
                .iter()
                .find(|submission| matches!(submission.answer, Some((_, SubmitResult::Stored))))?;
            let number = posted.letter.number;
            let puts = books.chunks.range((number, 0)..=(number, u32::MAX)).flat_map(|(_, puts)| puts);
            let is_over = puts.into_iter().all(|put| terms::last_tick(put) < stored.began);
            (is_over && posted.submissions.len() == 1).then_some((number, stored.at))
        });
        taken.collect()
    };
    for (number, at) in delivered {
        let Some(life) = world.node(at).and_then(|node| node.life()) else { continue };
        if let Ok(Some(state)) = life.store.attachment(attachment(number).id).await {
            broken.push(format!("{number} is gone, and its attachment is not: {state:?}"));
        }
    }
}

fn retention() -> Duration {
    StoreLimits::default().attachments.retention
}
