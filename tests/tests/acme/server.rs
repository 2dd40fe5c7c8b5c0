//! An ACME server (RFC 8555, RFC 9773) that insists on everything a client has to do, and fails on demand.

mod answers;
mod orders;

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use data_encoding::HEXLOWER;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use postrider_common::Timestamp;
use postrider_common::clock::SharedClock;
use postrider_common::supervisor::Supervisor;
use postrider_tests::authority::{Authority, Leaf};
use rand::RngExt;
use rustls::ServerConfig;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::issuer::Issuer;
use crate::signed::{Key, Signed};
use answers::{Answer, contacts, plain, problem, with};

/// A server that runs until it is dropped.
pub(crate) struct AcmeServer {
    shared: Arc<Shared>,
    tasks: Supervisor,
    address: SocketAddr,
    root_pem: String,
}

/// What goes wrong.
#[derive(Debug, Clone, Default)]
pub(crate) struct Troubles {
    /// So many requests are told that their nonce is bad, although it is good.
    pub(crate) bad_nonces: u32,
    /// Orders are refused for so long.
    pub(crate) rate_limit: Option<&'static str>,
    /// What every check of a challenge comes to.
    pub(crate) check: Option<&'static str>,
    /// Every certificate is under way for so many looks, each to come after so many seconds.
    pub(crate) busy: (u32, u64),
    /// Everything is answered with a page.
    pub(crate) is_behind_a_broken_proxy: bool,
    /// Nobody is known any more.
    pub(crate) is_forgetful: bool,
}

struct Shared {
    clock: SharedClock,
    issuer: Issuer,
    /// Set as soon as it is known.
    url: Mutex<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where every name leads.
    host: Option<SocketAddr>,
    troubles: Troubles,
    life: Option<Duration>,
    window: Option<(Timestamp, Timestamp)>,
    nonces: HashSet<String>,
    accounts: Vec<(Key, Vec<String>)>,
    orders: Vec<Order>,
    log: Vec<String>,
}

#[derive(Debug, Clone)]
struct Order {
    account: usize,
    names: Vec<String>,
    tokens: Vec<String>,
    /// What the checks came to.
    checks: Vec<Option<Result<(), String>>>,
    replaces: Option<String>,
    busy: u32,
    chain: Option<String>,
}

