//! Envelopes with attachments that cannot be brought.

use std::time::Duration;

use postrider_common::FailureClass;
use postrider_common::clock::Clock;

use super::bench::{Bench, Peer, START};
use crate::store::TrackingEnd;

#[tokio::test]
async fn others_do_not_wait_for_attachments_that_the_peer_does_not_take() {
    for class in [FailureClass::VersionUnsupported, FailureClass::RemoteFailed, FailureClass::RemoteBusy] {
        let peer = Peer::new([]);
        peer.not_brought.lock().unwrap().extend([class; 6]);
        let bench = Bench::new(&peer);
        let laden = bench.enqueue_laden(1).await[0];
        let waits = loop {
            // With the pauses between quick tries.
            bench.pass(Duration::from_millis(100)).await;
            let tracking = bench.store.tracking(laden).await.unwrap().unwrap();
            if tracking.attempts > 0 {
                break tracking;
            }
        };
        assert_eq!((waits.reason, waits.end), (Some(class), None));
        assert!(waits.not_before.is_some_and(|until| until > bench.clock.now()));
        let plain = bench.enqueue(1).await[0];
        assert_eq!(bench.end(plain).await, TrackingEnd::Stored, "no time has passed");
        let state = bench.store.destination(bench.destination.clone()).await.unwrap().unwrap();
        assert_eq!((state.items, state.backoff), (1, None));
        bench.advance_until(&peer, 2).await;
        assert_eq!(bench.end(laden).await, TrackingEnd::Stored);
    }
}

#[tokio::test]
async fn a_restart_of_the_peer_in_an_attachment_does_not_start_the_ladder() {
    let peer = Peer::new([]);
    peer.not_brought.lock().unwrap().extend([FailureClass::ConnectFailed; 2]);
    let bench = Bench::new(&peer);
    let laden = bench.enqueue_laden(1).await[0];
    bench.advance_until(&peer, 1).await;
    assert_eq!(bench.end(laden).await, TrackingEnd::Stored);
    let tracking = bench.store.tracking(laden).await.unwrap().unwrap();
    assert_eq!((tracking.attempts, tracking.reason), (1, None));
    assert!(
        bench.clock.now() < START + Duration::from_secs(4),
        "the first step of the ladder is 5 s, less a fifth"
    );
}
