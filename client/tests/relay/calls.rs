//! Trust, requests, sessions, long polls.

use std::sync::atomic::Ordering;
use std::time::Duration;

use postrider_client::{
    Entry, Error, Identity, KeyPin, Relay, SealOptions, SubmitResult, TrackingState, Trust, seal,
};
use postrider_common::{
    Domain, Draft, EntryId, Envelope, EnvelopeId, FailureClass, MailboxId, Timestamp, TrackingId,
};

use super::server::{DOMAIN, HOST, Server, problem};

pub(crate) fn identity() -> Identity {
    Identity::generate(DOMAIN.parse().unwrap())
}

pub(crate) fn envelope() -> Envelope {
    seal(&identity(), identity().card(), b"hello", &SealOptions::default()).unwrap()
}

/// The same envelope for the same number.
pub(crate) fn entry(id: u64) -> Entry {
    let draft = Draft::new(MailboxId::from_bytes([1; 32]), Timestamp::from_secs(1), "body");
    let envelope = Draft { id: EnvelopeId::from_bytes(u128::from(id).to_be_bytes()), ..draft };
    Entry::new(EntryId(id), envelope.finish().unwrap())
}

#[tokio::test]
async fn the_pinned_key_is_trusted_and_no_other() {
    let server = Server::start().await;
    let info = server.relay().build().unwrap().info().await.unwrap();
    assert_eq!(info.domain.as_str(), DOMAIN);

    let other: KeyPin = "ab".repeat(32).parse().unwrap();
    let relay = server.relay().pinned(other).build().unwrap();
    let error = relay.info().await.unwrap_err();
    let Error::Untrusted { expected, presented, .. } = &error else { panic!("{error}") };
    assert!(expected.contains(&other.to_string()), "{expected}");
    assert!(presented.contains(&server.pin.to_string()), "{presented}");
    assert!(presented.contains(HOST), "{presented}");
    assert!(!error.is_retryable());

    let either = server.relay().trust(Trust::Pinned(vec![other, server.pin]));
    either.build().unwrap().info().await.unwrap();
}

#[tokio::test]
async fn an_authority_vouches_for_its_names_only() {
    let server = Server::start().await;
    let trust = Trust::AuthorityPem(server.ca.clone());
    server.relay().trust(trust.clone()).build().unwrap().info().await.unwrap();

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &server.ca).unwrap();
    server.relay().ca_file(file.path()).build().unwrap().info().await.unwrap();

    let elsewhere = Relay::builder("https://other.example").address(server.address).trust(trust);
    let error = elsewhere.build().unwrap().info().await.unwrap_err();
    let Error::Untrusted { expected, presented, .. } = &error else { panic!("{error}") };
    assert!(expected.contains("other.example") && presented.contains(HOST), "{error}");

    let web = server.relay().trust(Trust::WebRoots).build().unwrap();
    assert!(matches!(web.info().await.unwrap_err(), Error::Untrusted { .. }));
    let stranger = Trust::AuthorityPem(Server::start().await.ca.clone());
    let relay = server.relay().trust(stranger).build().unwrap();
    assert!(matches!(relay.info().await.unwrap_err(), Error::Untrusted { .. }));
}

#[tokio::test]
async fn each_submitted_envelope_has_its_result() {
    let server = Server::start().await;
    let relay = server.relay().build().unwrap();
    let to = |domain: &str| (domain.parse::<Domain>().unwrap(), envelope());
    let batch = [to(DOMAIN), to("b.example"), to("full.example")];
    let tracking = TrackingId::from_bytes([1; 16]);
    assert_eq!(
        relay.submit(&batch).await.unwrap(),
        [
            SubmitResult::Stored,
            SubmitResult::Queued { tracking },
            SubmitResult::Refused {
                reason: FailureClass::QueueFull,
                retry_after: Some(Duration::from_secs(9))
            }
        ]
    );
    assert_eq!(relay.submit(&[]).await.unwrap(), []);
    let one = relay.submit_one(&DOMAIN.parse().unwrap(), envelope()).await;
    assert_eq!(one.unwrap(), SubmitResult::Stored);
    assert_eq!(server.connections(), 1, "one connection is kept");

    let status = relay.track(tracking).await.unwrap();
    assert_eq!((status.state, status.attempts), (TrackingState::Queued, 2));
    let unknown = relay.track(TrackingId::from_bytes([9; 16])).await.unwrap_err();
    assert_eq!(unknown.slug(), Some("unknown-tracking"));
}

#[tokio::test]
async fn refusals_keep_their_reason_and_their_delay() {
    let server = Server::start().await;
    let relay = server.relay().build().unwrap();
    server.answer(429, &[("retry-after", "17")], problem("rate-limited", 429));
    let error = relay.info().await.unwrap_err();
    assert_eq!(error.class(), Some(FailureClass::RateLimited));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(17)));
    assert!(error.is_retryable());

    server.answer(502, &[], "<html>".into());
    let error = relay.info().await.unwrap_err();
    assert!(matches!(error, Error::Status { .. }) && error.is_retryable(), "{error}");

    server.answer(200, &[], "{\"token\":\"hidden\"}".into());
    let error = relay.info().await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("hidden"));
}

