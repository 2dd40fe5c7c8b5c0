//! The federation edge: who is let in, what is taken, and what the log says about those who were not.

use std::future::pending;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioIo;
use postrider_common::clock::{Clock, SystemClock};
use postrider_common::supervisor::Supervisor;
use postrider_common::wire::control::Problem;
use postrider_common::wire::{self, forward};
use postrider_common::{Envelope, FailureClass, Outcome};
use postrider_federation::TaskExecutor;
use postrider_tests::authority::{Authority, Certified, Leaf, self_signed};
use postrider_tests::cluster::{Cluster, PATIENCE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::raw::{ALPHA, BETA, GAMMA, Owner, Target, domain};

const ALPN: &str = "postrider/1";
const ENVELOPES: &str = "/federation/v1/envelopes";

pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A relay of our own making, which says what it is told to say.
pub(crate) struct Caller {
    requests: SendRequest<Body>,
    _tasks: Supervisor,
}

impl Caller {
    pub(crate) async fn connect(alpha: &Target, certified: &Certified) -> Self {
        let stream = alpha.tls_with(ALPN, Some(certified)).await;
        let tasks = Supervisor::new();
        let executor = TaskExecutor::new(tasks.clone(), "caller");
        let (requests, connection) =
            hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await.unwrap();
        tasks.spawn("connection", async move {
            let _ = connection.await;
        });
        Self { requests, _tasks: tasks }
    }

    async fn send(&mut self, request: Request<Body>) -> Said {
        self.requests.ready().await.unwrap();
        let answer = timeout(PATIENCE, self.requests.send_request(request)).await.expect("an answer in time");
        Said::read(answer.unwrap()).await
    }

    /// A batch in good order, but for what `change` does to the request.
    pub(crate) async fn forward(
        &mut self,
        envelopes: &[Envelope],
        change: impl FnOnce(&mut Request<Body>),
    ) -> Said {
        let mut request = request("POST", ENVELOPES, full(forward::encode_request(envelopes.iter())));
        change(&mut request);
        self.send(request).await
    }
}

pub(crate) struct Said {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Said {
    async fn read(answer: Response<Incoming>) -> Self {
        let (head, body) = answer.into_parts();
        let body = timeout(PATIENCE, body.collect()).await.expect("an answer in time").unwrap().to_bytes();
        Self { status: head.status, headers: head.headers, body }
    }

    #[track_caller]
    fn assert_problem(&self, what: &str, status: u16, slug: &str) -> String {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status.as_u16(), status, "{what}: {text}");
        assert_eq!(self.headers["content-type"], "application/problem+json", "{what}");
        let problem: Problem = serde_json::from_slice(&self.body).expect(what);
        assert_eq!((problem.slug(), problem.status), (slug, status), "{what}");
        problem.detail.unwrap_or_default()
    }

    #[track_caller]
    fn outcomes(&self) -> Vec<Outcome> {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        forward::decode_outcomes(&self.body).unwrap()
    }
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

fn request(method: &str, path: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(format!("https://{ALPHA}{path}"))
        .header("postrider-origin", BETA)
        .header("postrider-destination", ALPHA)
        .header("content-type", wire::CONTENT_TYPE)
        .body(body)
        .unwrap()
}

fn header(name: &'static str, value: &'static str) -> impl FnOnce(&mut Request<Body>) {
    move |request| {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}

/// Alpha, with beta as its only peer, and somebody's mailbox at alpha.
async fn alpha() -> (Cluster, Target, Owner) {
    let limits = "[limits]\nbody_timeout = \"1 s\"\n";
    let cluster = Cluster::builder([ALPHA, BETA]).configure(move |_| limits.into()).start().await.unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let owner = Owner::registered(&alpha).await;
    (cluster, alpha, owner)
}

fn leaf(name: &str) -> Leaf {
    Leaf::new(&domain(name), SystemClock.now())
}

#[tokio::test]
async fn a_caller_without_a_certificate_gets_no_connection() {
    let (cluster, alpha, owner) = alpha().await;
    let mut stream = alpha.tls_with(ALPN, None).await;
    // In TLS 1.3 the caller learns of it after its own part of the handshake.
    let mut said = Vec::new();
    let error = timeout(PATIENCE, stream.read_to_end(&mut said)).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    assert_eq!(said, b"");
    cluster.logged(ALPHA, "peer sent no certificates").await.unwrap();
    alpha.assert_nothing_stored_and_serving(&owner).await;
}

#[tokio::test]
async fn a_caller_that_is_not_who_it_says_is_refused_and_the_log_says_who_came() {
    let (cluster, alpha, owner) = alpha().await;
    let (own, now) = (cluster.authority(), SystemClock.now());
    let stranger = Authority::new("Somebody else's authority").unwrap();
    for (what, certified, slug, logged) in [
        (
            "another relay's certificate",
            own.issue(&leaf(GAMMA)).unwrap(),
            "tls-name-mismatch",
            "a certificate for beta.example was expected, but one for gamma.example was presented",
        ),
        (
            "another authority's",
            stranger.issue(&leaf(BETA)).unwrap(),
            "tls-untrusted",
            "a certificate for beta.example issued by CN=Cluster authority was expected, but one issued by \
             CN=Somebody else's authority was presented",
        ),
        (
            "its own",
            self_signed(&leaf(BETA)).unwrap(),
            "tls-untrusted",
            "a certificate for beta.example issued by CN=Cluster authority was expected, but a self-signed one was \
             presented",
        ),
        (
            "one that has expired",
            own.issue(&leaf(BETA).expired(now)).unwrap(),
            "tls-expired",
            "the certificate presented for beta.example was valid until ",
        ),
        (
            "one of tomorrow",
            own.issue(&leaf(BETA).not_yet_valid(now)).unwrap(),
            "tls-expired",
            "the certificate presented for beta.example is valid from ",
        ),
    ] {
        let mut caller = Caller::connect(&alpha, &certified).await;
        let said = caller.forward(&[owner.envelope(b"forged")], |_| {}).await;
        let detail = said.assert_problem(what, 403, slug);
        assert!(detail.contains(logged), "{what}: {detail}");
        let log = cluster.log(ALPHA).await.unwrap();
        let line = log.lines().find(|line| line.contains(logged)).unwrap_or_else(|| panic!("{what}: {log}"));
        assert!(line.contains(" WARN ") && line.contains(slug) && line.contains(BETA), "{what}: {line}");
    }
    alpha.assert_nothing_stored_and_serving(&owner).await;
}

#[tokio::test]
async fn every_request_names_its_origin_and_destination_rightly() {
    let (cluster, alpha, owner) = alpha().await;
    let mut beta = Caller::connect(&alpha, &cluster.authority().issue(&leaf(BETA)).unwrap()).await;
    let envelope = [owner.envelope(b"refused")];

    // Beta's certificate is good, but not for gamma, which is not even on the list, nor for alpha itself.
    let said = beta.forward(&envelope, header("postrider-origin", GAMMA)).await;
    said.assert_problem("a stranger", 403, "policy-denied-here");
    let said = beta.forward(&envelope, header("postrider-origin", ALPHA)).await;
    assert_eq!(said.status, 403, "our own name proves nothing");
    let said = beta.forward(&envelope, header("postrider-destination", GAMMA)).await;
    let detail = said.assert_problem("for another", 421, "remote-misdirected");
    assert_eq!(detail, "this relay is alpha.example, not gamma.example");
    for (what, name, value) in [
        ("no domain", "postrider-origin", "BETA.example"),
        ("an address", "postrider-origin", "127.0.0.1"),
        ("empty", "postrider-destination", ""),
        ("two in one", "postrider-destination", "alpha.example, beta.example"),
    ] {
        beta.forward(&envelope, header(name, value)).await.assert_problem(what, 400, "malformed");
    }
    for name in ["postrider-origin", "postrider-destination"] {
        let without = |request: &mut Request<Body>| {
            request.headers_mut().remove(name);
        };
        beta.forward(&envelope, without).await.assert_problem(name, 400, "malformed");
        let twice = |request: &mut Request<Body>| {
            request.headers_mut().append(name, HeaderValue::from_static(ALPHA));
        };
        beta.forward(&envelope, twice).await.assert_problem(name, 400, "malformed");
    }
    let log = cluster.log(ALPHA).await.unwrap();
    assert!(log.contains("policy-denied-here") && log.contains(GAMMA), "{log}");
    alpha.assert_nothing_stored_and_serving(&owner).await;
}

#[tokio::test]
async fn a_batch_that_is_none_is_refused_as_documented() {
    let (cluster, alpha, owner) = alpha().await;
    let mut beta = Caller::connect(&alpha, &cluster.authority().issue(&leaf(BETA)).unwrap()).await;
    let envelopes: Vec<_> = (0..257).map(|_| owner.envelope(b"refused")).collect();
    let good = forward::encode_request(envelopes[..1].iter());
    let version_9 = [&[0, 0, 0, 9], &good[4..]].concat();
    for (what, body, status, slug) in [
        ("nothing", Bytes::new(), 400, "malformed"),
        ("garbage", Bytes::from_static(b"\0\0\0\x01\0\0\0\0\0\0\0\x02garbage"), 400, "malformed"),
        ("an unknown version", version_9.into(), 400, "version-unsupported"),
        ("cut short", good.slice(..good.len() - 1), 400, "malformed"),
        ("257 envelopes", forward::encode_request(envelopes.iter()), 413, "too-large"),
        ("5 MiB", vec![0; 5 << 20].into(), 413, "too-large"),
    ] {
        beta.send(request("POST", ENVELOPES, full(body))).await.assert_problem(what, status, slug);
    }
    for value in ["application/json", "application/octet-stream", ""] {
        let said = beta.forward(&envelopes[..1], header("content-type", value)).await;
        said.assert_problem(value, 415, "unsupported-media-type");
    }

    // Declared and not sent: refused at once. Neither declared nor ending: refused where the limit is passed.
    let mut declared = request("POST", ENVELOPES, endless(false));
    declared.headers_mut().insert("content-length", HeaderValue::from_static("5000000"));
    beta.send(declared).await.assert_problem("declared", 413, "too-large");
    beta.send(request("POST", ENVELOPES, endless(true))).await.assert_problem("endless", 413, "too-large");
    beta.send(request("POST", ENVELOPES, endless(false))).await.assert_problem(
        "slow",
        408,
        "request-timeout",
    );

    for (method, path, status, slug) in [
        ("GET", ENVELOPES, 405, "method-not-allowed"),
        ("POST", "/federation/v1/hello", 405, "method-not-allowed"),
        ("GET", "/federation/v2/hello", 404, "not-found"),
        ("POST", "/v1/envelopes", 404, "not-found"),
    ] {
        beta.send(request(method, path, full(""))).await.assert_problem(path, status, slug);
    }

    // One bad item fails alone, and the connection that brought all of this still works.
    let entries = alpha.entries(&owner).await;
    assert_eq!(entries, [], "nothing of what was refused is in the mailbox");
    let nobody = Owner::signed_in(&alpha).await.envelope(b"nobody");
    let said = beta.forward(&[envelopes[0].clone(), nobody, envelopes[0].clone()], |_| {}).await;
    let refused = Outcome::reject(FailureClass::NoSuchMailbox);
    assert_eq!(said.outcomes(), [Outcome::Stored, refused, Outcome::Duplicate]);
    assert_eq!(alpha.entries(&owner).await.len(), 1);
}

#[tokio::test]
async fn garbage_after_the_handshake_ends_that_connection_only() {
    let (cluster, alpha, owner) = alpha().await;
    let certified = cluster.authority().issue(&leaf(BETA)).unwrap();
    for garbage in [&b"GET / HTTP/1.1\r\nhost: relay\r\n\r\n"[..], &[0xff; 1000]] {
        let mut stream = alpha.tls_with(ALPN, Some(&certified)).await;
        stream.write_all(garbage).await.unwrap();
        crate::raw::until_end(&mut stream).await;
    }
    let mut beta = Caller::connect(&alpha, &certified).await;
    let said = beta.forward(&[owner.envelope(b"good")], |_| {}).await;
    assert_eq!(said.outcomes(), [Outcome::Stored]);
    assert_eq!(alpha.entries(&owner).await.len(), 1);
}

/// A body that ends never: it sends as much as it may, or nothing.
fn endless(sends: bool) -> Body {
    let frames = futures_util::stream::unfold((), move |()| async move {
        if !sends {
            pending::<()>().await;
        }
        Some((Ok(Frame::data(Bytes::from_static(&[0; 16 << 10]))), ()))
    });
    StreamBody::new(frames).boxed_unsync()
}
