//! Who may submit where only members may, how much, and what is kept of it.

use bytes::Bytes;
use postrider_client::{Error, Identity, SubmitResult};
use postrider_tests::cluster::{Cluster, User};

use crate::raw::{ALPHA, BETA};

const MEMBERS: &str = "policy = \"members\"\nrate_per_second = 1000000\nburst = 1000000\nmember_rate_per_second = 1\n\
                       member_burst = 300";

fn slug(error: &Error) -> String {
    error.slug().unwrap_or_else(|| panic!("{error}")).to_owned()
}

/// Submits one message with a session, and says what was answered.
async fn submit(from: &User, to: &User) -> Result<SubmitResult, String> {
    let envelope = from.seal(to, b"from one of yours").unwrap();
    let session = from.session().await.unwrap();
    session.submit_one(to.identity().domain(), envelope).await.map_err(|error| slug(&error))
}

#[tokio::test]
async fn only_members_submit_by_default_and_the_destination_does_not_ask() {
    let cluster = Cluster::builder([ALPHA, BETA]).submission(MEMBERS).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    assert_eq!(cluster.client(ALPHA).unwrap().info().await.unwrap().policies.submission, "members");
    let unsigned = alice.seal(&bob, b"who am I?").unwrap();
    let refused = alice.relay().submit_one(bob.identity().domain(), unsigned).await.unwrap_err();
    assert_eq!(slug(&refused), "unauthenticated");
    let stranger = cluster.connect(&Identity::generate(ALPHA.parse().unwrap())).unwrap();
    assert_eq!(submit(&stranger, &bob).await, Err("no-such-mailbox".into()), "a key is not enough");

    assert!(matches!(submit(&alice, &alice).await, Ok(SubmitResult::Stored)));
    assert!(matches!(submit(&alice, &bob).await, Ok(SubmitResult::Queued { .. })));
    assert_eq!(bob.receive().await.unwrap().message, b"from one of yours");

    // What is submitted carries nothing of it to anybody's log, also where everything else is told.
    let mailbox = alice.identity().address().mailbox.to_string();
    for relay in [ALPHA, BETA] {
        let log = cluster.log(relay).await.unwrap();
        assert!(!log.is_empty() && !log.contains(&mailbox[..16]), "{relay}: {log}");
    }
    let session = alice.session().await.unwrap();
    session.delete_mailbox().await.unwrap();
    assert_eq!(submit(&alice, &bob).await, Err("no-such-mailbox".into()), "no longer a member");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn room_for_an_attachment_is_made_for_those_who_may_submit() {
    let cluster = Cluster::builder([ALPHA]).submission(MEMBERS).start().await.unwrap();
    let alice = cluster.user(ALPHA).await.unwrap();
    let unsigned = alice.relay().reserve_attachment(6, 4).await.unwrap_err();
    assert_eq!(slug(&unsigned), "unauthenticated");
    let stranger = cluster.connect(&Identity::generate(ALPHA.parse().unwrap())).unwrap();
    let session = stranger.session().await.unwrap();
    assert_eq!(
        slug(&session.reserve_attachment(6, 4).await.unwrap_err()),
        "no-such-mailbox",
        "a key is not enough"
    );

    let session = alice.session().await.unwrap();
    let reserved = session.reserve_attachment(6, 4).await.unwrap();
    // From there on the id is enough.
    alice.relay().put_chunk(reserved.id, 0, Bytes::from_static(b"abcd")).await.unwrap();
    assert_eq!(alice.relay().attachment(reserved.id).await.unwrap().missing, [(1, 1)]);
    // A member's rate counts it: 300 at once, and one a second.
    let mut refused = None;
    while refused.is_none() {
        refused = session.reserve_attachment(6, 4).await.err();
    }
    let error = refused.unwrap();
    assert_eq!((slug(&error).as_str(), error.is_retryable()), ("rate-limited", true));
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn each_member_has_a_rate_of_their_own() {
    let cluster = Cluster::builder([ALPHA]).submission(MEMBERS).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    let batch: Vec<_> = (0..200)
        .map(|_| (bob.identity().domain().clone(), alice.seal(&bob, b"one of many").unwrap()))
        .collect();
    let session = alice.session().await.unwrap();
    assert_eq!(session.submit(&batch).await.unwrap().len(), 200);
    let error = session.submit(&batch).await.unwrap_err();
    assert!(error.is_retryable() && error.retry_after().is_some(), "{error}");
    assert_eq!(slug(&error), "rate-limited");
    assert!(matches!(submit(&bob, &alice).await, Ok(SubmitResult::Stored)), "somebody else's is full");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn where_everybody_may_submit_the_token_is_not_shown() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    let stranger = cluster.connect(&Identity::generate(ALPHA.parse().unwrap())).unwrap();
    assert!(matches!(submit(&stranger, &bob).await, Ok(SubmitResult::Stored)));
    assert!(stranger.session().await.unwrap().reserve_attachment(6, 4).await.is_ok());
    assert!(matches!(submit(&alice, &bob).await, Ok(SubmitResult::Stored)));
    cluster.shut_down().await.unwrap();
}
