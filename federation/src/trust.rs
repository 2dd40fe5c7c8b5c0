//! Whether a certificate chain proves a domain.

mod pinned;
mod private_ca;

use std::fmt;
use std::time::Duration;

use postrider_common::{Domain, Failure, FailureClass, Timestamp};
use rustls::pki_types::CertificateDer;

use crate::certificate::Pin;

pub use private_ca::{CaRoots, TrustError};

/// A way of deciding whether a key is a domain's. There is none that trusts whatever comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TrustMode {
    /// The key is one that was agreed beforehand.
    Pinned,
    /// A certificate authority that was agreed beforehand vouches for the name.
    PrivateCa,
}

impl TrustMode {
    /// The word that names it in configuration, logs and documents.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::PrivateCa => "private-ca",
        }
    }
}

impl fmt::Display for TrustMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// What a peer's certificate has to satisfy: one mode with what that mode needs, and nothing to fall back to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Trust {
    /// The leaf's key is one of the pins (the current one, the next one). Names, dates and usages are ignored.
    Pinned {
        /// The keys that are accepted.
        pins: Vec<Pin>,
    },
    /// The chain ends in one of the authorities, which were configured for this peer alone, the certificate names the
    /// domain and is valid now. It may be meant for servers, for clients or for nothing in particular.
    PrivateCa {
        /// The authorities.
        roots: CaRoots,
    },
}

impl Trust {
    /// Trust in the authorities in `pem`, one or several certificates.
    pub fn private_ca(pem: &[u8]) -> Result<Self, TrustError> {
        CaRoots::from_pem(pem).map(|roots| Self::PrivateCa { roots })
    }

    /// Its mode.
    pub const fn mode(&self) -> TrustMode {
        match self {
            Self::Pinned { .. } => TrustMode::Pinned,
            Self::PrivateCa { .. } => TrustMode::PrivateCa,
        }
    }
}

/// A peer whose domain is proven. Only [`judge`] makes one, so holding it is the proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerId {
    domain: Domain,
    mode: TrustMode,
    fingerprint: Pin,
}

impl PeerId {
    /// The domain that was proven.
    pub const fn domain(&self) -> &Domain {
        &self.domain
    }

    /// How it was proven.
    pub const fn mode(&self) -> TrustMode {
        self.mode
    }

    /// The key that proved it.
    pub const fn fingerprint(&self) -> Pin {
        self.fingerprint
    }
}

/// For how long a verdict is remembered on an open connection. A certificate that expires meanwhile is noticed after that.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(300);

/// Whether `chain`, whose key the TLS handshake has proven, proves that the peer is `claimed`.
///
/// The failure's sentence says what was expected and what was presented.
pub fn judge(
    chain: &[CertificateDer<'_>],
    claimed: &Domain,
    trust: &Trust,
    now: Timestamp,
) -> Result<PeerId, Failure> {
    let untrusted = |detail| Failure::new(FailureClass::TlsUntrusted, detail);
    let (leaf, intermediates) =
        chain.split_first().ok_or_else(|| untrusted(format!("{claimed} presented no certificate")))?;
    let fingerprint = Pin::of(leaf)
        .map_err(|error| untrusted(format!("{claimed} presented an unreadable certificate: {error}")))?;
    match trust {
        Trust::Pinned { pins } => pinned::judge(fingerprint, claimed, pins)?,
        Trust::PrivateCa { roots } => private_ca::judge(leaf, intermediates, claimed, roots, now)?,
    }
    Ok(PeerId { domain: claimed.clone(), mode: trust.mode(), fingerprint })
}
