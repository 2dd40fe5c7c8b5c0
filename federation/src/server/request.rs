//! One request: who asks, whether they may, what they bring.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, StatusCode};
use hyper::body::Incoming;
use postrider_common::wire::{self, forward};
use postrider_common::{Domain, Failure, FailureClass, Timestamp};
use rustls::ServerConnection;
use rustls::pki_types::CertificateDer;

use super::answer::{self, Answer, Refusal};
use super::attachments::chunk_in;
use super::{RETRY_SOON, Shared, body};
use crate::hello::{Hello, Limits, You};
use crate::pace::Activity;
use crate::policy::{Direction, PeerLimits, Policy};
use crate::trust::{Evidence, PeerId, REMEMBERED, Trust, Witness, judge};
use crate::{
    ATTACHMENTS_PATH, DESTINATION_HEADER, ENVELOPES_PATH, HELLO_PATH, LOG, ORIGIN_HEADER, PROTOCOL_VERSION,
    tls,
};

/// One connection of a peer.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    /// What the peer presented in the handshake, which has proven that it holds the first one's key.
    chain: Vec<CertificateDer<'static>>,
    key_exchange: String,
    proof: Mutex<Option<Proof>>,
    /// Until there is a proof, the connection is read slowly.
    activity: Activity,
    /// The origins that were claimed on this connection, of whom DNS is being asked or has not proven them.
    claimed: Mutex<Vec<Domain>>,
}

/// A verdict, and under which circumstances it was given.
struct Proof {
    peer: PeerId,
    limits: PeerLimits,
    policy: Arc<Policy>,
    at: Timestamp,
    life: Duration,
}

/// How many origins one connection may claim in vain, if DNS has to be asked about them.
const CLAIMS: usize = 8;
/// When a caller is asked back of whom DNS could not say who it is.
const RETRY_DNS: Duration = Duration::from_secs(60);

impl Session {
    pub(super) fn new(shared: Arc<Shared>, tls: &ServerConnection, activity: Activity) -> Self {
        let chain = tls.peer_certificates().unwrap_or_default();
        Self {
            shared,
            chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            key_exchange: tls::key_exchange(tls),
            proof: Mutex::new(None),
            activity,
            claimed: Mutex::default(),
        }
    }

    /// Whether some request has proven its origin.
    pub(super) fn has_proof(&self) -> bool {
        self.proof().is_some()
    }

    /// Whether the peer was proven, and the policy of this moment has nothing to do with it any more.
    pub(super) fn is_dismissed(&self) -> bool {
        let proof = self.proof.lock().unwrap_or_else(PoisonError::into_inner);
        let policy = self.shared.config.policy.borrow();
        proof.as_ref().is_some_and(|proof| policy.admit(proof.peer.domain(), Direction::In).is_err())
    }

