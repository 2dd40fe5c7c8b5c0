//! Trust in a certificate authority that two organisations agreed on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use postrider_common::{Domain, Failure, FailureClass, Timestamp};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, Error, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage};

use crate::certificate::Description;
use crate::tls;

/// Certificate authorities that may vouch for one peer.
#[derive(Clone)]
pub struct CaRoots {
    anchors: Arc<[TrustAnchor<'static>]>,
    subjects: Arc<[String]>,
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
            webpki::anchor_from_trusted_cert(certificate)
                .map(|anchor| anchor.to_owned())
                .map_err(|error| TrustError::Unusable { number: index + 1, reason: error.to_string() })
        };
        let anchors: Vec<_> = certificates.iter().enumerate().map(anchor).collect::<Result<_, _>>()?;
        let subject = |certificate| Description::of(certificate).map(|described| described.subject);
        Ok(Self { anchors: anchors.into(), subjects: certificates.iter().filter_map(subject).collect() })
    }
}

/// The names of the authorities.
impl fmt::Debug for CaRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.subjects.iter()).finish()
    }
}

/// For servers, for clients, or for nothing in particular.
///
/// One certificate serves both directions, and many authorities issue only for servers, so a stricter rule would keep
/// honest relays out. It would keep nobody else out: the authority was configured for this peer alone.
struct EitherUsage;

impl ExtendedKeyUsageValidator for EitherUsage {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        let mut names_some = false;
        for purpose in purposes {
            let purpose = purpose?.to_decoded_oid();
            if purpose == KeyUsage::SERVER_AUTH_REPR || purpose == KeyUsage::CLIENT_AUTH_REPR {
                return Ok(());
            }
            names_some = true;
        }
        if names_some { Err(Error::EmptyEkuExtension) } else { Ok(()) }
    }
}

pub(super) fn judge(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    claimed: &Domain,
    roots: &CaRoots,
    now: Timestamp,
) -> Result<(), Failure> {
    let algorithms = tls::provider().signature_verification_algorithms;
    let certificate = EndEntityCert::try_from(leaf).map_err(|error| explain(&error, leaf, claimed, roots))?;
    certificate
        .verify_for_usage(
            algorithms.all,
            &roots.anchors,
            intermediates,
            UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs())),
            EitherUsage,
            None,
            None,
        )
        .map_err(|error| explain(&error, leaf, claimed, roots))?;
    if tls::is_for(leaf, claimed) {
        return Ok(());
    }
    let presented = Description::of(leaf).map_or_else(|| "unreadable names".into(), |leaf| leaf.named());
    Err(Failure::new(
        FailureClass::TlsNameMismatch,
        format!("a certificate for {claimed} was expected, but one for {presented} was presented"),
    ))
}

fn explain(error: &Error, leaf: &CertificateDer<'_>, claimed: &Domain, roots: &CaRoots) -> Failure {
    let at = |time: &UnixTime| Timestamp::from_secs(time.as_secs());
    let untrusted = |detail| Failure::new(FailureClass::TlsUntrusted, detail);
    match error {
        Error::CertExpired { time, not_after } => Failure::new(
            FailureClass::TlsExpired,
            format!(
                "the certificate presented for {claimed} was valid until {}, and it is {}",
                at(not_after),
                at(time)
            ),
        ),
        Error::CertNotValidYet { time, not_before } => Failure::new(
            FailureClass::TlsExpired,
            format!(
                "the certificate presented for {claimed} is valid from {}, and it is {}",
                at(not_before),
                at(time)
            ),
        ),
        Error::UnknownIssuer => untrusted(unknown_issuer(leaf, claimed, roots)),
        Error::EmptyEkuExtension => untrusted(format!(
            "the certificate presented for {claimed} is meant neither for servers nor for clients"
        )),
        other => untrusted(format!("the certificate presented for {claimed} does not verify: {other}")),
    }
}

fn unknown_issuer(leaf: &CertificateDer<'_>, claimed: &Domain, roots: &CaRoots) -> String {
    let expected = roots.subjects.join(" or ");
    match Description::of(leaf) {
        Some(leaf) if leaf.self_issued => {
            format!(
                "a certificate for {claimed} issued by {expected} was expected, but a self-signed one was presented"
            )
        }
        Some(leaf) => format!(
            "a certificate for {claimed} issued by {expected} was expected, but one issued by {} was presented",
            leaf.issuer
        ),
        None => format!("a certificate for {claimed} issued by {expected} was expected"),
    }
}
