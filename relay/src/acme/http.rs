//! HTTP to the ACME server.
//!
//! Each request has a connection of its own: a certificate takes some fifteen of them every few weeks, and a connection that
//! was kept may have died, after which nobody knows whether a request was carried out.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use postrider_common::clock::SharedClock;
use postrider_common::supervisor::Supervisor;
use postrider_federation::Resolve;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::PublicRoots;

/// How long the server has to answer, look-up and handshake included. Public ones are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one address has to accept a connection.
const TO_CONNECT: Duration = Duration::from_secs(10);
/// The longest answer: a chain is some ten kilobytes.
const MOST: usize = 1 << 20;

/// How hosts are found. Clones share it.
#[derive(Debug, Clone)]
pub struct Names {
    /// Those whose addresses stand in the configuration.
    pub hosts: HashMap<String, Vec<IpAddr>>,
    /// All others.
    pub resolver: Arc<dyn Resolve>,
}

/// A client for one attempt. Clones share what the server asked for.
#[derive(Clone)]
pub(super) struct Http(Arc<Shared>);

struct Shared {
    names: Names,
    tls: TlsConnector,
    clock: SharedClock,
    supervisor: Supervisor,
    /// How long the last answer asked to wait.
    asked: Mutex<Option<Duration>>,
}

/// Why there is no answer that could be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{0} has no host that can be connected to")]
    Url(Uri),
    #[error("{host} cannot be looked up: {reason}")]
    LookUp { host: String, reason: String },
    #[error("{host} has no address")]
    NoAddress { host: String },
    #[error("{address} ({host}) cannot be connected to: {error}")]
    Connect { host: String, address: SocketAddr, error: io::Error },
    #[error("TLS with {host} ({address}) fails: {error}")]
    Tls { host: String, address: SocketAddr, error: io::Error },
    #[error("{host} ends the connection without an answer: {error}")]
    Lost { host: String, error: Box<dyn std::error::Error + Send + Sync> },
    #[error("{host} answers {status}, without saying why")]
    Status { host: String, status: StatusCode },
    #[error("{host} does not answer within {} s", PATIENCE.as_secs())]
    Late { host: String },
}

impl Http {
    pub(super) fn new(
        names: Names,
        roots: Option<&PublicRoots>,
        clock: SharedClock,
        supervisor: Supervisor,
    ) -> Result<Self, rustls::Error> {
        let mut trusted = RootCertStore::empty();
        match roots {
            None => trusted.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            // The configuration was read only if all of them can be used.
            Some(file) => {
                trusted.add_parsable_certificates(CertificateDer::pem_slice_iter(&file.pem).flatten());
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(trusted)
            .with_no_client_auth();
        let tls = TlsConnector::from(Arc::new(tls));
        Ok(Self(Arc::new(Shared { names, tls, clock, supervisor, asked: Mutex::default() })))
    }

    /// How long the last answer asked to wait, if it did.
    pub(super) fn asked(&self) -> Option<Duration> {
        *self.0.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(self, mut request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, HttpError> {
        let unusable = || HttpError::Url(request.uri().clone());
        let authority = request.uri().authority().ok_or_else(unusable)?.clone();
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let (host, path) = (authority.host().to_owned(), path.parse().map_err(|_| unusable())?);
        let value = HeaderValue::from_str(authority.as_str()).map_err(|_| unusable())?;
        *request.uri_mut() = path;
        request.headers_mut().insert(HOST, value);
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        let answered = self.exchange(&host, authority.port_u16().unwrap_or(443), request);
        timeout(PATIENCE, answered).await.unwrap_or(Err(HttpError::Late { host }))
    }

    async fn exchange(
        &self,
        host: &str,
        port: u16,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<BytesResponse, HttpError> {
        let lost =
            |error: Box<dyn std::error::Error + Send + Sync>| HttpError::Lost { host: host.into(), error };
        let is_post = request.method() == Method::POST;
        let stream = self.connect(host, port).await?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| lost(error.into()))?;
        self.0.supervisor.spawn("ACME connection", async move {
            // Its end is seen by whoever waits for the answer.
            let _ = connection.await;
        });
        let answer = sender.send_request(request).await.map_err(|error| lost(error.into()))?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, MOST).collect().await.map_err(lost)?.to_bytes();
        *self.0.asked.lock().unwrap_or_else(PoisonError::into_inner) = self.retry_after(&parts.headers);
        let kind = parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        // Only those are read for a problem.
        let is_told = is_post && kind.starts_with("application/problem+json");
        if parts.status.is_success() || is_told {
            return Ok(Response::from_parts(parts, Full::new(body)).into());
        }
        Err(HttpError::Status { host: host.into(), status: parts.status })
    }

    async fn connect(
        &self,
        host: &str,
        port: u16,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, HttpError> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned());
        let name = name.map_err(|_| HttpError::NoAddress { host: host.into() })?;
        let mut failed = HttpError::NoAddress { host: host.into() };
        for ip in self.addresses(bare).await? {
            let (host, address) = (host.to_owned(), SocketAddr::new(ip, port));
            let stream = match timeout(TO_CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    failed = HttpError::Connect { host, address, error };
                    continue;
                }
                Err(late) => {
                    failed = HttpError::Connect { host, address, error: late.into() };
                    continue;
                }
            };
            match self.0.tls.connect(name.clone(), stream).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = HttpError::Tls { host, address, error },
            }
        }
        Err(failed)
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, HttpError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        if let Some(addresses) = self.0.names.hosts.get(host) {
            return Ok(addresses.clone());
        }
        let answer = self.0.names.resolver.addresses(host).await;
        let failed = |failure: postrider_common::Failure| HttpError::LookUp {
            host: host.into(),
            reason: failure.detail,
        };
        answer.map(|answer| answer.records).map_err(failed)
    }

    /// In seconds or as a date.
    fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let date = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        let now = Duration::from_millis(self.0.clock.now().as_millis());
        Some(date.saturating_sub(now))
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            client.send(request).await.map_err(|error| instant_acme::Error::Other(Box::new(error)))
        })
    }
}
