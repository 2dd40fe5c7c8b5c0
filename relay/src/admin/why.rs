//! Why an envelope is where it is: its own answers and its destination's failures as one account.

use postrider_common::{FailureClass, Timestamp, TrackingId};

use super::Parts;
use super::documents::{Met, Why};
use super::problem::Refusal;
use super::queue::met;
use super::router::{Answer, json};
use crate::store::{self, TrackingEnd};

pub(super) async fn why(parts: &Parts, id: &str) -> Answer {
    let unknown = || {
        let kept = "it is none of this relay's, or was forgotten some time after its end";
        Refusal::NotFound(format!("there is no envelope with this tracking id: {kept}"))
    };
    let id: TrackingId =
        id.parse().map_err(|error| Refusal::Malformed(format!("this is no tracking id: {error}")))?;
    let tracking = parts.store.tracking(id).await?.ok_or_else(unknown)?;
    let destination = match tracking.end {
        None => parts.store.destination(tracking.destination.clone()).await?,
        Some(_) => None,
    };
    let answers = parts.store.answers(id).await?;
    let failures = parts.store.history(tracking.destination.clone()).await?;
    Ok(json(&account(id, tracking, destination, answers, failures)))
}

fn account(
    id: TrackingId,
    tracking: store::Tracking,
    destination: Option<store::Destination>,
    answers: Vec<store::Met>,
    failures: Vec<store::Met>,
) -> Why {
    let (state, of_end, ended_at) = match tracking.end {
        None => ("queued", None, None),
        Some((TrackingEnd::Stored, at)) => ("stored", None, Some(at)),
        Some((TrackingEnd::Failed(class), at)) => ("failed", Some(class), Some(at)),
        Some((TrackingEnd::Expired, at)) => ("expired", tracking.reason, Some(at)),
    };
    let (backoff, paused) = destination.map_or((None, None), |state| (state.backoff, state.paused));
    let reason = match tracking.end {
        None => backoff.as_ref().map(|backoff| backoff.class).or(tracking.reason),
        Some(_) => of_end,
    };
    let next = backoff.map(|backoff| backoff.next_attempt).max(tracking.not_before);
    let next = next.filter(|_| !tracking.is_unreadable);
    // What was met before it came, or after it had gone, was met with others.
    let concerns = |met: &store::Met| {
        met.last >= tracking.queued_at && ended_at.is_none_or(|ended: Timestamp| met.first <= ended)
    };
    let mut attempts: Vec<store::Met> = failures.into_iter().filter(concerns).collect();
    attempts.extend(answers.into_iter().map(|answer| store::Met {
        detail: format!("{} has answered for this envelope that it should come again", tracking.destination),
        ..answer
    }));
    attempts.sort_by_key(|met| (met.first, met.last));
    let end: fn(FailureClass) -> String = |class| class.whose_end().word().into();
    Why {
        tracking: id,
        destination: tracking.destination,
        state: state.into(),
        queued_at: tracking.queued_at.as_secs(),
        ended_at: ended_at.map(Timestamp::as_secs),
        reason: reason.map(|class| class.slug().into()),
        whose_end: reason.map(end),
        next_attempt_at: next.filter(|_| ended_at.is_none() && paused.is_none()).map(Timestamp::as_secs),
        unreadable: tracking.is_unreadable,
        paused_since: paused.map(Timestamp::as_secs),
        attempts: attempts.into_iter().map(met).collect::<Vec<Met>>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn met(class: FailureClass, first: u64, last: u64) -> store::Met {
        store::Met { class, detail: "so it was".into(), first: at(first), last: at(last), times: 2 }
    }

    fn told(end: Option<(TrackingEnd, Timestamp)>, paused: Option<Timestamp>) -> Why {
        let destination: postrider_common::Domain = "b.example".parse().unwrap();
        let tracking = store::Tracking {
            destination: destination.clone(),
            queued_at: at(100),
            attempts: 2,
            reason: Some(FailureClass::MailboxFull),
            not_before: Some(at(150)),
            is_unreadable: false,
            end,
        };
        let backoff = store::Backoff {
            failing_since: at(90),
            failures: 4,
            class: FailureClass::ConnectFailed,
            class_since: at(90),
            detail: String::new(),
            next_attempt: at(170),
        };
        let state = store::Destination {
            domain: destination,
            items: 1,
            bytes: 1,
            backoff: Some(backoff),
            next_retry: None,
            paused,
        };
        let failures = vec![
            met(FailureClass::TlsExpired, 10, 99),
            met(FailureClass::ConnectFailed, 90, 140),
            met(FailureClass::RemoteFailed, 201, 300),
        ];
        let answers = vec![met(FailureClass::MailboxFull, 110, 120)];
        let id = TrackingId::from_bytes([1; 16]);
        account(id, tracking, Some(state).filter(|_| end.is_none()), answers, failures)
    }

    /// State, reason, whose end, next attempt, and the classes of what was met.
    #[test]
    fn what_was_met_while_it_waited_is_one_account() {
        let classes = |why: &Why| why.attempts.iter().map(|met| met.class.clone()).collect::<Vec<_>>();
        let queued = told(None, None);
        assert_eq!((&*queued.state, queued.reason.as_deref()), ("queued", Some("connect-failed")));
        assert_eq!((queued.whose_end.as_deref(), queued.next_attempt_at), (Some("network"), Some(170)));
        assert_eq!(classes(&queued), ["connect-failed", "mailbox-full", "remote-failed"]);
        assert!(queued.attempts[1].detail.contains("b.example has answered"), "{queued:?}");

        let paused = told(None, Some(at(130)));
        assert_eq!((paused.next_attempt_at, paused.paused_since), (None, Some(130)));

        let dropped = told(Some((TrackingEnd::Failed(FailureClass::Dropped), at(200))), None);
        assert_eq!((&*dropped.state, dropped.reason.as_deref()), ("failed", Some("dropped")));
        assert_eq!((dropped.whose_end.as_deref(), dropped.ended_at), (Some("here"), Some(200)));
        assert_eq!(
            classes(&dropped),
            ["connect-failed", "mailbox-full"],
            "what came later does not concern it"
        );
        assert_eq!(told(Some((TrackingEnd::Stored, at(200))), None).reason, None);
    }
}