    /// Answers one request, whatever it is.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        self.handle(request).await.unwrap_or_else(|refusal| {
            tracing::debug!(target: LOG, "a request was refused: {refusal}");
            refusal.into()
        })
    }

    async fn handle(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        if let Some(chunk) = chunk_in(request.uri().path()) {
            if *request.method() != Method::PUT {
                return Err(Refusal::method("PUT"));
            }
            let (peer, limits) = self.admit(request.headers()).await?;
            return self.take_chunk(&peer, limits, chunk, request).await;
        }
        match (request.uri().path(), request.method()) {
            (HELLO_PATH, &Method::GET) => {
                let (peer, _) = self.admit(request.headers()).await?;
                Ok(answer::document(&self.hello(&peer)))
            }
            (ENVELOPES_PATH, &Method::POST) => {
                let (peer, limits) = self.admit(request.headers()).await?;
                self.receive(&peer, limits, request).await
            }
            (ATTACHMENTS_PATH, &Method::POST) => {
                let (peer, limits) = self.admit(request.headers()).await?;
                self.offered(&peer, limits, request).await
            }
            (ATTACHMENTS_PATH, _) => Err(Refusal::method("POST")),
            (HELLO_PATH, _) => Err(Refusal::method("GET")),
            (ENVELOPES_PATH, _) => Err(Refusal::method("POST")),
            _ => Err(Refusal::new(StatusCode::NOT_FOUND, "not-found", "there is nothing at this path")),
        }
    }

    /// The peer that asks, if it is who it says, may ask, and means us. Nothing of a body has been read before this.
    async fn admit(&self, headers: &HeaderMap) -> Result<(PeerId, PeerLimits), Refusal> {
        let origin = named(headers, ORIGIN_HEADER)?;
        let destination = named(headers, DESTINATION_HEADER)?;
        let (peer, limits) = self.prove(&origin).await.map_err(|failure| self.refused(&origin, failure))?;
        self.shared.inbound.authenticated(&peer);
        let own = self.shared.config.identity.domain();
        if destination == *own {
            return Ok((peer, limits));
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
    async fn prove(&self, origin: &Domain) -> Result<(PeerId, PeerLimits), Failure> {
        let now = self.shared.clock.now();
        let (policy, peer, life) = loop {
            let policy = Arc::clone(&self.shared.config.policy.borrow());
            if let Some(known) = self.proof().as_ref()
                && known.holds(origin, &policy, now)
            {
                return Ok((known.peer.clone(), known.limits));
            }
            // Policy first: a caller that it does not admit costs no cryptography, and no look-up.
            let trust = policy.admit(origin, Direction::In)?.trust;
            let (peer, life) = self.judge(origin, trust, now).await?;
            // What was asked of DNS may have taken longer than that policy counted.
            if Arc::ptr_eq(&policy, &self.shared.config.policy.borrow()) {
                break (policy, peer, life);
            }
        };
        self.shared.config.expiries.note(&peer, &self.chain);
        tracing::debug!(
            target: LOG,
            peer = %origin,
            direction = "in",
            protocol = "TLS 1.3",
            key_exchange = self.key_exchange,
            trust = %peer.mode(),
            "TLS agreed"
        );
        let limits = policy.admit(origin, Direction::In)?.limits;
        let proof = Proof { peer: peer.clone(), limits, policy, at: now, life: life.min(REMEMBERED) };
        if self.proof().replace(proof).is_none() {
            self.activity.release();
        }
        Ok((peer, limits))
    }

    async fn judge(
        &self,
        origin: &Domain,
        trust: &Trust,
        now: Timestamp,
    ) -> Result<(PeerId, Duration), Failure> {
        if matches!(trust, Trust::Pinned { .. } | Trust::PrivateCa { .. }) {
            return Ok((judge(&self.chain, origin, trust, &Evidence::None, now)?, REMEMBERED));
        }
        let Some(witness) = &self.shared.config.witness else {
            let detail = format!("{origin} can only be proven with the help of DNS, which is not asked here");
            return Err(Failure::new(FailureClass::DiscoveryFailed, detail));
        };
        self.claim(origin)?;
        let Ok(_permit) = self.shared.look_ups.try_acquire() else {
            let detail = "too many callers are being looked up at the moment";
            return Err(Failure::new(FailureClass::Unavailable, detail));
        };
        let judged = self.judge_by_dns(witness, origin, trust, now).await;
        if judged.is_ok() {
            self.claimed().retain(|claimed| claimed != origin);
        }
        judged
    }

    /// Counted before anything is asked: whoever is known by one name may try some others, and not make us ask for as many
    /// as it can invent, one after the other or all at once. What is asked about one name again costs nothing new.
    fn claim(&self, origin: &Domain) -> Result<(), Failure> {
        let mut claimed = self.claimed();
        if claimed.contains(origin) {
            return Ok(());
        }
        if claimed.len() >= CLAIMS {
            let detail = "too many origins were claimed in vain on this connection";
            return Err(Failure::new(FailureClass::RateLimited, detail));
        }
        claimed.push(origin.clone());
        Ok(())
    }

    fn claimed(&self) -> MutexGuard<'_, Vec<Domain>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn judge_by_dns(
        &self,
        witness: &Witness,
        origin: &Domain,
        trust: &Trust,
        now: Timestamp,
    ) -> Result<(PeerId, Duration), Failure> {
        let known = witness.about_caller(origin, trust).await?;
        match judge(&self.chain, origin, trust, &known.evidence, now) {
            Ok(peer) => Ok((peer, known.life)),
            // A certificate may name a host of the domain instead, where DNSSEC proves that it is one.
            Err(distrust)
                if matches!(trust, Trust::WebPki { .. })
                    && distrust.class == FailureClass::TlsNameMismatch =>
            {
                let known = witness.hosts_of(origin).await.map_err(|_| distrust)?;
                Ok((judge(&self.chain, origin, trust, &known.evidence, now)?, known.life))
            }
            Err(distrust) => Err(distrust.into()),
        }
    }

    fn proof(&self) -> MutexGuard<'_, Option<Proof>> {
        self.proof.lock().unwrap_or_else(PoisonError::into_inner)
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
        match failure.class {
            // Not the caller's fault, as far as anybody knows: it is to come again.
            FailureClass::DiscoveryFailed | FailureClass::DiscoveryBogus => {
                Refusal::later(StatusCode::SERVICE_UNAVAILABLE, failure, RETRY_DNS)
            }
            FailureClass::Unavailable => Refusal::later(StatusCode::SERVICE_UNAVAILABLE, failure, RETRY_SOON),
            FailureClass::RateLimited => Refusal::later(StatusCode::TOO_MANY_REQUESTS, failure, RETRY_DNS),
            _ => Refusal::forbidden(failure),
        }
    }

    async fn receive(
        &self,
        peer: &PeerId,
        limits: PeerLimits,
        request: Request<Incoming>,
    ) -> Result<Answer, Refusal> {
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
        // Its turn first: what waits holds no memory.
        let quota = self.shared.quotas.of(peer.domain(), limits);
        let _turn = quota.turn(config.body_timeout).await?;
        // Until the batch has been answered for, its bytes count.
        let mut share = self.shared.bodies.share();
        let (limit, timeout) = (config.limits.batch_bytes, config.body_timeout);
        let body = body::read(request.into_body(), limit, timeout, &mut share).await?;
        // Whom the policy has dropped while that came brings nothing any more.
        self.prove(peer.domain()).await.map_err(|failure| self.refused(peer.domain(), failure))?;
        let batch = forward::decode_request(&body)?;
        if batch.len() > config.limits.batch_envelopes {
            return Err(Refusal::too_large(format!(
                "a batch has at most {} envelopes",
                config.limits.batch_envelopes
            )));
        }
        let count = batch.len();
        quota.take(count, self.shared.clock.uptime())?;
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

impl Proof {
    fn holds(&self, origin: &Domain, policy: &Arc<Policy>, now: Timestamp) -> bool {
        self.peer.domain() == origin
            && Arc::ptr_eq(&self.policy, policy)
            && now >= self.at
            && now.since(self.at) < self.life
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
