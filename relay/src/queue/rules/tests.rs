//! The tables.

use postrider_common::{Binding, Draft, MailboxId};

use super::super::destination::after_failure;
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
    assert_eq!(judge(retry(0), 0), full_until(5));
    assert_eq!(judge(retry(0), 2), full_until(30));
    assert_eq!(judge(retry(45), 0), full_until(45));
    assert_eq!(judge(retry(3600), 0), full_until(100), "not after its own end");
    let long_lived = envelope(30 * 86_400);
    let verdict = judge_answer(&retry(u64::MAX), &long_lived, 0, NOW, 0.5);
    assert_eq!(verdict, full_until(6 * 3600), "not longer than six hours");
}

#[test]
fn an_answer_that_a_wrong_clock_explains_is_asked_for_again() {
    let judge = |reason, attempts, now| {
        judge_answer(&Outcome::reject(reason), &envelope(30 * 86_400), attempts, now, 0.5)
    };
    let again = |reason, not_before| Verdict::Retry { reason, not_before };
    let (expired, too_long) = (FailureClass::Expired, FailureClass::LifetimeTooLong);
    let (just_before, end) = (at(30 * 86_400 - 1), at(30 * 86_400));
    assert_eq!(judge(expired, 0, NOW), again(expired, at(5)));
    assert_eq!(judge(expired, 1000, NOW), again(expired, at(3600)));
    assert_eq!(judge(expired, 0, just_before), again(expired, end), "not after its own end");
    assert_eq!(judge(expired, 0, end), Verdict::Expired);

    assert_eq!(judge(too_long, 0, NOW), again(too_long, at(5)));
    let (mut asked, mut now) = (0, NOW);
    while let Verdict::Retry { not_before, .. } = judge(too_long, asked, now) {
        (asked, now) = (asked + 1, not_before);
    }
    assert_eq!(judge(too_long, asked, now), Verdict::Failed(too_long));
    let hours = now.since(NOW).as_secs_f64() / 3600.0;
    assert!((3.5..4.5).contains(&hours), "{hours}");
}

#[test]
fn another_mailboxes_binding_says_nothing() {
    let key = |seed| ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
    let elsewhere: postrider_common::Domain = "gamma.example".parse().unwrap();
    let reason_of = |seed| {
        let mailbox = MailboxId::from_bytes(key(1).verifying_key().to_bytes());
        let envelope = Draft::new(mailbox, at(100), &b"x"[..]).finish().unwrap();
        let moved = Outcome::Moved(Box::new(Binding::sign(&key(seed), elsewhere.clone(), 1)));
        judge_answer(&moved, &envelope, 0, NOW, 0.5)
    };
    let again = |reason| Verdict::Retry { reason, not_before: at(5) };
    assert_eq!(reason_of(1), again(FailureClass::Moved), "where it does not lead on");
    assert_eq!(reason_of(2), again(FailureClass::RemoteFailed));
}

#[test]
fn what_has_followed_a_binding_is_not_given_up_so_soon() {
    let judged =
        |verdict, onward, attempts| spare(verdict, onward, &envelope(30 * 86_400), attempts, NOW, 0.5);
    let follows = |is_held: bool| Some(Onward { moves: 1, held: is_held.then_some(1) });
    let (nobody, full) = (FailureClass::NoSuchMailbox, FailureClass::MailboxFull);
    let failed = Verdict::Failed;
    let hour = |reason| Verdict::Retry { reason, not_before: at(3600) };
    for class in [nobody, FailureClass::NoSuchDevice] {
        assert_eq!(judged(failed(class), None, 0), failed(class));
        assert!(
            matches!(judged(failed(class), follows(false), 0), Verdict::Retry { reason, .. } if reason == class)
        );
        assert_eq!(judged(failed(class), follows(false), 12), failed(class), "some hours later");
        assert_eq!(judged(failed(class), follows(true), 1000), hour(class));
    }
    let denied = failed(FailureClass::PolicyDeniedThere);
    assert_eq!(judged(denied, follows(false), 0), denied);
    assert_eq!(judged(denied, follows(true), 99), hour(FailureClass::PolicyDeniedThere));
    let malformed = Verdict::Quarantined(FailureClass::Malformed);
    assert_eq!(judged(malformed, follows(true), 99), hour(FailureClass::Malformed));
    let retry = Verdict::Retry { reason: full, not_before: at(7) };
    for verdict in [Verdict::Delivered, Verdict::Expired, Verdict::Released, retry] {
        assert_eq!(judged(verdict, follows(true), 5), verdict);
    }
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
        (Class::AttachmentMissing, Action::Ladder),
        (Class::NotConnected, Action::Final),
        (Class::Expired, Action::Final),
        (Class::Dropped, Action::Final),
    ];
    let listed: Vec<_> = table.iter().map(|(class, _)| *class).collect();
    assert_eq!(listed, Class::ALL);
    for (class, expected) in table {
        assert_eq!(action(class), expected, "{class}");
    }
}

#[test]
fn a_batch_that_fails_in_another_way_than_its_destination_is_judged_by_its_own() {
    let absent = Failure::new(FailureClass::DiscoveryAbsent, "no record");
    let denied = Failure::new(FailureClass::PolicyDeniedThere, "not listed");
    let backoff = after_failure(None, &absent, false, NOW, 0.5);
    assert_eq!(judge_failure(&denied, &backoff, at(3600)), Verdict::Released);
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
