//! The side that is called: one HTTP/2 connection from a peer, from the TLS handshake to its end.

mod answer;
mod attachments;
mod body;
mod quota;
mod refusals;
mod request;

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use postrider_common::budget::Budget;
use postrider_common::clock::SharedClock;
use postrider_common::limits::EnvelopeLimits;
use postrider_common::supervisor::Supervisor;
use postrider_common::wire::attachments::{AttachmentOffer, AttachmentsWanted};
use postrider_common::{Envelope, FailureClass, Outcome};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::server::TlsStream;

use crate::executor::TaskExecutor;
use crate::expiries::Expiries;
use crate::identity::Identity;
use crate::pace::{Activity, Paced};
use crate::policy::Policy;
use crate::trust::{PeerId, Witness};
use crate::{ALPN, LOG, tls};
pub use attachments::{ChunkRefused, IncomingChunk};
use quota::Quotas;
use refusals::Refusals;
use request::Session;

/// What the relay does with what peers bring.
pub trait Inbound: Send + Sync + 'static {
    /// Takes a batch and answers one outcome for each item, in order, once what it says is durable.
    ///
    /// An item that is wrong by itself comes as its class. The future is dropped when the peer gives the request up; it
    /// must then leave nothing half done.
    fn receive<'a>(
        &'a self,
        peer: &'a PeerId,
        batch: Vec<Result<Envelope, FailureClass>>,
    ) -> BoxFuture<'a, Result<Vec<Outcome>, Busy>>;

    /// An envelope is about to come that names attachments: what of them has to come before it. Where the envelope would
    /// not be taken, that is nothing; its outcome will say why.
    fn offered<'a>(
        &'a self,
        _peer: &'a PeerId,
        _offer: AttachmentOffer,
    ) -> BoxFuture<'a, Result<AttachmentsWanted, Busy>> {
        Box::pin(async { Ok(AttachmentsWanted { attachments: Vec::new() }) })
    }

    /// Takes a chunk, and answers once it is on stable storage. The future is dropped when the peer gives the request up.
    fn take_chunk<'a>(
        &'a self,
        _peer: &'a PeerId,
        _chunk: IncomingChunk,
    ) -> BoxFuture<'a, Result<(), ChunkRefused>> {
        Box::pin(async { Err(ChunkRefused::Unknown) })
    }

    /// Called once for every request whose origin is proven, whatever becomes of it: the peer is there and reaches us,
    /// so there may be no reason to wait before we call on it.
    fn authenticated(&self, peer: &PeerId);
}

/// The relay cannot take a batch now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy {
    /// Why not.
    pub reason: FailureClass,
    /// When the peer should ask again. Rounded up to whole seconds.
    pub retry_after: Duration,
}

/// How a [`Server`] behaves.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Who we are.
    pub identity: Arc<Identity>,
    /// Whom we take envelopes from. A new value counts from the next request on, on open connections too.
    pub policy: watch::Receiver<Arc<Policy>>,
    /// What DNS says about callers' keys. Without it nobody is proven by a mode that needs DNS.
    pub witness: Option<Witness>,
    /// Where it is noted when the certificates of peers end.
    pub expiries: Expiries,
    /// What we take.
    pub limits: EnvelopeLimits,
    /// How `hello` names the software.
    pub software: String,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// Memory for the bodies of all requests together.
    pub body_memory: usize,
    /// How long a connection may stay without any request that proved its origin.
    pub proof_timeout: Duration,
    /// How many requests a connection may have in flight.
    pub max_streams: u32,
}

impl ServerConfig {
    /// The defaults: 30 seconds for a body, 128 MiB for all bodies, 30 for the first proof, 16 requests in flight.
    pub fn new(
        identity: Arc<Identity>,
        policy: watch::Receiver<Arc<Policy>>,
        software: impl Into<String>,
    ) -> Self {
        Self {
            identity,
            policy,
            witness: None,
            expiries: Expiries::default(),
            limits: EnvelopeLimits::default(),
            software: software.into(),
            body_timeout: Duration::from_secs(30),
            body_memory: 128 << 20,
            proof_timeout: Duration::from_secs(30),
            max_streams: 16,
        }
    }
}

/// When a peer is asked back after we had no memory for its batch.
const RETRY_SOON: Duration = Duration::from_secs(5);

