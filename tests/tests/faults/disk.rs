//! The disk is full, or takes no writes. Needs the right to mount: without it these tests say so and are skipped.

use std::time::Duration;

use postrider_common::wire::control::TrackingState;
use postrider_common::wire::submit::SubmitResult;
use postrider_common::{Domain, Envelope, FailureClass};
use postrider_tests::binary::postrider;
use postrider_tests::cluster::{Cluster, Stopped, User};

use crate::mounted::Disk;
use crate::plain::{ALPHA, BETA, envelope, tracking, waiting};

const MIB: usize = 1 << 20;
const METRICS: &str = "metrics = \"127.0.0.1:0\"";

/// What a relay on a small disk is told.
fn small(_: &Domain) -> String {
    "[store]\nreserve = \"16 MiB\"\ncache = \"8 MiB\"\n".into()
}

/// One relay, stopped, with its data on a disk of its own.
async fn on_a_small_disk() -> (Cluster, Option<Disk>) {
    let binary = postrider();
    let cluster = Cluster::builder([ALPHA]).processes(binary).listen(METRICS).configure(small);
    let cluster = cluster.start().await.unwrap();
    cluster.stop(ALPHA).await.unwrap();
    let disk = Disk::in_memory(&cluster.directory(ALPHA).unwrap().join("data"));
    (cluster, disk)
}

async fn submit(from: &User, to: &User, envelope: &Envelope) -> SubmitResult {
    from.relay().submit_one(to.identity().domain(), envelope.clone()).await.unwrap()
}

