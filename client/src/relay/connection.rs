//! Connections to one relay: made when needed, kept while alive.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use postrider_common::limits::MAX_MESSAGE_BYTES;
use postrider_common::supervisor::Supervisor;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Proxy;
use super::trust::Distrust;
use crate::Error;

/// Connections that wait for the next request, where the relay speaks HTTP/1.1 only.
const MAX_IDLE: usize = 4;
/// How often a connection in use shows that it lives, and how long the relay has to answer that.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// One request, with all that is needed to send it again.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// One answer, whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// How to reach the relay.
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    /// Host and port as they stand in a URL.
    pub(super) authority: String,
    pub(super) address: Option<SocketAddr>,
    pub(super) proxy: Option<Proxy>,
    pub(super) server_name: ServerName<'static>,
    pub(super) connect_timeout: Duration,
    /// Offers HTTP/2 and HTTP/1.1.
    pub(super) any_version: TlsConnector,
    /// Offers HTTP/1.1 alone, for WebSockets.
    pub(super) version_1: TlsConnector,
}

/// The connections to one relay.
pub(super) struct Connections {
    target: Target,
    /// Locked while a connection is opened, so that requests that come meanwhile wait for it and share it.
    shared: Mutex<Option<Shared>>,
    /// Never locked across an await.
    idle: std::sync::Mutex<Vec<http1::SendRequest<Full<Bytes>>>>,
    tasks: Supervisor,
}

/// An HTTP/2 connection, for any number of requests at once.
#[derive(Clone)]
struct Shared {
    sender: http2::SendRequest<Full<Bytes>>,
    /// Tells this connection from the one that replaces it.
    mark: Arc<()>,
}

enum Connection {
    Shared(Shared),
    Own(http1::SendRequest<Full<Bytes>>),
}

impl Connections {
    pub(super) fn new(target: Target) -> Self {
        Self { target, shared: Mutex::default(), idle: std::sync::Mutex::default(), tasks: Supervisor::new() }
    }

    /// Sends a request and reads the answer, all within `limit`.
    ///
    /// A kept connection may have died unnoticed, so a request that fails on one is sent again, once, on a new one.
    /// That is safe because every request of the protocol may be repeated.
    pub(super) async fn send(&self, call: &Call, limit: Duration) -> Result<Answer, Error> {
        let sent = timeout(limit, async {
            if let Some(connection) = self.kept_one().await {
                match self.exchange(connection, call).await {
                    Err(Error::Lost { source }) => {
                        tracing::debug!("a kept connection was dead: {source}");
                    }
                    other => return other,
                }
            }
            let connection = self.new_one().await?;
            self.exchange(connection, call).await
        });
        match sent.await {
            Ok(result) => result,
            Err(_) => {
                // What does not answer in time is not trusted with the next request either. If it is locked, a
                // new one is being made already.
                if let Ok(mut shared) = self.shared.try_lock() {
                    *shared = None;
                }
                Err(Error::TimedOut { after: limit })
            }
        }
    }

    /// Opens an HTTP/1.1 connection for an upgrade, and sends the request for it.
    pub(super) async fn upgrade(&self, call: &Call, limit: Duration) -> Result<Response<Incoming>, Error> {
        let upgraded = async {
            let stream = self.target.connect(&self.target.version_1).await?;
            let (mut sender, connection) =
                http1::handshake(TokioIo::new(stream)).await.map_err(Error::lost)?;
            self.tasks.spawn("relay connection", async move {
                // Its end is seen by whoever waits for an answer on it.
                let _ = connection.with_upgrades().await;
            });
            let request = self.request(call, false)?;
            sender.send_request(request).await.map_err(Error::lost)
        };
        timeout(limit, upgraded).await.unwrap_or(Err(Error::TimedOut { after: limit }))
    }

    async fn kept_one(&self) -> Option<Connection> {
        let idle = std::iter::from_fn(|| self.idle().pop()).find(|sender| sender.is_ready());
        if let Some(sender) = idle {
            return Some(Connection::Own(sender));
        }
        let shared = self.shared.lock().await;
        let alive = shared.as_ref().filter(|shared| !shared.sender.is_closed());
        alive.cloned().map(Connection::Shared)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<http1::SendRequest<Full<Bytes>>>> {
        // A list of connections has no states in between that a panic could leave behind.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a connection, unless another request has just opened one that can be shared.
    async fn new_one(&self) -> Result<Connection, Error> {
        let mut kept = self.shared.lock().await;
        if let Some(shared) = kept.as_ref().filter(|shared| !shared.sender.is_closed()) {
            return Ok(Connection::Shared(shared.clone()));
        }
        let stream = self.target.connect(&self.target.any_version).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Error::lost)?;
            self.tasks.spawn("relay connection", async move {
                let _ = connection.await;
            });
            return Ok(Connection::Own(sender));
        }
        let (sender, connection) = http2::Builder::new(Executor(self.tasks.clone()))
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(Error::lost)?;
        self.tasks.spawn("relay connection", async move {
            let _ = connection.await;
        });
        let shared = Shared { sender, mark: Arc::default() };
        *kept = Some(shared.clone());
        Ok(Connection::Shared(shared))
    }

