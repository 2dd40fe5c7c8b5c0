//! One relay, as a client sees it.

mod attachments;
mod builder;
mod connection;
mod devices;
mod moving;
mod proxy;
mod receiver;
mod seen;
mod session;
mod stream;
mod trust;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use postrider_common::clock::SharedClock;
use postrider_common::wire;
use postrider_common::wire::control::{RelayInfo, TrackingStatus};
use postrider_common::wire::submit::{self, SubmitResult};
use postrider_common::{Domain, Envelope, TrackingId};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use builder::RelayBuilder;
pub use proxy::{Proxy, ProxyError};
pub use receiver::Receiver;
pub use session::Session;
pub use stream::{Delivery, MailboxStream};
pub use trust::{KeyPin, KeyPinError, Trust};

use crate::{Error, Identity};
use connection::{Answer, Call, Connections};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BINARY: HeaderValue = HeaderValue::from_static(wire::CONTENT_TYPE);

/// A client's connection settings for one relay, and the connections that are open to it.
///
/// Clones share the connections. Nothing is opened before the first call; a connection that died is made again by
/// the next one. Must be used inside a Tokio runtime.
///
/// ```no_run
/// # use postrider_client::{Identity, Relay};
/// # async fn example(me: Identity) -> Result<(), postrider_client::Error> {
/// let relay = Relay::builder("https://relay.example.org").build()?;
/// let info = relay.info().await?;
/// println!("{} takes bodies of up to {} bytes", info.domain, info.limits.body_bytes);
/// let session = relay.session(&me).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Relay(Arc<Inner>);

struct Inner {
    connections: Connections,
    clock: SharedClock,
    request_timeout: Duration,
    authority: String,
}

impl Relay {
    /// Settings for the relay at `url`, for instance `https://relay.example.org` or `https://192.0.2.7:8443`.
    pub fn builder(url: impl Into<String>) -> RelayBuilder {
        RelayBuilder::new(url.into())
    }

    /// What the relay is and takes.
    pub async fn info(&self) -> Result<RelayInfo, Error> {
        let answer = self.call(Call::get("/.well-known/postrider")).await?;
        json(&answer)
    }

    /// Hands envelopes over, each with the domain of its recipient, and says what became of each. The relay does not learn
    /// who submits, and takes it if its policy is `open`: see [`Session::submit`] for others.
    ///
    /// The batch must keep to the relay's limits, `batch_envelopes` and `batch_bytes` of [`RelayInfo`]. After an
    /// error the same envelopes may be submitted again: those that the relay has are not kept twice.
    pub async fn submit(&self, items: &[(Domain, Envelope)]) -> Result<Vec<SubmitResult>, Error> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        results(&self.call(submission(items)).await?, items)
    }

    /// Hands one envelope over, for instance of an app that does its own encryption:
    ///
    /// ```no_run
    /// # use postrider_client::{Domain, Draft, MailboxId, Relay, SubmitResult, Timestamp};
    /// # async fn example(relay: Relay, mailbox: MailboxId, domain: Domain, tomorrow: Timestamp)
    /// #     -> Result<(), Box<dyn std::error::Error>> {
    /// let envelope = Draft::new(mailbox, tomorrow, &b"a ciphertext"[..]).finish()?;
    /// match relay.submit_one(&domain, envelope).await? {
    ///     SubmitResult::Stored => println!("in the mailbox"),
    ///     SubmitResult::Queued { tracking } => println!("on its way: {:?}", relay.track(tracking).await?.state),
    ///     SubmitResult::Refused { reason, retry_after: None } => println!("never: {reason}"),
    ///     SubmitResult::Refused { reason, retry_after: Some(wait) } => println!("in {wait:?}: {reason}"),
    ///     // Of a kind that this app does not know.
    ///     _ => {}
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// `domain` is the recipient's, for instance
    /// [`ContactCard::domain`](crate::ContactCard::domain).
    pub async fn submit_one(&self, domain: &Domain, envelope: Envelope) -> Result<SubmitResult, Error> {
        let results = self.submit(&[(domain.clone(), envelope)]).await?;
        results.into_iter().next().ok_or_else(|| Error::protocol("it has no result"))
    }

    /// What became of an envelope that was queued. An id that the relay does not know, or no longer, is refused
    /// with the [slug](Error::slug) `unknown-tracking`.
    ///
    /// ```no_run
    /// # use postrider_client::{Error, Relay, TrackingId, TrackingState};
    /// # async fn example(relay: Relay, id: TrackingId) -> Result<(), Error> {
    /// let status = relay.track(id).await?;
    /// match status.state {
    ///     TrackingState::Stored => println!("{} has it", status.destination),
    ///     _ if status.is_final() => println!("it never comes there: {:?}", status.reason),
    ///     _ => println!("it was tried {} times: {:?}", status.attempts, status.reason),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn track(&self, id: TrackingId) -> Result<TrackingStatus, Error> {
        let answer = self.call(Call::get(&format!("/v1/tracking/{id}"))).await?;
        json(&answer)
    }

    /// Signs in with the identity's mailbox and device, after checking that this relay keeps it.
    pub async fn session(&self, identity: &Identity) -> Result<Session, Error> {
        Session::open(self.clone(), identity.clone()).await
    }

    /// The clock that back-off and the life of sessions go by.
    fn clock(&self) -> &SharedClock {
        &self.0.clock
    }

    /// By the relay's clock.
    pub(crate) async fn sleep(&self, pause: Duration) {
        self.clock().sleep(pause).await;
    }

    async fn call(&self, call: Call) -> Result<Answer, Error> {
        self.call_within(&call, self.0.request_timeout).await
    }

    /// Sends a request whose answer is a success, or an error.
    async fn call_within(&self, call: &Call, limit: Duration) -> Result<Answer, Error> {
        let answer = self.0.connections.send(call, limit).await?;
        successful(answer)
    }
}