#[tokio::test]
async fn a_full_disk_takes_nothing_new_and_gives_out_what_it_has() {
    let (cluster, Some(disk)) = on_a_small_disk().await else { return };
    cluster.restart(ALPHA).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    for text in ["one", "two"] {
        alice.submit(&bob, envelope(&cluster, &bob, text)).await.unwrap();
    }
    disk.fill_up_to(8 * MIB);
    let late = loop {
        let late = envelope(&cluster, &bob, "late");
        match submit(&alice, &bob, &late).await {
            SubmitResult::Refused { reason, retry_after } => {
                assert_eq!(reason, FailureClass::StorageFull);
                assert!(retry_after.is_some(), "it says when to come again");
                submit(&alice, &bob, &late).await;
                break late;
            }
            // What the file system said is believed for a second.
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    cluster.logged(ALPHA, "the disk is nearly full").await.unwrap();
    let (status, said) = cluster.monitoring(ALPHA, "/readyz").await.unwrap();
    assert_eq!(status, 503);
    assert!(said.starts_with("the disk is nearly full: "), "{said}");

    let session = bob.session().await.unwrap();
    let entries = bob.waiting().await.unwrap();
    assert!(entries.len() >= 2);
    let deleted = entries[0].id;
    session.acknowledge(&[deleted]).await.unwrap();
    assert_eq!(bob.waiting().await.unwrap().len(), entries.len() - 1);

    disk.fill_up_to(32 * MIB);
    while !matches!(submit(&alice, &bob, &envelope(&cluster, &bob, "more")).await, SubmitResult::Stored) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.logged(ALPHA, "there is room on the disk again").await.unwrap();
    assert_eq!(cluster.monitoring(ALPHA, "/readyz").await.unwrap().0, 200);
    let log = cluster.log(ALPHA).await.unwrap();
    assert_eq!(log.matches("the disk is nearly full").count(), 1, "once, and not for each envelope: {log}");
    let entries = bob.waiting().await.unwrap();

    // Not a byte is left, and then the relay ends.
    disk.fill_up_to(0);
    let _ = session.acknowledge(&[entries[0].id]).await;
    cluster.kill(ALPHA).await.unwrap();
    disk.free();
    cluster.restart(ALPHA).await.unwrap();
    let left = bob.waiting().await.unwrap();
    assert!(left.iter().all(|entry| entry.id != deleted), "what was deleted stays so");
    assert!(
        entries[1..].iter().all(|entry| left.iter().any(|other| other.id == entry.id)),
        "the rest is there"
    );
    alice.submit(&bob, late.clone()).await.unwrap();
    cluster.stop(ALPHA).await.unwrap();
    drop(disk);
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_relay_says_that_its_disk_takes_no_writes_and_goes_on_once_it_does() {
    let (cluster, Some(disk)) = on_a_small_disk().await else { return };
    cluster.restart(ALPHA).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    alice.submit(&bob, envelope(&cluster, &bob, "hello")).await.unwrap();
    cluster.kill(ALPHA).await.unwrap();

    disk.remount("ro");
    let error = cluster.restart(ALPHA).await.unwrap_err().to_string();
    assert!(error.contains("Read-only file system") && error.contains("data"), "{error}");
    disk.remount("rw");
    cluster.restart(ALPHA).await.unwrap();
    assert_eq!(waiting(&bob).await, ["hello"]);
    cluster.stop(ALPHA).await.unwrap();
    drop(disk);
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_disk_that_fails_under_a_running_relay_turns_nothing_into_a_success() {
    let cluster = Cluster::builder([ALPHA, BETA]).processes(postrider()).listen(METRICS).configure(small);
    let cluster = cluster.start().await.unwrap();
    cluster.stop(ALPHA).await.unwrap();
    let data = cluster.directory(ALPHA).unwrap().join("data");
    let Some(disk) = Disk::in_a_file(&data) else { return };
    cluster.restart(ALPHA).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    let carol = cluster.user(BETA).await.unwrap();
    cluster.stop(BETA).await.unwrap();
    alice.submit(&bob, envelope(&cluster, &bob, "kept")).await.unwrap();
    let id = tracking(alice.submit(&carol, envelope(&cluster, &carol, "queued")).await.unwrap());
    alice.tracked(id, |status| status.attempts > 0).await.unwrap();

    disk.fail();
    let late = envelope(&cluster, &bob, "late");
    for _ in 0..5 {
        match submit(&alice, &bob, &late).await {
            SubmitResult::Refused { reason, retry_after } => {
                assert_eq!((reason, retry_after.is_some()), (FailureClass::Unavailable, true));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(waiting(&bob).await, ["kept"], "what was read stays readable");
    let (status, said) = cluster.monitoring(ALPHA, "/readyz").await.unwrap();
    assert_eq!(status, 503);
    assert!(said.starts_with("the store takes no more writes, since one has failed: "), "{said}");
    assert_eq!(cluster.monitoring(ALPHA, "/livez").await.unwrap().0, 200);
    let session = bob.session().await.unwrap();
    let entry = bob.waiting().await.unwrap()[0].id;
    for _ in 0..3 {
        assert!(session.acknowledge(&[entry]).await.is_err(), "nothing is confirmed");
    }
    let why = "Read-only file system (os error 30)";
    let failed =
        format!("the store takes no more writes, since one has failed: the store's disk failed: {why}");
    cluster
        .logged(ALPHA, &format!("the queue cannot be served: the store's disk failed: {why}"))
        .await
        .unwrap();
    let end = cluster.stop(ALPHA).await.unwrap();
    assert_eq!(end, Stopped::Otherwise("exit status: 74".into()));
    let log = cluster.log(ALPHA).await.unwrap();
    let refused = format!("the store does not serve a request: the store's disk failed: {why}");
    for (words, times) in [(&failed, 1), (&refused, 1)] {
        assert_eq!(log.matches(words.as_str()).count(), times, "{words}: {log}");
    }
    let last = format!(
        "postrider: the store has failed, and what had been accepted before is on its disk: the store's disk failed: {why}"
    );
    assert_eq!(log.lines().last(), Some(last.as_str()));
    assert!(!log.contains("panicked"), "{log}");
    assert!(cluster.restart(ALPHA).await.unwrap_err().to_string().contains(why), "until it is repaired");
    disk.repair();
    cluster.restart(ALPHA).await.unwrap();
    assert_eq!(waiting(&bob).await, ["kept"]);
    cluster.restart(BETA).await.unwrap();
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);
    assert_eq!(waiting(&carol).await, ["queued"]);
    cluster.stop(ALPHA).await.unwrap();
    drop(disk);
    cluster.shut_down().await.unwrap();
}
