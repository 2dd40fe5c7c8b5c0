//! The resolver that checks signatures, and whether it can.

use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::dnssec::{Proof as HickoryProof, TrustAnchors};
use hickory_resolver::proto::rr::{Name, RecordType};
use postrider_common::clock::SharedClock;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::ResolverError;
use crate::LOG;

/// How often it is made sure that DNSSEC can be checked,
pub(super) const PROVEN_FOR: Duration = Duration::from_secs(300);
/// and how soon after it could not.
pub(super) const FAILED_FOR: Duration = Duration::from_secs(30);
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// A forged answer is a reason to make sure again, if the last time is so long ago.
pub(super) const DOUBTED_AFTER: Duration = Duration::from_secs(5);

/// Whether DNSSEC can be checked here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Validation {
    /// It can: the trust anchor's own keys proved secure.
    Works,
    /// It cannot, and why.
    Fails(String),
    /// It is switched off.
    Off,
}

pub(super) struct Validating {
    pub(super) resolver: TokioResolver,
    /// Whose keys are the trust anchor.
    anchor: Name,
    clock: SharedClock,
    /// The last probe and when it was made, in the clock's uptime. Held while one is made, so that there is one at a time.
    probed: Mutex<Option<(Duration, Result<(), String>)>>,
}

impl Validating {
    pub(super) const fn new(resolver: TokioResolver, anchor: Name, clock: SharedClock) -> Self {
        Self { resolver, anchor, clock, probed: Mutex::const_new(None) }
    }

    /// Whether the last probe was a success, if there was one and none is under way.
    pub(super) fn known(&self) -> Option<bool> {
        let probed = self.probed.try_lock().ok()?;
        probed.as_ref().map(|(_, result)| result.is_ok())
    }

    /// What the last probe said, or a new one if a good one is older than `good_for`.
    pub(super) async fn probe(&self, good_for: Duration) -> Result<(), String> {
        let mut probed = self.probed.lock().await;
        let now = self.clock.uptime();
        if let Some((at, result)) = &*probed {
            let holds = if result.is_ok() { good_for } else { FAILED_FOR };
            if now.saturating_sub(*at) < holds {
                return result.clone();
            }
        }
        let looked_up = self.resolver.lookup(self.anchor.clone(), RecordType::DNSKEY);
        let result = match timeout(PATIENCE, looked_up).await {
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok(answer)) => {
                let mut keys = answer.answers().iter().filter(|key| key.record_type() == RecordType::DNSKEY);
                let first = keys.next().map(|key| key.proof);
                match first {
                    Some(HickoryProof::Secure) if keys.all(|key| key.proof.is_secure()) => Ok(()),
                    Some(_) => Err("they are not secure".into()),
                    None => Err("there are none".into()),
                }
            }
        };
        let result =
            result.map_err(|reason| format!("the keys of {} cannot be checked: {reason}", self.anchor));
        let known = probed.as_ref().map(|(_, before)| before.is_ok());
        if known != Some(result.is_ok()) {
            match &result {
                Ok(()) => tracing::info!(target: LOG, "DNSSEC can be checked"),
                Err(reason) => tracing::info!(target: LOG, "DNSSEC cannot be checked: {reason}"),
            }
        }
        *probed = Some((now, result.clone()));
        result
    }
}

/// Checks what the keys in `text` are, without making a resolver of them.
pub fn check_trust_anchor(text: &str) -> Result<(), ResolverError> {
    anchors(Some(text)).map(drop)
}

/// The keys, and the name whose they are.
pub(super) fn anchors(text: Option<&str>) -> Result<(TrustAnchors, Name), ResolverError> {
    let Some(text) = text else {
        return Ok((TrustAnchors::default(), Name::root()));
    };
    let unusable = |reason: String| ResolverError(format!("the trust anchor: {reason}"));
    let anchors: TrustAnchors = text.parse().map_err(|error| unusable(format!("{error}")))?;
    let owner = text
        .lines()
        .map(|line| line.split(';').next().unwrap_or_default())
        .filter(|line| line.split_whitespace().any(|word| word.eq_ignore_ascii_case("DNSKEY")))
        .find_map(|line| line.split_whitespace().next())
        .ok_or_else(|| unusable("there is no DNSKEY record".into()))?;
    let owner = Name::from_ascii(owner).map_err(|error| unusable(format!("{owner}: {error}")))?;
    Ok((anchors, owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trust_anchor_has_keys_and_a_name() {
        const KEY: &str =
            "oJMRESz5E4gYzS/q6XDrvU1qMPYIjCWzJaOau8XNEZeqCYKD5ar0IRd8KqXXFJkqmVfRvMGPmM1x8fGAa2XhSA==";
        for (text, owner) in [
            (format!(". IN DNSKEY 257 3 13 {KEY}"), "."),
            (format!("; ours\ncorp.example. 3600 IN DNSKEY 257 3 13 {KEY}\n"), "corp.example."),
        ] {
            assert_eq!(anchors(Some(&text)).unwrap().1.to_ascii(), owner);
        }
        for wrong in [
            "",
            "; nothing",
            "hello",
            ". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D",
        ] {
            let error = check_trust_anchor(wrong).unwrap_err().to_string();
            assert!(error.starts_with("the DNS configuration cannot be used: the trust anchor: "), "{error}");
        }
    }
}
