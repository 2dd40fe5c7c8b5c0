//! The authority behind the server.

use std::time::Duration;

use postrider_common::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, date_time_ymd,
};

use crate::signed::CertificateRequest;

pub(crate) struct Issuer(CertifiedIssuer<'static, KeyPair>);

struct Point<'a>(&'a [u8]);

impl PublicKeyData for Point<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Issuer {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "An ACME server's root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn root_pem(&self) -> String {
        self.0.pem()
    }

    /// A chain in PEM, for servers alone, as public authorities issue them.
    pub(crate) fn issue(&self, request: &CertificateRequest, life: (Timestamp, Timestamp)) -> String {
        let mut params = CertificateParams::new(request.names.clone()).unwrap();
        let at = |time: Timestamp| date_time_ymd(1970, 1, 1) + Duration::from_secs(time.as_secs());
        (params.not_before, params.not_after) = (at(life.0), at(life.1));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.signed_by(&Point(&request.key), &self.0).unwrap().pem()
    }
}
