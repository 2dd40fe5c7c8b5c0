//! The answer to a challenge: TLS with a certificate that nobody else could show (TLS-ALPN-01, RFC 8737).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use postrider_common::Domain;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The one protocol that an ACME server offers when it checks a challenge.
const ALPN: &[u8] = b"acme-tls/1";

/// The challenges that an ACME server may check at this moment. Clones share them.
#[derive(Clone)]
pub struct Challenges {
    pending: PendingCertificates,
    tls: Arc<ServerConfig>,
}

/// By name, in lower case.
#[derive(Clone, Default)]
struct PendingCertificates(Arc<RwLock<HashMap<String, Arc<CertifiedKey>>>>);

/// One challenge that is answered for as long as this lives.
pub(super) struct Pending {
    certificates: PendingCertificates,
    name: String,
}

/// Why a challenge cannot be answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChallengeError {
    /// No certificate can be made for it.
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// Nor used.
    #[error("a certificate cannot be used: {0}")]
    Use(#[from] rustls::Error),
}

impl Challenges {
    /// None yet.
    pub fn new() -> Result<Self, rustls::Error> {
        let pending = PendingCertificates::default();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(pending.clone()));
        tls.alpn_protocols = vec![ALPN.to_vec()];
        // There is nothing to come back to.
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.send_tls13_tickets = 0;
        Ok(Self { pending, tls: Arc::new(tls) })
    }

    /// The TLS for a connection that begins like this, if it comes to check a challenge that is pending. Nothing is said on
    /// it after the handshake.
    pub fn tls_config(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let is_check = hello.alpn().is_some_and(|offered| offered.eq([ALPN]));
        (is_check && self.pending.find(hello.server_name()?).is_some()).then(|| Arc::clone(&self.tls))
    }

    /// Answers the challenge for a name: `digest` is that of the key authorization.
    pub(super) fn answer(&self, name: &Domain, digest: &[u8]) -> Result<Pending, ChallengeError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([name.to_string()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let certificate = params.self_signed(&key)?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let key = provider.key_provider.load_private_key(key.into())?;
        // Not compared with one another: what reads certificates for that does not know the critical extension in this one.
        let certified = CertifiedKey::new(vec![certificate.into()], key);
        let pending = Pending { certificates: self.pending.clone(), name: name.to_string() };
        let mut certificates = pending.certificates.0.write().unwrap_or_else(PoisonError::into_inner);
        certificates.insert(pending.name.clone(), Arc::new(certified));
        drop(certificates);
        Ok(pending)
    }
}

impl PendingCertificates {
    fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let certificates = self.0.read().unwrap_or_else(PoisonError::into_inner);
        certificates.get(&name.to_ascii_lowercase()).map(Arc::clone)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.certificates.0.write().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

impl ResolvesServerCert for PendingCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name()?)
    }
}

/// Without the keys.
impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenges").finish_non_exhaustive()
    }
}

/// Without the keys.
impl fmt::Debug for PendingCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCertificates").finish_non_exhaustive()
    }
}
