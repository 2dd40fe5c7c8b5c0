//! Sender and recipient have different relays, and everything works.

use postrider_client::Identity;
use postrider_common::FailureClass;
use postrider_common::wire::control::TrackingState;
use postrider_tests::cluster::Cluster;
use postrider_tests::dns::Srv;

use crate::plain::{ALPHA, BETA, GAMMA, envelope, refused, tracking};

#[tokio::test]
async fn reaches_the_other_relays_users_and_tells_what_became_of_each_envelope() {
    // Peers that no DNS record leads to.
    let peers = |_: &_| {
        ["absent.example", "declined.example"]
            .map(|domain| {
                let pin = "00".repeat(32);
                format!(
                    "[[federation.peers]]\ndomain = \"{domain}\"\ntrust = \"pinned\"\npins = [\"{pin}\"]\n"
                )
            })
            .concat()
    };
    let cluster = Cluster::builder([ALPHA, BETA]).configure(peers).start().await.unwrap();
    let declined = "declined.example".parse().unwrap();
    cluster.dns().records().set_srv(&declined, &[Srv::new(0, ".")]).unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());

    let id = tracking(alice.send(&bob, b"later").await.unwrap());
    let status = alice.outcome(id).await.unwrap();
    assert_eq!((status.state, status.destination.as_str()), (TrackingState::Stored, BETA));
    assert_eq!((status.reason, status.attempts), (None, 1));
    assert_eq!(bob.receive().await.unwrap().message, b"later");
    alice.send(&bob, b"now").await.unwrap();
    let received = bob.receive().await.unwrap();
    assert_eq!((received.message.as_slice(), &received.sender), (&b"now"[..], alice.identity().address()));

    let nobody = cluster.connect(&Identity::generate(BETA.parse().unwrap())).unwrap();
    let id = tracking(alice.submit(&nobody, envelope(&cluster, &nobody, "x")).await.unwrap());
    let status = alice.outcome(id).await.unwrap();
    assert_eq!((status.state, status.reason.as_deref()), (TrackingState::Failed, Some("no-such-mailbox")));

    let submit = |domain: &str| {
        let envelope = envelope(&cluster, &bob, "x");
        let domain = domain.parse().unwrap();
        let relay = alice.relay().clone();
        async move { relay.submit_one(&domain, envelope).await.unwrap() }
    };
    assert_eq!(submit("stranger.example").await, refused(FailureClass::PolicyDeniedHere));
    let id = tracking(submit("absent.example").await);
    let status = alice.tracked(id, |status| status.reason.is_some()).await.unwrap();
    assert_eq!((status.state, status.reason.as_deref()), (TrackingState::Queued, Some("discovery-absent")));
    assert!(status.next_attempt_at.is_some(), "a record may be published yet");
    let id = tracking(submit("declined.example").await);
    let status = alice.outcome(id).await.unwrap();
    assert_eq!((status.state, status.reason.as_deref()), (TrackingState::Failed, Some("discovery-declined")));
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn three_relays_reach_one_another() {
    let cluster = Cluster::start([ALPHA, BETA, GAMMA]).await.unwrap();
    let (a, b, c) = tokio::try_join!(cluster.user(ALPHA), cluster.user(BETA), cluster.user(GAMMA)).unwrap();
    let users = [&a, &b, &c];
    for from in users {
        for to in users.into_iter().filter(|to| to.identity().address() != from.identity().address()) {
            from.send(to, from.identity().domain().as_str().as_bytes()).await.unwrap();
        }
    }
    for user in users {
        let mut senders = Vec::new();
        for _ in 0..2 {
            let received = user.receive().await.unwrap();
            assert_eq!(received.message, received.sender.domain.as_str().as_bytes());
            senders.push(received.sender.domain);
        }
        senders.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        let others = users.map(|user| user.identity().domain().clone());
        let others: Vec<_> = others.into_iter().filter(|domain| domain != user.identity().domain()).collect();
        assert_eq!(senders, others);
    }
    cluster.shut_down().await.unwrap();
}