impl AcmeServer {
    pub(crate) async fn start(clock: SharedClock) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let authority = Authority::new("An ACME server's own authority").unwrap();
        let leaf = Leaf::new(&"acme.example".parse().unwrap(), clock.now()).names(["127.0.0.1"]);
        let own = authority.issue(&leaf).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(own.chain(), own.key())
            .unwrap();
        let (acceptor, tasks) = (TlsAcceptor::from(Arc::new(tls)), Supervisor::new());
        let shared = Arc::new(Shared {
            clock,
            issuer: Issuer::new(),
            url: Mutex::new(format!("https://{address}")),
            state: Mutex::default(),
        });
        let server = Self { shared, tasks, address, root_pem: authority.root_pem() };
        let (shared, tasks) = (Arc::clone(&server.shared), server.tasks.clone());
        server.tasks.spawn("ACME server", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
                tasks.spawn("connection to the ACME server", async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| Arc::clone(&shared).serve(request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        server
    }

    pub(crate) fn directory(&self) -> String {
        format!("https://{}/directory", self.address)
    }

    /// Whom to trust for the server itself.
    pub(crate) fn own_root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Whom to trust for what it issues.
    pub(crate) fn root_pem(&self) -> String {
        self.shared.issuer.root_pem()
    }

    /// Leads every name there.
    pub(crate) fn lead_to(&self, host: SocketAddr) {
        self.shared.state().host = Some(host);
    }

    pub(crate) fn trouble(&self, troubles: Troubles) {
        self.shared.state().troubles = troubles;
    }

    /// How long certificates are valid from now on.
    pub(crate) fn issue_for(&self, life: Duration) {
        self.shared.state().life = Some(life);
    }

    /// When every certificate is to be renewed.
    pub(crate) fn suggest(&self, window: Option<(Timestamp, Timestamp)>) {
        self.shared.state().window = window;
    }

    /// How often something was asked for, such as `order`.
    pub(crate) fn asked(&self, what: &str) -> usize {
        self.shared.state().log.iter().filter(|line| *line == what).count()
    }

    /// All that was asked for.
    pub(crate) fn requests(&self) -> usize {
        self.shared.state().log.len()
    }

    pub(crate) fn contacts(&self) -> Vec<String> {
        self.shared.state().accounts.last().map(|(_, contacts)| contacts.clone()).unwrap_or_default()
    }

    /// What the newest order is to replace.
    pub(crate) fn replaced(&self) -> Option<String> {
        self.shared.state().orders.last().and_then(|order| order.replaces.clone())
    }

    pub(crate) fn accounts(&self) -> usize {
        self.shared.state().accounts.len()
    }
}

impl Drop for AcmeServer {
    fn drop(&mut self) {
        self.tasks.kill();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url.lock().unwrap())
    }

    fn nonce(&self) -> String {
        let nonce = HEXLOWER.encode(&rand::rng().random::<[u8; 16]>());
        self.state().nonces.insert(nonce.clone());
        nonce
    }

    async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, Infallible> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let what = match path.trim_start_matches('/').split('/').next().unwrap_or_default() {
            "order" if path == "/order" => "new-order",
            other => other,
        };
        let what = what.to_owned();
        self.state().log.push(what);
        if self.state().troubles.is_behind_a_broken_proxy {
            let page = Response::builder().status(502).header("content-type", "text/html");
            return Ok(page.body(Full::from("<html>Bad Gateway</html>")).unwrap());
        }
        let mut answer = match (&parts.method, path.as_str()) {
            (&Method::GET, "/directory") => self.directory(),
            (&Method::HEAD | &Method::GET, "/nonce") => plain(StatusCode::OK, &json!({})),
            (&Method::GET, _) if path.starts_with("/renewal/") => self.renewal(),
            (&Method::POST, _) => {
                let kind = parts.headers.get("content-type").map(|kind| kind.as_bytes().to_vec());
                let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                match kind.as_deref() {
                    Some(b"application/jose+json") => self.post(&path, &body).await,
                    _ => problem(415, "malformed", "not JOSE"),
                }
            }
            _ => problem(404, "malformed", "there is no such thing"),
        };
        answer.headers_mut().insert("replay-nonce", self.nonce().parse().unwrap());
        Ok(answer)
    }

    fn directory(&self) -> Answer {
        plain(
            StatusCode::OK,
            &json!({
                "newNonce": self.url("/nonce"),
                "newAccount": self.url("/account"),
                "newOrder": self.url("/order"),
                "revokeCert": self.url("/revoke"),
                "keyChange": self.url("/key"),
                "renewalInfo": self.url("/renewal"),
                "meta": { "termsOfService": self.url("/terms") },
            }),
        )
    }

    fn renewal(&self) -> Answer {
        let Some((start, end)) = self.state().window else {
            return problem(404, "malformed", "nothing is suggested for that certificate");
        };
        let info = json!({ "suggestedWindow": { "start": start.to_string(), "end": end.to_string() } });
        with(plain(StatusCode::OK, &info), "retry-after", "21600")
    }

