//! A relay ends at each step that an envelope takes, and nothing is lost or there twice.

use postrider_client::{Delivery, SubmitResult};
use postrider_common::wire::control::TrackingState;
use postrider_common::{Domain, Envelope};
use postrider_tests::binary::postrider_with_failpoints;
use postrider_tests::cluster::{Cluster, User};

use crate::plain::{ALPHA, BETA, GAMMA, envelope, ids, text, tracking, waiting};

async fn cluster() -> Cluster {
    let binary = postrider_with_failpoints();
    Cluster::builder([ALPHA, BETA]).processes(binary).start().await.unwrap()
}

/// Starts a relay again so that it ends when it reaches the step.
async fn arm(cluster: &Cluster, relay: &str, step: &str) {
    cluster.stop(relay).await.unwrap();
    cluster.set_environment(relay, &[("POSTRIDER_FAILPOINT", step)]).await.unwrap();
    cluster.restart(relay).await.unwrap();
}

/// Waits until the relay has ended at its step, and starts it as it was.
async fn ends_there_and_comes_back(cluster: &Cluster, relay: &str) {
    let how = cluster.ended(relay).await.unwrap();
    assert!(how.contains("SIGABRT"), "{how}");
    cluster.set_environment(relay, &[]).await.unwrap();
    cluster.restart(relay).await.unwrap();
}

fn to(user: &User, envelope: Envelope) -> (Domain, Envelope) {
    (user.identity().domain().clone(), envelope)
}

