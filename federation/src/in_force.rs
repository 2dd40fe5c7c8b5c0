//! The certificate that is shown at this moment, which may be replaced while connections come and go.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A certificate chain with its key. What replaces it is shown from the next handshake on; clones share it.
///
/// Connections that are open keep what they began with. Those to peers are replaced by new ones, since peers go on judging
/// by it.
#[derive(Clone)]
pub struct CertificateInForce(Arc<RwLock<Arc<CertifiedKey>>>);

impl CertificateInForce {
    /// This one to begin with.
    pub fn new(key: Arc<CertifiedKey>) -> Self {
        Self(Arc::new(RwLock::new(key)))
    }

    /// Shows another one.
    pub fn replace(&self, key: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = key;
    }

    /// The one of this moment.
    pub fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for CertificateInForce {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl ResolvesClientCert for CertificateInForce {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Without the key.
impl fmt::Debug for CertificateInForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateInForce").finish_non_exhaustive()
    }
}
