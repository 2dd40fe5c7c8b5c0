//! The client edge: HTTPS for submitting and asking, a WebSocket or long polls for receiving.
//!
//! It translates between HTTP and the [`Exchange`], checks who is asking and how much, and decides nothing else.

mod attachments;
mod auth;
mod body;
mod held;
mod mailbox;
mod origins;
mod problem;
mod rate;
mod register;
mod router;
mod stream;

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use postrider_common::MailboxId;
use postrider_common::secret::Secret;
use postrider_common::supervisor::Supervisor;
use postrider_common::wire::control::RelayInfo;
use postrider_federation::TaskExecutor;
use postrider_federation::pace::{Activity, Paced};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::admission::{Admission, Admissions, ClientAddress};
use crate::attachments::Attachments;
use crate::config::SubmissionPolicy;
use crate::exchange::Exchange;
use crate::store::Window;
use auth::Authenticator;
use body::{Bodies, RequestBody};
use held::holding;
use origins::Origins;
use rate::RateLimit;

/// How often a mailbox may say where it is kept: so many times a second, and so many at once. Each may set going whatever
/// the mailbox holds.
const BINDINGS: (u32, u32) = (1, 10);

/// How often what is kept of a mailbox beside its envelopes may be changed: its registration, its devices, and what they are
/// called. Each is a write of its own that everybody else's wait for.
const CHANGES: (u32, u32) = (5, 50);

/// How many challenges one client address may have answered within their lifetime, unless its burst is larger: whoever lets many
/// come from one address lets them sign in, too.
const MOST_SIGN_INS: usize = 1_000;

/// How many seconds' worth of attachments a client address may bring at once.
const UPLOAD_BURST_SECONDS: u32 = 30;

/// How many chunks one client address may bring at a time: a slow one leaves room for others.
const UPLOADS_OF_ONE: usize = 32;

/// How many attachments, or parts of one, one client address may be sent at a time, for the same reason.
const DOWNLOADS_OF_ONE: usize = 64;

/// How many long answers that are in memory as a whole one client address may leave unread at a time.
const UNREAD_OF_ONE: usize = 64;

/// An answer that needs nothing of the client but to be read.
const SHORT: u64 = SHORT_BYTES as u64;
const SHORT_BYTES: usize = 32 << 10;

/// How many HTTP/2 streams of one connection the relay may reset for what is wrong with them, and how many a client may have
/// taken back before the relay has looked at them. Beyond that the connection is given up.
const MOST_RESET: usize = 256;
const MOST_TAKEN_BACK: usize = 20;

/// How the client edge behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What `/.well-known/postrider` says.
    pub info: RelayInfo,
    /// Requests that need no session, and submitted envelopes, per second and client address.
    pub rate_per_second: u32,
    /// How many of them may come at once.
    pub burst: u32,
    /// Who may submit.
    pub submission: SubmissionPolicy,
    /// Submitted envelopes per second and member, if only members may,
    pub member_rate_per_second: u32,
    /// and how many of them may come at once.
    pub member_burst: u32,
    /// Bytes of a request's header.
    pub header_bytes: usize,
    /// How long a request's header may take.
    pub header_timeout: Duration,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// Memory for all request bodies together.
    pub body_memory: usize,
    /// How long a device may be away before it is removed.
    pub device_idle: Duration,
    /// How long a challenge may be answered.
    pub challenge_lifetime: Duration,
    /// How long a token is valid.
    pub session_lifetime: Duration,
    /// What a device may hold unacknowledged.
    pub stream_window: Window,
    /// The longest wait of a long poll.
    pub long_poll: Duration,
    /// Web pages that may call from a browser: their origins, or `*`.
    pub allowed_origins: Vec<String>,
    /// Bytes of attachments per second and client address.
    pub upload_per_second: u64,
}

/// The client edge. Clones share it.
#[derive(Debug, Clone)]
pub struct Api(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    exchange: Arc<Exchange>,
    settings: Settings,
    authenticator: Authenticator,
    attachments: Attachments,
    bodies: Bodies,
    origins: Origins,
    rate: RateLimit<ClientAddress>,
    /// How often each mailbox says where it is kept.
    bindings: RateLimit<MailboxId>,
    /// How often each is changed otherwise.
    changes: RateLimit<MailboxId>,
    member_rate: RateLimit<MailboxId>,
    /// In KiB of attachments.
    uploads: RateLimit<ClientAddress>,
    /// Chunks on their way from one client address,
    uploading: Admissions,
    /// and attachments on their way to one.
    downloading: Admissions,
    /// Long answers that are not read yet.
    unread: Admissions,
    supervisor: Supervisor,
}

