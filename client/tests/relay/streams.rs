//! Entries pushed over WebSockets.

use std::sync::Arc;
use std::time::Duration;

use postrider_client::{Delivery, Error, MailboxStream, Receiver, Session};
use postrider_common::clock::ManualClock;
use postrider_common::{EntryId, Timestamp};

use super::calls::{entry, envelope, identity};
use super::server::{Server, Step, problem};

async fn session(server: &Server) -> Session {
    server.relay().build().unwrap().session(&identity()).await.unwrap()
}

async fn next_id(stream: &mut MailboxStream) -> u64 {
    match stream.next().await {
        Some(Ok(Delivery::Entry(entry))) => entry.id.0,
        other => panic!("an entry was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn entries_arrive_in_order_and_are_acknowledged() {
    let server = Server::start().await;
    server.script(vec![
        Step::Push(vec![entry(1), entry(2)]),
        Step::Acknowledged(vec![1]),
        Step::Ping,
        Step::Ephemeral(envelope()),
        Step::Push(vec![entry(3)]),
        Step::Acknowledged(vec![2, 3]),
        Step::Close,
    ]);
    let session = session(&server).await;
    let mut stream = session.stream().await.unwrap();
    assert_eq!(next_id(&mut stream).await, 1);
    stream.acknowledge(&[EntryId(1)]).await.unwrap();
    assert_eq!(next_id(&mut stream).await, 2);
    assert!(matches!(stream.next().await, Some(Ok(Delivery::Ephemeral(_)))));
    assert_eq!(next_id(&mut stream).await, 3);
    stream.acknowledge(&[EntryId(2), EntryId(3)]).await.unwrap();
    assert!(stream.next().await.is_none(), "closed in order");
    assert!(stream.next().await.is_none());
    assert!(matches!(stream.acknowledge(&[EntryId(3)]).await, Err(Error::Closed)));
    stream.close().await.unwrap();
    assert_eq!(*server.state.acknowledged.borrow(), [1, 2, 3].map(EntryId));
}

#[tokio::test]
async fn an_entry_is_handed_out_once_within_a_stream_and_over_all() {
    let server = Server::start().await;
    server.script(vec![
        Step::Push(vec![entry(1), entry(1)]),
        Step::Push(vec![entry(1), entry(2)]),
        Step::Drop,
    ]);
    // The acknowledgement of 1 was lost with the first stream: the second repeats it, and it is given again.
    server.script(vec![
        Step::Push(vec![entry(1), entry(2), entry(3)]),
        Step::Acknowledged(vec![1]),
        Step::Close,
    ]);
    let session = session(&server).await;
    let mut first = session.stream().await.unwrap();
    assert_eq!(next_id(&mut first).await, 1);
    assert_eq!(next_id(&mut first).await, 2);
    let lost = first.next().await.unwrap().unwrap_err();
    assert!(matches!(lost, Error::Lost { .. }) && lost.is_retryable(), "{lost}");
    assert!(first.next().await.is_none(), "an error is the last");
    assert!(first.acknowledge(&[EntryId(1)]).await.is_err());

    let mut second = session.clone().stream().await.unwrap();
    assert_eq!(next_id(&mut second).await, 3);
    assert!(second.next().await.is_none());
    assert_eq!(*server.state.acknowledged.borrow(), [EntryId(1)], "2 was never acknowledged by the app");
}

#[tokio::test]
async fn what_was_not_handed_out_comes_on_the_next_stream() {
    let server = Server::start().await;
    server.script(vec![Step::Push(vec![entry(1), entry(2)])]);
    server.script(vec![Step::Push(vec![entry(1), entry(2)])]);
    let session = session(&server).await;
    let mut first = session.stream().await.unwrap();
    assert_eq!(next_id(&mut first).await, 1);
    first.close().await.unwrap();
    let mut second = session.stream().await.unwrap();
    assert_eq!(next_id(&mut second).await, 2);
}

#[tokio::test]
async fn a_new_session_hands_out_what_was_not_acknowledged() {
    let server = Server::start().await;
    for _ in 0..2 {
        server.script(vec![Step::Push(vec![entry(1)])]);
        let mut stream = session(&server).await.stream().await.unwrap();
        assert_eq!(next_id(&mut stream).await, 1);
    }
}

#[tokio::test]
async fn a_refused_stream_says_why() {
    let server = Server::start().await;
    let error = session(&server).await.stream().await.unwrap_err();
    assert_eq!(error.slug(), Some("unavailable"));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
}

#[tokio::test]
async fn a_stream_signs_in_again_when_the_token_is_refused() {
    let server = Server::start().await;
    server.script(vec![Step::Push(vec![entry(1)])]);
    let session = session(&server).await;
    server.revoke();
    let mut stream = session.stream().await.unwrap();
    assert_eq!(next_id(&mut stream).await, 1);
    assert_eq!(server.sign_ins(), 2);
}

#[tokio::test]
async fn nonsense_ends_the_stream() {
    let server = Server::start().await;
    server.script(vec![Step::Garbage]);
    let mut stream = session(&server).await.stream().await.unwrap();
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }) && !error.is_retryable(), "{error}");
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_relay_that_is_gone_without_a_word_is_noticed() {
    let server = Server::start().await;
    server.script(vec![Step::Silence]);
    let mut stream = session(&server).await.stream().await.unwrap();
    // From here on a wait ends as soon as nothing else happens.
    tokio::time::pause();
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }) && error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_receiver_acknowledges_although_its_stream_is_broken() {
    let server = Server::start().await;
    server.script(vec![Step::Push(vec![entry(1)]), Step::Close]);
    let clock = ManualClock::new(Timestamp::from_secs(1000));
    let relay = server.relay().clock(Arc::new(clock)).build().unwrap();
    let mut receiver = relay.session(&identity()).await.unwrap().receive();
    receiver.next().await.unwrap();
    let ended = tokio::time::timeout(Duration::from_millis(200), receiver.next()).await;
    assert!(ended.is_err(), "it waits for the pause to be over");
    receiver.acknowledge(&[EntryId(1)]).await.unwrap();
    assert_eq!(*server.state.acknowledged.borrow(), [EntryId(1)]);
}

