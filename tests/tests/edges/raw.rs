//! A client that does what it is told, however wrong: bytes over TLS, and HTTP/1.1 written by hand.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use ed25519_dalek::{Signer, SigningKey};
use postrider_common::wire;
use postrider_common::wire::control::{
    Challenge, Nonce, PROBLEM_CONTENT_TYPE, Problem, SessionGranted, SessionRequest, SignatureHex,
    session_proof,
};
use postrider_common::wire::mailbox::{Entry, ServerMessage};
use postrider_common::wire::submit::{self, SubmitResult};
use postrider_common::{DeviceId, Domain, Draft, Envelope, MailboxId};
use postrider_tests::authority::{Authority, Certified};
use postrider_tests::cluster::{Cluster, PATIENCE};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const ALPHA: &str = "alpha.example";
pub(crate) const BETA: &str = "beta.example";
pub(crate) const GAMMA: &str = "gamma.example";

pub(crate) fn domain(name: &str) -> Domain {
    name.parse().unwrap()
}

/// A relay as somebody sees it who only knows where it listens.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) name: Domain,
    pub(crate) address: SocketAddr,
    roots: Arc<RootCertStore>,
    source: Option<IpAddr>,
    /// What is said before TLS.
    preface: Vec<u8>,
    /// How much the system takes in before it is read, instead of its choice.
    receive_buffer: Option<u32>,
}

impl Target {
    /// A relay of a cluster, without the link in front of it.
    pub(crate) async fn of(cluster: &Cluster, name: &str) -> Self {
        Self::at(cluster.authority(), name, cluster.address(name).await.unwrap())
    }

    pub(crate) fn at(authority: &Authority, name: &str, address: SocketAddr) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.root().clone()).unwrap();
        Self {
            name: domain(name),
            address,
            roots: Arc::new(roots),
            source: None,
            preface: Vec::new(),
            receive_buffer: None,
        }
    }

    /// Connects from this address instead of the system's choice.
    pub(crate) fn from(self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self }
    }

    /// Takes in little that is not read.
    pub(crate) fn holding_back(&self) -> Self {
        Self { receive_buffer: Some(8 << 10), ..self.clone() }
    }

    /// Says this before TLS, as a proxy does.
    pub(crate) fn saying(&self, preface: &[u8]) -> Self {
        Self { preface: preface.to_vec(), ..self.clone() }
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(source) = self.source {
            socket.bind((source, 0).into()).unwrap();
        }
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        socket.connect(self.address).await.unwrap()
    }

    /// TLS as a client of the API.
    pub(crate) async fn tls(&self, alpn: &str) -> TlsStream<TcpStream> {
        self.tls_with(alpn, None).await
    }

    /// TLS, with a certificate of one's own or without.
    pub(crate) async fn tls_with(&self, alpn: &str, own: Option<&Certified>) -> TlsStream<TcpStream> {
        self.try_tls(alpn, own).await.unwrap()
    }

    /// The same, where it may come to nothing.
    pub(crate) async fn try_tls(
        &self,
        alpn: &str,
        own: Option<&Certified>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots));
        let mut config = match own {
            None => config.with_no_client_auth(),
            Some(own) => config.with_client_auth_cert(own.chain(), own.key()).unwrap(),
        };
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let name = ServerName::try_from(self.name.as_str().to_owned()).unwrap();
        let mut tcp = self.tcp().await;
        tcp.write_all(&self.preface).await?;
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }

    /// Sends bytes on a new connection and reads one answer.
    pub(crate) async fn send(&self, request: &[u8]) -> Answer {
        let mut stream = self.tls("http/1.1").await;
        say(&mut stream, request).await.unwrap();
        Answer::read(&mut stream).await.expect("an answer")
    }

    /// A request with a whole body.
    pub(crate) async fn call(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let length = body.len().to_string();
        let headers = [headers, &[("content-length", &length)]].concat();
        self.send(&[&head(line, &headers), body].concat()).await
    }

    /// The same with a token.
    pub(crate) async fn call_as(
        &self,
        owner: &Owner,
        line: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let bearer = format!("Bearer {}", owner.token);
        self.call(line, &[headers, &[("authorization", &bearer)]].concat(), body).await
    }

    /// Submits a batch in good order.
    pub(crate) async fn submit(&self, items: &[(Domain, Envelope)]) -> Vec<SubmitResult> {
        let body = submit::encode_request(items);
        let answer = self.call("POST /v1/envelopes", &[("content-type", wire::CONTENT_TYPE)], &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        submit::decode_results(&answer.body).unwrap()
    }

    /// What waits in a mailbox.
    pub(crate) async fn entries(&self, owner: &Owner) -> Vec<Entry> {
        let answer = self.call_as(owner, "GET /v1/mailbox/entries", &[], b"").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        match ServerMessage::decode(&answer.body.into()).unwrap() {
            ServerMessage::Entries(entries) => entries,
            ServerMessage::Ephemeral(_) => panic!("a poll brings entries"),
        }
    }

    pub(crate) async fn challenge(&self) -> Nonce {
        let answer = self.call("POST /v1/challenges", &[], b"").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_slice::<Challenge>(&answer.body).unwrap().nonce
    }

    pub(crate) async fn open_session(&self, request: &SessionRequest) -> Answer {
        let body = serde_json::to_vec(request).unwrap();
        self.call("POST /v1/sessions", &[("content-type", "application/json")], &body).await
    }

    /// Still in order: takes an envelope for the mailbox and hands it out, and nothing else was there.
    pub(crate) async fn assert_nothing_stored_and_serving(&self, owner: &Owner) {
        assert_eq!(self.entries(owner).await, [], "nothing of what was refused is in the mailbox");
        let good = owner.envelope(b"good");
        assert_eq!(self.submit(&[(self.name.clone(), good.clone())]).await, [SubmitResult::Stored]);
        let entries = self.entries(owner).await;
        assert_eq!(entries.iter().map(|entry| &entry.envelope).collect::<Vec<_>>(), [&good]);
    }
}

