//! A tiny relay that answers as documented, as far as the client can tell.

mod attachments;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::{Signature, VerifyingKey};
use futures_util::{SinkExt, StreamExt};
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use postrider_client::{Entry, KeyPin, SubmitResult};
use postrider_common::supervisor::Supervisor;
use postrider_common::wire::control::{
    Nonce, PROBLEM_CONTENT_TYPE, PROBLEM_TYPE_PREFIX, SessionRequest, session_proof,
};
use postrider_common::wire::mailbox::{DeviceMessage, ServerMessage};
use postrider_common::wire::{self, submit};
use postrider_common::{Domain, EntryId, FailureClass, TrackingId};
use rcgen::PublicKeyData;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

pub(crate) const DOMAIN: &str = "example.org";
pub(crate) const HOST: &str = "relay.example.org";
const NONCE: Nonce = Nonce([5; 32]);

/// One step of what the relay does on a stream.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Push(Vec<Entry>),
    Ephemeral(postrider_common::Envelope),
    /// Sends a ping and goes on when the pong is there.
    Ping,
    /// Goes on when these have been acknowledged.
    Acknowledged(Vec<u64>),
    Garbage,
    /// Says and hears nothing any more.
    Silence,
    /// Closes in order.
    Close,
    /// Drops the connection.
    Drop,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) connections: AtomicUsize,
    pub(crate) sign_ins: AtomicUsize,
    /// The only token that is accepted; `None` accepts no token at all.
    pub(crate) token: Mutex<Option<String>>,
    pub(crate) entries: watch::Sender<Vec<Entry>>,
    pub(crate) acknowledged: watch::Sender<Vec<EntryId>>,
    pub(crate) attachments: attachments::Kept,
    /// What happens on each stream; where there is none left the stream is refused with 503.
    pub(crate) scripts: Mutex<VecDeque<Vec<Step>>>,
    /// Gives tokens that it does not accept.
    pub(crate) forgetful: AtomicBool,
    /// Answers given in place of the usual ones.
    answers: Mutex<VecDeque<Response<Full<Bytes>>>>,
    cut: watch::Sender<u64>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) pin: KeyPin,
    pub(crate) ca: String,
    pub(crate) state: Arc<State>,
    tasks: Supervisor,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with_protocols(&[b"h2", b"http/1.1"]).await
    }

    pub(crate) async fn with_protocols(protocols: &[&[u8]]) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = rcgen::KeyPair::generate().unwrap();
        let mut root = rcgen::CertificateParams::new(Vec::new()).unwrap();
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = root.self_signed(&authority).unwrap().pem();
        let issuer = rcgen::Issuer::from_params(&root, &authority);
        let leaf = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], private)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            pin: KeyPin::of(&key.subject_public_key_info()),
            ca,
            state: Arc::default(),
            tasks: Supervisor::new(),
        };
        let accepting =
            accept(listener, TlsAcceptor::from(Arc::new(config)), server.state.clone(), server.tasks.clone());
        server.tasks.spawn("listener", accepting);
        server
    }

    pub(crate) fn relay(&self) -> postrider_client::RelayBuilder {
        postrider_client::Relay::builder(format!("https://{HOST}")).address(self.address).pinned(self.pin)
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn sign_ins(&self) -> usize {
        self.state.sign_ins.load(Ordering::SeqCst)
    }

    /// Forgets the token that it gave.
    pub(crate) fn revoke(&self) {
        *self.state.token.lock().unwrap() = Some("revoked".into());
    }

    /// Drops every connection.
    pub(crate) fn cut(&self) {
        self.state.cut.send_modify(|times| *times += 1);
    }

    pub(crate) fn answer(&self, status: u16, headers: &[(&'static str, &'static str)], body: String) {
        let mut response = respond(status, "text/html", body);
        for (name, value) in headers {
            response.headers_mut().insert(*name, value.parse().unwrap());
        }
        self.state.answers.lock().unwrap().push_back(response);
    }

    pub(crate) fn script(&self, steps: Vec<Step>) {
        self.state.scripts.lock().unwrap().push_back(steps);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.stop();
        self.cut();
    }
}

