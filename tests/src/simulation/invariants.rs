//! What must be true at the end of a run, when everything has come to rest: see [`super`] for the same in prose.

mod behind;
mod people;

use std::collections::{BTreeMap, BTreeSet};

use postrider::route::MAX_MOVES;
use postrider::store::{Tracking, TrackingEnd};
use postrider_common::wire::submit::SubmitResult;
use postrider_common::{FailureClass, Timestamp, TrackingId};

use super::device::{device, mailbox};
use super::ledger::{Books, Posted, Request, Submission, Tick};
use super::script::{DEVICES, MAILBOXES};
use super::terms::{self, is_registered_since, last_tick};
use super::world::World;

/// What the relays say at the end.
struct Facts {
    /// What became of what was queued; `None` where nobody knows.
    tracking: BTreeMap<(u8, TrackingId), Option<Tracking>>,
    /// The devices of each mailbox that there is.
    devices: BTreeMap<u8, BTreeSet<u8>>,
    /// No relay's clock has shown a later time.
    latest: Timestamp,
}

/// Checks all of them.
pub(super) async fn check(world: &World) {
    let facts = Facts::gather(world).await;
    let mut broken = Vec::new();
    {
        let books = world.ledger.books();
        for posted in books.letters.values() {
            facts.check_letter(&books, posted, &mut broken);
            facts.check_beginning(&books, posted, &mut broken);
            facts.check_behind(&books, posted, &mut broken);
        }
        facts.check_mailboxes(&books, &mut broken);
        facts.check_shelves(&books, &mut broken);
        facts.check_order(&books, &mut broken);
    }
    people::check_attachments(world, &mut broken).await;
    for node in &world.nodes {
        let kept = node.disk.census();
        for kind in ['E', 'U', 'R', 'B', 'X', 'W', 'Q', 'P', 'L', 'Y', 'K', 'k', 'J', 'n', 'q', 'b'] {
            if let Some(count) = kept.get(&kind) {
                broken.push(format!("relay {} still has {count} keys of kind {kind}", node.number));
            }
        }
        if let Some(life) = node.life() {
            for number in 0..MAILBOXES * super::script::RELAYS {
                let state = life.store.mailbox(mailbox(number)).await;
                if let Ok(Some(state)) = state
                    && (state.entries, state.bytes) != (0, 0)
                {
                    broken.push(format!("mailbox {number} is empty, and counts {state:?}"));
                }
            }
        }
    }
    broken.into_iter().for_each(|what| world.ledger.violation(what));
}

impl Facts {
    async fn gather(world: &World) -> Self {
        let queued: BTreeSet<_> = {
            let books = world.ledger.books();
            let submissions = books.letters.values().flat_map(|posted| &posted.submissions);
            submissions.filter_map(|submission| Some((submission.at, queued_as(submission)?))).collect()
        };
        let mut tracking = BTreeMap::new();
        for (at, id) in queued {
            let life = world.nodes.get(usize::from(at)).and_then(|node| node.life());
            let Some(life) = life else { continue };
            match life.core.exchange().tracking(id).await {
                Ok(told) => drop(tracking.insert((at, id), told.map(|(tracking, _)| tracking))),
                Err(error) => world.ledger.store_failed(at, &error),
            }
        }
        let mut devices = BTreeMap::new();
        for number in 0..MAILBOXES * super::script::RELAYS {
            let Some(life) = world.keeper(number).and_then(|node| node.life()) else { continue };
            if let Ok(Some(state)) = life.store.mailbox(mailbox(number)).await {
                let known = (0..DEVICES).filter(|index| state.devices.contains(&device((number, *index))));
                devices.insert(number, known.collect());
            }
        }
        let latest = world.nodes.iter().map(|node| node.clock.latest()).max().unwrap_or_default();
        Self { tracking, devices, latest }
    }

