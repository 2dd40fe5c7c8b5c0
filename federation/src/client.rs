//! The side that calls: batches and questions to peers, over one shared connection each.

mod answer;
mod attachments;
mod connect;
mod pool;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use postrider_common::clock::SharedClock;
use postrider_common::supervisor::Supervisor;
use postrider_common::wire::{self, forward};
use postrider_common::{Domain, Envelope, Failure, FailureClass, Outcome};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::discovery::{Networks, Resolve, SrvRecord};
use crate::expiries::Expiries;
use crate::hello::Hello;
use crate::identity::Identity;
use crate::policy::{Direction, Policy};
use crate::trust::{Evidence, Trust, Witness};
use crate::{DESTINATION_HEADER, ENVELOPES_PATH, HELLO_PATH, LOG, ORIGIN_HEADER};
use answer::Answered;
use pool::{Connection, Lost, Pool};

pub use attachments::{ChunkAnswer, ChunkBody, OfferAnswer, OutgoingChunk};
pub use connect::{Examination, ExaminedHost, Reached, Tried, progress};

/// The largest answer with outcomes that is read.
const MAX_OUTCOMES_BYTES: usize = 1 << 20;
/// The largest document that is read.
const MAX_DOCUMENT_BYTES: usize = 64 << 10;

/// How a [`Client`] behaves.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Who we are.
    pub identity: Arc<Identity>,
    /// Whom we send envelopes to. A new value counts from the next call on, on open connections too.
    pub policy: watch::Receiver<Arc<Policy>>,
    /// DNS, and what it says about keys.
    pub witness: Witness,
    /// Where it is noted when the certificates of peers end.
    pub expiries: Expiries,
    /// Addresses of hosts that DNS is not asked for. They may be in any network.
    pub hosts: HashMap<String, Vec<IpAddr>>,
    /// Networks outside the public Internet in which DNS may place peers.
    pub networks: Networks,
    /// How long one address may take to accept a TCP connection.
    pub connect_timeout: Duration,
    /// How long the TLS handshake may take, and after it the peer's first word.
    pub handshake_timeout: Duration,
    /// After how long no further address is tried.
    pub attempt_timeout: Duration,
    /// How long a peer may take to answer a request.
    pub request_timeout: Duration,
    /// How long a connection is kept without a request.
    pub idle_timeout: Duration,
    /// How many requests one peer gets at a time at most, if the policy allows as many; further callers wait.
    pub in_flight: usize,
    /// How many peers may be connected or being connected to.
    pub max_connections: usize,
}

impl ClientConfig {
    /// The defaults: 5 seconds for TCP, 10 for TLS, 60 for an attempt, 60 for an answer, connections kept for 90;
    /// 64 requests in flight for each peer, 1,024 peers.
    pub fn new(
        identity: Arc<Identity>,
        policy: watch::Receiver<Arc<Policy>>,
        resolver: Arc<dyn Resolve>,
    ) -> Self {
        Self {
            identity,
            policy,
            witness: Witness::new(resolver),
            expiries: Expiries::default(),
            hosts: HashMap::new(),
            networks: Networks::default(),
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(90),
            in_flight: 64,
            max_connections: 1024,
        }
    }
}

/// Calls peers. Clones share the connections.
#[derive(Clone)]
pub struct Client {
    pool: Pool,
}

impl Client {
    /// A client without connections. The ones that it makes end with the supervisor.
    pub fn new(config: ClientConfig, clock: SharedClock, supervisor: Supervisor) -> Self {
        Self { pool: Pool::new(config, clock, supervisor) }
    }

    /// Whether our policy lets envelopes go to `destination`, before anything is looked up.
    pub fn admit(&self, destination: &Domain) -> Result<(), Failure> {
        self.pool.config().policy.borrow().admit(destination, Direction::Out).map(drop)
    }

    /// How many peers are connected.
    pub fn connections(&self) -> usize {
        self.pool.connections()
    }

