//! How a device receives: what comes again, how much is on its way, which connection counts.

use std::time::Duration;

use postrider_client::{Delivery, MailboxStream};
use postrider_common::{Draft, EntryId, Urgency};
use postrider_tests::cluster::Cluster;

use crate::plain::{ALPHA, draft, envelope, ids, text};

/// The default of `limits.stream_entries`.
const WINDOW: usize = 256;

async fn next_entry(stream: &mut MailboxStream) -> (EntryId, String) {
    match stream.next().await.unwrap().unwrap() {
        Delivery::Entry(entry) => (entry.id, text(&entry.envelope)),
        other => panic!("an entry is expected, not {other:?}"),
    }
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again_under_the_same_id() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    for message in ["one", "two"] {
        alice.submit(&bob, envelope(&cluster, &bob, message)).await.unwrap();
    }
    let mut first = bob.session().await.unwrap().stream().await.unwrap();
    let (one, two) = (next_entry(&mut first).await, next_entry(&mut first).await);
    assert_eq!((one.1.as_str(), two.1.as_str()), ("one", "two"));
    // No goodbye, as when the network dies; and an app that remembers nothing.
    drop(first);
    let again = cluster.connect(bob.identity()).unwrap();
    let session = again.session().await.unwrap();
    let mut second = session.stream().await.unwrap();
    assert_eq!(next_entry(&mut second).await, one);
    assert_eq!(next_entry(&mut second).await, two);
    assert_eq!(ids(&again.waiting().await.unwrap()), [one.0.0, two.0.0], "a long poll gives the same");

    session.acknowledge(&[one.0]).await.unwrap();
    let third = cluster.connect(bob.identity()).unwrap();
    let mut stream = third.session().await.unwrap().stream().await.unwrap();
    assert_eq!(next_entry(&mut stream).await, two);

    // A poll that waits is answered as soon as something comes.
    let session = third.session().await.unwrap();
    let (polled, sent) = tokio::join!(
        session.entries(Some(two.0), Duration::from_secs(30)),
        alice.submit(&bob, envelope(&cluster, &bob, "three")),
    );
    sent.unwrap();
    assert_eq!(text(&polled.unwrap()[0].envelope), "three");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_device_that_does_not_acknowledge_gets_a_window_and_no_more() {
    const COUNT: usize = WINDOW + 30;
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    let domain = bob.identity().domain();
    let items: Vec<_> =
        (0..COUNT).map(|number| (domain.clone(), envelope(&cluster, &bob, number.to_string()))).collect();
    for batch in items.chunks(256) {
        alice.relay().submit(batch).await.unwrap();
    }

    let mut stream = bob.session().await.unwrap().stream().await.unwrap();
    let mut entries = Vec::new();
    for number in 0..WINDOW {
        let (id, text) = next_entry(&mut stream).await;
        assert_eq!(text, number.to_string(), "oldest first");
        entries.push(id);
    }
    assert!(entries.is_sorted());
    // The window does not hold for ephemeral envelopes. The relay sends what the window lets through before it looks
    // at this one, so that nothing else was let through.
    let mark = Draft { urgency: Urgency::Ephemeral, ..draft(&cluster, &bob, "mark") };
    alice.submit(&bob, mark.finish().unwrap()).await.unwrap();
    assert!(matches!(stream.next().await.unwrap().unwrap(), Delivery::Ephemeral(_)));

    stream.acknowledge(&entries).await.unwrap();
    for number in WINDOW..COUNT {
        assert_eq!(next_entry(&mut stream).await.1, number.to_string());
    }
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_devices_new_stream_replaces_its_old_one() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    let session = bob.session().await.unwrap();
    let mut old = session.stream().await.unwrap();
    let mut new = session.stream().await.unwrap();
    assert!(old.next().await.is_none(), "it was closed in order");
    alice.submit(&bob, envelope(&cluster, &bob, "hello")).await.unwrap();
    assert_eq!(next_entry(&mut new).await.1, "hello");

    // Another device of the same mailbox is connected beside it.
    let laptop = cluster.connect(&bob.identity().with_new_device()).unwrap();
    laptop.session().await.unwrap().register().await.unwrap();
    laptop.go_online().await.unwrap();
    alice.submit(&bob, envelope(&cluster, &bob, "to both")).await.unwrap();
    assert_eq!(next_entry(&mut new).await.1, "to both");
    assert!(
        matches!(laptop.next().await.unwrap(), Delivery::Entry(entry) if text(&entry.envelope) == "to both")
    );
    cluster.shut_down().await.unwrap();
}
