//! For those who watch a relay: metrics, and whether it is alive and ready, over HTTP on an address of their own.
//!
//! It answers from before the store is opened until everything else has ended, so it has a [`Supervisor`] of its own, which
//! ends last. Nothing that it says names a mailbox, an envelope or a client.

pub mod catalogue;
mod overview;
mod page;
mod write;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use postrider_common::Timestamp;
use postrider_common::clock::SharedClock;
use postrider_common::supervisor::Supervisor;
use postrider_federation::{Client, Expiries, Resolver};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::acme::Standing;
use crate::attachments::Attachments;
use crate::daemon::{Reload, Shown};
use crate::delivery::Delivery;
use crate::exchange::Exchange;
use crate::listener::{Door, after_accept_error};
use crate::store::Store;
pub(crate) use overview::Overview;

/// How many connections there may be. Further ones wait.
const CONNECTIONS: usize = 16;
/// How long a request's head may take,
const PATIENCE: Duration = Duration::from_secs(10);
/// and everything about a connection.
const LONGEST: Duration = Duration::from_secs(30);

/// What is looked at.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) data_dir: PathBuf,
    /// Bytes of its disk that are to stay free.
    pub(crate) reserve: u64,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) attachments: Attachments,
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) delivery: Delivery,
    pub(crate) door: Door,
    pub(crate) client: Arc<Client>,
    pub(crate) resolver: Resolver,
    pub(crate) own_certificates: Vec<Shown>,
    pub(crate) peers_certificates: Expiries,
    pub(crate) reload: Reload,
    pub(crate) acme: Standing,
}

/// Looks at a relay. Clones look at the same.
#[derive(Debug, Clone)]
pub struct Monitor(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: SharedClock,
    started: Timestamp,
    /// The relay's own tasks.
    relay: Supervisor,
    /// Absent while the store is opened.
    parts: OnceLock<Parts>,
}

impl Monitor {
    /// Of a relay that starts now, and whose tasks are `relay`'s.
    pub(crate) fn new(clock: SharedClock, relay: &Supervisor) -> Self {
        let started = clock.now();
        Self(Arc::new(Shared { clock, started, relay: relay.clone(), parts: OnceLock::new() }))
    }

    /// The store is open, and everything is there.
    pub(crate) fn complete(&self, parts: Parts) {
        // Called once.
        let _ = self.0.parts.set(parts);
        if let Some(obstacle) = self.obstacle() {
            tracing::warn!("the relay is not ready: {obstacle}");
        }
    }

    /// Serves until `own` is told to stop.
    pub(crate) fn serve(&self, listener: TcpListener, own: &Supervisor) {
        let (monitor, supervisor) = (self.clone(), own.clone());
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        own.spawn_service("monitoring", async move {
            let stopping = supervisor.stopping();
            tokio::pin!(stopping);
            loop {
                // Never closed, so that this only waits.
                let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
                let accepted = tokio::select! {
                    () = &mut stopping => return,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok((stream, _)) => {
                        let (monitor, stopping) = (monitor.clone(), supervisor.stopping());
                        supervisor.spawn("monitoring connection", async move {
                            tokio::select! {
                                _ = tokio::time::timeout(LONGEST, monitor.answer_on(stream)) => {}
                                () = stopping => {}
                            }
                            drop(permit);
                        });
                    }
                    Err(error) => after_accept_error(&error).await,
                }
            }
        });
    }

    async fn answer_on(&self, stream: TcpStream) {
        let service = service_fn(|request: Request<Incoming>| async move {
            Ok::<_, Infallible>(self.respond(request.method(), request.uri().path()).await)
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
        if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!("a monitoring connection ended: {error}");
        }
    }

    async fn respond(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        const TEXT: &str = "text/plain; charset=utf-8";
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "this path takes GET\n".into());
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        match path {
            "/livez" => text(StatusCode::OK, TEXT, "alive\n".into()),
            "/readyz" => match self.obstacle() {
                None => text(StatusCode::OK, TEXT, "ready\n".into()),
                Some(obstacle) => text(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{obstacle}\n")),
            },
            "/metrics" => text(StatusCode::OK, page::CONTENT_TYPE, self.metrics().await),
            _ => text(StatusCode::NOT_FOUND, TEXT, "there is /metrics, /livez and /readyz\n".into()),
        }
    }

    /// Why nothing can be handed in at the moment, in a sentence.
    fn obstacle(&self) -> Option<String> {
        let Some(parts) = self.0.parts.get() else {
            return Some("the store is being opened".into());
        };
        if self.0.relay.is_stopping() {
            return Some("the relay is stopping".into());
        }
        if let Some(failure) = parts.store.statistics().failure() {
            return Some(format!("the store takes no more writes, since one has failed: {failure}"));
        }
        match overview::disk_free(&parts.data_dir) {
            Ok(free) if free < parts.reserve => Some(format!(
                "the disk is nearly full: {free} bytes are free, and below {} no new envelopes are taken",
                parts.reserve
            )),
            Ok(_) => None,
            Err(error) => Some(format!("the disk cannot be asked how much of it is free: {error}")),
        }
    }

    /// What there is to be told, once the relay is complete.
    pub(crate) async fn overview(&self) -> Option<Overview> {
        let parts = self.0.parts.get()?;
        Some(Overview::gather(parts, &self.0.clock, self.0.started, self.obstacle()).await)
    }

    async fn metrics(&self) -> String {
        match (self.0.parts.get(), self.overview().await) {
            (Some(parts), Some(overview)) => write::everything(parts, &overview),
            _ => write::beginning(self.0.started),
        }
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use postrider_common::clock::ManualClock;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn while_the_store_is_opened_a_relay_is_alive_and_not_ready() {
        let clock = ManualClock::new(Timestamp::from_secs(1000));
        let (relay, own) = (Supervisor::new(), Supervisor::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Monitor::new(Arc::new(clock), &relay).serve(listener, &own);
        let ask = async |request: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("{request} HTTP/1.1\r\nhost: relay\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
        };
        let said = |status: &str, body: &str| (status.to_owned(), body.to_owned());
        assert_eq!(ask("GET /livez").await, said("200", "alive\n"));
        assert_eq!(ask("GET /readyz").await, said("503", "the store is being opened\n"));
        let (status, page) = ask("GET /metrics").await;
        assert!(status == "200" && page.ends_with("\npostrider_ready 0\n"), "{page}");
        assert_eq!(ask("HEAD /livez").await, said("200", ""));
        assert_eq!(ask("POST /livez").await, said("405", "this path takes GET\n"));
        assert_eq!(ask("GET /").await.0, "404");

        // Silent connections, more than there is room for, end with it.
        let idle: Vec<_> = (0..CONNECTIONS + 4).map(|_| TcpStream::connect(address)).collect();
        let _idle = futures_util::future::join_all(idle).await;
        own.stop();
        own.finished().await;
        assert_eq!(own.failure(), None);
    }
}