    async fn exchange(&self, connection: Connection, call: &Call) -> Result<Answer, Error> {
        match connection {
            Connection::Shared(mut shared) => {
                let request = self.request(call, true)?;
                let answer = match shared.sender.send_request(request).await {
                    Ok(response) => read(response).await,
                    Err(error) => Err(Error::lost(error)),
                };
                if matches!(answer, Err(Error::Lost { .. })) {
                    self.forget(&shared).await;
                }
                answer
            }
            Connection::Own(mut sender) => {
                let request = self.request(call, false)?;
                let response = sender.send_request(request).await.map_err(Error::lost)?;
                let answer = read(response).await?;
                // Ready at once unless the relay closes it.
                if sender.ready().await.is_ok() {
                    let mut idle = self.idle();
                    if idle.len() < MAX_IDLE {
                        idle.push(sender);
                    }
                }
                Ok(answer)
            }
        }
    }

    async fn forget(&self, dead: &Shared) {
        let mut kept = self.shared.lock().await;
        kept.take_if(|shared| Arc::ptr_eq(&shared.mark, &dead.mark));
    }

    fn request(&self, call: &Call, version_2: bool) -> Result<Request<Full<Bytes>>, Error> {
        let authority = &self.target.authority;
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.headers_mut() = call.headers.clone();
        let uri = if version_2 {
            *request.version_mut() = Version::HTTP_2;
            format!("https://{authority}{}", call.path)
        } else {
            let host =
                HeaderValue::from_str(authority).map_err(|error| Error::protocol(error.to_string()))?;
            request.headers_mut().insert(HOST, host);
            call.path.clone()
        };
        *request.uri_mut() = uri.parse::<Uri>().map_err(|error| Error::protocol(error.to_string()))?;
        Ok(request)
    }
}

impl Target {
    async fn connect(&self, tls: &TlsConnector) -> Result<TlsStream<TcpStream>, Error> {
        let connected = async {
            let tcp = match &self.proxy {
                Some(proxy) => proxy.connect(&self.host, self.port, self.address).await?,
                None => self.dial().await?,
            };
            tcp.set_nodelay(true).map_err(Error::lost)?;
            tls.connect(self.server_name.clone(), tcp).await.map_err(|error| self.tls_error(error))
        };
        let limit = self.connect_timeout;
        timeout(limit, connected).await.unwrap_or(Err(Error::TimedOut { after: limit }))
    }

    /// Tries the addresses in turn. Each has its share of the time, so that one that swallows packets does not
    /// use all of it up.
    async fn dial(&self) -> Result<TcpStream, Error> {
        let lookup = |source| Error::Lookup { host: self.host.clone(), source };
        let addresses = match self.address {
            Some(address) => vec![address],
            None => tokio::net::lookup_host((self.host.as_str(), self.port)).await.map_err(lookup)?.collect(),
        };
        let share = self.connect_timeout / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut last = lookup(io::Error::new(io::ErrorKind::NotFound, "it has none"));
        for address in addresses {
            let tried = timeout(share, TcpStream::connect(address)).await;
            match tried.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => return Ok(stream),
                Err(source) => last = Error::Connect { address, source },
            }
        }
        Err(last)
    }

    fn tls_error(&self, source: io::Error) -> Error {
        let host = self.host.clone();
        let distrust = source.get_ref().and_then(|error| match error.downcast_ref()? {
            rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => {
                other.0.downcast_ref::<Distrust>().cloned()
            }
            _ => None,
        });
        match distrust {
            Some(Distrust { expected, presented, reason }) => {
                Error::Untrusted { host, expected, presented, reason }
            }
            None if source.kind() == io::ErrorKind::InvalidData => Error::Tls { host, source },
            // The connection broke: no verdict of TLS.
            None => Error::lost(source),
        }
    }
}

/// Reads an answer, and no more of it than any message may have.
pub(super) async fn read(response: Response<Incoming>) -> Result<Answer, Error> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_MESSAGE_BYTES).collect().await;
    let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(error) => Error::lost(error),
        Err(_) => Error::protocol(format!("it has more than {MAX_MESSAGE_BYTES} bytes")),
    })?;
    Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes() })
}

/// Gives hyper's HTTP/2 tasks an owner.
#[derive(Clone)]
struct Executor(Supervisor);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn("relay connection", future);
    }
}
