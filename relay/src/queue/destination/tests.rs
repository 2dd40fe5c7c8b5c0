//! The ladder, the resets, and what is kept across them.

use super::super::rules::judge_failure;
use super::*;
use crate::store::Verdict;

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

fn at(secs: u64) -> Timestamp {
    NOW + Duration::from_secs(secs)
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

#[test]
fn an_answered_greeting_ends_the_wait_where_it_would_have_met_the_failure() {
    use FailureClass as Class;
    let met = [
        Class::DiscoveryAbsent,
        Class::DiscoveryFailed,
        Class::DiscoveryBogus,
        Class::ConnectFailed,
        Class::TlsUntrusted,
        Class::TlsNameMismatch,
        Class::TlsExpired,
        Class::TlsPinMismatch,
        Class::TlsDaneMismatch,
        Class::TlsOurCertificateRefused,
        Class::VersionUnsupported,
        Class::RemoteMisdirected,
        Class::RemoteFailed,
    ];
    for class in Class::ALL.iter().copied() {
        let before = kept(class, at(3600));
        let due = if met.contains(&class) { at(10) } else { at(3600) };
        let expected = Backoff { next_attempt: due, ..before.clone() };
        assert_eq!(after_greeting(before, at(10)), expected, "{class}");
    }
}

#[test]
fn a_weekends_failures_climb_to_four_hours_and_a_greeting_does_not_undo_that() {
    let refused = Failure::new(FailureClass::ConnectFailed, "refused");
    let mut backoff = after_failure(None, &refused, false, NOW, 0.5);
    let mut now = NOW;
    while now < at(60 * 3600) {
        now = backoff.next_attempt;
        backoff = after_failure(Some(&backoff), &refused, false, now, 0.5);
    }
    assert_eq!(backoff.next_attempt.since(now).as_secs(), 4 * 3600);
    let greeted = after_greeting(backoff, now);
    let again = after_failure(Some(&greeted), &refused, false, now, 0.5);
    assert_eq!((again.failing_since, again.next_attempt.since(now).as_secs()), (NOW, 4 * 3600));
}
