//! A mailbox moves to another relay: what waits goes along, who writes to the old address is followed, and nobody goes
//! round in circles.

use std::time::Duration;

use postrider_client::{Delivery, SubmitResult};
use postrider_common::wire::control::TrackingState;
use postrider_common::{Domain, Draft, FailureClass};
use postrider_tests::clock::StandingClock;
use postrider_tests::cluster::{Cluster, User};

use crate::plain::{ALPHA, BETA, GAMMA, draft, envelope, sorted, text, tracking, waiting};

const DELTA: &str = "delta.example";

async fn cluster() -> Cluster {
    Cluster::start([ALPHA, BETA, GAMMA]).await.unwrap()
}

/// Moves a user's mailbox, and returns the app of the same device at the new relay.
async fn move_to(cluster: &Cluster, user: &User, to: &str) -> User {
    let session = user.session().await.unwrap();
    cluster.connect(&session.move_to(&cluster.client(to).unwrap()).await.unwrap()).unwrap()
}

/// Registers the user's mailbox at another relay, without moving it.
async fn register_at(cluster: &Cluster, user: &User, at: &str) -> User {
    let user = cluster.connect(&user.identity().at(at.parse().unwrap())).unwrap();
    user.session().await.unwrap().register().await.unwrap();
    user
}

/// The user says to `at` that the mailbox is kept at `to`.
async fn bind(at: &User, to: &str, serial: u64) {
    let binding = at.identity().at(to.parse().unwrap()).binding(serial);
    at.session().await.unwrap().bind(&binding).await.unwrap();
}

/// The next texts that a user's device gets, each acknowledged.
async fn texts(user: &User, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..count {
        let Delivery::Entry(entry) = user.next().await.unwrap() else { panic!("an entry is expected") };
        texts.push(text(&entry.envelope));
        user.session().await.unwrap().acknowledge(&[entry.id]).await.unwrap();
    }
    sorted(texts)
}

async fn stored(from: &User, to: &User, what: &str, cluster: &Cluster) -> Domain {
    let id = tracking(from.submit(to, envelope(cluster, to, what)).await.unwrap());
    let status = from.outcome(id).await.unwrap();
    assert_eq!(status.state, TrackingState::Stored, "{status:?}");
    status.destination
}

