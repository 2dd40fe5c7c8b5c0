//! Since when and until when something held, as far as those know who have asked for it.

use super::ledger::{Books, Holder, Posted, Request, Tick};

/// Whether a device was registered for certain by `since`, and has been ever since.
pub(super) fn is_registered_since(books: &Books, holder: Holder, since: Tick) -> bool {
    let registrations = books.registrations.get(&holder).into_iter().flatten();
    let done = registrations
        .filter(|request| request.answer.is_some_and(|(tick, is_done)| is_done && tick <= since));
    let Some(began) = done.map(|request| request.began).max() else { return false };
    // One without an answer may be carried out until its relay dies, or have been, whenever it was asked for.
    ends(books, holder).all(|request| request.answer.is_some_and(|(tick, _)| tick < began))
}

/// Whether a device may have been registered at any moment between the two.
pub(super) fn may_be_registered(books: &Books, holder: Holder, from: Tick, until: Tick) -> bool {
    let mut registrations = books.registrations.get(&holder).into_iter().flatten();
    registrations.any(|registration| {
        let is_over = |end: &Request| end.began > last_tick(registration) && is_done_before(end, from);
        registration.began < until && !ends(books, holder).any(is_over)
    })
}

/// Whether a mailbox was closed for certain from one moment to the other.
pub(super) fn is_closed(books: &Books, mailbox: u8, from: Tick, until: Tick) -> bool {
    if books.moves.contains_key(&mailbox) {
        return false;
    }
    let openings = [&books.resumptions, &books.deletions].map(|requests| requests.get(&mailbox));
    let openings: Vec<_> = openings.into_iter().flatten().flatten().collect();
    let mut suspensions = books.suspensions.get(&mailbox).into_iter().flatten();
    suspensions.any(|suspension| {
        let may_open = |opening: &&Request| opening.began < until && last_tick(opening) > suspension.began;
        is_done_before(suspension, from) && !openings.iter().any(may_open)
    })
}

/// Whether a mailbox may have been closed at any moment between the two.
pub(super) fn may_be_closed(books: &Books, mailbox: u8, from: Tick, until: Tick) -> bool {
    let resumptions: Vec<_> = books.resumptions.get(&mailbox).into_iter().flatten().collect();
    let mut suspensions = books.suspensions.get(&mailbox).into_iter().flatten();
    suspensions.any(|suspension| {
        let is_over = |resumption: &&Request| {
            resumption.began > last_tick(suspension) && is_done_before(resumption, from)
        };
        suspension.began < until && !resumptions.iter().any(is_over)
    })
}

/// When an envelope was submitted first.
pub(super) fn first_submission(posted: &Posted) -> Tick {
    posted.submissions.first().map_or(0, |first| first.began)
}

/// When a request was over; one without an answer may still have been carried out at any time.
pub(super) fn last_tick(request: &Request) -> Tick {
    request.answer.map_or(Tick::MAX, |(tick, _)| tick)
}

fn is_done_before(request: &Request, moment: Tick) -> bool {
    request.answer.is_some_and(|(tick, is_done)| is_done && tick <= moment)
}

/// What ends a registration: the device is removed, or its mailbox is deleted.
fn ends(books: &Books, holder: Holder) -> impl Iterator<Item = &Request> {
    let removals = books.removals.get(&holder).into_iter().flatten();
    removals.chain(books.deletions.get(&holder.0).into_iter().flatten())
}
