//! What an answer or a failure means for the envelopes that it is about.

use std::time::Duration;

use postrider_common::{Envelope, Failure, FailureClass, Outcome, Persistence, Timestamp, backoff};

use crate::store::{Backoff, Onward, Verdict};

/// The pauses between the tries of one attempt: a peer that is being restarted is back after them.
const QUICK_PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// A try that took longer than this did not meet a restart, and is not repeated at once.
const QUICK: Duration = Duration::from_secs(5);
/// How often an answer that may come from a wrong clock is asked for again: for about four hours by the ladder.
const CLOCK_ATTEMPTS: u32 = 12;
/// How often an envelope that has followed a binding is offered to a relay that does not know its mailbox: as long.
const MOVED_ATTEMPTS: u32 = 12;

/// What the destination's answer about one envelope means for it. `attempts` counts its earlier answers.
pub fn judge_answer(
    outcome: &Outcome,
    envelope: &Envelope,
    attempts: u32,
    now: Timestamp,
    jitter: f64,
) -> Verdict {
    match outcome {
        Outcome::Stored | Outcome::Duplicate => Verdict::Delivered,
        Outcome::Reject { reason: FailureClass::Expired } if envelope.expires_at() <= now => Verdict::Expired,
        Outcome::Reject { reason } if may_be_its_clock(*reason, attempts) => {
            come_again(*reason, Duration::ZERO, envelope, attempts, now, jitter)
        }
        Outcome::Reject { reason } if is_about_content(*reason) => Verdict::Quarantined(*reason),
        Outcome::Reject { reason } => Verdict::Failed(*reason),
        Outcome::Retry { reason, after } => come_again(*reason, *after, envelope, attempts, now, jitter),
        // Another mailbox's binding says nothing about this one.
        Outcome::Moved(binding) if binding.mailbox() != envelope.mailbox() => {
            come_again(FailureClass::RemoteFailed, Duration::ZERO, envelope, attempts, now, jitter)
        }
        // Where it does not lead on: the relay has yet to learn that the mailbox is back. Custody stays here.
        Outcome::Moved(_) => come_again(FailureClass::Moved, Duration::ZERO, envelope, attempts, now, jitter),
    }
}

/// What a verdict is for an envelope that has followed a binding.
///
/// Its mailbox may be registered at the new relay a little later than it has moved. And of what was held in a mailbox
/// here nobody else could be told that it has failed: it stays until its time is over, or its owner says where it goes.
pub fn spare(
    verdict: Verdict,
    onward: Option<Onward>,
    envelope: &Envelope,
    attempts: u32,
    now: Timestamp,
    jitter: f64,
) -> Verdict {
    let (Some(onward), Verdict::Failed(reason) | Verdict::Quarantined(reason)) = (onward, verdict) else {
        return verdict;
    };
    let is_not_yet = matches!(reason, FailureClass::NoSuchMailbox | FailureClass::NoSuchDevice)
        && attempts < MOVED_ATTEMPTS;
    if onward.held.is_some() || is_not_yet {
        come_again(reason, Duration::ZERO, envelope, attempts, now, jitter)
    } else {
        verdict
    }
}

/// Whether the reason for a final answer can be that the destination's clock is wrong, or ours: then the envelope is
/// offered again. One that is not over here is so to its end; one that is kept for too long there for some hours, since
/// waiting helps as well if the destination keeps envelopes for a little less than they ask for, and the sender is to
/// hear of it otherwise.
const fn may_be_its_clock(reason: FailureClass, attempts: u32) -> bool {
    match reason {
        FailureClass::Expired => true,
        FailureClass::LifetimeTooLong => attempts < CLOCK_ATTEMPTS,
        _ => false,
    }
}

/// The ladder by the envelope's own attempts, but not past its end: then it is there to be told as expired.
fn come_again(
    reason: FailureClass,
    after: Duration,
    envelope: &Envelope,
    attempts: u32,
    now: Timestamp,
    jitter: f64,
) -> Verdict {
    // How long this envelope has been refused is not kept, so that its waits stay hourly after the steps.
    let wait = backoff::wait(attempts.saturating_add(1), Duration::ZERO, Some(after), jitter);
    Verdict::Retry { reason, not_before: (now + wait).min(envelope.expires_at()) }
}

/// After which pause an attempt that has failed so many times is tried again at once, without a step of the ladder;
/// `took` is how long the last try took. Only for what a restart of the peer looks like.
pub fn quick_try(failure: &Failure, tries: u32, took: Duration) -> Option<Duration> {
    let may_be_a_restart = match failure.class {
        FailureClass::ConnectFailed | FailureClass::RemoteFailed => true,
        FailureClass::RemoteBusy => failure.retry_after.is_none(),
        _ => false,
    };
    let pause = QUICK_PAUSES.get(usize::try_from(tries.saturating_sub(1)).ok()?)?;
    (may_be_a_restart && took <= QUICK).then_some(*pause)
}

/// What the failure of a whole attempt means for the envelopes in it, given the destination's back-off after it.
pub fn judge_failure(failure: &Failure, backoff: &Backoff, now: Timestamp) -> Verdict {
    let is_the_same = backoff.class == failure.class;
    let seen_for = if is_the_same { now.since(backoff.class_since) } else { Duration::ZERO };
    if is_final(failure.class, seen_for) { Verdict::Failed(failure.class) } else { Verdict::Released }
}

pub(super) fn is_final(class: FailureClass, seen_for: Duration) -> bool {
    match class.persistence() {
        Persistence::Temporary => false,
        persistence => seen_for >= persistence.temporary_for(),
    }
}

/// Whether a failure of a whole attempt is about what was sent, and not about the peer or the way to it.
pub const fn is_about_content(class: FailureClass) -> bool {
    matches!(class, FailureClass::TooLarge | FailureClass::Malformed)
}

/// Whether a failure of this class, once it is final, holds for everything that waits for the destination.
pub const fn gives_up_destination(class: FailureClass) -> bool {
    matches!(
        class,
        FailureClass::PolicyDeniedHere
            | FailureClass::PolicyDeniedThere
            | FailureClass::DiscoveryAbsent
            | FailureClass::DiscoveryDeclined
            | FailureClass::Loop
    )
}

/// Whether an administrator is to hear of the first failure of this class at once: somebody forges answers, or our
/// own certificate is refused.
pub const fn is_alarming(class: FailureClass) -> bool {
    matches!(class, FailureClass::DiscoveryBogus | FailureClass::TlsOurCertificateRefused)
}

#[cfg(test)]
mod tests;
