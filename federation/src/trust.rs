//! Whether a certificate chain proves a domain.

mod chain;
mod dane;
mod distrust;
mod evidence;
mod pinned;
mod private_ca;
mod roots;
mod webpki;

use std::fmt;
use std::time::Duration;

use postrider_common::{Domain, FailureClass, Timestamp};
use rustls::pki_types::CertificateDer;

use crate::certificate::{Pin, Presented};

pub use distrust::{Distrust, Expected};
pub use evidence::{Evidence, Testimony, Witness};
pub use roots::{CaRoots, TrustError};

/// A way of deciding whether a key is a domain's. There is none that trusts whatever comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TrustMode {
    /// The key is one that was agreed beforehand.
    Pinned,
    /// A certificate authority that was agreed beforehand vouches for the name.
    PrivateCa,
    /// The domain's own DNS, signed, names the key.
    Dane,
    /// One of the web's certificate authorities vouches for the name.
    WebPki,
}

impl TrustMode {
    /// The word that names it in configuration, logs and documents.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::PrivateCa => "private-ca",
            Self::Dane => "dane",
            Self::WebPki => "webpki",
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
    /// The leaf's key is in the TLSA records `3 1 1` of one of the domain's SRV targets, all of them secure by DNSSEC.
    Dane,
    /// The chain ends in one of the roots, the certificate names the domain, is valid now and meant for servers. In both
    /// directions: public authorities issue for nothing else any more.
    WebPki {
        /// The authorities.
        roots: CaRoots,
    },
    /// For those whom nobody has listed: as with `Dane` where the domain publishes secure TLSA records, and as with
    /// `WebPki` where it is proven that it does not. Where neither is known, they wait.
    Public {
        /// The authorities.
        roots: CaRoots,
    },
}

impl Trust {
    /// Trust in the authorities in `pem`, one or several certificates.
    pub fn private_ca(pem: &[u8]) -> Result<Self, TrustError> {
        CaRoots::from_pem(pem).map(|roots| Self::PrivateCa { roots })
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

/// For how long a verdict is remembered on an open connection at most. A certificate that expires meanwhile is noticed
/// after that; what rests on DNS not longer than the records live.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(300);

/// Whether `chain`, whose key the TLS handshake has proven, proves that the peer is `claimed`.
///
/// `evidence` is what DNS says about the domain, for the modes that need it: see [`Witness`].
pub fn judge(
    chain: &[CertificateDer<'_>],
    claimed: &Domain,
    trust: &Trust,
    evidence: &Evidence,
    now: Timestamp,
) -> Result<PeerId, Distrust> {
    let mode = match (trust, evidence) {
        (Trust::Pinned { .. }, _) => TrustMode::Pinned,
        (Trust::PrivateCa { .. }, _) => TrustMode::PrivateCa,
        (Trust::Dane, _) | (Trust::Public { .. }, Evidence::Keys { .. }) => TrustMode::Dane,
        (Trust::WebPki { .. } | Trust::Public { .. }, _) => TrustMode::WebPki,
    };
    let case = Case { chain, claimed, mode, now };
    let leaf = chain.first().ok_or_else(|| {
        case.refuse(
            FailureClass::TlsUntrusted,
            Expected::Anything,
            format!("{claimed} presented no certificate"),
        )
    })?;
    let fingerprint = Pin::of(leaf).map_err(|error| {
        let detail = format!("{claimed} presented an unreadable certificate: {error}");
        case.refuse(FailureClass::TlsUntrusted, Expected::Anything, detail)
    })?;
    match (trust, evidence) {
        (Trust::Pinned { pins }, _) => pinned::judge(&case, fingerprint, pins)?,
        (Trust::PrivateCa { roots }, _) => private_ca::judge(&case, leaf, roots)?,
        (Trust::Dane | Trust::Public { .. }, Evidence::Keys { pins, incomplete }) => {
            dane::judge(&case, fingerprint, pins, incomplete.as_ref())?;
        }
        (Trust::Dane, _) => dane::judge(&case, fingerprint, &[], None)?,
        (Trust::WebPki { roots } | Trust::Public { roots }, Evidence::Hosts(hosts)) => {
            webpki::judge(&case, leaf, roots, hosts)?;
        }
        (Trust::WebPki { roots }, _) => webpki::judge(&case, leaf, roots, &[])?,
        // Without evidence it is not known which of its two modes counts.
        (Trust::Public { .. }, Evidence::None) => {
            let detail = format!("nothing is known of what {claimed} publishes in DNS");
            return Err(case.refuse(FailureClass::DiscoveryFailed, Expected::Anything, detail));
        }
    }
    Ok(PeerId { domain: claimed.clone(), mode, fingerprint })
}

/// What there is to judge.
struct Case<'a> {
    chain: &'a [CertificateDer<'a>],
    claimed: &'a Domain,
    mode: TrustMode,
    now: Timestamp,
}

impl Case<'_> {
    fn refuse(&self, class: FailureClass, expected: Expected, detail: impl Into<String>) -> Distrust {
        Distrust {
            class,
            domain: self.claimed.clone(),
            mode: self.mode,
            expected,
            presented: Presented::of(self.chain).map(Box::new),
            detail: detail.into(),
        }
    }

    fn presented(&self) -> Option<Presented> {
        Presented::of(self.chain)
    }
}
