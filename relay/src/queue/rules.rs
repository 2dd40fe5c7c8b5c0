//! What an answer or a failure means.

use std::time::Duration;

use postrider_common::{Envelope, Failure, FailureClass, Outcome, Persistence, Timestamp, backoff};

use crate::store::{Backoff, Verdict};

/// The pauses between the tries of one attempt: a peer that is being restarted is back after them.
const QUICK_PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// A try that took longer than this did not meet a restart, and is not repeated at once.
const QUICK: Duration = Duration::from_secs(5);
/// For how long a destination that was given up is not asked again, at most. Its DNS or its policy may have changed
/// by then.
const GIVEN_UP_FOR: Duration = Duration::from_secs(10 * 60);
/// The step of the ladder beyond which nobody is moved by a fault of our own: a minute.
const LOCAL_STEP: u32 = 4;

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
        Outcome::Reject { reason: FailureClass::Expired } => Verdict::Expired,
        Outcome::Reject { reason } if is_about_content(*reason) => Verdict::Quarantined(*reason),
        Outcome::Reject { reason } => Verdict::Failed(*reason),
        Outcome::Retry { reason, after } => come_again(*reason, *after, envelope, attempts, now, jitter),
        // Custody stays here: the envelope is offered again until it expires.
        Outcome::Moved(_) => come_again(FailureClass::Moved, Duration::ZERO, envelope, attempts, now, jitter),
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

