//! Connections that end: because a relay stops, dies, or has nothing to say.

use std::time::Duration;

use postrider_common::{Failure, FailureClass, Outcome};

use crate::support::{Relay, Table, allow, client, domain, envelope, identity, peer, pinned};

#[tokio::test]
async fn a_relay_that_stops_finishes_what_it_has() {
    let (a, b) = (identity("a.example"), identity("b.example"));
    let policy = allow(&b, [peer("a.example", pinned(&a))]);
    let relay = Relay::start(&b, policy.clone()).await;
    relay.inbox.gate.forget_permits(1000);
    let table = Table::new([("b.example", relay.address)]);
    let calling = client(&a, allow(&a, [peer("b.example", pinned(&b))]), table.clone(), |_| {});
    let destination = domain("b.example");
    let batch = [envelope(b"x")];
    let stopping = async {
        relay.inbox.wait_for(1).await;
        relay.supervisor.stop();
        // The batch is still there, so the connection is; a new relay takes what comes from now on.
        let next = Relay::start(&b, policy).await;
        table.set("b.example", next.address);
        relay.wait_for_open(1).await;
        relay.inbox.gate.add_permits(1);
        relay.stop().await;
        next
    };
    let (outcome, next) = tokio::join!(calling.client.forward(&destination, &batch), stopping);
    assert_eq!(outcome, Ok(vec![Outcome::Stored]));
    assert_eq!(calling.client.forward(&destination, &batch).await, Ok(vec![Outcome::Stored]));
    assert_eq!(next.connections(), 1);
}