/// How many streams of one connection may be reset for what is wrong with them, and how many a peer may take back before we
/// have looked at them. Beyond that the connection is given up.
const MOST_RESET: usize = 256;
const MOST_TAKEN_BACK: usize = 20;

/// How many callers DNS is asked about at a time.
const LOOK_UPS: usize = 64;

/// Serves peers. Clones share everything.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
    tls: Arc<rustls::ServerConfig>,
    supervisor: Supervisor,
}

/// What every connection needs.
struct Shared {
    config: ServerConfig,
    inbound: Arc<dyn Inbound>,
    clock: SharedClock,
    bodies: Budget,
    refusals: Refusals,
    look_ups: Semaphore,
    quotas: Quotas,
}

impl Server {
    /// A server that hands batches to `inbound`.
    pub fn new(
        config: ServerConfig,
        inbound: Arc<dyn Inbound>,
        clock: SharedClock,
        supervisor: Supervisor,
    ) -> Self {
        Self {
            tls: tls::server_config(&config.identity),
            shared: Arc::new(Shared {
                bodies: Budget::new(config.body_memory),
                refusals: Refusals::default(),
                look_ups: Semaphore::new(LOOK_UPS),
                quotas: Quotas::default(),
                config,
                inbound,
                clock,
            }),
            supervisor,
        }
    }

    /// The TLS configuration for connections that ask for [`ALPN`].
    pub fn tls_config(&self) -> Arc<rustls::ServerConfig> {
        Arc::clone(&self.tls)
    }

    /// Serves one connection, whose handshake was made with [`tls_config`](Self::tls_config), until it ends.
    ///
    /// When the supervisor stops, the peer is told so (GOAWAY), requests in flight are finished, and this returns.
    pub async fn serve<IO>(&self, stream: TlsStream<IO>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != Some(ALPN) {
            tracing::debug!(target: LOG, "a connection without our protocol in its handshake was closed");
            return;
        }
        let activity = Activity::default();
        let session = Arc::new(Session::new(Arc::clone(&self.shared), session, activity.clone()));
        let stream = Paced::new(stream, activity);
        let service = service_fn(|request| {
            let session = Arc::clone(&session);
            async move { Ok::<_, std::convert::Infallible>(session.answer(request).await) }
        });
        let mut connection = pin!(self.http().serve_connection(TokioIo::new(stream), service));
        let mut stopping = pin!(self.supervisor.stopping());
        let mut proof_due = pin!(tokio::time::sleep(self.shared.config.proof_timeout));
        let (mut closing, mut proof_awaited) = (false, true);
        let mut policy = self.shared.config.policy.clone();
        let mut may_change = true;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(target: LOG, %error, "a peer's connection ended");
                    }
                    return;
                }
                // Whoever has proven nothing has nothing under way, and is not waited for.
                () = stopping.as_mut(), if !closing => {
                    if !session.has_proof() {
                        return;
                    }
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                // A peer that the policy has dropped is told so at once, and not with its next request only.
                changed = policy.changed(), if may_change && !closing => {
                    may_change = changed.is_ok();
                    if session.is_dismissed() {
                        tracing::debug!(target: LOG, "the connection of a peer that the policy has dropped is closed");
                        closing = true;
                        connection.as_mut().graceful_shutdown();
                    }
                }
                () = proof_due.as_mut(), if proof_awaited => {
                    if !session.has_proof() {
                        tracing::debug!(target: LOG, "a connection that proved nothing in time was closed");
                        return;
                    }
                    proof_awaited = false;
                }
            }
        }
    }

    fn http(&self) -> Builder<TaskExecutor> {
        let mut http = Builder::new(TaskExecutor::new(self.supervisor.clone(), "peer request"));
        // A batch has up to 4 MiB: half of one is on its way while we read the other, and a few batches at a time.
        http.timer(TokioTimer::new())
            .initial_stream_window_size(2 << 20)
            .initial_connection_window_size(16 << 20)
            // The smallest that HTTP/2 knows cuts a batch, or a chunk of an attachment, into very many.
            .max_frame_size(64 << 10)
            .max_concurrent_streams(self.shared.config.max_streams)
            .max_local_error_reset_streams(MOST_RESET)
            .max_pending_accept_reset_streams(MOST_TAKEN_BACK)
            .max_header_list_size(8 << 10)
            .max_send_buf_size(256 << 10)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        http
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("config", &self.shared.config).finish_non_exhaustive()
    }
}