    /// Hands a batch to `destination` and returns one outcome for each envelope, in order.
    ///
    /// A failure concerns the batch as a whole. It may have been stored all the same if the failure is `remote-failed`;
    /// the envelopes' ids make it safe to send it again. Dropping the future gives the request up.
    pub async fn forward(
        &self,
        destination: &Domain,
        envelopes: &[Envelope],
    ) -> Result<Vec<Outcome>, Failure> {
        if *destination == *self.pool.config().identity.domain() {
            let detail = format!("{destination} is this relay's own domain");
            return Err(Failure::new(FailureClass::Loop, detail));
        }
        if envelopes.is_empty() {
            return Ok(Vec::new());
        }
        let began = Instant::now();
        let call = Call {
            method: Method::POST,
            path: ENVELOPES_PATH.into(),
            content: Content::of(wire::CONTENT_TYPE, forward::encode_request(envelopes.iter())),
            answer_limit: MAX_OUTCOMES_BYTES,
            time: self.request_time(),
        };
        let answered = self.call(destination, call).await;
        let outcomes = answered.and_then(|answered| answered.outcomes(destination, envelopes.len()))?;
        tracing::debug!(
            target: LOG,
            peer = %destination,
            count = envelopes.len(),
            elapsed = ?began.elapsed(),
            "batch forwarded"
        );
        Ok(outcomes)
    }

    /// Asks `destination` who it is and what it sees of us.
    pub async fn hello(&self, destination: &Domain) -> Result<Hello, Failure> {
        let call = Call {
            method: Method::GET,
            path: HELLO_PATH.into(),
            content: Content::Nothing,
            answer_limit: MAX_DOCUMENT_BYTES,
            time: self.request_time(),
        };
        let answered = self.call(destination, call).await;
        answered.and_then(|answered| answered.hello(destination))
    }

    /// Looks at the whole way to `destination`, step by step and past what is wrong, without sending it anything. What it
    /// sees of us only [`hello`](Self::hello) tells.
    pub async fn examine(&self, destination: &Domain) -> Examination {
        self.pool.examine(destination).await
    }

    /// A number that changes when `destination` is found elsewhere or known by something else than before: its SRV
    /// records, or the addresses and pins of our policy. It means nothing outside this process. `None` where the
    /// look-up fails.
    pub async fn fingerprint(&self, destination: &Domain) -> Option<u64> {
        let config = self.pool.config();
        let mut hasher = DefaultHasher::new();
        let policy = Arc::clone(&config.policy.borrow());
        let is_listed_with_addresses = match policy.admit(destination, Direction::Out) {
            Ok(peer) => {
                peer.addresses.hash(&mut hasher);
                if let Trust::Pinned { pins } = peer.trust {
                    pins.iter().for_each(|pin| pin.to_string().hash(&mut hasher));
                }
                !peer.addresses.is_empty()
            }
            Err(failure) => {
                failure.class.hash(&mut hasher);
                return Some(hasher.finish());
            }
        };
        if is_listed_with_addresses {
            return Some(hasher.finish());
        }
        let terms = policy.admit(destination, Direction::Out).ok()?;
        let srv = config.witness.resolver().srv(destination).await.ok()?;
        let fields =
            |record: &SrvRecord| (record.priority, record.weight, record.port, record.target.clone());
        let mut records: Vec<_> = srv.records.iter().map(fields).collect();
        records.sort();
        records.hash(&mut hasher);
        if matches!(terms.trust, Trust::Dane | Trust::Public { .. }) {
            // Other keys are as good a reason to try again as other hosts.
            match config.witness.about_caller(destination, terms.trust).await.map(|known| known.evidence) {
                Ok(Evidence::Keys { mut pins, .. }) => {
                    pins.sort_by_key(|pin| *pin.as_bytes());
                    pins.hash(&mut hasher);
                }
                Ok(_) => {}
                Err(failure) => failure.class.hash(&mut hasher),
            }
        }
        Some(hasher.finish())
    }

    fn request_time(&self) -> Duration {
        self.pool.config().request_timeout
    }