    fn check_letter(&self, books: &Books, posted: &Posted, broken: &mut Vec<String>) {
        let number = posted.letter.number;
        let mut is_accepted = false;
        let mut ids_that_hold = BTreeSet::new();
        for submission in &posted.submissions {
            let Some((answered, result)) = &submission.answer else { continue };
            if !matches!(result, SubmitResult::Refused { .. }) {
                self.check_laden(books, posted, *answered, broken);
            }
            let at = submission.at;
            match result {
                SubmitResult::Stored => {
                    is_accepted = true;
                    if !posted.letter.ephemeral && !has_kept(books, posted.letter.mailbox, at) {
                        broken.push(format!("{number} was stored at {at}, which does not keep its mailbox"));
                    }
                    self.check_closed(books, posted, submission, *answered, broken);
                    self.check_delivered(books, posted, submission, broken);
                }
                SubmitResult::Queued { tracking } => {
                    is_accepted = true;
                    if posted.letter.ephemeral {
                        broken.push(format!("{number} is ephemeral, and was queued"));
                    }
                    let told = self.tracking.get(&(at, *tracking)).and_then(Option::as_ref);
                    if !matches!(told.and_then(|told| told.end), Some((end, _)) if end != TrackingEnd::Stored)
                    {
                        ids_that_hold.insert((at, tracking));
                    }
                    self.check_tracking(books, posted, submission, told, broken);
                }
                SubmitResult::Refused { reason, .. } => {
                    if let Some(wrong) = self.refusal(books, posted, submission, *reason) {
                        broken.push(format!("{number} was refused at {at} as {reason}: {wrong}"));
                    }
                }
                other => broken.push(format!("{number} was answered at {at} with {other:?}")),
            }
        }
        // Each time that its mailbox leaves the relay of its address, what it has there may go along under another id.
        let moves = books.moves.get(&posted.letter.mailbox).map_or(0, Vec::len);
        for relay in ids_that_hold.iter().map(|(at, _)| *at).collect::<BTreeSet<_>>() {
            let ids = ids_that_hold.iter().filter(|(at, _)| *at == relay);
            let most = if relay == posted.letter.mailbox / MAILBOXES { 1 + moves } else { 1 };
            if ids.count() > most {
                broken.push(format!("{number} was queued twice at {relay}: {ids_that_hold:?}"));
            }
        }
        let is_certain = posted.submissions.iter().all(is_certain);
        let has_come = books.entries.contains_key(&(posted.letter.mailbox, number));
        if has_come && !is_accepted && is_certain {
            broken.push(format!("{number} has arrived, and every relay had refused it"));
        }
    }

    /// It is in its mailbox, whoever said so: so its devices have it, unless its time was over.
    fn check_delivered(
        &self,
        books: &Books,
        posted: &Posted,
        submission: &Submission,
        broken: &mut Vec<String>,
    ) {
        if posted.letter.ephemeral || self.may_have_expired(posted) {
            return;
        }
        self.check_somebody_has_it(books, posted, broken);
        let first = terms::first_submission(posted);
        for index in 0..DEVICES {
            let holder = (posted.letter.mailbox, index);
            let is_meant = posted.letter.device.is_none_or(|device| device == index);
            let has_it =
                books.shelves.get(&holder).is_some_and(|shelf| shelf.has.contains(&posted.letter.number));
            if is_meant && is_registered_since(books, holder, first) && !has_it {
                let (number, at) = (posted.letter.number, submission.at);
                broken.push(format!("{number}, submitted at {at}, is lost: {holder:?} has never got it"));
            }
        }
    }

    fn check_tracking(
        &self,
        books: &Books,
        posted: &Posted,
        submission: &Submission,
        told: Option<&Tracking>,
        broken: &mut Vec<String>,
    ) {
        let (number, at) = (posted.letter.number, submission.at);
        let Some(told) = told else {
            return broken.push(format!("{number} was queued at {at}, which knows nothing of it"));
        };
        match told.end {
            None => broken.push(format!("{number} was queued at {at}, and nothing becomes of it: {told:?}")),
            Some((TrackingEnd::Stored, _)) => self.check_delivered(books, posted, submission, broken),
            Some((TrackingEnd::Expired, _)) if self.may_have_expired(posted) => {}
            Some((TrackingEnd::Expired, _)) => {
                broken.push(format!("{number} has expired before its time, says {at}"));
            }
            Some((TrackingEnd::Failed(class), _)) => {
                if let Some(wrong) = self.refusal(books, posted, submission, class) {
                    broken.push(format!("{number} has failed as {class}, says {at}: {wrong}"));
                }
            }
        }
    }