/// A mailbox's owner with one device.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    key: SigningKey,
    pub(crate) mailbox: MailboxId,
    pub(crate) device: DeviceId,
    pub(crate) token: String,
}

impl Owner {
    /// Signed in, and not registered.
    pub(crate) async fn signed_in(target: &Target) -> Self {
        let mut seed = [0; 32];
        seed.copy_from_slice(DeviceId::random().as_bytes());
        Self::with_key(target, SigningKey::from_bytes(&seed)).await
    }

    /// Signed in and registered.
    pub(crate) async fn registered(target: &Target) -> Self {
        let owner = Self::signed_in(target).await;
        let answer = target.call_as(&owner, "PUT /v1/mailbox", &[], b"").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        owner
    }

    /// Another device of the same mailbox, signed in and not registered.
    pub(crate) async fn another_device(&self, target: &Target) -> Self {
        Self::with_key(target, self.key.clone()).await
    }

    async fn with_key(target: &Target, key: SigningKey) -> Self {
        let mailbox = MailboxId::from_bytes(key.verifying_key().to_bytes());
        let owner = Self { key, mailbox, device: DeviceId::random(), token: String::new() };
        owner.signed_in_again(target).await
    }

    /// The same device with a new session.
    pub(crate) async fn signed_in_again(&self, target: &Target) -> Self {
        let request = self.session_request(&target.name, target.challenge().await);
        let answer = target.open_session(&request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let token = serde_json::from_slice::<SessionGranted>(&answer.body).unwrap().token;
        Self { token, ..self.clone() }
    }

    pub(crate) fn key_bytes(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    pub(crate) fn session_request(&self, relay: &Domain, nonce: Nonce) -> SessionRequest {
        let proof = session_proof(relay, &nonce, &self.mailbox, &self.device);
        let signature = SignatureHex(self.key.sign(&proof).to_bytes());
        SessionRequest { mailbox: self.mailbox, device: self.device, nonce, signature }
    }

    /// A good envelope for the mailbox.
    pub(crate) fn envelope(&self, body: &'static [u8]) -> Envelope {
        use postrider_common::clock::{Clock, SystemClock};
        let expires_at = SystemClock.now() + Duration::from_secs(86_400);
        Draft::new(self.mailbox, expires_at, body).finish().unwrap()
    }
}

/// Writes all of it, through what TLS would keep for later: a task that has done much in its turn is told that the
/// socket is not ready, and then TLS takes what it cannot send.
pub(crate) async fn say(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// A request's head for the relay.
pub(crate) fn head(line: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!("{line} HTTP/1.1\r\nhost: relay\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    (text + "\r\n").into_bytes()
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Reads one; `None` if the connection ends before it is there.
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        timeout(PATIENCE, Self::read_whole(stream)).await.expect("an answer or an end in time")
    }

    async fn read_whole(stream: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Self { status, headers, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        answer.body = vec![0; length];
        stream.read_exact(&mut answer.body).await.ok()?;
        Some(answer)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// Asserts that it is a problem document with this status and type, as documented.
    #[track_caller]
    pub(crate) fn assert_problem(&self, what: &str, status: u16, slug: &str) -> Problem {
        assert_eq!(self.status, status, "{what}: {self:?}");
        assert_eq!(self.header("content-type"), Some(PROBLEM_CONTENT_TYPE), "{what}");
        let problem: Problem = serde_json::from_slice(&self.body).expect(what);
        assert_eq!((problem.slug(), problem.status), (slug, status), "{what}");
        assert!(problem.kind.starts_with("urn:postrider:problem:"), "{what}: {}", problem.kind);
        assert!(!problem.title.is_empty(), "{what}");
        problem
    }
}

/// Whether the other side ends the connection, with whatever it says before that.
pub(crate) async fn until_end(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset is an end too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the connection ends");
    said
}

/// An identifier in every spelling in which it could slip into a log.
pub(crate) fn spellings(id: &[u8]) -> [String; 3] {
    let hex = HEXLOWER.encode(id);
    let list = id.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    [BASE32_NOPAD.encode(id).to_lowercase(), hex, list]
}