fn is_final(class: FailureClass, seen_for: Duration) -> bool {
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

#[cfg(test)]
mod tests {
    use postrider_common::{Draft, MailboxId};

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);

    fn at(secs: u64) -> Timestamp {
        NOW + Duration::from_secs(secs)
    }

    fn envelope(lives_for: u64) -> Envelope {
        Draft::new(MailboxId::from_bytes([1; 32]), at(lives_for), &b"x"[..]).finish().unwrap()
    }

    #[test]
    fn an_answer_settles_its_envelope() {
        let judge = |outcome: Outcome, attempts| judge_answer(&outcome, &envelope(100), attempts, NOW, 0.5);
        let retry = |after| Outcome::retry(FailureClass::MailboxFull, Duration::from_secs(after));
        let full_until = |secs| Verdict::Retry { reason: FailureClass::MailboxFull, not_before: at(secs) };
        assert_eq!(judge(Outcome::Stored, 0), Verdict::Delivered);
        assert_eq!(judge(Outcome::Duplicate, 0), Verdict::Delivered);
        assert_eq!(
            judge(Outcome::reject(FailureClass::NoSuchMailbox), 0),
            Verdict::Failed(FailureClass::NoSuchMailbox)
        );
        let quarantined = [FailureClass::TooLarge, FailureClass::Malformed];
        for class in quarantined {
            assert_eq!(judge(Outcome::reject(class), 0), Verdict::Quarantined(class));
        }
        assert_eq!(judge(Outcome::reject(FailureClass::Expired), 0), Verdict::Expired);
        assert_eq!(judge(retry(0), 0), full_until(5));
        assert_eq!(judge(retry(0), 2), full_until(30));
        assert_eq!(judge(retry(45), 0), full_until(45));
        assert_eq!(judge(retry(3600), 0), full_until(100), "not after its own end");
        let long_lived = envelope(30 * 86_400);
        let verdict = judge_answer(&retry(u64::MAX), &long_lived, 0, NOW, 0.5);
        assert_eq!(verdict, full_until(6 * 3600), "not longer than six hours");
    }

    #[test]
    fn failures_climb_and_remember_when_the_class_began() {
        let refused = Failure::new(FailureClass::ConnectFailed, "refused");
        let absent = Failure::new(FailureClass::DiscoveryAbsent, "no record");
        let first = after_failure(None, &refused, false, NOW, 0.5);
        assert_eq!((first.failures, first.failing_since, first.next_attempt), (1, NOW, at(5)));
        let second = after_failure(Some(&first), &refused, false, at(5), 0.5);
        assert_eq!((second.failures, second.class_since, second.next_attempt), (2, NOW, at(20)));
        let third = after_failure(Some(&second), &absent, false, at(20), 0.5);
        assert_eq!((third.failures, third.failing_since, third.class_since), (3, NOW, at(20)));
    }

    /// What is done about a class that ends a whole attempt.
    #[derive(Debug, PartialEq, Eq)]
    enum Action {
        /// Held until it expires, tried by the ladder.
        Ladder,
        /// Tried by the ladder for so many seconds, then final.
        LadderFor(u64),
        /// Asked once more after so many seconds, then final.
        Confirm(u64),
        /// Final at once.
        Final,
    }

    fn action(class: FailureClass) -> Action {
        let failure = Failure::new(class, "");
        let first = after_failure(None, &failure, false, NOW, 0.5);
        if judge_failure(&failure, &first, NOW) == Verdict::Failed(class) {
            return Action::Final;
        }
        let wait = first.next_attempt.since(NOW).as_secs();
        let ends = |secs| judge_failure(&failure, &first, at(secs)) == Verdict::Failed(class);
        let Some(end) = [600, 4 * 3600, 10 * 365 * 86_400].into_iter().find(|secs| ends(*secs)) else {
            assert_eq!(wait, 5);
            return Action::Ladder;
        };
        assert!(!ends(end - 1), "{class}");
        if wait == end {
            return Action::Confirm(end);
        }
        assert_eq!(wait, 5);
        Action::LadderFor(end)
    }

    #[test]
    fn every_class_has_its_action() {
        use FailureClass as Class;
        let table = [
            (Class::PolicyDeniedHere, Action::Final),
            (Class::PolicyDeniedThere, Action::Confirm(600)),
            (Class::DiscoveryAbsent, Action::LadderFor(4 * 3600)),
            (Class::DiscoveryDeclined, Action::Final),
            (Class::DiscoveryFailed, Action::Ladder),
            (Class::DiscoveryBogus, Action::Ladder),
            (Class::ConnectFailed, Action::Ladder),
            (Class::TlsUntrusted, Action::Ladder),
            (Class::TlsNameMismatch, Action::Ladder),
            (Class::TlsExpired, Action::Ladder),
            (Class::TlsPinMismatch, Action::Ladder),
            (Class::TlsDaneMismatch, Action::Ladder),
            (Class::TlsOurCertificateRefused, Action::Ladder),
            (Class::VersionUnsupported, Action::Ladder),
            (Class::RemoteBusy, Action::Ladder),
            (Class::RemoteMisdirected, Action::Ladder),
            (Class::RemoteFailed, Action::Ladder),
            (Class::NoSuchMailbox, Action::Final),
            (Class::NoSuchDevice, Action::Final),
            (Class::MailboxRefused, Action::Final),
            (Class::MailboxFull, Action::Ladder),
            (Class::StorageFull, Action::Ladder),
            (Class::QueueFull, Action::Ladder),
            (Class::RateLimited, Action::Ladder),
            (Class::Unavailable, Action::Ladder),
            (Class::TooLarge, Action::Final),
            (Class::Malformed, Action::Final),
            (Class::LifetimeTooLong, Action::Final),
            (Class::Moved, Action::Ladder),
            (Class::Loop, Action::Final),
            (Class::NotConnected, Action::Final),
            (Class::Expired, Action::Final),
        ];
        let listed: Vec<_> = table.iter().map(|(class, _)| *class).collect();
        assert_eq!(listed, Class::ALL);
        for (class, expected) in table {
            assert_eq!(action(class), expected, "{class}");
        }
    }

    #[test]
    fn a_refusal_is_confirmed_once_however_often_the_peer_calls_meanwhile() {
        let denied = Failure::new(FailureClass::PolicyDeniedThere, "not listed");
        let first = after_failure(None, &denied, false, NOW, 0.0);
        assert_eq!(first.next_attempt, at(600));
        let called = after_sign_of_life(first, at(100)).unwrap();
        assert_eq!((called.next_attempt, called.class_since), (at(100), NOW));
        let again = after_failure(Some(&called), &denied, false, at(100), 0.0);
        assert_eq!(judge_failure(&denied, &again, at(100)), Verdict::Released);
        assert_eq!(again.next_attempt, at(600), "ten minutes after the first");
        let last = after_failure(Some(&again), &denied, false, at(600), 1.0);
        assert_eq!(judge_failure(&denied, &last, at(600)), Verdict::Failed(denied.class));
        assert!(last.next_attempt <= at(1200), "it is asked again within ten minutes");
    }

    #[test]
    fn a_batch_that_fails_in_another_way_than_its_destination_is_judged_by_its_own() {
        let absent = Failure::new(FailureClass::DiscoveryAbsent, "no record");
        let denied = Failure::new(FailureClass::PolicyDeniedThere, "not listed");
        let backoff = after_failure(None, &absent, false, NOW, 0.5);
        assert_eq!(judge_failure(&denied, &backoff, at(3600)), Verdict::Released);
    }

    #[test]
    fn a_destination_is_tried_waited_for_or_given_up() {
        let declined = FailureClass::DiscoveryDeclined;
        let backoff = |failures| Backoff { failures, ..kept(declined, at(60)) };
        let far = Backoff { next_attempt: NOW + backoff::MAX_RETRY_AFTER, ..backoff(1) };
        let farther = Backoff { next_attempt: far.next_attempt + Duration::from_secs(1), ..backoff(1) };
        for (backoff, given_up, now, expected) in [
            (None, None, NOW, Stance::Try),
            (Some(backoff(1)), None, NOW, Stance::Wait(at(60))),
            (Some(backoff(1)), None, at(60), Stance::Try),
            (Some(backoff(1)), Some(declined), NOW, Stance::GiveUp(declined, at(60))),
            (Some(backoff(1)), Some(declined), at(60), Stance::Try),
            (Some(far.clone()), None, NOW, Stance::Wait(far.next_attempt)),
            (Some(farther), None, NOW, Stance::Try),
        ] {
            assert_eq!(stance(backoff.as_ref(), given_up, now), expected, "{backoff:?} {given_up:?} {now}");
        }
    }

    fn kept(class: FailureClass, next_attempt: Timestamp) -> Backoff {
        let failure = Failure::new(class, "as the test wants it");
        Backoff { next_attempt, ..after_failure(None, &failure, false, NOW, 0.5) }
    }

    #[test]
    fn a_sign_of_life_ends_what_it_can_have_ended() {
        for class in FailureClass::ALL.iter().copied() {
            let after = after_sign_of_life(kept(class, at(3600)), at(10));
            match class.persistence() {
                Persistence::Temporary => assert_eq!(after, None, "{class}"),
                _ => {
                    let after = after.unwrap();
                    assert_eq!((after.failures, after.next_attempt), (0, at(10)), "{class}");
                    assert_eq!((after.class_since, after.failing_since), (NOW, NOW), "{class}");
                }
            }
        }
    }

    #[test]
    fn what_a_restart_looks_like_is_tried_three_times_at_once() {
        let (short, long) = (Duration::from_millis(200), Duration::from_secs(1));
        let busy_until = Failure {
            retry_after: Some(Duration::from_secs(9)),
            ..Failure::new(FailureClass::RemoteBusy, "later")
        };
        for class in FailureClass::ALL.iter().copied() {
            use FailureClass::{ConnectFailed, RemoteBusy, RemoteFailed};
            let is_quick = matches!(class, ConnectFailed | RemoteBusy | RemoteFailed);
            let failure = Failure::new(class, "");
            let pause = |tries| quick_try(&failure, tries, Duration::ZERO);
            let expected = if is_quick { [Some(short), Some(long), None, None] } else { [None; 4] };
            assert_eq!([1, 2, 3, u32::MAX].map(pause), expected, "{class}");
            assert_eq!(quick_try(&failure, 1, Duration::from_secs(6)), None, "{class} was slow");
        }
        assert_eq!(quick_try(&busy_until, 1, Duration::ZERO), None);
    }

    #[test]
    fn a_local_fault_freezes_the_ladder_at_a_low_step() {
        let refused = Failure::new(FailureClass::ConnectFailed, "refused");
        let mut backoff = after_failure(None, &refused, true, NOW, 0.5);
        let mut now = NOW;
        let mut waits = Vec::new();
        for _ in 0..8 {
            waits.push(backoff.next_attempt.since(now).as_secs());
            now = backoff.next_attempt;
            backoff = after_failure(Some(&backoff), &refused, true, now, 0.5);
        }
        assert_eq!(waits, [5, 15, 30, 60, 60, 60, 60, 60]);
        let high = Backoff { failures: 9, ..backoff };
        let frozen = after_failure(Some(&high), &refused, true, now, 0.5);
        assert_eq!((frozen.failures, frozen.next_attempt.since(now).as_secs()), (9, 60));
        let after = after_failure(Some(&frozen), &refused, false, now, 0.5);
        assert_eq!((after.failures, after.next_attempt.since(now).as_secs()), (10, 3600));
    }

    #[test]
    fn the_whole_ladder_is_climbed_with_the_retry_after_of_each_failure() {
        let mut backoff: Option<Backoff> = None;
        let mut now = NOW;
        for (asked, expected) in [(None, 5), (Some(90), 90), (Some(1), 30), (Some(u64::MAX), 6 * 3600)] {
            let failure = Failure {
                retry_after: asked.map(Duration::from_secs),
                ..Failure::new(FailureClass::RemoteBusy, "later")
            };
            let next = after_failure(backoff.as_ref(), &failure, false, now, 0.5);
            assert_eq!(next.next_attempt.since(now).as_secs(), expected, "{asked:?}");
            now = next.next_attempt;
            backoff = Some(next);
        }
    }
}
