//! The administrator's door: HTTP/1.1 with JSON over a Unix socket in the data directory.
//!
//! Only the relay's own user, and root, get in: the socket has mode 0600, and who is at the other end is asked of the
//! system. A connection carries one request. `docs/administration.md` has every call; the `postrider` commands make
//! them with the [`client`](Client).

mod client;
pub mod documents;
pub(crate) mod invites;
mod mailboxes;
mod problem;
mod queue;
mod router;
mod socket;
mod status;
mod why;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use postrider_common::Domain;
use postrider_common::clock::SharedClock;
use postrider_common::supervisor::Supervisor;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use crate::daemon::Reload;
use crate::delivery::Delivery;
use crate::exchange::Exchange;
use crate::monitor::Monitor;
use crate::store::Store;

pub use client::{Client, ClientError};
pub use socket::{SOCKET_NAME, Socket, path};

/// How many connections there may be. Further ones wait.
const CONNECTIONS: usize = 16;
/// How long a request's head, and then its body, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one request may take in all. Every one is a bounded piece of work.
const LONGEST: Duration = Duration::from_secs(120);

/// What an administrator gets at.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The relay's name.
    pub domain: Domain,
    /// What it keeps.
    pub store: Arc<dyn Store>,
    /// What empties its queue.
    pub delivery: Delivery,
    /// What its doors call.
    pub exchange: Arc<Exchange>,
    /// What reads its configuration again.
    pub reload: Reload,
    /// Its time.
    pub clock: SharedClock,
    /// What looks at all of it.
    pub monitor: Monitor,
}

/// Answers administrators until the process stops.
pub fn open(socket: Socket, parts: Parts, supervisor: &Supervisor) {
    let parts = Arc::new(parts);
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let owner = supervisor.clone();
    supervisor.spawn_service("administration", async move {
        let stopping = owner.stopping();
        tokio::pin!(stopping);
        loop {
            let accepted = tokio::select! {
                () = &mut stopping => return,
                accepted = accept(&socket, &connections) => accepted,
            };
            let Some((stream, permit)) = accepted else { continue };
            let (parts, hurrying) = (Arc::clone(&parts), owner.hurrying());
            owner.spawn("administrator's connection", async move {
                tokio::select! {
                    served = tokio::time::timeout(LONGEST, serve(stream, parts)) => {
                        if served.is_err() {
                            tracing::debug!("an administrator's request took too long");
                        }
                    }
                    () = hurrying => {}
                }
                drop(permit);
            });
        }
    });
}

/// The next connection, once there is room for it.
async fn accept(
    socket: &Socket,
    connections: &Arc<Semaphore>,
) -> Option<(UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    match socket.accept().await {
        Ok(Some(stream)) => Some((stream, permit)),
        Ok(None) => None,
        Err(error) => {
            tracing::error!("an administrator's connection cannot be accepted: {error}");
            tokio::time::sleep(Duration::from_millis(500)).await;
            None
        }
    }
}

async fn serve(stream: UnixStream, parts: Arc<Parts>) {
    let service = service_fn(|request| {
        let parts = Arc::clone(&parts);
        async move { Ok::<_, Infallible>(router::respond(&parts, request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!("an administrator's connection ended: {error}");
    }
}
