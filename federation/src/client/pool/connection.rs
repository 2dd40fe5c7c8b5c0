//! One HTTP/2 connection to a peer.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use postrider_common::clock::SharedClock;
use postrider_common::supervisor::Supervisor;
use postrider_common::{Domain, Failure, FailureClass, Timestamp};
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use tokio::sync::Semaphore;

use super::super::answer::Answered;
use super::super::connect::Proven;
use super::super::{Call, ClientConfig, Content, RequestBody};
use crate::LOG;
use crate::discovery::Target;
use crate::executor::TaskExecutor;
use crate::identity::Identity;
use crate::policy::{Direction, Policy};
use crate::trust::{REMEMBERED, Witness, judge};

/// How many chunks of attachments are on their way to a peer at a time. Each has a piece of the send buffer.
const CHUNKS_IN_FLIGHT: usize = 4;

/// A handle to the connection. It stays open while there is one.
pub(in super::super) struct Connection {
    id: u64,
    domain: Domain,
    sender: SendRequest<RequestBody>,
    chain: Vec<CertificateDer<'static>>,
    target: Option<Target>,
    shown: Arc<CertifiedKey>,
    judged: Mutex<Judged>,
    usage: Arc<Usage>,
}

/// The last verdict.
struct Judged {
    policy: Arc<Policy>,
    at: Timestamp,
    life: Duration,
}

/// What has to be polled for anything to move.
pub(super) struct Driver {
    pub(super) connection: BoxFuture<'static, hyper::Result<()>>,
    pub(super) usage: Arc<Usage>,
}

/// How busy the connection is.
pub(super) struct Usage {
    permits: Semaphore,
    size: usize,
    /// Chunks of attachments wait for one another, and for nothing else.
    chunks: Semaphore,
    /// When the last request ended, in milliseconds.
    last: AtomicU64,
    clock: SharedClock,
}

/// A request without an answer.
#[derive(Debug)]
pub(in super::super) enum Lost {
    /// The connection broke.
    Broken(String),
    /// The peer took too long.
    TimedOut(Duration),
    /// Nothing was sent: since the connection was chosen, the policy or our own certificate has become another one.
    Outdated,
}

