//! A policy or a key that becomes another one while something is under way.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use postrider_common::wire::forward;
use postrider_common::{FailureClass, Outcome};

use crate::support::{
    Authority, Caller, Relay, Table, allow, client, domain, envelope, identity, peer, pinned, problem,
};

#[tokio::test]
async fn an_attempt_that_has_begun_is_judged_by_the_policy_of_its_end() {
    let (a, b) = (identity("a.example"), identity("b.example"));
    let (other, next) = (identity("b.example"), identity("b.example"));
    let relay = Relay::start(&b, allow(&b, [peer("a.example", pinned(&a))])).await;
    for (before, after, expected) in [
        (allow(&a, [peer("b.example", pinned(&b))]), allow(&a, [peer("b.example", pinned(&other))]), false),
        (allow(&a, [peer("b.example", pinned(&next))]), allow(&a, [peer("b.example", pinned(&b))]), true),
    ] {
        let table = Table::new([("b.example", relay.address)]);
        let calling = client(&a, before, table.clone(), |_| {});
        // It waits for DNS while the pins change.
        let closed = table.gate.clone().acquire_many_owned(Table::GATE).await.unwrap();
        let changing = async {
            table.is_asked().await;
            calling.policy.send_replace(after);
            drop(closed);
        };
        let batch = [envelope(b"x")];
        let destination = domain("b.example");
        let (sent, ()) = tokio::join!(calling.client.forward(&destination, &batch), changing);
        match expected {
            true => assert_eq!(sent, Ok(vec![Outcome::Stored])),
            false => assert_eq!(sent.unwrap_err().class, FailureClass::TlsPinMismatch),
        }
    }
    assert_eq!(relay.inbox.batches.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_batch_that_waits_for_its_turn_is_not_sent_to_whom_the_policy_has_dropped() {
    let (a, b) = (identity("a.example"), identity("b.example"));
    let relay = Relay::start(&b, allow(&b, [peer("a.example", pinned(&a))])).await;
    relay.inbox.gate.forget_permits(1000);
    let table = Table::new([("b.example", relay.address)]);
    let calling =
        client(&a, allow(&a, [peer("b.example", pinned(&b))]), table, |config| config.in_flight = 1);
    let destination = domain("b.example");
    let batch = [envelope(b"x")];
    let mut first = Box::pin(calling.client.forward(&destination, &batch));
    tokio::select! {
        answered = &mut first => panic!("it has no answer yet: {answered:?}"),
        () = relay.inbox.wait_for(1) => {}
    }
    // It is at its turn's door when the policy changes.
    let mut second = Box::pin(calling.client.forward(&destination, &batch));
    for _ in 0..100 {
        assert!(futures_util::poll!(&mut second).is_pending());
        tokio::task::yield_now().await;
    }
    calling.policy.send_replace(allow(&a, []));
    relay.inbox.gate.add_permits(2);
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first, Ok(vec![Outcome::Stored]), "what was on its way is answered");
    assert_eq!(second.unwrap_err().class, FailureClass::PolicyDeniedHere);
    assert_eq!(relay.inbox.batches.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_peer_is_shown_the_new_key_before_it_has_forgotten_the_old_one() {
    let (a, b, next) = (identity("a.example"), identity("b.example"), identity("a.example"));
    let relay = Relay::start(&b, allow(&b, [peer("a.example", pinned(&a))])).await;
    let table = Table::new([("b.example", relay.address)]);
    let calling = client(&a, allow(&a, [peer("b.example", pinned(&b))]), table, |_| {});
    let send = async || calling.client.forward(&domain("b.example"), &[envelope(b"x")]).await;
    assert_eq!(send().await, Ok(vec![Outcome::Stored]));
    // The same once more, as a reload does it: nothing is gained by another connection.
    a.show(&a);
    assert_eq!(send().await, Ok(vec![Outcome::Stored]));
    assert_eq!(relay.connections(), 1);

    a.show(&next);
    relay.policy.send_replace(allow(&b, [peer("a.example", pinned(&next))]));
    assert_eq!(send().await, Ok(vec![Outcome::Stored]));
    assert_eq!(relay.connections(), 2);
}

#[tokio::test]
async fn a_batch_that_waits_for_its_turn_goes_under_the_key_of_that_moment() {
    let (a, b, next) = (identity("a.example"), identity("b.example"), identity("a.example"));
    let relay = Relay::start(&b, allow(&b, [peer("a.example", pinned(&a))])).await;
    relay.inbox.gate.forget_permits(1000);
    let table = Table::new([("b.example", relay.address)]);
    let calling =
        client(&a, allow(&a, [peer("b.example", pinned(&b))]), table, |config| config.in_flight = 1);
    let destination = domain("b.example");
    let batch = [envelope(b"x")];
    let mut first = Box::pin(calling.client.forward(&destination, &batch));
    tokio::select! {
        answered = &mut first => panic!("it has no answer yet: {answered:?}"),
        () = relay.inbox.wait_for(1) => {}
    }
    let mut second = Box::pin(calling.client.forward(&destination, &batch));
    for _ in 0..100 {
        assert!(futures_util::poll!(&mut second).is_pending());
        tokio::task::yield_now().await;
    }
    a.show(&next);
    relay.policy.send_replace(allow(&b, [peer("a.example", pinned(&next))]));
    relay.inbox.gate.add_permits(2);
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first, second), (Ok(vec![Outcome::Stored]), Ok(vec![Outcome::Stored])));
}

#[tokio::test]
async fn a_batch_that_is_still_coming_is_not_taken_from_whom_the_policy_has_dropped() {
    let ours = Authority::new("Our CA");
    let b = ours.identity("b.example");
    let relay = Relay::start(&b, allow(&b, [peer("a.example", ours.trust())])).await;
    let (certificate, key) = ours.pems("a.example");
    let own = Some((certificate.as_str(), key.as_str()));
    let stream = Caller::handshake(relay.address, "b.example", ours.roots(), own).await.unwrap();
    let caller = Caller::new(stream).await;
    let bytes = forward::encode_request([envelope(b"x")].iter());
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let pieces = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    let body = StreamBody::new(pieces.map(|bytes| Ok(Frame::data(bytes))));
    let request = Caller::batch("a.example", "b.example", &[]).map(|_| BodyExt::boxed(body));
    let dropping = async {
        sender.send(bytes.slice(..10)).await.unwrap();
        // Its head has been heard, and its origin proven.
        while relay.inbox.authenticated.load(std::sync::atomic::Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        relay.policy.send_replace(allow(&b, []));
        sender.send(bytes.slice(10..)).await.unwrap();
        drop(sender);
    };
    let (answer, ()) = tokio::join!(caller.send_body(request), dropping);
    let (status, slug, _) = problem(&answer);
    assert_eq!((status, slug.as_str()), (403, "policy-denied-here"));
    assert!(relay.inbox.batches.lock().unwrap().is_empty());
}