/// The origin ends while it takes a batch, and the client submits again. `is_there`: what was written is there before that,
/// for the process has ended and not the machine.
async fn the_origin_ends_at(step: &str, is_there: bool) {
    let cluster = cluster().await;
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    for recipient in [&alice, &bob] {
        arm(&cluster, ALPHA, step).await;
        let item = to(recipient, envelope(&cluster, recipient, "hello"));
        let unanswered = alice.relay().submit(std::slice::from_ref(&item)).await;
        assert!(unanswered.is_err(), "{unanswered:?}");
        ends_there_and_comes_back(&cluster, ALPHA).await;
        if item.0.as_str() == ALPHA {
            let expected = if is_there { &["hello"][..] } else { &[] };
            assert_eq!(waiting(recipient).await, expected, "before it is submitted again");
        }
        if !is_there {
            cluster.logged(ALPHA, "the journal ends with a write that is not whole").await.unwrap();
        }
        for _ in 0..2 {
            let result = alice.relay().submit(std::slice::from_ref(&item)).await.unwrap().remove(0);
            match result {
                SubmitResult::Queued { tracking } => {
                    assert_eq!(alice.outcome(tracking).await.unwrap().state, TrackingState::Stored);
                }
                other => assert_eq!(other, SubmitResult::Stored),
            }
        }
        assert_eq!(waiting(recipient).await, ["hello"]);
    }
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn the_origin_ends_in_the_middle_of_a_write() {
    the_origin_ends_at("half-written:1", false).await;
}

#[tokio::test]
async fn the_origin_ends_after_a_write_before_its_flush() {
    the_origin_ends_at("written:1", true).await;
}

#[tokio::test]
async fn the_origin_ends_after_a_flush_before_its_answer() {
    the_origin_ends_at("flushed:1", true).await;
}

/// The destination ends while it takes a batch from its peer.
async fn the_destination_ends_at(step: &str) {
    let cluster = cluster().await;
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    arm(&cluster, BETA, step).await;
    let id = tracking(alice.submit(&bob, envelope(&cluster, &bob, "hello")).await.unwrap());
    ends_there_and_comes_back(&cluster, BETA).await;
    // A word of its own ends the wait for it.
    bob.send(&alice, b"I am back").await.unwrap();
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);
    assert_eq!(waiting(&bob).await, ["hello"]);
    assert_eq!(alice.receive().await.unwrap().message, b"I am back");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn the_destination_ends_in_the_middle_of_a_write() {
    the_destination_ends_at("half-written:1").await;
}

#[tokio::test]
async fn the_destination_ends_after_a_write_before_its_flush() {
    the_destination_ends_at("written:1").await;
}

#[tokio::test]
async fn the_destination_ends_after_a_flush_before_its_answer() {
    the_destination_ends_at("flushed:1").await;
}

#[tokio::test]
async fn the_origin_ends_after_the_destinations_answer_before_it_settles() {
    let cluster = cluster().await;
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    arm(&cluster, ALPHA, "forwarded:1").await;
    let envelope = envelope(&cluster, &bob, "hello");
    let id = tracking(alice.submit(&bob, envelope.clone()).await.unwrap());
    let how = cluster.ended(ALPHA).await.unwrap();
    assert!(how.contains("SIGABRT"), "{how}");
    assert_eq!(waiting(&bob).await, ["hello"], "the destination has it, and the origin does not know");
    cluster.set_environment(ALPHA, &[]).await.unwrap();
    cluster.restart(ALPHA).await.unwrap();
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);
    assert_eq!(tracking(alice.submit(&bob, envelope).await.unwrap()), id);
    assert_eq!(waiting(&bob).await, ["hello"]);
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn the_destination_ends_after_a_push_before_its_acknowledgement() {
    let cluster = cluster().await;
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let id = tracking(alice.submit(&bob, envelope(&cluster, &bob, "hello")).await.unwrap());
    alice.outcome(id).await.unwrap();
    let before = ids(&bob.waiting().await.unwrap());
    arm(&cluster, BETA, "pushed:1").await;
    // The connection may end before the entry is through.
    let _ = bob.go_online().await;
    ends_there_and_comes_back(&cluster, BETA).await;
    let entries = bob.waiting().await.unwrap();
    assert_eq!(ids(&entries), before, "the same entry, once");
    bob.session().await.unwrap().acknowledge(&[entries[0].id]).await.unwrap();
    cluster.kill(BETA).await.unwrap();
    cluster.restart(BETA).await.unwrap();
    assert_eq!(waiting(&bob).await, [""; 0]);
    cluster.shut_down().await.unwrap();
}

/// The old relay ends after it has queued what it holds for the new one, and before it has deleted it.
#[tokio::test]
async fn the_old_relay_ends_while_it_sends_on_what_it_holds() {
    let cluster = cluster().await;
    let bob = cluster.user(ALPHA).await.unwrap();
    for what in ["one", "two"] {
        bob.submit(&bob, envelope(&cluster, &bob, what)).await.unwrap();
    }
    arm(&cluster, ALPHA, "onward:1").await;
    let session = bob.session().await.unwrap();
    // The answer may not have left any more.
    let _ = session.move_to(&cluster.client(BETA).unwrap()).await;
    ends_there_and_comes_back(&cluster, ALPHA).await;
    let moved = session.move_to(&cluster.client(BETA).unwrap()).await.unwrap();
    let moved = cluster.connect(&moved).unwrap();
    for what in ["one", "two"] {
        let Delivery::Entry(entry) = moved.next().await.unwrap() else { panic!("an entry is expected") };
        assert_eq!(text(&entry.envelope), what);
    }
    // A later one comes behind whatever there is.
    let id = tracking(bob.submit(&bob, envelope(&cluster, &bob, "three")).await.unwrap());
    assert_eq!(bob.outcome(id).await.unwrap().state, TrackingState::Stored);
    assert_eq!(waiting(&moved).await, ["one", "two", "three"]);
    cluster.shut_down().await.unwrap();
}

/// The origin ends after it has queued for the new relay what the old one did not take, and before that has ended.
#[tokio::test]
async fn the_origin_ends_while_it_follows_a_mailbox() {
    let binary = postrider_with_failpoints();
    let cluster = Cluster::builder([ALPHA, BETA, GAMMA]).processes(binary).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let moved = bob.session().await.unwrap().move_to(&cluster.client(GAMMA).unwrap()).await.unwrap();
    let moved = cluster.connect(&moved).unwrap();
    arm(&cluster, ALPHA, "onward:1").await;
    let id = tracking(alice.submit(&bob, envelope(&cluster, &bob, "hello")).await.unwrap());
    ends_there_and_comes_back(&cluster, ALPHA).await;
    let status = alice.outcome(id).await.unwrap();
    assert_eq!((status.state, status.destination.as_str()), (TrackingState::Stored, GAMMA));
    assert_eq!(waiting(&moved).await, ["hello"]);
    cluster.shut_down().await.unwrap();
}
