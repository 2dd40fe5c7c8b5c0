//! Proof of a mailbox's key, and the tokens that stand for it.
//!
//! Neither challenges nor sessions are kept: both carry a message authentication code of the relay's own key, so
//! that nobody can fill a table with them. The only state is which challenges were answered in the last minute,
//! because each may be used once.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, btree_map};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use postrider_common::secret::{Secret, random_bytes};
use postrider_common::wire::control::{Challenge, Nonce, SessionGranted, SessionRequest, session_proof};
use postrider_common::{DeviceId, Domain, MailboxId, Timestamp};

use super::problem::ApiError;
use crate::admission::ClientAddress;

/// Challenges answered within their lifetime; at this many, further ones are refused for the moment.
const MAX_ANSWERED: usize = 100_000;
/// When a client address is asked back that has answered as many of them as one may.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// How long after the mailbox's key was shown a session is taken for the key.
const JUST_BEGUN: Duration = Duration::from_secs(5 * 60);
/// What the codes of the two uses begin with, so that neither is taken for the other.
const CHALLENGE: &[u8] = b"challenge";
const SESSION: &[u8] = b"session";

/// Issues and checks challenges and tokens.
#[derive(Debug)]
pub(super) struct Authenticator {
    domain: Domain,
    key: hmac::Key,
    challenge_lifetime: Duration,
    session_lifetime: Duration,
    most_of_one: usize,
    answered: Mutex<Answered>,
}

/// Who is asking, proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) mailbox: MailboxId,
    pub(super) device: DeviceId,
    /// When the mailbox's key was last shown for it, as far as can be told from its end,
    pub(super) begun_at: Timestamp,
    /// which is here.
    pub(super) expires_at: Timestamp,
}

/// The nonces that were used, and by whom. They begin with the time after which they are of no use anyway, so that the first
/// ones are over first.
#[derive(Debug, Default)]
struct Answered {
    nonces: BTreeMap<[u8; 32], ClientAddress>,
    by_client: HashMap<ClientAddress, usize>,
}

