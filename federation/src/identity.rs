//! Who we are: this relay's key and certificate.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use postrider_common::{Domain, Timestamp};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::certificate::{Pin, Presented};
use crate::in_force::CertificateInForce;
use crate::tls;

/// How long a certificate that we issue to ourselves is valid. Peers pin its key; the date is a formality.
const VALIDITY: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Valid since before now, for peers whose clocks are slow.
const BACKDATED: Duration = Duration::from_secs(86_400);

/// This relay's domain with the key and the certificate chain that prove it to peers, as server and as client.
#[derive(Clone)]
pub struct Identity {
    domain: Domain,
    pin: Pin,
    key: Arc<CertifiedKey>,
    /// What handshakes show: `key`, until something replaces it.
    shown: CertificateInForce,
}

/// A new identity, to be written to files.
pub struct Generated {
    /// The certificate, for everybody's eyes.
    pub certificate_pem: String,
    /// The private key, for a file that only the relay reads.
    pub key_pem: Zeroizing<String>,
}

/// Why there is no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The certificate file has no certificate.
    #[error("there is no certificate in PEM form")]
    NoCertificate,
    /// The key file has no private key.
    #[error("there is no private key in PEM form")]
    NoKey,
    /// A certificate or a key that cannot be used.
    #[error("the certificate or the key cannot be used: {0}")]
    Unusable(String),
    /// Key and certificate are of different pairs.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// A certificate for other names.
    #[error("the certificate is not for {domain}: it names {presented}")]
    WrongName {
        /// The relay's domain.
        domain: Domain,
        /// The names in the certificate.
        presented: String,
    },
    /// Making a certificate failed.
    #[error("a certificate cannot be made: {0}")]
    Generate(String),
}

impl Identity {
    /// Makes a new key (ECDSA P-256) and a certificate for `domain` that it signs itself, good for both directions and
    /// for ten years.
    pub fn generate(domain: &Domain, now: Timestamp) -> Result<Generated, IdentityError> {
        let failed = |error: rcgen::Error| IdentityError::Generate(error.to_string());
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new([domain.as_str().to_owned()]).map_err(failed)?;
        // A common name has room for 64 characters, a domain may have more; the name that counts is the SAN.
        params.distinguished_name.push(DnType::CommonName, "Postrider relay");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let at = |time: Timestamp| epoch + Duration::from_secs(time.as_secs());
        params.not_before = at(now - BACKDATED);
        params.not_after = at(now + VALIDITY);
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Generated { certificate_pem: certificate.pem(), key_pem: Zeroizing::new(key.serialize_pem()) })
    }

    /// Reads an identity: the certificate chain, our own certificate first, and its private key, both as PEM. That the
    /// certificate has expired is not our verdict but our peers'.
    pub fn from_pem(domain: &Domain, certificates: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let unusable = |error: rustls::Error| IdentityError::Unusable(error.to_string());
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<_, _>>()
            .map_err(|_| IdentityError::NoCertificate)?;
        let leaf = chain.first().ok_or(IdentityError::NoCertificate)?;
        let pin = Pin::of(leaf).map_err(unusable)?;
        if !tls::is_for(leaf, domain) {
            return Err(IdentityError::WrongName {
                domain: domain.clone(),
                presented: Presented::of(&chain).map_or_else(|| "nothing".into(), |leaf| leaf.named()),
            });
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| IdentityError::NoKey)?;
        let key = CertifiedKey::from_der(chain, key, &tls::provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => IdentityError::KeyMismatch,
            other => unusable(other),
        })?;
        let key = Arc::new(key);
        Ok(Self { domain: domain.clone(), pin, shown: CertificateInForce::new(Arc::clone(&key)), key })
    }

    /// Whose identity it is.
    pub const fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The fingerprint of its key, which peers pin.
    pub const fn pin(&self) -> Pin {
        self.pin
    }

    /// The certificate chain, our own certificate first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// Until when our certificate is valid.
    pub fn valid_until(&self) -> Option<Timestamp> {
        Some(Presented::of(&self.key.cert)?.not_after)
    }

    /// Has the handshakes of every client and server that was made with this identity show `other` from now on. They still
    /// go by the domain of this one.
    pub fn show(&self, other: &Self) {
        self.shown.replace(Arc::clone(&other.key));
    }

    /// Whether this is the fingerprint of the key with which it began, or of the one that handshakes show.
    pub(crate) fn is_ours(&self, pin: Pin) -> bool {
        let shown = self.shown.current();
        pin == self.pin || shown.end_entity_cert().and_then(Pin::of).is_ok_and(|shown| shown == pin)
    }

    /// What handshakes show.
    pub const fn shown(&self) -> &CertificateInForce {
        &self.shown
    }

    /// What rustls takes.
    pub(crate) fn certified(&self) -> Arc<CertificateInForce> {
        Arc::new(self.shown.clone())
    }
}

/// Without the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("domain", &self.domain)
            .field("pin", &self.pin)
            .finish_non_exhaustive()
    }
}

/// Without the key.
impl fmt::Debug for Generated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generated").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Domain {
        text.parse().unwrap()
    }

    fn generated(name: &str) -> Generated {
        Identity::generate(&domain(name), Timestamp::from_secs(1_800_000_000)).unwrap()
    }

    fn read(name: &str, certificate: &str, key: &str) -> Result<Identity, IdentityError> {
        Identity::from_pem(&domain(name), certificate.as_bytes(), key.as_bytes())
    }

    #[test]
    fn a_generated_identity_reads_back() {
        let pems = generated("a.example");
        let identity = read("a.example", &pems.certificate_pem, &pems.key_pem).unwrap();
        let description = Presented::of(identity.certificates()).unwrap();
        assert_eq!(description.names, ["a.example"]);
        assert_eq!(identity.valid_until(), Some(Timestamp::from_secs(1_800_000_000 + 10 * 365 * 86_400)));
        assert!(identity.pin() != read_other_pin(), "every relay has a key of its own");
    }

    fn read_other_pin() -> Pin {
        let pems = generated("a.example");
        read("a.example", &pems.certificate_pem, &pems.key_pem).unwrap().pin()
    }

    #[test]
    fn a_domain_of_the_greatest_length_gets_an_identity() {
        let long = format!("{}.example", ["a".repeat(63), "b".repeat(63), "c".repeat(63)].join("."));
        let pems = generated(&long);
        assert!(read(&long, &pems.certificate_pem, &pems.key_pem).is_ok());
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let (ours, theirs) = (generated("a.example"), generated("b.example"));
        let error = |result: Result<Identity, IdentityError>| result.unwrap_err();
        assert_eq!(
            error(read("a.example", &ours.certificate_pem, &theirs.key_pem)),
            IdentityError::KeyMismatch
        );
        assert_eq!(
            error(read("a.example", &theirs.certificate_pem, &theirs.key_pem)).to_string(),
            "the certificate is not for a.example: it names b.example"
        );
        assert_eq!(error(read("a.example", "", &ours.key_pem)), IdentityError::NoCertificate);
        assert_eq!(
            error(read("a.example", &ours.certificate_pem, &ours.certificate_pem)),
            IdentityError::NoKey
        );
    }

    #[test]
    fn the_key_is_not_shown() {
        let pems = generated("a.example");
        let secret = pems.key_pem.lines().nth(1).unwrap().to_owned();
        assert!(!format!("{pems:?}").contains(&secret));
        let identity = read("a.example", &pems.certificate_pem, &pems.key_pem).unwrap();
        let expected = format!("Identity {{ domain: a.example, pin: {}, .. }}", identity.pin());
        assert_eq!(format!("{identity:?}"), expected);
    }
}
