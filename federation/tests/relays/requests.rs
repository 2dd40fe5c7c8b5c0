//! Requests that a proven peer makes and that are wrong.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use postrider_common::wire::{CONTENT_TYPE, forward};
use postrider_common::{FailureClass, Outcome};
use postrider_federation::{Identity, ServerConfig};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::{Authority, Caller, NOW, Relay, Setup, allow, domain, envelope, peer, pinned, problem};

/// A caller that relay B knows as A.
async fn caller(setup: Setup) -> (Relay, Caller) {
    let (relay, stream) = connected(setup).await;
    (relay, Caller::new(stream).await)
}

/// The same after the TLS handshake, with nothing sent.
async fn connected(setup: Setup) -> (Relay, TlsStream<TcpStream>) {
    let ca = Authority::new("CA");
    let b = ca.identity("b.example");
    let pems = Identity::generate(&domain("a.example"), NOW).unwrap();
    let a =
        Identity::from_pem(&domain("a.example"), pems.certificate_pem.as_bytes(), pems.key_pem.as_bytes());
    let relay = Relay::start_with(&b, allow(&b, [peer("a.example", pinned(&a.unwrap()))]), setup).await;
    let keys = Some((pems.certificate_pem.as_str(), pems.key_pem.as_str()));
    let stream = Caller::handshake(relay.address, "b.example", ca.roots(), keys).await.unwrap();
    (relay, stream)
}

fn batch() -> Request<Bytes> {
    Caller::batch("a.example", "b.example", &[envelope(b"x")])
}

fn with_body(body: impl Into<Bytes>) -> Request<Bytes> {
    let body = body.into();
    batch().map(|_| body)
}

#[tokio::test]
async fn each_slip_has_its_status_and_its_words() {
    let (relay, caller) = caller(|config: &mut ServerConfig| {
        config.limits.batch_bytes = 1000;
        config.limits.batch_envelopes = 2;
    })
    .await;
    let changed = |change: fn(&mut Request<Bytes>)| {
        let mut request = batch();
        change(&mut request);
        request
    };
    let three = [envelope(b"1"), envelope(b"2"), envelope(b"3")];
    for (request, status, slug, detail) in [
        (
            changed(|request| *request.uri_mut() = "https://relay/federation/v2/envelopes".parse().unwrap()),
            404,
            "not-found",
            "there is nothing at this path",
        ),
        (
            changed(|request| *request.method_mut() = Method::PUT),
            405,
            "method-not-allowed",
            "this path takes POST only",
        ),
        (
            changed(|request| drop(request.headers_mut().remove("postrider-origin"))),
            400,
            "malformed",
            "the header postrider-origin has to name one domain",
        ),
        (
            changed(|request| {
                request.headers_mut().append("postrider-origin", "a.example".parse().unwrap());
            }),
            400,
            "malformed",
            "the header postrider-origin has to name one domain",
        ),
        (
            changed(|request| {
                drop(request.headers_mut().insert("postrider-destination", "B".parse().unwrap()))
            }),
            400,
            "malformed",
            "the header postrider-destination has to name one domain",
        ),
        (
            changed(|request| {
                drop(request.headers_mut().insert("content-type", "text/plain".parse().unwrap()))
            }),
            415,
            "unsupported-media-type",
            &format!("a batch is of the type {CONTENT_TYPE}"),
        ),
        (with_body(vec![0; 1001]), 413, "too-large", "a batch has at most 1000 bytes"),
        (
            Caller::batch("a.example", "b.example", &three),
            413,
            "too-large",
            "a batch has at most 2 envelopes",
        ),
        (
            with_body(&b"\0\0\0\x01garbage"[..]),
            400,
            "malformed",
            "the message is malformed: its fields do not decode",
        ),
        (with_body(&b"\0"[..]), 400, "malformed", "the message is malformed: it ends inside its version"),
        (
            with_body(&b"\0\0\0\x07\0\0\0\0"[..]),
            400,
            "version-unsupported",
            "wire version 7 is not supported, version 1 is",
        ),
    ] {
        let answer = caller.send(request).await;
        assert_eq!(problem(&answer), (status, slug.into(), detail.into()));
        let allowed = answer.headers().get("allow").map(|value| value.to_str().unwrap());
        assert_eq!(allowed, (status == 405).then_some("POST"));
    }
    assert!(relay.inbox.batches.lock().unwrap().is_empty());
    assert_eq!(caller.send(batch()).await.status(), 200, "the connection is as good as before");
}

#[tokio::test]
async fn a_body_that_does_not_say_its_length_is_cut_off() {
    let (_relay, caller) = caller(|config| config.limits.batch_bytes = 100_000).await;
    let chunk = || Ok(Frame::data(Bytes::from_static(&[0; 10_000])));
    let endless = StreamBody::new(stream::repeat_with(chunk));
    let answer = caller.send_body(batch().map(|_| BodyExt::boxed(endless))).await;
    let detail = "a batch has at most 100000 bytes";
    assert_eq!(problem(&answer), (413, "too-large".into(), detail.into()));
}

#[tokio::test]
async fn what_is_wrong_with_one_envelope_is_told_for_that_one() {
    let (_relay, caller) = caller(|_| {}).await;
    let batch = [envelope(b"of another version"), envelope(b"fine")];
    let mut body = forward::encode_request(batch.iter()).to_vec();
    // After the version of the batch (4), its count (8) and the first envelope's length (8) comes its version.
    body[20..24].copy_from_slice(&9_u32.to_be_bytes());
    let answer = caller.send(with_body(body)).await;
    let outcomes = forward::decode_outcomes(answer.body()).unwrap();
    assert_eq!(outcomes, [Outcome::reject(FailureClass::VersionUnsupported), Outcome::Stored]);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let (_relay, caller) = caller(|config| config.body_timeout = Duration::from_millis(50)).await;
    let silent = StreamBody::new(stream::pending());
    let answer = caller.send_body(batch().map(|_| BodyExt::boxed(silent))).await;
    let detail = "the body did not arrive within 50 ms";
    assert_eq!(problem(&answer), (408, "request-timeout".into(), detail.into()));
}

#[tokio::test]
async fn a_connection_that_proves_nothing_is_closed() {
    let (relay, caller) = caller(|config| config.proof_timeout = Duration::from_millis(50)).await;
    relay.wait_for_open(0).await;
    assert_eq!(relay.connections(), 1);
    drop(caller);
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let (_relay, mut stream) = connected(|config| config.proof_timeout = Duration::from_millis(50)).await;
    // What the relay says first, and then the end.
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    assert!(!said.is_empty());
}

#[tokio::test]
async fn a_batch_over_the_memory_for_batches_is_asked_back() {
    let (_relay, caller) = caller(|config| config.body_memory = 100).await;
    let answer = caller.send(with_body(vec![0; 200])).await;
    assert_eq!(problem(&answer).0, 503);
    assert_eq!(answer.headers()["retry-after"], "5");
}