impl Authenticator {
    /// One client address has at most `most_of_one` challenges answered within their lifetime, so that few addresses do not
    /// keep everybody else from signing in.
    pub(super) fn new(
        domain: Domain,
        secret: &Secret<32>,
        challenge_lifetime: Duration,
        session_lifetime: Duration,
        most_of_one: usize,
    ) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
        Self { domain, key, challenge_lifetime, session_lifetime, most_of_one, answered: Mutex::default() }
    }

    /// A nonce: end of its life in seconds (8 bytes) || random (8) || code (16).
    pub(super) fn challenge(&self, now: Timestamp) -> Challenge {
        let end = (now + self.challenge_lifetime).as_secs();
        let mut nonce = [0; 32];
        nonce[..8].copy_from_slice(&end.to_be_bytes());
        nonce[8..16].copy_from_slice(&random_bytes::<8>());
        let code = self.code(CHALLENGE, &nonce[..16]);
        nonce[16..].copy_from_slice(&code.as_ref()[..16]);
        Challenge { nonce: Nonce(nonce), expires_in: self.challenge_lifetime.as_secs() }
    }

    /// A token for whoever has signed one of our nonces with the mailbox's key.
    pub(super) fn open_session(
        &self,
        request: &SessionRequest,
        client: ClientAddress,
        now: Timestamp,
    ) -> Result<SessionGranted, ApiError> {
        self.check_nonce(&request.nonce, now)?;
        let proof = session_proof(&self.domain, &request.nonce, &request.mailbox, &request.device);
        if !request.mailbox.has_signed(&proof, &request.signature.0) {
            return Err(ApiError::ProofRefused("the signature is not the mailbox's over this challenge"));
        }
        self.use_up(request.nonce, client, now)?;
        let expires_at = (now + self.session_lifetime).as_secs();
        let mut token = Vec::with_capacity(104);
        token.extend_from_slice(request.mailbox.as_bytes());
        token.extend_from_slice(request.device.as_bytes());
        token.extend_from_slice(&expires_at.to_be_bytes());
        let code = self.code(SESSION, &token);
        token.extend_from_slice(code.as_ref());
        Ok(SessionGranted { token: BASE64URL_NOPAD.encode(&token), expires_at })
    }

    /// Who a token stands for.
    pub(super) fn session(&self, token: &str, now: Timestamp) -> Result<Session, ApiError> {
        let refused = ApiError::Unauthenticated("the token is not one of this relay's, or its time is over");
        let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).map_err(|_| refused.clone())?;
        let (content, code) = bytes.split_at_checked(72).ok_or_else(|| refused.clone())?;
        hmac::verify(&self.key, &[SESSION, content].concat(), code).map_err(|_| refused.clone())?;
        // The code is right, so the layout is ours.
        let session = self.parse(content).ok_or_else(|| refused.clone())?;
        if session.expires_at > now { Ok(session) } else { Err(refused) }
    }

    fn check_nonce(&self, nonce: &Nonce, now: Timestamp) -> Result<(), ApiError> {
        let refused = ApiError::ProofRefused("the challenge is not one of this relay's, or its time is over");
        let (content, code) = nonce.0.split_at(16);
        let expected = self.code(CHALLENGE, content);
        if !bool::from(subtle::ConstantTimeEq::ct_eq(&expected.as_ref()[..16], code)) {
            return Err(refused);
        }
        if end_of(&nonce.0) > now { Ok(()) } else { Err(refused) }
    }

    fn use_up(&self, nonce: Nonce, client: ClientAddress, now: Timestamp) -> Result<(), ApiError> {
        // No code that can panic runs under this lock half way through a change.
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.forget(now);
        if answered.nonces.len() >= MAX_ANSWERED {
            return Err(ApiError::Unavailable);
        }
        let Answered { nonces, by_client } = &mut *answered;
        let btree_map::Entry::Vacant(place) = nonces.entry(nonce.0) else {
            return Err(ApiError::ProofRefused("the challenge was used before"));
        };
        let of_one = by_client.entry(client).or_default();
        if *of_one >= self.most_of_one {
            return Err(ApiError::RateLimited { retry_after: RETRY_AFTER });
        }
        *of_one += 1;
        place.insert(client);
        Ok(())
    }

    fn parse(&self, content: &[u8]) -> Option<Session> {
        let (mailbox, rest) = content.split_first_chunk()?;
        let (device, end) = rest.split_first_chunk()?;
        let expires_at = Timestamp::from_secs(u64::from_be_bytes(*end.first_chunk()?));
        Some(Session {
            mailbox: MailboxId::from_bytes(*mailbox),
            device: DeviceId::from_bytes(*device),
            begun_at: expires_at - self.session_lifetime,
            expires_at,
        })
    }

    fn code(&self, purpose: &[u8], content: &[u8]) -> hmac::Tag {
        hmac::sign(&self.key, &[purpose, content].concat())
    }
}

impl Session {
    /// Whether the mailbox's key was shown only just now. A clock that was set back makes every session an old one.
    pub(super) fn has_just_begun(&self, now: Timestamp) -> bool {
        self.begun_at <= now && now.since(self.begun_at) <= JUST_BEGUN
    }
}

impl Answered {
    fn forget(&mut self, now: Timestamp) {
        while let Some(first) = self.nonces.first_entry()
            && end_of(first.key()) <= now
        {
            if let Entry::Occupied(mut of_one) = self.by_client.entry(first.remove()) {
                *of_one.get_mut() -= 1;
                if *of_one.get() == 0 {
                    of_one.remove();
                }
            }
        }
    }
}

