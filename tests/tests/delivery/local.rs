//! Sender and recipient have the same relay.

use postrider::store::{self, Options};
use postrider_client::{Delivery, Identity};
use postrider_common::supervisor::Supervisor;
use postrider_common::wire::submit::SubmitResult;
use postrider_common::{DeviceId, Draft, FailureClass};
use postrider_tests::cluster::Cluster;

use crate::plain::{ALPHA, draft, envelope, refused, text, waiting};

#[tokio::test]
async fn reaches_who_is_connected_and_who_connects_later() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());

    bob.go_online().await.unwrap();
    assert_eq!(alice.send(&bob, b"now").await.unwrap(), SubmitResult::Stored);
    let received = bob.receive().await.unwrap();
    assert_eq!((received.message.as_slice(), &received.sender), (&b"now"[..], alice.identity().address()));

    bob.go_offline().await.unwrap();
    assert_eq!(alice.send(&bob, b"later").await.unwrap(), SubmitResult::Stored);
    assert_eq!(bob.receive().await.unwrap().message, b"later");

    let nobody = cluster.connect(&Identity::generate(ALPHA.parse().unwrap())).unwrap();
    let result = alice.relay().submit_one(&ALPHA.parse().unwrap(), envelope(&cluster, &nobody, "x")).await;
    assert_eq!(result.unwrap(), refused(FailureClass::NoSuchMailbox));
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn each_device_gets_it_and_the_last_acknowledgement_deletes_it() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let (alice, phone) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    let laptop = cluster.connect(&phone.identity().with_new_device()).unwrap();
    assert!(!laptop.session().await.unwrap().register().await.unwrap().created, "a mailbox has many devices");

    let sent = envelope(&cluster, &phone, "for both");
    alice.submit(&phone, sent.clone()).await.unwrap();
    let Delivery::Entry(on_phone) = phone.next().await.unwrap() else { panic!("an entry is expected") };
    assert_eq!(on_phone.envelope, sent);
    phone.session().await.unwrap().acknowledge(&[on_phone.id]).await.unwrap();
    assert!(waiting(&phone).await.is_empty());
    let on_laptop = laptop.waiting().await.unwrap();
    assert_eq!(on_laptop[0].envelope, sent, "another device's acknowledgement is not this one's");
    laptop.session().await.unwrap().acknowledge(&[on_laptop[0].id]).await.unwrap();
    assert!(waiting(&laptop).await.is_empty());

    let to_device = |device| {
        let draft = Draft { device: Some(device), ..draft(&cluster, &phone, "for one") };
        alice.relay().submit_one(phone.identity().domain(), draft.finish().unwrap())
    };
    assert_eq!(to_device(*laptop.identity().device()).await.unwrap(), SubmitResult::Stored);
    let unknown = to_device(DeviceId::random()).await.unwrap();
    assert_eq!(unknown, refused(FailureClass::NoSuchDevice));
    assert!(waiting(&phone).await.is_empty());
    let on_laptop = laptop.waiting().await.unwrap();
    assert_eq!(text(&on_laptop[0].envelope), "for one");
    laptop.session().await.unwrap().acknowledge(&[on_laptop[0].id]).await.unwrap();

    cluster.stop(ALPHA).await.unwrap();
    let supervisor = Supervisor::new();
    let directory = cluster.directory(ALPHA).unwrap().join("data/store");
    let store = store::open(&directory, &Options::default(), &supervisor).unwrap();
    let state = store.mailbox(phone.identity().address().mailbox).await.unwrap().unwrap();
    assert_eq!((state.entries, state.bytes), (0, 0), "nothing is left of what every device has");
}

#[tokio::test]
async fn deleting_a_mailbox_closes_its_streams_and_empties_it() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    alice.submit(&bob, envelope(&cluster, &bob, "unread")).await.unwrap();
    let session = bob.session().await.unwrap();
    let mut stream = session.stream().await.unwrap();
    assert!(stream.next().await.unwrap().is_ok());

    session.delete_mailbox().await.unwrap();
    assert!(stream.next().await.is_none(), "the relay closes it in order");
    let into_nothing = alice.relay().submit_one(bob.identity().domain(), envelope(&cluster, &bob, "x"));
    assert_eq!(into_nothing.await.unwrap(), refused(FailureClass::NoSuchMailbox));
    assert!(session.stream().await.is_err());

    assert!(session.register().await.unwrap().created, "it is a new one");
    assert!(waiting(&bob).await.is_empty());
    alice.submit(&bob, envelope(&cluster, &bob, "new")).await.unwrap();
    assert_eq!(waiting(&bob).await, ["new"]);
    cluster.shut_down().await.unwrap();
}