    /// Why an envelope could not be refused for this reason.
    fn refusal(
        &self,
        books: &Books,
        posted: &Posted,
        submission: &Submission,
        reason: FailureClass,
    ) -> Option<&'static str> {
        use FailureClass as Class;
        let mailbox = posted.letter.mailbox;
        let first = terms::first_submission(posted);
        let is_registered = |index| is_registered_since(books, (mailbox, index), first);
        let moves = books.moves.get(&mailbox).map_or(0, Vec::len);
        match reason {
            // Each of its destinations has known of another move.
            Class::Loop if moves > usize::from(MAX_MOVES) => None,
            // Now or never, or not at this moment: what the mailbox has is about to go.
            Class::Moved if moves > 0 => None,
            Class::NoSuchMailbox if (0..DEVICES).any(is_registered) => Some("the mailbox was there"),
            Class::NoSuchDevice if posted.letter.device.is_some_and(is_registered) => {
                Some("the device was there")
            }
            Class::NoSuchDevice if posted.letter.device.is_none() => Some("it is for all devices"),
            Class::Expired if !self.may_have_expired(posted) => Some("its time was not over"),
            Class::AttachmentMissing => self.attachment_refusal(books, posted, submission),
            Class::MailboxRefused if !terms::may_be_closed(books, mailbox, first, Tick::MAX) => {
                Some("the mailbox was open")
            }
            Class::NoSuchMailbox
            | Class::NoSuchDevice
            | Class::MailboxRefused
            | Class::Expired
            | Class::MailboxFull
            | Class::QueueFull => None,
            // A relay that stops gives its store up.
            Class::Unavailable => None,
            Class::NotConnected | Class::ConnectFailed | Class::RemoteFailed if posted.letter.ephemeral => {
                None
            }
            _ => Some("there was no reason for that"),
        }
    }

    /// Registrations and deletions that were confirmed are as durable as envelopes.
    fn check_mailboxes(&self, books: &Books, broken: &mut Vec<String>) {
        for (holder, registrations) in &books.registrations {
            let is_there = self.devices.get(&holder.0).is_some_and(|devices| devices.contains(&holder.1));
            let confirmed = registrations.iter().filter_map(|request| request.answer);
            let last = confirmed.filter(|(_, done)| *done).map(|(tick, _)| tick).max();
            if let Some(last) = last
                && is_registered_since(books, *holder, last)
                && !is_there
            {
                broken.push(format!("{holder:?} was registered, and is not known"));
            }
        }
        for (holder, removals) in &books.removals {
            // A relay that a mailbox comes back to still has the devices that it had there.
            let is_there = self.devices.get(&holder.0).is_some_and(|devices| devices.contains(&holder.1));
            let is_certain = !books.moves.contains_key(&holder.0)
                && removals.iter().any(|removal| removal.answer.is_some_and(|(_, is_done)| is_done));
            if is_certain && is_there && !terms::may_be_registered(books, *holder, Tick::MAX, Tick::MAX) {
                broken.push(format!("{holder:?} was removed, and is there"));
            }
        }
        for (number, deletions) in &books.deletions {
            let is_confirmed = |request: &&Request| request.answer.is_some_and(|(_, done)| done);
            let last = deletions.iter().filter(is_confirmed).map(|request| request.began).max();
            let of_mailbox = books.registrations.iter().filter(|(holder, _)| holder.0 == *number);
            let mut ends = of_mailbox.flat_map(|(_, requests)| requests).map(last_tick);
            if let Some(last) = last
                && ends.all(|end| end < last)
                && self.devices.contains_key(number)
            {
                broken.push(format!("mailbox {number} was deleted, and is there"));
            }
        }
    }

    /// What a device was shown it is shown until it acknowledges it: a relay that dies takes nothing back.
    fn check_shelves(&self, books: &Books, broken: &mut Vec<String>) {
        for (holder, shelf) in &books.shelves {
            if books.deletions.contains_key(&holder.0)
                || books.moves.contains_key(&holder.0)
                || books.removals.contains_key(holder)
            {
                continue;
            }
            for entry in shelf.unacknowledged.difference(&shelf.sent) {
                let number = books.contents.get(&(holder.0, *entry));
                let posted = number.and_then(|number| books.letters.get(number));
                if posted.is_some_and(|posted| !self.may_have_expired(posted)) {
                    broken.push(format!("{holder:?} was shown {number:?} as {entry:?}, and it is gone"));
                }
            }
        }
    }

    /// What is queued for a relay is offered to it for the first time in the order in which it was taken.
    fn check_order(&self, books: &Books, broken: &mut Vec<String>) {
        let mut lines: BTreeMap<(u8, u8), Vec<Queued>> = BTreeMap::new();
        for posted in books.letters.values() {
            let (number, to) = (posted.letter.number, posted.letter.mailbox / MAILBOXES);
            // What is laden is passed over while it is brought.
            if books.moves.contains_key(&posted.letter.mailbox) || posted.letter.attachment.is_some() {
                continue;
            }
            for submission in &posted.submissions {
                // What was queued again, after it had failed or expired, has another place.
                let at_the_same = posted.submissions.iter().filter(|other| other.at == submission.at);
                if at_the_same.filter_map(queued_as).collect::<BTreeSet<_>>().len() > 1 {
                    continue;
                }
                let offer = books.offers.get(&(submission.at, to, number));
                if let (Some((ended, SubmitResult::Queued { .. })), Some(offer)) = (&submission.answer, offer)
                {
                    let line = lines.entry((submission.at, to)).or_default();
                    // Only what is known of the first time says anything about the first offer.
                    if !line.iter().any(|other| other.number == number) {
                        let first = posted.submissions.iter().find(|first| first.at == submission.at);
                        let began = first.map_or(0, |first| first.began);
                        let may_be_over = self.may_have_expired(posted);
                        line.push(Queued { began, ended: *ended, offer: *offer, number, may_be_over });
                    }
                }
            }
        }
        for ((from, to), mut line) in lines {
            line.sort_unstable();
            for (place, later) in line.iter().enumerate() {
                // What is over by its relay's clock is passed over. If the clock is set back, it is offered after all.
                for earlier in line[..place].iter().filter(|earlier| !earlier.may_be_over) {
                    if earlier.ended < later.began && earlier.offer > later.offer {
                        let (first, second) = (earlier.number, later.number);
                        broken.push(format!(
                            "{from} took {first} before {second}, and offered it to {to} later"
                        ));
                    }
                }
            }
        }
    }

    fn may_have_expired(&self, posted: &Posted) -> bool {
        posted.envelope.expires_at() <= self.latest
    }
}

/// When a letter was submitted first, when it was answered, and when it was offered first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Queued {
    began: Tick,
    ended: Tick,
    offer: Tick,
    number: u16,
    /// Whether any relay's clock has ever shown that its time was over.
    may_be_over: bool,
}

/// Whether a relay was ever to keep a mailbox.
fn has_kept(books: &Books, mailbox: u8, relay: u8) -> bool {
    relay == mailbox / MAILBOXES
        || books.moves.get(&mailbox).is_some_and(|moves| moves.iter().any(|departure| departure.to == relay))
}

/// Whether the client knows what was done: not if there was no answer, nor if the store was gone.
fn is_certain(submission: &Submission) -> bool {
    !matches!(
        submission.answer,
        None | Some((_, SubmitResult::Refused { reason: FailureClass::Unavailable, .. }))
    )
}

fn queued_as(submission: &Submission) -> Option<TrackingId> {
    match submission.answer {
        Some((_, SubmitResult::Queued { tracking })) => Some(tracking),
        _ => None,
    }
}