fn submission(items: &[(Domain, Envelope)]) -> Call {
    Call::post("/v1/envelopes", BINARY, submit::encode_request(items))
}

fn results(answer: &Answer, items: &[(Domain, Envelope)]) -> Result<Vec<SubmitResult>, Error> {
    let results = submit::decode_results(&answer.body)?;
    if results.len() != items.len() {
        let (results, items) = (results.len(), items.len());
        return Err(Error::protocol(format!("it has {results} results for {items} envelopes")));
    }
    Ok(results)
}

fn successful(answer: Answer) -> Result<Answer, Error> {
    if answer.status.is_success() {
        Ok(answer)
    } else {
        Err(Error::from_answer(answer.status, &answer.headers, &answer.body))
    }
}

fn json<T: DeserializeOwned>(answer: &Answer) -> Result<T, Error> {
    // Where it is wrong, not what is there: that could be a token.
    serde_json::from_slice(&answer.body).map_err(|error| {
        Error::protocol(format!(
            "its JSON is not as documented at line {}, column {}",
            error.line(),
            error.column()
        ))
    })
}

impl Call {
    fn new(method: Method, path: &str) -> Self {
        Self { method, path: path.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    fn delete(path: &str) -> Self {
        Self::new(Method::DELETE, path)
    }

    fn post(path: &str, content_type: HeaderValue, body: Bytes) -> Self {
        let mut call = Self::new(Method::POST, path);
        call.headers.insert(CONTENT_TYPE, content_type);
        call.body = body;
        call
    }

    fn put_json<T: Serialize>(path: &str, body: &T) -> Result<Self, Error> {
        Ok(Self { method: Method::PUT, ..Self::post_json(path, body)? })
    }

    fn post_json<T: Serialize>(path: &str, body: &T) -> Result<Self, Error> {
        let body = serde_json::to_vec(body).map_err(|error| Error::protocol(error.to_string()))?;
        Ok(Self::post(path, JSON, body.into()))
    }
}

/// Whether an error says that the token is not, or no longer, good.
fn is_unauthorized(error: &Error) -> bool {
    error.status() == Some(StatusCode::UNAUTHORIZED)
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Relay").field(&self.0.authority).finish()
    }
}