/// When a nonce of ours is over.
fn end_of(nonce: &[u8; 32]) -> Timestamp {
    let [a, b, c, d, e, f, g, h, ..] = *nonce;
    Timestamp::from_secs(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};
    use postrider_common::wire::control::SignatureHex;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);
    const DEVICE: DeviceId = DeviceId::from_bytes([2; 32]);

    fn authenticator(secret: u8) -> Authenticator {
        let (minute, day) = (Duration::from_secs(60), Duration::from_secs(86_400));
        Authenticator::new("alpha.example".parse().unwrap(), &Secret::new([secret; 32]), minute, day, 3)
    }

    fn client(last: u8) -> ClientAddress {
        std::net::IpAddr::from([192, 0, 2, last]).into()
    }

    fn request(nonce: Nonce, signed_for: &str) -> SessionRequest {
        let key = SigningKey::from_bytes(&[7; 32]);
        let mailbox = MailboxId::from_bytes(key.verifying_key().to_bytes());
        let proof = session_proof(&signed_for.parse().unwrap(), &nonce, &mailbox, &DEVICE);
        let signature = SignatureHex(key.sign(&proof).to_bytes());
        SessionRequest { mailbox, device: DEVICE, nonce, signature }
    }

    #[test]
    fn a_signed_challenge_opens_one_session() {
        let authenticator = authenticator(1);
        let request = request(authenticator.challenge(NOW).nonce, "alpha.example");
        let granted = authenticator.open_session(&request, client(1), NOW).unwrap();
        let session = authenticator.session(&granted.token, NOW).unwrap();
        assert_eq!((session.mailbox, session.device), (request.mailbox, DEVICE));
        let again = authenticator.open_session(&request, client(1), NOW);
        assert_eq!(again, Err(ApiError::ProofRefused("the challenge was used before")));
    }

    #[test]
    fn time_ends_challenges_and_sessions() {
        let authenticator = authenticator(1);
        let late = request(authenticator.challenge(NOW).nonce, "alpha.example");
        let minute_later = NOW + Duration::from_secs(60);
        assert!(matches!(
            authenticator.open_session(&late, client(1), minute_later),
            Err(ApiError::ProofRefused(_))
        ));
        let granted = authenticator.open_session(&late, client(1), NOW).unwrap();
        let day_later = NOW + Duration::from_secs(86_400);
        assert!(authenticator.session(&granted.token, day_later).is_err());
    }

    #[test]
    fn what_another_relay_made_or_was_signed_for_is_refused() {
        let (ours, other) = (authenticator(1), authenticator(2));
        let foreign = request(other.challenge(NOW).nonce, "alpha.example");
        assert!(matches!(ours.open_session(&foreign, client(1), NOW), Err(ApiError::ProofRefused(_))));
        let misdirected = request(ours.challenge(NOW).nonce, "beta.example");
        assert!(matches!(ours.open_session(&misdirected, client(1), NOW), Err(ApiError::ProofRefused(_))));
        let granted = other.open_session(&foreign, client(1), NOW).unwrap();
        assert!(ours.session(&granted.token, NOW).is_err());
    }

    #[test]
    fn a_changed_token_is_refused() {
        let authenticator = authenticator(1);
        let request = request(authenticator.challenge(NOW).nonce, "alpha.example");
        let token = authenticator.open_session(&request, client(1), NOW).unwrap().token;
        let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(authenticator.session(&BASE64URL_NOPAD.encode(&changed), NOW).is_err());
            let shorter = BASE64URL_NOPAD.encode(&bytes[..at]);
            assert!(authenticator.session(&shorter, NOW).is_err());
        }
    }

    #[test]
    fn used_challenges_are_forgotten_when_their_time_is_over() {
        let authenticator = authenticator(1);
        for round in 0..5 {
            let now = NOW + Duration::from_secs(61) * round;
            let request = request(authenticator.challenge(now).nonce, "alpha.example");
            authenticator.open_session(&request, client(1), now).unwrap();
            let answered = authenticator.answered.lock().unwrap();
            assert_eq!((answered.nonces.len(), answered.by_client.len()), (1, 1));
        }
    }

    #[test]
    fn one_address_leaves_room_for_others() {
        let authenticator = authenticator(1);
        let open = |by, now| {
            let request = request(authenticator.challenge(now).nonce, "alpha.example");
            authenticator.open_session(&request, client(by), now).map(|_| ())
        };
        for _ in 0..3 {
            open(1, NOW).unwrap();
        }
        assert_eq!(open(1, NOW), Err(ApiError::RateLimited { retry_after: RETRY_AFTER }));
        open(2, NOW).unwrap();
        open(1, NOW + Duration::from_secs(60)).unwrap();
    }

    #[test]
    fn a_session_has_just_begun_for_five_minutes() {
        let authenticator = authenticator(1);
        let request = request(authenticator.challenge(NOW).nonce, "alpha.example");
        let granted = authenticator.open_session(&request, client(1), NOW).unwrap();
        let session = authenticator.session(&granted.token, NOW).unwrap();
        assert_eq!(session.begun_at, NOW);
        for (after, has_just_begun) in [(0, true), (300, true), (301, false), (80_000, false)] {
            let now = NOW + Duration::from_secs(after);
            assert_eq!(session.has_just_begun(now), has_just_begun, "{after}");
        }
        assert!(!session.has_just_begun(NOW - Duration::from_secs(1)), "a clock that was set back");
    }
}