#[tokio::test]
async fn a_session_needs_the_relay_that_keeps_the_mailbox() {
    let server = Server::start().await;
    let relay = server.relay().build().unwrap();
    let stranger = Identity::generate("elsewhere.example".parse().unwrap());
    let error = relay.session(&stranger).await.unwrap_err();
    assert!(matches!(error, Error::WrongRelay { .. }), "{error}");
    assert_eq!(server.sign_ins(), 0);
}

#[tokio::test]
async fn a_session_signs_in_again_once_when_its_token_is_refused() {
    let server = Server::start().await;
    let session = server.relay().build().unwrap().session(&identity()).await.unwrap();
    assert!(session.register().await.unwrap().created);
    assert_eq!(server.sign_ins(), 1);
    assert!(!format!("{session:?}").contains("token-0"));

    server.revoke();
    let (first, second) = tokio::join!(session.register(), session.delete_mailbox());
    first.unwrap();
    second.unwrap();
    assert_eq!(server.sign_ins(), 2, "both share the new token");

    server.answer(401, &[], problem("unauthorized", 401));
    // The answers to the new challenge, to the new session and to the repeated call are as usual.
    session.register().await.unwrap();
    assert_eq!(server.sign_ins(), 3);
}

#[tokio::test]
async fn a_token_that_is_refused_again_is_an_error() {
    let server = Server::start().await;
    let session = server.relay().build().unwrap().session(&identity()).await.unwrap();
    server.revoke();
    server.state.forgetful.store(true, Ordering::SeqCst);
    let error = session.register().await.unwrap_err();
    assert_eq!(error.status().map(|status| status.as_u16()), Some(401));
    assert!(!error.is_retryable());
    assert_eq!(server.sign_ins(), 2, "one more try and no more");
}

#[tokio::test]
async fn a_long_poll_shares_the_connection_and_wakes_at_an_entry() {
    let server = Server::start().await;
    let session = server.relay().build().unwrap().session(&identity()).await.unwrap();
    let nothing = session.entries(None, Duration::ZERO).await.unwrap();
    assert_eq!(nothing, []);

    let (old, new) = (entry(4), entry(7));
    server.state.entries.send_replace(vec![old.clone()]);
    let waiting = session.entries(None, Duration::ZERO).await.unwrap();
    assert_eq!(waiting, std::slice::from_ref(&old));
    let poll = session.entries(Some(old.id), Duration::from_secs(60));
    let meanwhile = async {
        session.register().await.unwrap();
        server.state.entries.send_replace(vec![old.clone(), new.clone()]);
    };
    let (found, ()) = tokio::join!(poll, meanwhile);
    assert_eq!(found.unwrap(), std::slice::from_ref(&new));
    session.acknowledge(&[old.id, new.id]).await.unwrap();
    assert_eq!(*server.state.acknowledged.borrow(), [old.id, new.id]);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn http_1_serves_as_well() {
    let server = Server::with_protocols(&[b"http/1.1"]).await;
    let session = server.relay().build().unwrap().session(&identity()).await.unwrap();
    assert_eq!(server.connections(), 1, "one connection is kept");
    let poll = session.entries(None, Duration::from_secs(60));
    let meanwhile = async {
        session.register().await.unwrap();
        server.state.entries.send_replace(vec![entry(1)]);
    };
    let (found, ()) = tokio::join!(poll, meanwhile);
    assert_eq!(found.unwrap().len(), 1);
    session.delete_mailbox().await.unwrap();
    assert_eq!(server.connections(), 2, "a second one while the first was waiting");
}

#[tokio::test]
async fn a_dead_connection_is_replaced_unnoticed() {
    for protocols in [&[b"h2".as_slice()], &[b"http/1.1".as_slice()]] {
        let server = Server::with_protocols(protocols).await;
        let relay = server.relay().build().unwrap();
        for cuts in 0..3 {
            relay.info().await.unwrap();
            assert_eq!(server.connections(), 1 + cuts);
            server.cut();
        }
    }
}

#[tokio::test]
async fn no_answer_is_an_error_in_time() {
    let server = Server::start().await;
    let limit = Duration::from_millis(200);
    let relay = server.relay().request_timeout(limit).build().unwrap();
    let error = relay.track(TrackingId::from_bytes([2; 16])).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { after } if after == limit), "{error}");
    assert!(error.is_retryable());
    relay.info().await.unwrap();
    assert_eq!(server.connections(), 2, "the silent connection is not used again");
}

#[tokio::test]
async fn nobody_there_is_retryable_and_names_the_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let relay = Relay::builder("https://relay.example").address(address).build().unwrap();
    let error = relay.info().await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }) && error.is_retryable(), "{error}");
    assert!(error.to_string().contains(&address.to_string()));
}