#[tokio::test]
async fn a_relay_that_came_back_is_found_again() {
    let (a, b) = (identity("a.example"), identity("b.example"));
    let policy = allow(&b, [peer("a.example", pinned(&a))]);
    let first = Relay::start(&b, policy.clone()).await;
    let table = Table::new([("b.example", first.address)]);
    let calling = client(&a, allow(&a, [peer("b.example", pinned(&b))]), table.clone(), |_| {});
    let destination = domain("b.example");
    let batch = [envelope(b"x")];
    assert!(calling.client.forward(&destination, &batch).await.is_ok());
    first.stop().await;
    let failure = calling.client.forward(&destination, &batch).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::ConnectFailed);
    let second = Relay::start(&b, policy).await;
    table.set("b.example", second.address);
    assert_eq!(calling.client.forward(&destination, &batch).await, Ok(vec![Outcome::Stored]));
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_made_again() {
    let (a, b) = (identity("a.example"), identity("b.example"));
    let relay = Relay::start(&b, allow(&b, [peer("a.example", pinned(&a))])).await;
    let table = Table::new([("b.example", relay.address)]);
    let calling = client(&a, allow(&a, [peer("b.example", pinned(&b))]), table, |_| {});
    let destination = domain("b.example");
    let batch = [envelope(b"x")];
    assert!(calling.client.forward(&destination, &batch).await.is_ok());
    relay.wait_for_open(1).await;
    // Its task may start to wait only after the clock was moved, so the clock is moved until it has.
    let moving = async {
        loop {
            calling.clock.advance(Duration::from_secs(30));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = relay.wait_for_open(0) => {}
        () = moving => {}
    }
    assert!(calling.client.forward(&destination, &batch).await.is_ok());
    assert_eq!(relay.connections(), 2);
}

#[tokio::test]
async fn a_request_in_flight_keeps_its_connection_from_idling() {
    let (a, b) = (identity("a.example"), identity("b.example"));
    let relay = Relay::start(&b, allow(&b, [peer("a.example", pinned(&a))])).await;
    relay.inbox.gate.forget_permits(1000);
    let table = Table::new([("b.example", relay.address)]);
    let calling = client(&a, allow(&a, [peer("b.example", pinned(&b))]), table, |_| {});
    let (destination, batch) = (domain("b.example"), [envelope(b"x")]);
    let waiting = async {
        relay.inbox.wait_for(1).await;
        for _ in 0..20 {
            calling.clock.advance(Duration::from_secs(60));
            tokio::task::yield_now().await;
        }
        relay.inbox.gate.add_permits(2);
    };
    let (outcome, ()) = tokio::join!(calling.client.forward(&destination, &batch), waiting);
    assert_eq!(outcome, Ok(vec![Outcome::Stored]));
    assert!(calling.client.forward(&destination, &batch).await.is_ok());
    assert_eq!(relay.connections(), 1);
}

#[tokio::test]
async fn a_peer_that_does_not_answer_is_given_up() {
    let (a, b) = (identity("a.example"), identity("b.example"));
    let relay = Relay::start(&b, allow(&b, [peer("a.example", pinned(&a))])).await;
    relay.inbox.gate.forget_permits(1000);
    let table = Table::new([("b.example", relay.address)]);
    let calling = client(&a, allow(&a, [peer("b.example", pinned(&b))]), table, |config| {
        config.request_timeout = Duration::from_millis(300);
    });
    let failure = calling.client.forward(&domain("b.example"), &[envelope(b"x")]).await.unwrap_err();
    let detail = "b.example did not answer within 300 ms";
    assert_eq!(failure, Failure::new(FailureClass::RemoteFailed, detail));
    assert_eq!(*relay.inbox.arrived.borrow(), 1, "what may have arrived is not sent twice");
}

#[tokio::test]
async fn connections_are_bounded_and_the_idlest_makes_room() {
    let (a, b, c) = (identity("a.example"), identity("b.example"), identity("c.example"));
    let relay_b = Relay::start(&b, allow(&b, [peer("a.example", pinned(&a))])).await;
    let relay_c = Relay::start(&c, allow(&c, [peer("a.example", pinned(&a))])).await;
    let table = Table::new([("b.example", relay_b.address), ("c.example", relay_c.address)]);
    let peers = [peer("b.example", pinned(&b)), peer("c.example", pinned(&c))];
    let calling = client(&a, allow(&a, peers), table, |config| config.max_connections = 1);
    let batch = [envelope(b"x")];
    assert!(calling.client.hello(&domain("b.example")).await.is_ok());
    assert!(calling.client.hello(&domain("c.example")).await.is_ok());
    relay_b.wait_for_open(0).await;

    relay_c.inbox.gate.forget_permits(1000);
    let destination = domain("c.example");
    let crowded = async {
        relay_c.inbox.wait_for(1).await;
        let failure = calling.client.hello(&domain("b.example")).await.unwrap_err();
        let detail = "1 connections to other relays are in use";
        assert_eq!(failure, Failure::new(FailureClass::Unavailable, detail));
        relay_c.inbox.gate.add_permits(1);
    };
    let (outcome, ()) = tokio::join!(calling.client.forward(&destination, &batch), crowded);
    assert!(outcome.is_ok());
}

#[tokio::test]
async fn our_own_end_leaves_nothing_behind() {
    let (a, b) = (identity("a.example"), identity("b.example"));
    let relay = Relay::start(&b, allow(&b, [peer("a.example", pinned(&a))])).await;
    relay.inbox.gate.forget_permits(1000);
    let table = Table::new([("b.example", relay.address)]);
    let calling = client(&a, allow(&a, [peer("b.example", pinned(&b))]), table, |_| {});
    let (destination, batch) = (domain("b.example"), [envelope(b"x")]);
    let stopping = async {
        relay.inbox.wait_for(1).await;
        calling.supervisor.stop();
        relay.inbox.gate.add_permits(1);
    };
    let (outcome, ()) = tokio::join!(calling.client.forward(&destination, &batch), stopping);
    assert_eq!(outcome, Ok(vec![Outcome::Stored]), "what was sent is finished");
    let ended = tokio::time::timeout(Duration::from_secs(10), calling.supervisor.finished());
    ended.await.expect("every task of the client ends");
    let failure = calling.client.forward(&destination, &batch).await.unwrap_err();
    let expected = Failure::new(FailureClass::Unavailable, "this relay is shutting down");
    assert_eq!(failure, expected);
}
