//! A certificate authority.

use std::sync::Arc;

use postrider_federation::{CaRoots, Identity, Trust};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::domain;

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// What stands between the root and what it issues.
    intermediates: Vec<CertificateDer<'static>>,
    intermediate_pem: String,
    root_pem: String,
}

/// What a test wants in a certificate.
pub(crate) struct Certificate {
    pub(crate) names: Vec<String>,
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
    /// First and last year.
    pub(crate) years: (i32, i32),
}

impl Certificate {
    pub(crate) fn of(name: &str) -> Self {
        Self {
            names: vec![name.into()],
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
            years: (2020, 2100),
        }
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let issuer = CertifiedIssuer::self_signed(authority(name), KeyPair::generate().unwrap()).unwrap();
        Self { root_pem: issuer.pem(), issuer, intermediates: Vec::new(), intermediate_pem: String::new() }
    }

    /// One that this one vouches for and whose certificates carry that voucher with them.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        self.intermediate_as(authority(name))
    }

    fn intermediate_as(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::signed_by(params, key, &self.issuer).unwrap();
        Self {
            root_pem: self.root_pem.clone(),
            intermediates: vec![issuer.der().clone()],
            intermediate_pem: issuer.pem(),
            issuer,
        }
    }

    /// The same, for these usages only.
    pub(crate) fn intermediate_for(&self, name: &str, usages: &[ExtendedKeyUsagePurpose]) -> Self {
        let mut params = authority(name);
        params.extended_key_usages = usages.to_vec();
        self.intermediate_as(params)
    }

    /// An identity of `name` as its relay presents it when the intermediate was forgotten.
    pub(crate) fn alone(&self, name: &str) -> Arc<Identity> {
        let (certificate, key) = self.pems(name);
        Arc::new(Identity::from_pem(&domain(name), certificate.as_bytes(), key.as_bytes()).unwrap())
    }

    /// A certificate for `name` and its key.
    pub(crate) fn pems(&self, name: &str) -> (String, String) {
        let (leaf, key) = self.issue(Certificate::of(name));
        (leaf.pem(), key.serialize_pem())
    }

    pub(crate) fn ca_roots(&self) -> CaRoots {
        CaRoots::from_pem(self.root_pem.as_bytes()).unwrap()
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::private_ca(self.root_pem.as_bytes()).unwrap()
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        Arc::new(roots)
    }

    pub(crate) fn identity(&self, name: &str) -> Arc<Identity> {
        self.identity_with(name, Certificate::of(name))
    }

    /// An identity of `name` whose certificate is for it among others.
    pub(crate) fn identity_with(&self, name: &str, certificate: Certificate) -> Arc<Identity> {
        let (leaf, key) = self.issue(certificate);
        let chain = format!("{}{}", leaf.pem(), self.intermediate_pem);
        let identity = Identity::from_pem(&domain(name), chain.as_bytes(), key.serialize_pem().as_bytes());
        Arc::new(identity.unwrap())
    }

    /// A chain as a peer presents it.
    pub(crate) fn chain(&self, certificate: Certificate) -> Vec<CertificateDer<'static>> {
        let (leaf, _) = self.issue(certificate);
        [vec![leaf.der().clone()], self.intermediates.clone()].concat()
    }

    fn issue(&self, certificate: Certificate) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(certificate.names).unwrap();
        params.extended_key_usages = certificate.usages;
        params.not_before = date_time_ymd(certificate.years.0, 1, 1);
        params.not_after = date_time_ymd(certificate.years.1, 1, 1);
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}