impl Connection {
    /// Speaks HTTP/2 on a proven connection.
    pub(super) async fn open(
        id: u64,
        proven: Proven,
        config: &ClientConfig,
        clock: &SharedClock,
        supervisor: &Supervisor,
    ) -> Result<(Self, Driver), Failure> {
        let (domain, chain) = (proven.peer.domain().clone(), proven.chain());
        let (policy, target) = (Arc::clone(&proven.policy), proven.target.clone());
        let (life, shown) = (proven.life, Arc::clone(&proven.shown));
        let stream = proven.into_stream(config.handshake_timeout).await?;
        let mut http = Builder::new(TaskExecutor::new(supervisor.clone(), "peer connection"));
        http.timer(TokioTimer::new())
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(8 << 20)
            .max_header_list_size(8 << 10)
            .max_send_buf_size(1 << 20)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        let (sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(|error| {
            Failure::new(
                FailureClass::RemoteFailed,
                format!("{domain} does not speak HTTP/2: {}", causes(&error)),
            )
        })?;
        let terms = policy.admit(&domain, Direction::Out)?;
        let in_flight = terms.limits.batches_in_flight.clamp(1, config.in_flight.max(1));
        let usage = Arc::new(Usage {
            permits: Semaphore::new(in_flight),
            size: in_flight,
            chunks: Semaphore::new(CHUNKS_IN_FLIGHT),
            last: AtomicU64::new(clock.now().as_millis()),
            clock: Arc::clone(clock),
        });
        let handle = Self {
            id,
            domain,
            sender,
            chain,
            target,
            shown,
            judged: Mutex::new(Judged { policy: Arc::clone(&policy), at: clock.now(), life }),
            usage: Arc::clone(&usage),
        };
        let connection = connection.boxed();
        Ok((handle, Driver { connection, usage }))
    }

    pub(in super::super) const fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Since when there has been no request, if there is none now.
    pub(super) fn idle_since(&self) -> Option<Timestamp> {
        self.usage.idle_since()
    }

    /// Whether the peer was shown the certificate that counts now. It judges every request by what it was shown, and may
    /// not know an earlier key any longer.
    pub(super) fn shows_present_certificate(&self, identity: &Identity) -> bool {
        self.shown.cert == identity.shown().current().cert
    }

    /// Whether `policy` accepts what the peer presented when the connection was made, by what DNS says today.
    pub(super) async fn is_proven_under(
        &self,
        policy: &Arc<Policy>,
        witness: &Witness,
        now: Timestamp,
    ) -> bool {
        if self.judged().holds(policy, now) {
            return true;
        }
        match self.judge(policy, witness, now).await {
            Ok(life) => {
                *self.judged() = Judged { policy: Arc::clone(policy), at: now, life };
                true
            }
            Err(failure) => {
                let (peer, class) = (&self.domain, failure.class.slug());
                tracing::debug!(target: LOG, %peer, class, "a kept connection is not trusted any more: {}", failure.detail);
                false
            }
        }
    }

    async fn judge(&self, policy: &Policy, witness: &Witness, now: Timestamp) -> Result<Duration, Failure> {
        let trust = policy.admit(&self.domain, Direction::Out)?.trust;
        let known = witness.about_kept(&self.domain, trust, self.target.as_ref()).await?;
        judge(&self.chain, &self.domain, trust, &known.evidence, now)?;
        Ok(known.life.min(REMEMBERED))
    }

    fn judged(&self) -> MutexGuard<'_, Judged> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the request of a call and reads the whole answer. Nothing is sent to whom the policy of that moment has not
    /// judged, nor under a certificate of before: the wait for a turn may be long.
    pub(in super::super) async fn exchange(
        &self,
        request: Request<RequestBody>,
        call: &Call<'_>,
        config: &ClientConfig,
    ) -> Result<Answered, Lost> {
        let (limit, time) = (call.answer_limit, call.time);
        let turns =
            if matches!(call.content, Content::Chunk(_)) { &self.usage.chunks } else { &self.usage.permits };
        // Never closed, so that this only waits.
        let _permit = turns.acquire().await;
        let is_judged = Arc::ptr_eq(&self.judged().policy, &config.policy.borrow());
        if !(is_judged && self.shows_present_certificate(&config.identity)) {
            return Err(Lost::Outdated);
        }
        let _used = Used(&self.usage);
        let mut sender = self.sender.clone();
        let exchange = async {
            let response: Response<_> = sender.send_request(request).await.map_err(|error| causes(&error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, limit).collect().await.map_err(|error| causes(&*error))?;
            Ok(Answered::new(head, body.to_bytes()))
        };
        match tokio::time::timeout(time, exchange).await {
            Ok(answered) => answered.map_err(Lost::Broken),
            Err(_) => Err(Lost::TimedOut(time)),
        }
    }
}

impl Judged {
    fn holds(&self, policy: &Arc<Policy>, now: Timestamp) -> bool {
        Arc::ptr_eq(&self.policy, policy) && now >= self.at && now.since(self.at) < self.life
    }
}

impl Usage {
    pub(super) fn is_idle_since(&self, time: Timestamp) -> bool {
        self.idle_since().is_some_and(|since| since <= time)
    }

    fn idle_since(&self) -> Option<Timestamp> {
        let idle = self.permits.available_permits() == self.size
            && self.chunks.available_permits() == CHUNKS_IN_FLIGHT;
        idle.then(|| Timestamp::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// Marks the end of a request, however it ends.
struct Used<'a>(&'a Usage);

impl Drop for Used<'_> {
    fn drop(&mut self) {
        self.0.last.store(self.0.clock.now().as_millis(), Ordering::Relaxed);
    }
}

impl Lost {
    /// Not known is whether the peer has what was sent.
    pub(in super::super) fn failure(self, peer: &Domain) -> Failure {
        let detail = match self {
            Self::Broken(reason) => format!("the connection to {peer} broke before it answered: {reason}"),
            Self::TimedOut(limit) => format!("{peer} did not answer within {} ms", limit.as_millis()),
            Self::Outdated => format!("the policy or our certificate changed while {peer} was called"),
        };
        Failure::new(FailureClass::RemoteFailed, detail)
    }
}

/// An error with what caused it.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