    /// An attempt, the wait for its turn and the way to the peer included, ends within the two time-outs together.
    async fn call(&self, destination: &Domain, call: Call<'_>) -> Result<Answered, Failure> {
        let config = self.pool.config();
        let limit = config.attempt_timeout + call.time;
        tokio::time::timeout(limit, self.attempt(destination, call)).await.unwrap_or_else(|_| {
            let detail = format!("{destination} did not answer within {} s", limit.as_secs());
            Err(Failure::new(FailureClass::RemoteFailed, detail))
        })
    }

    /// One request and its whole answer.
    ///
    /// A connection that was open before may have died unnoticed, for instance with the peer's restart, so a request that
    /// is lost on one is sent once more. All requests may be repeated.
    async fn attempt(&self, destination: &Domain, call: Call<'_>) -> Result<Answered, Failure> {
        let config = self.pool.config();
        let mut was_lost = false;
        loop {
            config.policy.borrow().admit(destination, Direction::Out)?;
            let (connection, is_kept) = match self.pool.kept(destination).await {
                Some(connection) => (connection, true),
                None => (self.pool.connected(destination).await?, false),
            };
            let request = call.request(config.identity.domain(), destination);
            match connection.exchange(request, &call, config).await {
                Ok(answered) => return Ok(self.heeded(destination, &connection, answered)),
                // Whoever is at the other end is judged anew.
                Err(Lost::Outdated) => {}
                Err(lost @ Lost::TimedOut(_)) if is_kept => return Err(lost.failure(destination)),
                Err(Lost::Broken(reason)) if is_kept && !was_lost => {
                    tracing::debug!(target: LOG, peer = %destination, reason, "a kept connection was lost");
                    self.pool.discard(destination, connection.id());
                    was_lost = true;
                }
                Err(lost) => {
                    self.pool.discard(destination, connection.id());
                    return Err(lost.failure(destination));
                }
            }
        }
    }

    /// A relay that says it is another one is not where we were to go: the next attempt finds out anew where that is.
    fn heeded(&self, destination: &Domain, connection: &Connection, answered: Answered) -> Answered {
        if answered.is_misdirected() {
            self.pool.discard(destination, connection.id());
            self.pool.config().witness.resolver().doubt(destination);
        }
        answered
    }
}

/// What is asked of a peer.
struct Call<'a> {
    method: Method,
    path: Cow<'static, str>,
    content: Content<'a>,
    answer_limit: usize,
    /// For the request and its answer.
    time: Duration,
}

/// What a request has as its body.
enum Content<'a> {
    Nothing,
    Whole {
        content_type: &'static str,
        bytes: Bytes,
    },
    /// Passes through, and takes none of the turns that batches take.
    Chunk(&'a OutgoingChunk),
}

/// The body of a request, of any of these.
type RequestBody = ChunkBody;

impl Content<'_> {
    const fn of(content_type: &'static str, bytes: Bytes) -> Self {
        Self::Whole { content_type, bytes }
    }
}

impl Call<'_> {
    fn request(&self, origin: &Domain, destination: &Domain) -> Request<RequestBody> {
        let mut request = Request::new(match &self.content {
            Content::Nothing => whole(Bytes::new()),
            Content::Whole { bytes, .. } => whole(bytes.clone()),
            Content::Chunk(chunk) => (chunk.body)(),
        });
        *request.method_mut() = self.method.clone();
        let uri = Uri::builder().scheme("https").authority(destination.as_str()).path_and_query(&*self.path);
        // A domain is always a valid authority, and our paths are constants with identifiers and numbers in them.
        *request.uri_mut() = uri.build().unwrap_or_default();
        let headers = request.headers_mut();
        for (name, domain) in [(ORIGIN_HEADER, origin), (DESTINATION_HEADER, destination)] {
            if let Ok(value) = HeaderValue::from_str(domain.as_str()) {
                headers.insert(name, value);
            }
        }
        match &self.content {
            Content::Nothing => {}
            Content::Whole { content_type, .. } => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            }
            Content::Chunk(chunk) => chunk.describe(headers),
        }
        request
    }
}

fn whole(bytes: Bytes) -> RequestBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", self.pool.config()).finish_non_exhaustive()
    }
}
