//! Which certificate is the relay's.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    version,
};
use sha2::{Digest, Sha256};

use crate::Error;

/// How the relay proves to be the one that is meant. There is no mode without proof.
///
/// ```
/// use postrider_client::{KeyPin, Relay, Trust};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut authority = rcgen::CertificateParams::new(Vec::new())?;
/// # authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
/// # let authority = authority.self_signed(&rcgen::KeyPair::generate()?)?.pem();
/// # let directory = tempfile::tempdir()?;
/// # let file = directory.path().join("authority.pem");
/// # std::fs::write(&file, &authority)?;
/// // A relay with a certificate as websites have them.
/// Relay::builder("https://relay.example.org").trust(Trust::WebRoots).build()?;
///
/// // One with a key of its own, as an invite carries it, and the key that it is going to have after that.
/// let pin: KeyPin = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".parse()?;
/// let next: KeyPin = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752".parse()?;
/// Relay::builder("https://192.0.2.7:8443").trust(Trust::Pinned(vec![pin, next])).build()?;
///
/// // One with a certificate from the organisation's own authority: a file, or its text, which comes with the app.
/// Relay::builder("https://relay.example.org").trust(Trust::AuthorityFile(file)).build()?;
/// Relay::builder("https://relay.example.org").trust(Trust::AuthorityPem(authority)).build()?;
///
/// // Who would trust nobody is told so before anybody is called.
/// assert!(Relay::builder("https://relay.example.org").trust(Trust::Pinned(Vec::new())).build().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Trust {
    /// A certificate from one of the web's authorities, for the host in the relay's address.
    #[default]
    WebRoots,
    /// One of these keys, whatever the certificate says of names and dates. The second one is there for a change
    /// of keys.
    Pinned(Vec<KeyPin>),
    /// A certificate from an authority of one's own, for the host in the relay's address: a PEM file.
    AuthorityFile(PathBuf),
    /// The same, the PEM text itself.
    AuthorityPem(String),
}

/// The SHA-256 of a public key in its certificate form (`SubjectPublicKeyInfo`), as 64 hexadecimal digits.
///
/// ```
/// use postrider_client::KeyPin;
///
/// let pin: KeyPin = "9F:86:D0:81:88:4C:7D:65:9A:2F:EA:A0:C5:5A:D0:15:A3:BF:4F:1B:2B:0B:82:2C:D1:5D:6C:15:B0:F0:0A:08".parse()?;
/// assert_eq!(pin.to_string(), "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
/// # Ok::<(), postrider_client::KeyPinError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyPin([u8; 32]);

/// The text is not a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pin is the SHA-256 of a public key, written as 64 hexadecimal digits")]
#[non_exhaustive]
pub struct KeyPinError;

impl KeyPin {
    /// The pin of a key, given its DER-encoded `SubjectPublicKeyInfo`.
    pub fn of(public_key_info: &[u8]) -> Self {
        Self(Sha256::digest(public_key_info).into())
    }
}

impl FromStr for KeyPin {
    type Err = KeyPinError;

    /// Capitals and colons between the digits are fine: other tools print them.
    fn from_str(text: &str) -> Result<Self, KeyPinError> {
        let digits = text.trim().replace(':', "");
        HEXLOWER_PERMISSIVE
            .decode(digits.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(KeyPinError)
    }
}

impl fmt::Display for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPin({self})")
    }
}

/// What the verifier tells the connection through rustls: see [`Error::Untrusted`].
#[derive(Debug, Clone, thiserror::Error)]
#[error("expected {expected}, presented was {presented} ({reason})")]
pub(super) struct Distrust {
    pub(super) expected: String,
    pub(super) presented: String,
    pub(super) reason: String,
}

impl Trust {
    /// The TLS settings, TLS 1.3 only, without application protocols.
    pub(super) fn client_config(&self) -> Result<ClientConfig, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Verifier { judge: self.judge(&provider)?, provider: provider.clone() };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .map_err(|error| unusable(error.to_string()))?;
        Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
    }

    fn judge(&self, provider: &Arc<CryptoProvider>) -> Result<Judge, Error> {
        let (roots, whose) = match self {
            Self::Pinned(pins) if pins.is_empty() => return Err(unusable("there is no pin")),
            Self::Pinned(pins) => return Ok(Judge::Pins(pins.clone())),
            Self::WebRoots => {
                (webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(), "one of the web's authorities")
            }
            Self::AuthorityPem(pem) => (roots(pem.as_bytes())?, "the configured authority"),
            Self::AuthorityFile(path) => {
                let pem = std::fs::read(path)
                    .map_err(|error| unusable(format!("cannot read {}: {error}", path.display())))?;
                (roots(&pem)?, "the configured authority")
            }
        };
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Judge::Chain { chain, whose })
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate
            .map_err(|error| unusable(format!("the authority's certificate is not PEM: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| unusable(format!("the authority's certificate is not valid: {error}")))?;
    }
    if roots.is_empty() {
        return Err(unusable("there is no certificate in the authority's PEM text"));
    }
    Ok(roots)
}

fn unusable(reason: impl Into<String>) -> Error {
    Error::Trust { reason: reason.into() }
}

#[derive(Debug)]
struct Verifier {
    judge: Judge,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Judge {
    Pins(Vec<KeyPin>),
    Chain { chain: Arc<WebPkiServerVerifier>, whose: &'static str },
}

impl Judge {
    fn expected(&self, name: &ServerName<'_>) -> String {
        match self {
            Self::Pins(pins) => {
                let pins: Vec<_> = pins.iter().map(KeyPin::to_string).collect();
                format!("the key with SHA-256 {}", pins.join(" or "))
            }
            Self::Chain { whose, .. } => {
                format!("a certificate for {} from {whose}", name.to_str())
            }
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = webpki::EndEntityCert::try_from(end_entity)
            .map_err(|_| rustls::Error::from(CertificateError::BadEncoding))?;
        let pin = KeyPin::of(&certificate.subject_public_key_info());
        let verdict = match &self.judge {
            Judge::Pins(pins) if pins.contains(&pin) => Ok(ServerCertVerified::assertion()),
            Judge::Pins(_) => Err("another key".to_owned()),
            Judge::Chain { chain, .. } => chain
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map_err(|error| error.to_string()),
        };
        verdict.map_err(|reason| {
            let names: Vec<_> = certificate.valid_dns_names().collect();
            let names = if names.is_empty() { "no name".into() } else { names.join(", ") };
            let distrust = Distrust {
                expected: self.judge.expected(server_name),
                presented: format!("a certificate for {names} with the key {pin}"),
                reason,
            };
            CertificateError::Other(OtherError(Arc::new(distrust))).into()
        })
    }

    /// Never asked: only TLS 1.3 is spoken.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_as_other_tools_print_them() {
        let pin = KeyPin([0xab; 32]);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(colons.parse(), Ok(pin));
        assert_eq!(pin.to_string().parse(), Ok(pin));
        assert_eq!("abab".parse::<KeyPin>(), Err(KeyPinError));
    }

    #[test]
    fn settings_that_trust_nobody_are_refused() {
        for trust in [
            Trust::Pinned(Vec::new()),
            Trust::AuthorityPem(String::new()),
            Trust::AuthorityPem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into()),
            Trust::AuthorityFile("/nowhere/ca.pem".into()),
        ] {
            let error = trust.client_config().unwrap_err();
            assert!(matches!(error, Error::Trust { .. }), "{error}");
        }
    }
}
