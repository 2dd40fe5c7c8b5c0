//! What a chain proves, and the sentence when it does not.

use postrider_common::{Domain, Failure, FailureClass, Timestamp};
use postrider_federation::{Evidence, PeerId, Trust, TrustMode};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::CertificateDer;

use crate::support::{Authority, Certificate, NOW, domain, identity};

fn judge(
    chain: &[CertificateDer<'_>],
    claimed: &Domain,
    trust: &Trust,
    now: Timestamp,
) -> Result<PeerId, Failure> {
    postrider_federation::judge(chain, claimed, trust, &Evidence::None, now).map_err(Failure::from)
}

fn refused(authority: &Authority, certificate: Certificate, trust: &Trust) -> Failure {
    let chain = authority.chain(certificate);
    judge(&chain, &domain("b.example"), trust, NOW).unwrap_err()
}

#[test]
fn a_pinned_key_is_enough_whatever_the_certificate_says() {
    let ca = Authority::new("Some CA");
    let certificate = Certificate {
        names: vec!["unrelated.example".into()],
        usages: vec![ExtendedKeyUsagePurpose::CodeSigning],
        years: (2000, 2001),
    };
    let chain = ca.chain(certificate);
    let stranger = identity("a.example");
    let wrong = Trust::Pinned { pins: vec![stranger.pin()] };
    let failure = judge(&chain, &domain("b.example"), &wrong, NOW).unwrap_err();
    assert_eq!(failure.class, FailureClass::TlsPinMismatch);
    let (before, presented) = failure.detail.split_once(", but the key ").unwrap();
    assert_eq!(before, format!("the key pinned for b.example is {}", stranger.pin()));
    let presented = presented.strip_suffix(" was presented").unwrap().parse().unwrap();
    let right = Trust::Pinned { pins: vec![stranger.pin(), presented] };
    let peer = judge(&chain, &domain("b.example"), &right, NOW).unwrap();
    assert_eq!(
        (peer.domain(), peer.mode(), peer.fingerprint()),
        (&domain("b.example"), TrustMode::Pinned, presented)
    );
}

#[test]
fn an_authority_vouches_for_either_usage_or_none() {
    let ca = Authority::new("Own CA");
    let through = ca.intermediate("Issuing CA");
    for usages in [
        vec![],
        vec![ExtendedKeyUsagePurpose::ServerAuth],
        vec![ExtendedKeyUsagePurpose::ClientAuth],
        vec![ExtendedKeyUsagePurpose::CodeSigning, ExtendedKeyUsagePurpose::ClientAuth],
    ] {
        for issuer in [&ca, &through] {
            let certificate = Certificate { usages: usages.clone(), ..Certificate::of("b.example") };
            let chain = issuer.chain(certificate);
            let peer = judge(&chain, &domain("b.example"), &ca.trust(), NOW).unwrap();
            assert_eq!(peer.mode(), TrustMode::PrivateCa);
        }
    }
    let failure = refused(
        &ca,
        Certificate { usages: vec![ExtendedKeyUsagePurpose::CodeSigning], ..Certificate::of("b.example") },
        &ca.trust(),
    );
    let detail = "the certificate presented for b.example is meant neither for servers nor for clients";
    assert_eq!(failure, Failure::new(FailureClass::TlsUntrusted, detail));
}

#[test]
fn an_unknown_issuer_is_named() {
    let (ours, theirs) = (Authority::new("Our CA"), Authority::new("Their CA"));
    let failure = refused(&theirs, Certificate::of("b.example"), &ours.trust());
    let detail = "a certificate for b.example issued by CN=Our CA was expected, but one issued by CN=Their CA was \
                  presented, without that issuer's own certificate: it is not an authority that is trusted here, or an intermediate one whose certificate was left out";
    assert_eq!(failure, Failure::new(FailureClass::TlsUntrusted, detail));
    let self_signed = identity("b.example");
    let chain = self_signed.certificates();
    let failure = judge(chain, &domain("b.example"), &ours.trust(), NOW).unwrap_err();
    let detail =
        "a certificate for b.example issued by CN=Our CA was expected, but a self-signed one was presented";
    assert_eq!(failure, Failure::new(FailureClass::TlsUntrusted, detail));
}

#[test]
fn an_authority_of_the_same_name_is_another_one() {
    let (real, forged) = (Authority::new("Our CA"), Authority::new("Our CA"));
    let failure = refused(&forged, Certificate::of("b.example"), &real.trust());
    assert_eq!(failure.class, FailureClass::TlsUntrusted);
}

#[test]
fn a_missing_intermediate_is_an_unknown_issuer() {
    let ca = Authority::new("Our CA");
    let mut chain = ca.intermediate("Issuing CA").chain(Certificate::of("b.example"));
    chain.truncate(1);
    let failure = judge(&chain, &domain("b.example"), &ca.trust(), NOW).unwrap_err();
    let detail = "a certificate for b.example issued by CN=Our CA was expected, but one issued by CN=Issuing CA was \
                  presented, without that issuer's own certificate: it is not an authority that is trusted here, or an intermediate one whose certificate was left out";
    assert_eq!(failure, Failure::new(FailureClass::TlsUntrusted, detail));
}

#[test]
fn names_and_dates_are_told() {
    let ca = Authority::new("Our CA");
    let other =
        Certificate { names: vec!["c.example".into(), "d.example".into()], ..Certificate::of("c.example") };
    let detail = "a certificate for b.example was expected, but one for c.example, d.example was presented";
    assert_eq!(refused(&ca, other, &ca.trust()), Failure::new(FailureClass::TlsNameMismatch, detail));
    for (years, detail) in [
        (
            (2020, 2026),
            "the certificate presented for b.example was valid until 2026-01-01T00:00:00Z, and it is \
             2027-01-15T08:00:00Z",
        ),
        (
            (2030, 2040),
            "the certificate presented for b.example is valid from 2030-01-01T00:00:00Z, and it is \
             2027-01-15T08:00:00Z",
        ),
    ] {
        let certificate = Certificate { years, ..Certificate::of("b.example") };
        let failure = refused(&ca, certificate, &ca.trust());
        assert_eq!(failure, Failure::new(FailureClass::TlsExpired, detail));
    }
}

#[test]
fn nothing_proves_nothing() {
    let trust = Authority::new("Our CA").trust();
    let failure = judge(&[], &domain("b.example"), &trust, NOW).unwrap_err();
    let detail = "b.example presented no certificate";
    assert_eq!(failure, Failure::new(FailureClass::TlsUntrusted, detail));
    let nobody = Trust::Pinned { pins: vec![] };
    let presented = identity("b.example");
    assert!(judge(presented.certificates(), &domain("b.example"), &nobody, NOW).is_err());
}
