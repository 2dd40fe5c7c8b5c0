//! The same envelope, submitted again and again.

use postrider_common::wire::control::TrackingState;
use postrider_common::wire::submit::SubmitResult;
use postrider_tests::cluster::Cluster;

use crate::plain::{ALPHA, BETA, GAMMA, envelope, tracking, waiting};

#[tokio::test]
async fn is_kept_once_at_its_own_relay() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    let envelope = envelope(&cluster, &bob, "once");
    let domain = bob.identity().domain();
    // In one batch, and in another.
    let twice = [(domain.clone(), envelope.clone()), (domain.clone(), envelope.clone())];
    assert_eq!(alice.relay().submit(&twice).await.unwrap(), [SubmitResult::Stored, SubmitResult::Stored]);
    assert_eq!(alice.submit(&bob, envelope.clone()).await.unwrap(), SubmitResult::Stored);
    let entries = bob.waiting().await.unwrap();
    assert_eq!(entries.len(), 1);

    bob.session().await.unwrap().acknowledge(&[entries[0].id]).await.unwrap();
    assert_eq!(alice.submit(&bob, envelope.clone()).await.unwrap(), SubmitResult::Stored);
    assert!(waiting(&bob).await.is_empty(), "it has been delivered");
    cluster.kill(ALPHA).await.unwrap();
    cluster.restart(ALPHA).await.unwrap();
    assert_eq!(alice.submit(&bob, envelope).await.unwrap(), SubmitResult::Stored);
    assert!(waiting(&bob).await.is_empty(), "it has been delivered before the restart");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn is_forwarded_and_kept_once_at_another_relay() {
    let cluster = Cluster::start([ALPHA, BETA]).await.unwrap();
    let alice = cluster.user(ALPHA).await.unwrap();
    let (bob, carol) = (cluster.user(BETA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let envelope = envelope(&cluster, &bob, "once");
    let submit = || async { tracking(alice.submit(&bob, envelope.clone()).await.unwrap()) };
    let (id, again) = tokio::join!(submit(), submit());
    assert_eq!(id, again, "a repeated submission gets the same tracking id");
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);
    assert_eq!(submit().await, id, "after delivery too");
    let entries = bob.waiting().await.unwrap();
    assert_eq!(entries.len(), 1);
    bob.session().await.unwrap().acknowledge(&[entries[0].id]).await.unwrap();

    for relay in [ALPHA, BETA] {
        cluster.kill(relay).await.unwrap();
        cluster.restart(relay).await.unwrap();
    }
    assert_eq!(submit().await, id, "after a restart too");
    // By another relay the destination gets it a second time, and knows it.
    assert_eq!(carol.submit(&bob, envelope.clone()).await.unwrap(), SubmitResult::Stored);
    assert!(waiting(&bob).await.is_empty());
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn is_known_again_after_its_mailbox_has_moved() {
    let cluster = Cluster::start([ALPHA, BETA, GAMMA]).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let once = envelope(&cluster, &bob, "once");
    let id = tracking(alice.submit(&bob, once.clone()).await.unwrap());
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);
    let entries = bob.waiting().await.unwrap();
    bob.session().await.unwrap().acknowledge(&[entries[0].id]).await.unwrap();
    let moved = bob.session().await.unwrap().move_to(&cluster.client(GAMMA).unwrap()).await.unwrap();
    let moved = cluster.connect(&moved).unwrap();

    // From here on alpha knows where the mailbox is, and gamma has never seen what was delivered before.
    let later = tracking(alice.submit(&bob, envelope(&cluster, &bob, "later")).await.unwrap());
    assert_eq!(alice.outcome(later).await.unwrap().destination.as_str(), GAMMA);
    assert_eq!(tracking(alice.submit(&bob, once).await.unwrap()), id);
    let last = tracking(alice.submit(&bob, envelope(&cluster, &bob, "last")).await.unwrap());
    assert_eq!(alice.outcome(last).await.unwrap().state, TrackingState::Stored);
    assert_eq!(waiting(&moved).await, ["later", "last"]);
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn is_known_again_where_its_mailbox_has_come_back_to() {
    let cluster = Cluster::start([ALPHA, BETA]).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    let away = bob.session().await.unwrap().move_to(&cluster.client(BETA).unwrap()).await.unwrap();
    let away = cluster.connect(&away).unwrap();
    let once = envelope(&cluster, &bob, "once");
    let id = tracking(alice.submit(&bob, once.clone()).await.unwrap());
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);
    let entries = away.waiting().await.unwrap();
    away.session().await.unwrap().acknowledge(&[entries[0].id]).await.unwrap();

    let back = away.session().await.unwrap().move_to(&cluster.client(ALPHA).unwrap()).await.unwrap();
    let back = cluster.connect(&back).unwrap();
    assert_eq!(alice.submit(&bob, once).await.unwrap(), SubmitResult::Stored);
    assert_eq!(waiting(&back).await, [""; 0]);
    let later = envelope(&cluster, &bob, "later");
    assert_eq!(alice.submit(&bob, later).await.unwrap(), SubmitResult::Stored);
    assert_eq!(waiting(&back).await, ["later"]);
    cluster.shut_down().await.unwrap();
}
