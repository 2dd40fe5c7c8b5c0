//! Following a chain of certificates to an authority, and saying where it breaks.

use std::time::Duration;

use postrider_common::{FailureClass, Timestamp};
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, ExtendedKeyUsageValidator};

use super::{CaRoots, Case, Distrust, Expected};
use crate::tls;

/// What a certificate has to be meant for.
pub(super) struct Purpose<V> {
    pub(super) validator: V,
    /// For people.
    pub(super) usages: &'static [&'static str],
    /// The sentence's end: "the certificate presented for b.example …".
    pub(super) otherwise: &'static str,
}

/// Whether the chain ends in one of the roots, is valid now, and may be used like that. The name is not looked at.
pub(super) fn verify<V: ExtendedKeyUsageValidator>(
    case: &Case<'_>,
    leaf: &CertificateDer<'_>,
    roots: &CaRoots,
    purpose: Purpose<V>,
) -> Result<(), Distrust> {
    let (usages, otherwise) = (purpose.usages, purpose.otherwise);
    let explain = |error: Error| explain(case, &error, roots, usages, otherwise);
    let certificate = EndEntityCert::try_from(leaf).map_err(explain)?;
    certificate
        .verify_for_usage(
            tls::provider().signature_verification_algorithms.all,
            &roots.anchors,
            case.chain.get(1..).unwrap_or_default(),
            UnixTime::since_unix_epoch(Duration::from_secs(case.now.as_secs())),
            purpose.validator,
            None,
            None,
        )
        .map(drop)
        .map_err(explain)
}

/// That the certificate is for none of `names`.
pub(super) fn wrong_name(case: &Case<'_>, names: Vec<String>) -> Distrust {
    let presented = case.presented().map_or_else(|| "unreadable names".into(), |leaf| leaf.named());
    let expected = names.join(" or ");
    let detail = format!("a certificate for {expected} was expected, but one for {presented} was presented");
    case.refuse(FailureClass::TlsNameMismatch, Expected::Names(names), detail)
}

fn explain(
    case: &Case<'_>,
    error: &Error,
    roots: &CaRoots,
    usages: &'static [&'static str],
    otherwise: &str,
) -> Distrust {
    let claimed = case.claimed;
    let at = |time: &UnixTime| Timestamp::from_secs(time.as_secs());
    let untrusted = |expected, detail| case.refuse(FailureClass::TlsUntrusted, expected, detail);
    let dated = |limit: &str, date: &UnixTime, time: &UnixTime| {
        let detail =
            format!("the certificate presented for {claimed} {limit} {}, and it is {}", at(date), at(time));
        case.refuse(FailureClass::TlsExpired, Expected::ValidAt(case.now), detail)
    };
    match error {
        Error::CertExpired { time, not_after } => dated("was valid until", not_after, time),
        Error::CertNotValidYet { time, not_before } => dated("is valid from", not_before, time),
        Error::UnknownIssuer => {
            untrusted(Expected::Issuers(roots.subjects.to_vec()), unknown_issuer(case, roots))
        }
        // Who makes one for itself often makes it an authority's.
        Error::CaUsedAsEndEntity if case.presented().is_some_and(|leaf| leaf.is_self_issued) => {
            untrusted(Expected::Issuers(roots.subjects.to_vec()), unknown_issuer(case, roots))
        }
        Error::EmptyEkuExtension | Error::RequiredEkuNotFoundContext(_) => untrusted(
            Expected::Usages(usages.to_vec()),
            format!("the certificate presented for {claimed} {otherwise}"),
        ),
        other => untrusted(
            Expected::Anything,
            format!("the certificate presented for {claimed} does not verify: {other}"),
        ),
    }
}

fn unknown_issuer(case: &Case<'_>, roots: &CaRoots) -> String {
    let expected = format!("a certificate for {} issued by {} was expected", case.claimed, roots.named());
    match case.presented() {
        Some(leaf) if leaf.is_self_issued => format!("{expected}, but a self-signed one was presented"),
        // Either nobody here knows that issuer, or it is one in between that was to come along.
        Some(leaf) if !leaf.accompanied_by.contains(&leaf.issuer) && !roots.has(&leaf.issuer) => format!(
            "{expected}, but one issued by {} was presented, without that issuer's own certificate: it is not an \
             authority that is trusted here, or an intermediate one whose certificate was left out",
            leaf.issuer
        ),
        Some(leaf) => format!("{expected}, but one issued by {} was presented", leaf.issuer),
        None => expected,
    }
}
