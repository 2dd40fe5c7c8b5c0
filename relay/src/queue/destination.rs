//! What a failure means for its destination, and when that is over.

use std::time::Duration;

use postrider_common::{Failure, FailureClass, Persistence, Timestamp, backoff};

use super::rules::is_final;
use crate::store::Backoff;

/// For how long a destination that was given up is not asked again, at most. Its DNS or its policy may have changed
/// by then.
const GIVEN_UP_FOR: Duration = Duration::from_secs(10 * 60);
/// The step of the ladder beyond which nobody is moved by a fault of our own: a minute.
const LOCAL_STEP: u32 = 4;
/// For how long after its next attempt was due a back-off is kept that nothing waits for.
const KEPT_FOR: Duration = Duration::from_secs(86_400);

/// What may be done for a destination now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stance {
    /// Send to it.
    Try,
    /// Leave it alone until then.
    Wait(Timestamp),
    /// It was given up for this reason, and until then: whatever waits for it, or comes for it meanwhile, has failed
    /// without being offered. Then the next envelope is a fresh attempt, since the reason is the peer's to change.
    GiveUp(FailureClass, Timestamp),
}

/// Decides for a destination with this back-off, which was given up for that reason if there is one.
pub fn stance(backoff: Option<&Backoff>, given_up: Option<FailureClass>, now: Timestamp) -> Stance {
    let Some(Backoff { next_attempt, .. }) = backoff else {
        return Stance::Try;
    };
    let wait = next_attempt.since(now);
    // No wait is longer than that, so this one was counted on a clock that has been set back since.
    if wait.is_zero() || wait > backoff::MAX_RETRY_AFTER {
        return Stance::Try;
    }
    match given_up {
        Some(class) => Stance::GiveUp(class, *next_attempt),
        None => Stance::Wait(*next_attempt),
    }
}

/// The destination's back-off after one more failure.
///
/// While the fault is a local one nobody climbs beyond a low step of the ladder: the peers have done nothing, and are
/// to be tried soon after our own network is back.
pub fn after_failure(
    before: Option<&Backoff>,
    failure: &Failure,
    is_local: bool,
    now: Timestamp,
    jitter: f64,
) -> Backoff {
    let failing_since = before.map_or(now, |before| before.failing_since);
    let so_far = before.map_or(0, |before| before.failures);
    let climbed = so_far.saturating_add(1);
    let failures = if is_local { climbed.min(LOCAL_STEP).max(so_far) } else { climbed };
    let class_since =
        before.filter(|before| before.class == failure.class).map_or(now, |before| before.class_since);
    let step = if is_local { failures.min(LOCAL_STEP) } else { failures };
    let by_ladder = backoff::wait(step, now.since(failing_since), failure.retry_after, jitter);
    let persistence = failure.class.persistence();
    let seen_for = now.since(class_since);
    let wait = if is_final(failure.class, seen_for) {
        by_ladder.min(GIVEN_UP_FOR)
    } else if persistence == Persistence::Confirm {
        persistence.temporary_for().saturating_sub(seen_for)
    } else {
        by_ladder
    };
    Backoff {
        failing_since,
        failures,
        class: failure.class,
        class_since,
        detail: failure.detail.clone(),
        next_attempt: now + wait,
    }
}

/// The destination's back-off after its relay has shown itself: it may be tried at once.
///
/// That it reaches us does not say that it takes anything, or can be found: since when it has refused is kept, or a
/// relay that only ever sends would never be given up.
pub fn after_sign_of_life(backoff: Backoff, now: Timestamp) -> Option<Backoff> {
    match backoff.class.persistence() {
        Persistence::Temporary => None,
        _ => Some(Backoff { failures: 0, next_attempt: now, ..backoff }),
    }
}

/// The destination's back-off after it has answered a greeting of ours: it may be tried at once, if the failure is one
/// that a greeting would have met as well. Since when it fails is kept: that it greets does not say that it takes anything.
pub fn after_greeting(backoff: Backoff, now: Timestamp) -> Backoff {
    let next_attempt = if shows_in_greeting(backoff.class) { now } else { backoff.next_attempt };
    Backoff { next_attempt, ..backoff }
}

/// Whether a failure of this class is over, as far as we know, when we are known by another certificate.
pub const fn is_about_our_certificate(class: FailureClass) -> bool {
    matches!(class, FailureClass::TlsOurCertificateRefused)
}

/// Whether a failure of this class is met by a greeting, too: on the way to the peer, or by whatever goes wrong there
/// before a request is looked at. Who asked for time gets it.
pub const fn shows_in_greeting(class: FailureClass) -> bool {
    matches!(
        class,
        FailureClass::DiscoveryAbsent
            | FailureClass::DiscoveryFailed
            | FailureClass::DiscoveryBogus
            | FailureClass::ConnectFailed
            | FailureClass::TlsUntrusted
            | FailureClass::TlsNameMismatch
            | FailureClass::TlsExpired
            | FailureClass::TlsPinMismatch
            | FailureClass::TlsDaneMismatch
            | FailureClass::TlsOurCertificateRefused
            | FailureClass::VersionUnsupported
            | FailureClass::RemoteMisdirected
            | FailureClass::RemoteFailed
    )
}

/// When a back-off that nothing waits for is forgotten: what was so long ago says nothing about the next envelope, and
/// domains that somebody wrote to once must not pile up.
pub fn forgotten_at(backoff: &Backoff) -> Timestamp {
    backoff.next_attempt + KEPT_FOR
}

#[cfg(test)]
mod tests;