pub(crate) fn problem(slug: &str, status: u16) -> String {
    format!(r#"{{"type":"{PROBLEM_TYPE_PREFIX}{slug}","title":"It is {slug}","status":{status}}}"#)
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, state: Arc<State>, tasks: Supervisor) {
    let stopping = tasks.stopping();
    tokio::pin!(stopping);
    loop {
        let (tcp, _) = tokio::select! {
            accepted = listener.accept() => accepted.unwrap(),
            () = &mut stopping => return,
        };
        state.connections.fetch_add(1, Ordering::SeqCst);
        let (tls, state, owner) = (tls.clone(), state.clone(), tasks.clone());
        tasks.spawn("connection", async move {
            let mut cut = state.cut.subscribe();
            cut.mark_unchanged();
            let Ok(stream) = tls.accept(tcp).await else { return };
            let service = service_fn(|request| {
                let (state, owner) = (state.clone(), owner.clone());
                async move { Ok::<_, std::convert::Infallible>(answer(request, state, owner).await) }
            });
            let server = auto::Builder::new(TokioExecutor::new());
            let serving = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
            tokio::select! {
                _ = serving => {}
                _ = cut.changed() => {}
            }
        });
    }
}

async fn answer(
    mut request: Request<Incoming>,
    state: Arc<State>,
    tasks: Supervisor,
) -> Response<Full<Bytes>> {
    let special = state.answers.lock().unwrap().pop_front();
    if let Some(response) = special {
        return response;
    }
    let path = request.uri().path().to_owned();
    if path.starts_with("/v1/mailbox") {
        let token = state.token.lock().unwrap().clone().map(|token| format!("Bearer {token}"));
        let presented = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
        if token.is_none() || presented != token {
            return refuse("unauthorized", 401);
        }
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    if path.starts_with("/v1/attachments") {
        return attachments::answer(request, &state.attachments).await;
    }
    match (request.method().clone(), path.as_str()) {
        (Method::GET, "/.well-known/postrider") => respond(200, "application/json", info()),
        (Method::POST, "/v1/challenges") => {
            let nonce = serde_json::to_string(&NONCE).unwrap();
            respond(200, "application/json", format!(r#"{{"nonce":{nonce},"expires_in":60}}"#))
        }
        (Method::POST, "/v1/sessions") => sign_in(&body(request).await, &state),
        (Method::POST, "/v1/envelopes") => {
            assert_eq!(request.headers()[CONTENT_TYPE], wire::CONTENT_TYPE);
            let submitted = submit::decode_request(&body(request).await).unwrap();
            let results: Vec<_> = submitted.into_iter().map(|item| result(&item.unwrap().0)).collect();
            binary(submit::encode_results(&results))
        }
        (Method::PUT, "/v1/mailbox") => respond(200, "application/json", r#"{"created":true}"#),
        (Method::DELETE, "/v1/mailbox") => respond(204, "", ""),
        (Method::GET, "/v1/mailbox/entries") => long_poll(&query, &state).await,
        (Method::POST, "/v1/mailbox/acknowledgements") => {
            let DeviceMessage::Acknowledge(entries) = DeviceMessage::decode(&body(request).await).unwrap();
            state.acknowledged.send_modify(|all| all.extend(entries));
            respond(204, "", "")
        }
        (Method::GET, "/v1/mailbox/stream") => {
            let Some(script) = state.scripts.lock().unwrap().pop_front() else {
                return refuse("unavailable", 503);
            };
            let accept = derive_accept_key(request.headers()[SEC_WEBSOCKET_KEY].as_bytes());
            let upgrade = hyper::upgrade::on(&mut request);
            tasks.spawn("stream", async move {
                let socket = TokioIo::new(upgrade.await.unwrap());
                perform(WebSocketStream::from_raw_socket(socket, Role::Server, None).await, script, &state)
                    .await;
            });
            let response = Response::builder().status(101).header("connection", "upgrade");
            let response = response.header("upgrade", "websocket").header(SEC_WEBSOCKET_ACCEPT, accept);
            response.body(Full::default()).unwrap()
        }
        (Method::GET, path) if path.starts_with("/v1/tracking/") => {
            if path.ends_with(&TrackingId::from_bytes([1; 16]).to_string()) {
                let status =
                    r#"{"state":"queued","destination":"b.example","queued_at":5,"attempts":2,"new":1}"#;
                respond(200, "application/json", status)
            } else if path.ends_with(&TrackingId::from_bytes([2; 16]).to_string()) {
                std::future::pending().await
            } else {
                refuse("unknown-tracking", 404)
            }
        }
        other => panic!("the documents name no {other:?}"),
    }
}

async fn perform<S>(mut socket: WebSocketStream<S>, script: Vec<Step>, state: &State)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut acknowledged = Vec::new();
    for step in script {
        match step {
            Step::Push(entries) => {
                let message = ServerMessage::Entries(entries).encode();
                socket.send(Message::Binary(message)).await.unwrap();
            }
            Step::Ephemeral(envelope) => {
                let message = ServerMessage::Ephemeral(envelope).encode();
                socket.send(Message::Binary(message)).await.unwrap();
            }
            Step::Garbage => socket.send(Message::Binary(Bytes::from_static(b"?"))).await.unwrap(),
            Step::Ping => {
                socket.send(Message::Ping(Bytes::from_static(b"alive?"))).await.unwrap();
                let answer = socket.next().await.unwrap().unwrap();
                assert_eq!(answer, Message::Pong(Bytes::from_static(b"alive?")));
            }
            Step::Acknowledged(wanted) => {
                while !wanted.iter().all(|id| acknowledged.contains(&EntryId(*id))) {
                    let Some(Ok(Message::Binary(message))) = socket.next().await else {
                        panic!("the stream ended before {wanted:?} were acknowledged")
                    };
                    let DeviceMessage::Acknowledge(entries) = DeviceMessage::decode(&message).unwrap();
                    acknowledged.extend(entries.clone());
                    state.acknowledged.send_modify(|all| all.extend(entries));
                }
            }
            Step::Close => {
                socket.close(None).await.unwrap();
                while let Some(Ok(_)) = socket.next().await {}
                return;
            }
            Step::Silence => std::future::pending().await,
            Step::Drop => return,
        }
    }
    // The script is over, the stream stays open.
    while let Some(Ok(_)) = socket.next().await {}
}

async fn long_poll(query: &str, state: &State) -> Response<Full<Bytes>> {
    let parameter = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.parse::<u64>().unwrap())
    };
    let after = parameter("after").map(EntryId);
    let mut entries = state.entries.subscribe();
    let fresh = |entries: &Vec<Entry>| -> Vec<Entry> {
        let later = entries.iter().filter(|entry| Some(entry.id) > after);
        later.cloned().collect()
    };
    let wait = Duration::from_secs(parameter("wait").unwrap());
    let arrived = entries.wait_for(|entries| !fresh(entries).is_empty());
    let found = match tokio::time::timeout(wait, arrived).await {
        Ok(found) => fresh(&found.unwrap()),
        Err(_) => Vec::new(),
    };
    binary(ServerMessage::Entries(found).encode())
}

/// What a session's signature must cover is checked as a relay does.
fn sign_in(body: &[u8], state: &State) -> Response<Full<Bytes>> {
    let request: SessionRequest = serde_json::from_slice(body).unwrap();
    let proof = session_proof(&DOMAIN.parse().unwrap(), &NONCE, &request.mailbox, &request.device);
    let key = VerifyingKey::from_bytes(request.mailbox.as_bytes()).unwrap();
    key.verify_strict(&proof, &Signature::from_bytes(&request.signature.0)).unwrap();
    let nth = state.sign_ins.fetch_add(1, Ordering::SeqCst);
    let token = format!("token-{nth}");
    let body = format!(r#"{{"token":"{token}","expires_at":99999999999}}"#);
    if !state.forgetful.load(Ordering::SeqCst) {
        *state.token.lock().unwrap() = Some(token);
    }
    respond(200, "application/json", body)
}

/// The recipient's domain says what becomes of the envelope.
fn result(domain: &Domain) -> SubmitResult {
    match domain.as_str() {
        DOMAIN => SubmitResult::Stored,
        "full.example" => SubmitResult::Refused {
            reason: FailureClass::QueueFull,
            retry_after: Some(Duration::from_secs(9)),
        },
        _ => SubmitResult::Queued { tracking: TrackingId::from_bytes([1; 16]) },
    }
}

fn info() -> String {
    let limits = r#"{"body_bytes":131072,"header_bytes":1024,"lifetime_seconds":2592000,"batch_envelopes":256,
        "batch_bytes":4194304,"mailbox_entries":10000,"mailbox_bytes":268435456,"devices":16,
        "attachment_bytes":104857600,"mailbox_attachment_bytes":2147483648}"#;
    format!(
        r#"{{"domain":"{DOMAIN}","client_protocol":[1],"federation_protocol":[1],"software":"test","limits":{limits},
        "policies":{{"registration":"open","submission":"open"}},"something":"new"}}"#
    )
}

async fn body(request: Request<Incoming>) -> Bytes {
    request.into_body().collect().await.unwrap().to_bytes()
}

fn binary(body: Bytes) -> Response<Full<Bytes>> {
    respond(200, wire::CONTENT_TYPE, body)
}

fn refuse(slug: &str, status: u16) -> Response<Full<Bytes>> {
    let mut response = respond(status, PROBLEM_CONTENT_TYPE, problem(slug, status));
    if status == 503 {
        response.headers_mut().insert(RETRY_AFTER, "3".parse().unwrap());
    }
    response
}

fn respond(status: u16, content_type: &str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut headers = HeaderMap::new();
    if !content_type.is_empty() {
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
    }
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    *response.headers_mut() = headers;
    response
}