#[tokio::test]
async fn what_waits_goes_along_for_every_device() {
    let cluster = cluster().await;
    let (alice, phone) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let laptop = cluster.connect(&phone.identity().with_new_device()).unwrap();
    laptop.session().await.unwrap().register().await.unwrap();
    for number in 0..100 {
        stored(&alice, &phone, &number.to_string(), &cluster).await;
    }
    let for_one = Draft { device: Some(*laptop.identity().device()), ..draft(&cluster, &phone, "for one") };
    tracking(alice.submit(&phone, for_one.finish().unwrap()).await.unwrap());
    assert_eq!(texts(&phone, 100).await.len(), 100);
    laptop.next().await.unwrap();

    let on_phone = move_to(&cluster, &phone, GAMMA).await;
    let on_laptop = cluster.connect(&laptop.identity().at(GAMMA.parse().unwrap())).unwrap();
    let mut all: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    all.push("for one".into());
    assert_eq!(texts(&on_laptop, 101).await, sorted(all));
    assert_eq!(waiting(&on_laptop).await, [""; 0]);
    // What it had at the old relay comes once more: the laptop had yet to get it.
    assert_eq!(texts(&on_phone, 100).await.len(), 100);
    for device in [&phone, &laptop] {
        let refused = device.waiting().await.unwrap_err();
        assert!(refused.to_string().contains("kept at another relay"), "{refused}");
    }
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn whoever_writes_to_the_old_address_is_followed() {
    let cluster = cluster().await;
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let (carol, dave) = (cluster.user(GAMMA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let moved = move_to(&cluster, &bob, GAMMA).await;

    // From another relay: told by the old one, and from then on known.
    assert_eq!(stored(&alice, &bob, "first", &cluster).await.as_str(), GAMMA);
    let before = cluster.link(ALPHA, BETA).unwrap().traffic().request_bytes;
    assert_eq!(stored(&alice, &bob, "second", &cluster).await.as_str(), GAMMA);
    assert_eq!(cluster.link(ALPHA, BETA).unwrap().traffic().request_bytes, before);
    // From the old relay itself.
    assert_eq!(stored(&dave, &bob, "third", &cluster).await.as_str(), GAMMA);
    // From the new relay: told by the old one, and from then on at home.
    stored(&carol, &bob, "fourth", &cluster).await;
    let fifth = carol.submit(&bob, envelope(&cluster, &bob, "fifth")).await.unwrap();
    assert_eq!(tracking_or_stored(&carol, fifth).await, TrackingState::Stored);
    assert_eq!(texts(&moved, 5).await, ["fifth", "first", "fourth", "second", "third"]);

    // No device is seen at the old relay any more, and they go in time; the owner can say where the mailbox is all the same.
    let session = bob.session().await.unwrap();
    session.remove_device(bob.identity().device()).await.unwrap();
    assert!(session.binding().await.unwrap().is_some());
    // Whoever comes back is registered anew, as those are who have never been there.
    assert_eq!(session.devices().await.unwrap().len(), 0);
    session.register().await.unwrap();
    assert_eq!(session.devices().await.unwrap().len(), 1);
    session.remove_device(bob.identity().device()).await.unwrap();
    session.delete_mailbox().await.unwrap();
    cluster.shut_down().await.unwrap();
}

async fn tracking_or_stored(user: &User, result: SubmitResult) -> TrackingState {
    match result {
        SubmitResult::Queued { tracking } => user.outcome(tracking).await.unwrap().state,
        other => {
            assert_eq!(other, SubmitResult::Stored);
            TrackingState::Stored
        }
    }
}

#[tokio::test]
async fn a_mailbox_comes_back_with_what_it_has() {
    let cluster = cluster().await;
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    stored(&alice, &bob, "before", &cluster).await;
    let away = move_to(&cluster, &bob, GAMMA).await;
    away.next().await.unwrap();
    stored(&alice, &bob, "away", &cluster).await;
    let back = move_to(&cluster, &away, BETA).await;
    stored(&alice, &bob, "back", &cluster).await;
    stored(&alice, &away, "followed", &cluster).await;
    assert_eq!(texts(&back, 4).await, ["away", "back", "before", "followed"]);
    assert_eq!(waiting(&back).await, [""; 0]);
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn an_old_binding_is_refused() {
    let cluster = cluster().await;
    let bob = cluster.user(BETA).await.unwrap();
    register_at(&cluster, &bob, GAMMA).await;
    let session = bob.session().await.unwrap();
    assert_eq!(session.binding().await.unwrap(), None);
    bind(&bob, GAMMA, 7).await;
    bind(&bob, GAMMA, 7).await;
    let identity = bob.identity();
    for (to, serial) in [(ALPHA, 7), (GAMMA, 6), (BETA, 7)] {
        let error = session.bind(&identity.at(to.parse().unwrap()).binding(serial)).await.unwrap_err();
        assert_eq!(error.slug(), Some("binding-outdated"), "{error}");
    }
    let strangers = cluster.user(BETA).await.unwrap().identity().binding(9);
    let error = session.bind(&strangers).await.unwrap_err();
    assert_eq!(error.slug(), Some("binding-refused"), "{error}");
    let unknown = identity.at("unknown.example".parse().unwrap()).binding(9);
    let error = session.bind(&unknown).await.unwrap_err();
    assert_eq!(error.slug(), Some("policy-denied-here"), "{error}");
    assert_eq!(session.binding().await.unwrap(), Some(identity.at(GAMMA.parse().unwrap()).binding(7)));
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn two_devices_that_move_a_mailbox_to_two_relays_at_once_do_not_block_each_other() {
    let cluster = cluster().await;
    let bob = cluster.user(BETA).await.unwrap();
    // Both have found out the same serial; the other one was faster at the old relay.
    let there = register_at(&cluster, &bob, GAMMA).await;
    register_at(&cluster, &bob, ALPHA).await;
    bind(&there, GAMMA, 1).await;
    bind(&bob, ALPHA, 1).await;
    let session = bob.session().await.unwrap();
    session.move_to(&cluster.client(GAMMA).unwrap()).await.unwrap();
    let gamma = bob.identity().at(GAMMA.parse().unwrap());
    assert_eq!(session.binding().await.unwrap(), Some(gamma.binding(2)));
    // What was interrupted after the new relay was told goes on with the same.
    bind(&there, GAMMA, 9).await;
    session.move_to(&cluster.client(GAMMA).unwrap()).await.unwrap();
    assert_eq!(session.binding().await.unwrap(), Some(gamma.binding(9)));
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn going_round_in_circles_ends() {
    let cluster = Cluster::start([ALPHA, BETA, GAMMA, DELTA]).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    bind(&register_at(&cluster, &bob, GAMMA).await, DELTA, 11).await;
    bind(&register_at(&cluster, &bob, DELTA).await, BETA, 12).await;
    bind(&bob, GAMMA, 10).await;
    let id = tracking(alice.submit(&bob, envelope(&cluster, &bob, "round")).await.unwrap());
    let status = alice.outcome(id).await.unwrap();
    let told = (status.state, status.reason.as_deref(), status.attempts);
    assert_eq!(told, (TrackingState::Failed, Some(FailureClass::Loop.slug()), 4));
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn what_the_new_relay_does_not_take_is_kept_for_it() {
    let clock = StandingClock::new();
    let cluster = Cluster::builder([ALPHA, BETA, GAMMA]).clock(clock.clone()).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    for what in ["held", "held too"] {
        stored(&alice, &bob, what, &cluster).await;
    }
    // Its owner has forgotten to register it there.
    bind(&bob, GAMMA, 1).await;
    let id = tracking(alice.submit(&bob, envelope(&cluster, &bob, "followed")).await.unwrap());
    let queued = alice.tracked(id, |status| status.attempts == 2).await.unwrap();
    assert_eq!((queued.state, queued.reason.as_deref()), (TrackingState::Queued, Some("no-such-mailbox")));
    for _ in 0..600 {
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    let there = register_at(&cluster, &bob, GAMMA).await;
    let all = async {
        loop {
            clock.advance(Duration::from_secs(60));
            if waiting(&there).await.len() == 3 {
                return sorted(waiting(&there).await);
            }
        }
    };
    assert_eq!(all.await, ["followed", "held", "held too"]);
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn what_a_dead_relay_never_took_follows_its_owner() {
    let clock = StandingClock::new();
    let cluster = Cluster::builder([ALPHA, BETA, GAMMA]).clock(clock.clone()).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    stored(&alice, &bob, "held", &cluster).await;
    register_at(&cluster, &bob, GAMMA).await;
    cluster.stop(GAMMA).await.unwrap();
    bind(&bob, GAMMA, 1).await;
    cluster.logged(BETA, "sent on").await.unwrap();
    // Home again, and the other relay never comes back.
    bind(&bob, BETA, 2).await;
    let held = async {
        while waiting(&bob).await.is_empty() {
            clock.advance(Duration::from_secs(60));
        }
    };
    held.await;
    assert_eq!(waiting(&bob).await, ["held"]);
    cluster.shut_down().await.unwrap();
}
