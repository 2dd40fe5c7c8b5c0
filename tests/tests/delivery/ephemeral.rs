//! Ephemeral envelopes: for who is connected now, and kept nowhere.

use postrider_client::Delivery;
use postrider_common::wire::submit::SubmitResult;
use postrider_common::{Draft, FailureClass, Urgency};
use postrider_tests::cluster::{Cluster, User};
use postrider_tests::link::Condition;

use crate::plain::{ALPHA, BETA, draft, envelope, refused, text, tracking};

#[tokio::test]
async fn reaches_who_is_connected_and_nobody_else_ever() {
    let cluster = Cluster::start([ALPHA, BETA]).await.unwrap();
    let alice = cluster.user(ALPHA).await.unwrap();
    for domain in [ALPHA, BETA] {
        let (online, offline) = (cluster.user(domain).await.unwrap(), cluster.user(domain).await.unwrap());
        let typing = |to: &User| {
            let draft = Draft { urgency: Urgency::Ephemeral, ..draft(&cluster, to, "typing") };
            let (domain, envelope) = (to.identity().domain().clone(), draft.finish().unwrap());
            let relay = alice.relay().clone();
            async move { relay.submit_one(&domain, envelope).await.unwrap() }
        };
        online.go_online().await.unwrap();
        assert_eq!(typing(&online).await, SubmitResult::Stored, "{domain}");
        assert!(
            matches!(online.next().await.unwrap(), Delivery::Ephemeral(envelope) if text(&envelope) == "typing")
        );
        assert!(online.waiting().await.unwrap().is_empty(), "it is not stored");

        assert_eq!(typing(&offline).await, refused(FailureClass::NotConnected), "{domain}");
        offline.go_online().await.unwrap();
        let result = alice.submit(&offline, envelope(&cluster, &offline, "stored")).await.unwrap();
        if domain == BETA {
            alice.outcome(tracking(result)).await.unwrap();
        }
        let first = offline.next().await.unwrap();
        assert!(matches!(first, Delivery::Entry(entry) if text(&entry.envelope) == "stored"), "{domain}");
    }
    // A relay that is not there is told at once, and nothing is queued for it.
    let bob = cluster.user(BETA).await.unwrap();
    cluster.stop(BETA).await.unwrap();
    let draft = Draft { urgency: Urgency::Ephemeral, ..draft(&cluster, &bob, "typing") };
    let result = alice.relay().submit_one(bob.identity().domain(), draft.finish().unwrap()).await.unwrap();
    assert!(matches!(result, SubmitResult::Refused { .. }), "{result:?}");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_silent_relay_keeps_no_other_envelope_of_the_batch_waiting() {
    let cluster = Cluster::start([ALPHA, BETA]).await.unwrap();
    let (alice, amy) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    let bob = cluster.user(BETA).await.unwrap();
    cluster.link(ALPHA, BETA).unwrap().set(Condition::DropAll);
    let typing = Draft { urgency: Urgency::Ephemeral, ..draft(&cluster, &bob, "typing") }.finish().unwrap();
    let items = [
        (bob.identity().domain().clone(), typing),
        (amy.identity().domain().clone(), envelope(&cluster, &amy, "for here")),
    ];
    // The client itself gives up after 30 seconds.
    let results = alice.relay().submit(&items).await.unwrap();
    assert_eq!(results, [refused(FailureClass::RemoteFailed), SubmitResult::Stored]);
}