#[tokio::test]
async fn a_receiver_goes_on_over_broken_streams_after_a_pause() {
    let server = Server::start().await;
    server.script(vec![Step::Push(vec![entry(1)]), Step::Drop]);
    server.script(vec![Step::Push(vec![entry(1), entry(2)]), Step::Acknowledged(vec![1, 2]), Step::Close]);
    let clock = ManualClock::new(Timestamp::from_secs(1000));
    let relay = server.relay().clock(Arc::new(clock.clone())).build().unwrap();
    let mut receiver = relay.session(&identity()).await.unwrap().receive();
    let Delivery::Entry(first) = receiver.next().await.unwrap() else { panic!("an entry was expected") };
    let opened = server.connections();
    {
        // The broken stream is noticed; then the receiver waits for the clock, however often it is polled anew.
        let broken = async {
            for _ in 0..20 {
                let _ = tokio::time::timeout(Duration::from_millis(10), receiver.next()).await;
            }
        };
        broken.await;
    }
    assert_eq!(server.connections(), opened, "no new stream before the pause is over");
    clock.advance(Duration::from_secs(1));
    let Delivery::Entry(second) = receiver.next().await.unwrap() else { panic!("an entry was expected") };
    assert_eq!((first.id, second.id), (EntryId(1), EntryId(2)));
    receiver.acknowledge(&[first.id, second.id]).await.unwrap();
    let mut acknowledged = server.state.acknowledged.subscribe();
    acknowledged.wait_for(|all| all.len() == 2).await.unwrap();
    receiver.close().await.unwrap();
}

/// What a receiver hands out next.
async fn received(receiver: &mut Receiver) -> u64 {
    match receiver.next().await.unwrap() {
        Delivery::Entry(entry) => entry.id.0,
        other => panic!("an entry was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn a_receiver_polls_where_something_on_the_way_knows_no_websockets() {
    for (status, body) in [(501, "<html>".to_owned()), (426, problem("upgrade-required", 426))] {
        let server = Server::start().await;
        let session = session(&server).await;
        session.register().await.unwrap();
        server.state.entries.send_replace(vec![entry(1), entry(2)]);
        server.answer(status, &[], body);
        let mut receiver = session.receive();
        assert_eq!(received(&mut receiver).await, 1);
        receiver.acknowledge(&[EntryId(1)]).await.unwrap();
        assert_eq!(received(&mut receiver).await, 2);
        server.state.entries.send_modify(|entries| entries.push(entry(3)));
        assert_eq!(received(&mut receiver).await, 3, "what arrives later comes too, and nothing twice");
        assert_eq!(*server.state.acknowledged.borrow(), [EntryId(1)]);
    }
}

#[tokio::test]
async fn a_receiver_polls_when_streams_bring_nothing_and_tries_them_again_later() {
    let server = Server::start().await;
    server.state.entries.send_replace(vec![entry(1)]);
    for _ in 0..3 {
        server.script(vec![Step::Drop]);
    }
    server.script(vec![Step::Push(vec![entry(1), entry(2)])]);
    let clock = ManualClock::new(Timestamp::from_secs(1000));
    let relay = server.relay().clock(Arc::new(clock.clone())).build().unwrap();
    let mut receiver = relay.session(&identity()).await.unwrap().receive();
    // Each broken stream is followed by a pause, which is over when the clock says so.
    let first = loop {
        match tokio::time::timeout(Duration::from_millis(20), received(&mut receiver)).await {
            Ok(first) => break first,
            Err(_) => clock.advance(Duration::from_secs(1)),
        }
    };
    assert_eq!(first, 1, "by poll: no stream has brought it");
    clock.advance(Duration::from_secs(600));
    assert_eq!(received(&mut receiver).await, 2, "by stream: no poll has it");
}
