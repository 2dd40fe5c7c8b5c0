//! A relay is stopped in order while it is busy.

use std::cell::Cell;
use std::time::Duration;

use postrider_common::wire::control::TrackingState;
use postrider_tests::cluster::{Cluster, Log, Stopped};

use crate::plain::{ALPHA, BETA, envelope, numbers, sorted, tracking, waiting};

#[tokio::test]
async fn nothing_that_was_accepted_is_lost() {
    let cluster = Cluster::start([ALPHA, BETA]).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());

    let is_over = Cell::new(false);
    let sending = async {
        let mut ids = Vec::new();
        // However few batches there are while beta is away, and however large the next one is: more are to come.
        while !is_over.get() {
            let envelope = envelope(&cluster, &bob, ids.len().to_string());
            // While alpha is away, alice's app keeps trying, with the same envelope.
            ids.push(loop {
                match alice.relay().submit_one(bob.identity().domain(), envelope.clone()).await {
                    Ok(result) => break tracking(result),
                    Err(error) => assert!(error.is_retryable(), "{error}"),
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            });
        }
        ids
    };
    let stopping = async {
        cluster.logged_times(BETA, "inbound batch", 10).await.unwrap();
        assert_eq!(cluster.stop(BETA).await.unwrap(), Stopped::InOrder);
        cluster.restart(BETA).await.unwrap();
        // Ends alpha's wait, in case it has begun one.
        bob.send(&alice, b"I am back").await.unwrap();
        cluster.logged_times(BETA, "inbound batch", 20).await.unwrap();
        assert_eq!(cluster.stop(ALPHA).await.unwrap(), Stopped::InOrder);
        cluster.restart(ALPHA).await.unwrap();
        bob.send(&alice, b"I am still here").await.unwrap();
        is_over.set(true);
    };
    let (ids, ()) = tokio::join!(sending, stopping);
    for id in &ids {
        assert_eq!(alice.outcome(*id).await.unwrap().state, TrackingState::Stored);
    }
    assert_eq!(sorted(waiting(&bob).await), numbers(ids.len()));
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_stream_is_told_that_the_relay_restarts() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let bob = cluster.user(ALPHA).await.unwrap();
    let mut stream = bob.session().await.unwrap().stream().await.unwrap();
    let (stopped, end) = tokio::join!(cluster.stop(ALPHA), async {
        let log = Log::default();
        let _here = tracing::dispatcher::set_default(&log.dispatch());
        assert!(stream.next().await.is_none(), "it is closed, not broken");
        log.text()
    });
    assert_eq!(stopped.unwrap(), Stopped::InOrder);
    // 1012 of RFC 6455's registry, which is what the SDK's log says.
    assert!(end.contains("Restart"), "{end}");
}