    async fn post(&self, path: &str, body: &[u8]) -> Answer {
        let Some(signed) = Signed::read(body) else { return problem(400, "malformed", "no JWS") };
        let (account, key) = match self.signer(path, &signed) {
            Ok(signer) => signer,
            Err(refusal) => return *refusal,
        };
        let number = |kind: &str| path.strip_prefix(kind).and_then(|rest| rest.parse::<usize>().ok());
        if path == "/account" {
            return self.register(&key, &signed);
        }
        let Some(account) = account else { return problem(400, "malformed", "nobody's") };
        if path == "/order" {
            return self.order(account, &signed);
        }
        if let Some(id) = number("/account/") {
            return self.update(id, account, &signed);
        }
        if let Some(id) = number("/order/") {
            return self.about(id, account, false);
        }
        if let Some(id) = number("/finalize/") {
            return self.finalize(id, account, &signed);
        }
        if let Some(id) = number("/certificate/") {
            return self.certificate(id, account);
        }
        let nested = |kind: &str| {
            let (order, index) = path.strip_prefix(kind)?.split_once('/')?;
            Some((order.parse().ok()?, index.parse().ok()?))
        };
        if let Some((order, index)) = nested("/authorization/") {
            return self.authorization(order, index, account);
        }
        if let Some((order, index)) = nested("/challenge/") {
            return self.challenge(order, index, account, &key).await;
        }
        problem(404, "malformed", "there is no such thing")
    }

    /// Whose request it is, if everything about its form is right.
    fn signer(&self, path: &str, signed: &Signed) -> Result<(Option<usize>, Key), Box<Answer>> {
        let refused = |status, kind: &str, text: &str| Box::new(problem(status, kind, text));
        let malformed = |text: &str| refused(400, "malformed", text);
        let mut state = self.state();
        let nonce = signed.protected["nonce"].as_str().unwrap_or_default();
        let is_known = state.nonces.remove(nonce);
        if state.troubles.bad_nonces > 0 {
            state.troubles.bad_nonces -= 1;
            return Err(refused(400, "badNonce", "that nonce is not wanted today"));
        }
        if !is_known {
            return Err(refused(400, "badNonce", "that nonce was never given out, or was used"));
        }
        if signed.protected["url"] != self.url(path) {
            return Err(malformed("signed for another URL"));
        }
        let (account, key) = if path == "/account" {
            (None, Key::read(&signed.protected["jwk"]).ok_or_else(|| malformed("no key"))?)
        } else {
            let id = signed.protected["kid"].as_str().unwrap_or_default();
            let prefix = self.url("/account/");
            let id: Option<usize> = id.strip_prefix(&prefix).and_then(|id| id.parse().ok());
            let known = id.and_then(|id| state.accounts.get(id)).filter(|_| !state.troubles.is_forgetful);
            let unknown = || refused(400, "accountDoesNotExist", "nobody of that name has an account");
            (id, known.ok_or_else(unknown)?.0.clone())
        };
        if !signed.is_by(&key) {
            return Err(refused(401, "unauthorized", "the signature is wrong"));
        }
        Ok((account, key))
    }

    fn register(&self, key: &Key, signed: &Signed) -> Answer {
        let payload = signed.payload.clone().unwrap_or_default();
        if payload["termsOfServiceAgreed"] != true {
            return problem(403, "userActionRequired", "the terms of service are not agreed to");
        }
        let mut state = self.state();
        state.troubles.is_forgetful = false;
        let known = state.accounts.iter().position(|(other, _)| other == key);
        let (status, id) = match known {
            Some(id) => (StatusCode::OK, id),
            None => {
                state.accounts.push((key.clone(), contacts(&payload)));
                (StatusCode::CREATED, state.accounts.len() - 1)
            }
        };
        with(plain(status, &json!({ "status": "valid" })), "location", &self.url(&format!("/account/{id}")))
    }

    fn update(&self, id: usize, account: usize, signed: &Signed) -> Answer {
        if id != account {
            return problem(403, "unauthorized", "another account's");
        }
        self.state().accounts[id].1 = contacts(&signed.payload.clone().unwrap_or_default());
        plain(StatusCode::OK, &json!({ "status": "valid" }))
    }
}

/// A port where nothing listens.
pub(crate) async fn nowhere() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()
}