impl Api {
    /// `session_key` makes and checks tokens; with the same key, sessions outlive a restart.
    pub fn new(
        exchange: Arc<Exchange>,
        attachments: Attachments,
        settings: Settings,
        session_key: &Secret<32>,
        supervisor: &Supervisor,
    ) -> Self {
        let authenticator = Authenticator::new(
            exchange.domain().clone(),
            session_key,
            settings.challenge_lifetime,
            settings.session_lifetime,
            MOST_SIGN_INS.max(usize::try_from(settings.burst).unwrap_or(usize::MAX)),
        );
        let bodies = Bodies::new(settings.body_memory, settings.body_timeout);
        let rate = RateLimit::new(settings.rate_per_second, settings.burst);
        let member_rate = RateLimit::new(settings.member_rate_per_second, settings.member_burst);
        let kib = u32::try_from(settings.upload_per_second / 1024).unwrap_or(u32::MAX);
        let uploads = RateLimit::new(kib, kib.saturating_mul(UPLOAD_BURST_SECONDS));
        let origins = Origins::new(settings.allowed_origins.clone());
        let [bindings, changes] =
            [BINDINGS, CHANGES].map(|(per_second, burst)| RateLimit::new(per_second, burst));
        let supervisor = supervisor.clone();
        Self(Arc::new(Shared {
            exchange,
            settings,
            authenticator,
            attachments,
            bodies,
            origins,
            rate,
            bindings,
            changes,
            member_rate,
            uploads,
            uploading: Admissions::new(usize::MAX, UPLOADS_OF_ONE),
            downloading: Admissions::new(usize::MAX, DOWNLOADS_OF_ONE),
            unread: Admissions::new(usize::MAX, UNREAD_OF_ONE),
            supervisor,
        }))
    }

    /// Serves one connection, HTTP/1.1 or HTTP/2, until it ends; when the process stops, until the requests that
    /// are being answered have been. It is `beginning` until a request was granted.
    pub async fn serve<IO>(&self, stream: IO, client: Arc<Admission>, beginning: Admission)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let settings = &self.0.settings;
        let mut builder =
            auto::Builder::new(TaskExecutor::new(self.0.supervisor.clone(), "client connection"));
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(settings.header_timeout)
            .max_buf_size(settings.header_bytes.max(8192))
            .half_close(false);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(32)
            .max_local_error_reset_streams(MOST_RESET)
            .max_pending_accept_reset_streams(MOST_TAKEN_BACK)
            .max_header_list_size(u32::try_from(settings.header_bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            // What is in here has been taken out of its body, and would be no longer held until it is read.
            .max_send_buf_size(SHORT_BYTES)
            .keep_alive_interval(Duration::from_secs(60))
            .keep_alive_timeout(Duration::from_secs(20));
        let has_asked = Arc::new(AtomicBool::new(false));
        let (api, asked) = (self.clone(), Arc::clone(&has_asked));
        let activity = Activity::default();
        let beginning = Arc::new(Mutex::new(Some(beginning)));
        let stream = Paced::new(stream, activity.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            let (api, client) = (api.clone(), Arc::clone(&client));
            let (activity, beginning) = (activity.clone(), Arc::clone(&beginning));
            activity.asked();
            async move {
                let request = RequestBody::of(request, &activity);
                let mut response = router::respond(&api.0, request, &client).await;
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    activity.release();
                } else if activity.is_unread() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                if response.status().as_u16() < 300 {
                    drop(beginning.lock().unwrap_or_else(PoisonError::into_inner).take());
                }
                Ok::<_, Infallible>(match response.body().size_hint().lower() {
                    0..=SHORT => response,
                    _ => response.map(|body| holding(body, activity.busy())),
                })
            }
        });
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let stopping = self.0.supervisor.stopping();
        // hyper's own limit begins with HTTP/1.1, so that a client that is silent after TLS, or speaks HTTP/2 and asks
        // nothing, would stay for ever.
        let first_request_due = tokio::time::sleep(settings.header_timeout);
        tokio::pin!(connection, stopping, first_request_due);
        let (mut is_stopping, mut is_first_awaited) = (false, true);
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!("a client connection ended: {error}");
                    }
                    return;
                }
                () = stopping.as_mut(), if !is_stopping => {
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = first_request_due.as_mut(), if is_first_awaited => {
                    is_first_awaited = false;
                    if !has_asked.load(Ordering::Relaxed) {
                        return tracing::debug!("a client connection without a request was closed");
                    }
                }
            }
        }
    }

    /// Forgets the addresses and members that have been quiet. To be called now and then.
    pub fn tidy(&self) {
        self.0.rate.tidy();
        self.0.bindings.tidy();
        self.0.changes.tidy();
        self.0.member_rate.tidy();
        self.0.uploads.tidy();
        self.0.attachments.tidy();
    }
}

/// A JSON answer.
fn json<T: serde::Serialize>(document: &T) -> Response<Full<Bytes>> {
    with_type(json_bytes(document), "application/json")
}

fn json_bytes<T: serde::Serialize>(document: &T) -> Bytes {
    // Our documents have text keys and finite numbers; such a value always serialises.
    serde_json::to_vec(document).unwrap_or_default().into()
}

fn with_type(body: Bytes, content_type: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
