//! Certificate authorities that somebody has decided to trust.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor};

use crate::certificate::Presented;

/// Certificate authorities: those that may vouch for one peer, or those of the web.
#[derive(Clone)]
pub struct CaRoots {
    pub(super) anchors: Arc<[TrustAnchor<'static>]>,
    pub(super) subjects: Arc<[String]>,
}

/// Why a file of authorities cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// No certificate in it.
    #[error("there is no certificate in PEM form")]
    NoCertificate,
    /// A certificate in it that cannot be an authority.
    #[error("certificate {number} cannot be used as an authority: {reason}")]
    Unusable {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
}

impl CaRoots {
    /// The authorities in `pem`, one or several certificates.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TrustError> {
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|_| TrustError::NoCertificate)?;
        if certificates.is_empty() {
            return Err(TrustError::NoCertificate);
        }
        let anchor = |(index, certificate)| {
            ::webpki::anchor_from_trusted_cert(certificate)
                .map(|anchor| anchor.to_owned())
                .map_err(|error| TrustError::Unusable { number: index + 1, reason: error.to_string() })
        };
        let anchors: Vec<_> = certificates.iter().enumerate().map(anchor).collect::<Result<_, _>>()?;
        let subject = |certificate: &CertificateDer<'_>| {
            Presented::of(std::slice::from_ref(certificate)).map(|described| described.subject)
        };
        Ok(Self { anchors: anchors.into(), subjects: certificates.iter().filter_map(subject).collect() })
    }

    /// The web's authorities, as Mozilla had them when this program was built.
    pub fn of_the_web() -> Self {
        let anchors: Vec<_> = webpki_roots::TLS_SERVER_ROOTS.to_vec();
        Self { anchors: anchors.into(), subjects: Arc::new([]) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// For a sentence: their names, or what they are when they are many.
    pub(super) fn named(&self) -> String {
        const FEW: usize = 4;
        match self.subjects.len() {
            1..=FEW => self.subjects.join(" or "),
            _ => format!("one of {} public authorities", self.anchors.len()),
        }
    }

    /// Whether one of them has this name.
    pub(super) fn has(&self, subject: &str) -> bool {
        self.subjects.iter().any(|known| known == subject)
    }
}

/// The names of the authorities, if they are few.
impl fmt::Debug for CaRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.named())
    }
}
