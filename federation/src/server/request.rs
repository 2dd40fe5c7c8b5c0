//! One request: who asks, whether they may, what they bring.

use std::sync::{Arc, Mutex, PoisonError};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, StatusCode};
use hyper::body::Incoming;
use postrider_common::wire::{self, forward};
use postrider_common::{Domain, Failure, FailureClass, Timestamp};
use rustls::ServerConnection;
use rustls::pki_types::CertificateDer;

use super::answer::{self, Answer, Refusal};
use super::{Shared, body};
use crate::hello::{Hello, Limits, You};
use crate::policy::{Direction, Policy};
use crate::trust::{PeerId, REMEMBERED, judge};
use crate::{DESTINATION_HEADER, ENVELOPES_PATH, HELLO_PATH, LOG, ORIGIN_HEADER, PROTOCOL_VERSION, tls};

/// One connection of a peer.
pub(super) struct Session {
    shared: Arc<Shared>,
    /// What the peer presented in the handshake, which has proven that it holds the first one's key.
    chain: Vec<CertificateDer<'static>>,
    key_exchange: String,
    proof: Mutex<Option<Proof>>,
}

/// A verdict, and under which circumstances it was given.
struct Proof {
    peer: PeerId,
    policy: Arc<Policy>,
    at: Timestamp,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, tls: &ServerConnection) -> Self {
        let chain = tls.peer_certificates().unwrap_or_default();
        Self {
            shared,
            chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            key_exchange: tls::key_exchange(tls),
            proof: Mutex::new(None),
        }
    }

    /// Whether some request has proven its origin.
    pub(super) fn has_proof(&self) -> bool {
        self.proof.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Answers one request, whatever it is.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        self.handle(request).await.unwrap_or_else(|refusal| {
            tracing::debug!(target: LOG, "a request was refused: {refusal}");
            refusal.into()
        })
    }

    async fn handle(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        match (request.uri().path(), request.method()) {
            (HELLO_PATH, &Method::GET) => {
                let peer = self.admit(request.headers())?;
                Ok(answer::document(&self.hello(&peer)))
            }
            (ENVELOPES_PATH, &Method::POST) => {
                let peer = self.admit(request.headers())?;
                self.receive(&peer, request).await
            }
            (HELLO_PATH, _) => Err(Refusal::method("GET")),
            (ENVELOPES_PATH, _) => Err(Refusal::method("POST")),
            _ => Err(Refusal::new(StatusCode::NOT_FOUND, "not-found", "there is nothing at this path")),
        }
    }

    /// The peer that asks, if it is who it says, may ask, and means us. Nothing of a body has been read before this.
    fn admit(&self, headers: &HeaderMap) -> Result<PeerId, Refusal> {
        let origin = named(headers, ORIGIN_HEADER)?;
        let destination = named(headers, DESTINATION_HEADER)?;
        let peer = self.prove(&origin).map_err(|failure| self.refused(&origin, failure))?;
        self.shared.inbound.authenticated(&peer);
        let own = self.shared.config.identity.domain();
        if destination == *own {
            return Ok(peer);
        }
        Err(Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            FailureClass::RemoteMisdirected.slug(),
            format!("this relay is {own}, not {destination}"),
        ))
    }

    /// The verdict about `origin`.
    ///
    /// The handshake accepted any certificate, so this is where trust is decided: per request, from the certificates of
    /// this very connection (a resumed session, which could lack them, is never offered). A verdict may be reused as
    /// long as the origin and the policy are the same, since it depends on nothing else but the time.
    fn prove(&self, origin: &Domain) -> Result<PeerId, Failure> {
        let policy = Arc::clone(&self.shared.config.policy.borrow());
        let now = self.shared.clock.now();
        let mut proof = self.proof.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = proof.as_ref()
            && known.peer.domain() == origin
            && Arc::ptr_eq(&known.policy, &policy)
            && now.since(known.at) < REMEMBERED
        {
            return Ok(known.peer.clone());
        }
        // Policy first: a caller that it does not admit costs no cryptography.
        let trust = &policy.admit(origin, Direction::In)?.trust;
        let peer = judge(&self.chain, origin, trust, now)?;
        tracing::debug!(
            target: LOG,
            peer = %origin,
            direction = "in",
            protocol = "TLS 1.3",
            key_exchange = self.key_exchange,
            trust = %peer.mode(),
            "TLS agreed"
        );
        *proof = Some(Proof { peer: peer.clone(), policy, at: now });
        Ok(peer)
    }

    /// Said aloud now and then only: a stranger must not be able to fill the log.
    fn refused(&self, origin: &Domain, failure: Failure) -> Refusal {
        let class = failure.class.slug();
        let detail = &failure.detail;
        match self.shared.refusals.note(detail, self.shared.clock.now()) {
            None => tracing::debug!(target: LOG, %origin, class, "a peer was refused: {detail}"),
            Some(0) => tracing::warn!(target: LOG, %origin, class, "a peer was refused: {detail}"),
            Some(like_it) => {
                tracing::warn!(target: LOG, %origin, class, like_it, "a peer was refused: {detail}");
            }
        }
        Refusal::forbidden(failure)
    }

    async fn receive(&self, peer: &PeerId, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let config = &self.shared.config;
        if request.headers().get(CONTENT_TYPE).map(http::HeaderValue::as_bytes)
            != Some(wire::CONTENT_TYPE.as_bytes())
        {
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                format!("a batch is of the type {}", wire::CONTENT_TYPE),
            ));
        }
        // Until the batch has been answered for, its bytes count.
        let mut share = self.shared.bodies.share();
        let (limit, timeout) = (config.limits.batch_bytes, config.body_timeout);
        let body = body::read(request.into_body(), limit, timeout, &mut share).await?;
        let batch = forward::decode_request(&body)?;
        if batch.len() > config.limits.batch_envelopes {
            return Err(Refusal::too_large(format!(
                "a batch has at most {} envelopes",
                config.limits.batch_envelopes
            )));
        }
        let count = batch.len();
        tracing::debug!(target: LOG, peer = %peer.domain(), count, "inbound batch");
        let outcomes = self.shared.inbound.receive(peer, batch).await?;
        if outcomes.len() != count {
            tracing::error!(
                target: LOG,
                count,
                outcomes = outcomes.len(),
                "the relay gave a wrong number of outcomes"
            );
            return Err(Refusal::internal());
        }
        Ok(answer::outcomes(forward::encode_outcomes(&outcomes)))
    }

    fn hello(&self, peer: &PeerId) -> Hello {
        let config = &self.shared.config;
        Hello {
            domain: config.identity.domain().clone(),
            versions: vec![PROTOCOL_VERSION],
            limits: Limits::from(&config.limits),
            software: config.software.clone(),
            you: You {
                domain: peer.domain().clone(),
                trust: peer.mode().slug().into(),
                fingerprint: peer.fingerprint().to_string(),
                verdict: "accepted".into(),
            },
            time: self.shared.clock.now().as_secs(),
        }
    }
}

/// The domain in a header that every request has.
fn named(headers: &HeaderMap, header: &'static str) -> Result<Domain, Refusal> {
    let mut values = headers.get_all(header).iter();
    let (value, more) = (values.next(), values.next());
    value
        .filter(|_| more.is_none())
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| Refusal::malformed(format!("the header {header} has to name one domain")))
}
