//! An envelope's time is over before it has arrived.

use std::time::Duration;

use postrider_common::wire::control::TrackingState;
use postrider_common::wire::submit::SubmitResult;
use postrider_common::{Draft, FailureClass};
use postrider_tests::clock::StandingClock;
use postrider_tests::cluster::Cluster;

use crate::plain::{ALPHA, BETA, DAY, draft, envelope, refused, text, tracking};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn it_is_refused_told_and_never_delivered() {
    let clock = StandingClock::new();
    let cluster = Cluster::builder([ALPHA, BETA]).clock(clock.clone()).start().await.unwrap();
    let alice = cluster.user(ALPHA).await.unwrap();
    let (near, far) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let short_lived = |to| {
        let draft = draft(&cluster, to, "short-lived");
        Draft { expires_at: cluster.clock().now() + HOUR, ..draft }.finish().unwrap()
    };

    for to in [&near, &far] {
        let over = Draft { expires_at: cluster.clock().now(), ..draft(&cluster, to, "over") };
        let result = alice.relay().submit_one(to.identity().domain(), over.finish().unwrap()).await;
        assert_eq!(result.unwrap(), refused(FailureClass::Expired));
    }

    cluster.stop(BETA).await.unwrap();
    let id = tracking(alice.submit(&far, short_lived(&far)).await.unwrap());
    assert_eq!(alice.submit(&near, short_lived(&near)).await.unwrap(), SubmitResult::Stored);
    let long_lived = envelope(&cluster, &near, "long-lived");
    assert_eq!(alice.submit(&near, long_lived).await.unwrap(), SubmitResult::Stored);
    alice.tracked(id, |status| status.attempts > 0).await.unwrap();
    clock.advance(HOUR);

    let left = near.waiting().await.unwrap();
    assert_eq!(left.iter().map(|entry| text(&entry.envelope)).collect::<Vec<_>>(), ["long-lived"]);
    let status = alice.outcome(id).await.unwrap();
    assert_eq!(status.state, TrackingState::Expired);
    assert_eq!(status.ended_at, Some(clock_now(&cluster)));
    cluster.restart(BETA).await.unwrap();
    far.send(&alice, b"I am back").await.unwrap();
    assert_eq!(alice.receive().await.unwrap().message, b"I am back");
    assert!(far.waiting().await.unwrap().is_empty());

    // What became of it is told for a week.
    clock.advance(7 * DAY - Duration::from_secs(60));
    assert_eq!(alice.relay().track(id).await.unwrap().state, TrackingState::Expired);
    cluster.shut_down().await.unwrap();
}

fn clock_now(cluster: &Cluster) -> u64 {
    cluster.clock().now().as_secs()
}
