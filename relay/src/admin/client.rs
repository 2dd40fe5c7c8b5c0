//! The commands' side of the socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::problem::Problem;
use super::socket::path;

/// The longest that a relay is waited for.
const PATIENCE: Duration = Duration::from_secs(150);
/// The largest answer: a page of envelopes in base64.
const ANSWER_BYTES: usize = 32 << 20;

/// Asks the relay on one data directory.
#[derive(Debug, Clone)]
pub struct Client {
    data_dir: PathBuf,
}

/// Why the relay did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is none, or it does not listen any more.
    #[error("no relay runs on {}", .0.display())]
    NoRelay(PathBuf),
    /// Somebody else's.
    #[error("permission denied: the relay on {} answers its own user and root only", .0.display())]
    PermissionDenied(PathBuf),
    /// The connection.
    #[error("the relay on {} cannot be asked: {reason}", data_dir.display())]
    Connection {
        /// Which relay.
        data_dir: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It refused.
    #[error("{0}")]
    Refused(String),
    /// Its answer makes no sense here.
    #[error("the relay on {} answers in another way than this version understands: {reason}", data_dir.display())]
    Answer {
        /// Which relay.
        data_dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Client {
    /// Of the relay on `data_dir`, which may or may not run.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into() }
    }

    /// Where the relay keeps its data.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Asks for a document.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    /// Has something done.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        document: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(document).map_err(|error| self.odd(&error))?;
        self.call(Method::POST, path, body.into()).await
    }

    /// Has something deleted.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::DELETE, path, Bytes::new()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let answered = tokio::time::timeout(PATIENCE, self.exchange(method, path, body)).await;
        let (status, body) = answered.map_err(|_| self.broken("it does not answer"))??;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| self.odd(&error));
        }
        let problem: Problem = serde_json::from_slice(&body).map_err(|error| self.odd(&error))?;
        Err(match status {
            http::StatusCode::NOT_FOUND => ClientError::NotFound(problem.detail),
            _ => ClientError::Refused(problem.detail),
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(http::StatusCode, Bytes), ClientError> {
        let stream = self.connect().await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(&error.to_string()))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "postrider")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.broken(&error.to_string()))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
            Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
        };
        tokio::pin!(exchange);
        tokio::select! {
            answered = &mut exchange => answered,
            // What the connection still has to hand over is read after its end.
            _ = connection => exchange.await,
        }
        .map_err(|reason: String| self.broken(&reason))
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        UnixStream::connect(path(&self.data_dir)).await.map_err(|error| match error.kind() {
            // A socket on which nobody listens was left by a relay that was killed.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoRelay(self.data_dir.clone())
            }
            io::ErrorKind::PermissionDenied => ClientError::PermissionDenied(self.data_dir.clone()),
            _ => self.broken(&error.to_string()),
        })
    }

    fn broken(&self, reason: &str) -> ClientError {
        ClientError::Connection { data_dir: self.data_dir.clone(), reason: reason.into() }
    }

    fn odd(&self, error: &serde_json::Error) -> ClientError {
        ClientError::Answer { data_dir: self.data_dir.clone(), reason: error.to_string() }
    }
}
