//! A certificate authority for tests.
//!
//! It makes certificates as a peer's administrator would get them, and such as nobody should have: expired, for
//! another name, without the usage that is needed, under an intermediate that forbids it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postrider_common::{Domain, Timestamp};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("a certificate could not be made")]
pub struct AuthorityError(#[from] rcgen::Error);

/// Issues certificates; itself a root, or an intermediate under one.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The intermediates from this one up, without the root.
    chain: Vec<Certificate>,
    /// Where the chain ends.
    root: Certificate,
}

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// To answer TLS connections (`serverAuth`).
    Server,
    /// To open TLS connections (`clientAuth`).
    Client,
    /// To sign programs (`codeSigning`): nothing that a relay does.
    CodeSigning,
}

/// What a leaf certificate says.
#[derive(Debug, Clone)]
pub struct Leaf {
    names: Vec<String>,
    usages: Vec<Usage>,
    validity: (Timestamp, Timestamp),
}

impl Leaf {
    /// For the domain alone, for servers and clients, from a day before `now` until thirty days after it.
    pub fn new(domain: &Domain, now: Timestamp) -> Self {
        Self {
            names: vec![domain.to_string()],
            usages: vec![Usage::Server, Usage::Client],
            validity: (now - DAY, now + 30 * DAY),
        }
    }

    /// For these names instead.
    #[must_use]
    pub fn names<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Self {
        Self { names: names.into_iter().map(Into::into).collect(), ..self }
    }

    /// For these usages instead; with none, the certificate does not limit them.
    #[must_use]
    pub fn usages(self, usages: impl Into<Vec<Usage>>) -> Self {
        Self { usages: usages.into(), ..self }
    }

    /// Valid from the first until the second instead. Before or after `now`, as the test needs.
    #[must_use]
    pub fn valid(self, from: Timestamp, until: Timestamp) -> Self {
        Self { validity: (from, until), ..self }
    }

    /// Was over a day before `now`.
    #[must_use]
    pub fn expired(self, now: Timestamp) -> Self {
        self.valid(now - 30 * DAY, now - DAY)
    }

    /// Begins a day after `now`.
    #[must_use]
    pub fn not_yet_valid(self, now: Timestamp) -> Self {
        self.valid(now + DAY, now + 30 * DAY)
    }

    fn params(&self) -> Result<CertificateParams, AuthorityError> {
        let mut params = CertificateParams::new(self.names.clone())?;
        let (from, until) = self.validity;
        params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(from.as_secs());
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(until.as_secs());
        params.distinguished_name = named(self.names.first().map_or("nobody", String::as_str));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = extended(&self.usages);
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

const DAY: Duration = Duration::from_secs(86_400);

impl Authority {
    /// A new root, valid for a very long time.
    pub fn new(name: &str) -> Result<Self, AuthorityError> {
        let issuer = CertifiedIssuer::self_signed(ca_params(name, &[]), KeyPair::generate()?)?;
        Ok(Self { chain: Vec::new(), root: certificate(&issuer), issuer })
    }

    /// A new authority under this one. Unless `usages` is empty, it allows no others below it.
    pub fn intermediate(&self, name: &str, usages: &[Usage]) -> Result<Self, AuthorityError> {
        let issuer = CertifiedIssuer::signed_by(ca_params(name, usages), KeyPair::generate()?, &self.issuer)?;
        let chain = std::iter::once(certificate(&issuer)).chain(self.chain.iter().cloned());
        Ok(Self { chain: chain.collect(), root: self.root.clone(), issuer })
    }

    /// Makes a key and a certificate for it.
    pub fn issue(&self, leaf: &Leaf) -> Result<Certified, AuthorityError> {
        let key = KeyPair::generate()?;
        let certificate = leaf.params()?.signed_by(&key, &self.issuer)?;
        let chain = std::iter::once(certificate).chain(self.chain.iter().cloned());
        Ok(Certified { chain: chain.collect(), key })
    }

    /// Where the chain ends: what is put into a set of trusted roots.
    pub fn root(&self) -> &CertificateDer<'static> {
        self.root.der()
    }

    /// The same as PEM.
    pub fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// Writes the root to `directory` as `<name>.pem`.
    pub fn write_root(&self, directory: &Path, name: &str) -> io::Result<PathBuf> {
        let path = directory.join(format!("{name}.pem"));
        std::fs::write(&path, self.root_pem())?;
        Ok(path)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("intermediates", &self.chain.len()).finish_non_exhaustive()
    }
}

/// A key and a certificate for it that the key itself has signed.
pub fn self_signed(leaf: &Leaf) -> Result<Certified, AuthorityError> {
    let key = KeyPair::generate()?;
    let certificate = leaf.params()?.self_signed(&key)?;
    Ok(Certified { chain: vec![certificate], key })
}

/// A key with its certificate and the intermediates above that.
pub struct Certified {
    chain: Vec<Certificate>,
    key: KeyPair,
}

/// Where a [`Certified`] was written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate and its intermediates, PEM.
    pub certificate: PathBuf,
    /// The key, PKCS #8 in PEM.
    pub key: PathBuf,
}

impl Certified {
    /// The certificate, then the intermediates.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.iter().map(|certificate| certificate.der().clone()).collect()
    }

    /// The certificate alone, as a server that forgot the intermediates presents it.
    #[must_use]
    pub fn without_intermediates(mut self) -> Self {
        self.chain.truncate(1);
        self
    }

    /// The key.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    /// The chain as PEM.
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(Certificate::pem).collect()
    }

    /// The key as PEM.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Writes both to `directory` as `<name>.pem` and `<name>.key`, the key readable by its owner only.
    pub fn write(&self, directory: &Path, name: &str) -> io::Result<Files> {
        use std::os::unix::fs::OpenOptionsExt;

        let files = Files {
            certificate: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}.key")),
        };
        std::fs::write(&files.certificate, self.chain_pem())?;
        let mut key = std::fs::OpenOptions::new();
        let mut key = key.write(true).create(true).truncate(true).mode(0o600).open(&files.key)?;
        io::Write::write_all(&mut key, self.key_pem().as_bytes())?;
        Ok(files)
    }
}

/// Without the key.
impl fmt::Debug for Certified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certified").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

fn ca_params(name: &str, usages: &[Usage]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = extended(usages);
    params
}

fn certificate(issuer: &CertifiedIssuer<'static, KeyPair>) -> Certificate {
    let certificate: &Certificate = issuer.as_ref();
    certificate.clone()
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn extended(usages: &[Usage]) -> Vec<ExtendedKeyUsagePurpose> {
    usages
        .iter()
        .map(|usage| match usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Usage::CodeSigning => ExtendedKeyUsagePurpose::CodeSigning,
        })
        .collect()
}
