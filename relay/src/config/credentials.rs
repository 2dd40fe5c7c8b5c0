//! A certificate with its key, read from files and found to belong together.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postrider_common::Domain;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::key::Key;
use super::reader::Reader;

/// A certificate chain and the private key of its first certificate.
#[derive(Clone)]
pub struct Credentials {
    /// Where the chain was read from.
    pub certificate_file: PathBuf,
    /// Where the key was read from.
    pub key_file: PathBuf,
    /// The chain, in PEM.
    pub certificate_pem: Vec<u8>,
    /// The key, in PEM.
    pub key_pem: Zeroizing<Vec<u8>>,
    /// What other relays pin.
    pub pin: [u8; 32],
    /// Both, ready for TLS.
    pub certified: Arc<CertifiedKey>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("certificate_file", &self.certificate_file)
            .field("key_file", &self.key_file)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads both files. What is wrong with either, and whether they belong together, becomes a problem of the key
    /// that named the file.
    pub(super) fn read(
        reader: &mut Reader<'_, '_>,
        (certificate_key, certificate_file): (&Key, PathBuf),
        (key_key, key_file): (&Key, PathBuf),
        hint: &str,
    ) -> Option<Self> {
        let (certificate_pem, key_pem) =
            read_both(reader, (certificate_key, &certificate_file), (key_key, &key_file), hint);
        let chain = certificate_pem.as_deref().and_then(|pem| {
            let check = |one: &CertificateDer<'_>| ParsedCertificate::try_from(one).map(|_| ());
            certificates(reader, certificate_key, &certificate_file, pem, check)
        });
        let key = key_pem.as_deref().and_then(|pem| private_key(reader, key_key, &key_file, pem));
        let (certificate_pem, key_pem) = (certificate_pem?, key_pem?);
        let certified = match CertifiedKey::from_der(chain?, key?, &default_provider()) {
            Ok(certified) => Arc::new(certified),
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                let certificate = certificate_file.display();
                reader.problem(
                    key_key,
                    format!("({}) is not the key of the certificate in {certificate}", key_file.display()),
                );
                return None;
            }
            Err(error) => {
                reader.problem(key_key, format!("({}) cannot be used: {error}", key_file.display()));
                return None;
            }
        };
        let pin = certified.end_entity_cert().and_then(pin).ok()?;
        Some(Self { certificate_file, key_file, certificate_pem, key_pem, pin, certified })
    }

    /// Of one file that has a certificate chain and a key, however they came into it.
    pub fn of_pem(file: &Path, pem: Zeroizing<Vec<u8>>) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|_| "it is not PEM")?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| "no private key in PEM is in it")?;
        let certified = CertifiedKey::from_der(chain, key, &default_provider());
        let certified = certified.map_err(|error| error.to_string())?;
        let pin = certified.end_entity_cert().and_then(pin).map_err(|error| error.to_string())?;
        Ok(Self {
            certificate_file: file.to_owned(),
            key_file: file.to_owned(),
            certificate_pem: pem.to_vec(),
            key_pem: pem,
            pin,
            certified: Arc::new(certified),
        })
    }

    /// Whether the certificate is for this domain.
    pub fn names(&self, domain: &Domain) -> bool {
        let name = ServerName::try_from(domain.as_str());
        let certificate = self.certified.end_entity_cert().and_then(ParsedCertificate::try_from);
        match (name, certificate) {
            (Ok(name), Ok(certificate)) => rustls::client::verify_server_name(&certificate, &name).is_ok(),
            _ => false,
        }
    }
}

/// What other relays pin: SHA-256 of the certificate's public key (SPKI).
pub fn pin(certificate: &CertificateDer<'_>) -> Result<[u8; 32], Error> {
    let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    Ok(Sha256::digest(&key).into())
}

/// Reads the certificates of an authority.
pub(super) fn read_authority(reader: &mut Reader<'_, '_>, key: &Key, file: &Path) -> Option<Vec<u8>> {
    let pem = read(reader, key, file, "")?;
    // What an authority's certificate has to be is less than what a relay's has to be.
    certificates(reader, key, file, &pem, |one| RootCertStore::empty().add(one.clone()))?;
    Some(pem)
}

/// Both files as they were at one time, certificate and key: another pair may be put in their place meanwhile.
fn read_both(
    reader: &mut Reader<'_, '_>,
    (certificate_key, certificate_file): (&Key, &Path),
    (key_key, key_file): (&Key, &Path),
    hint: &str,
) -> (Option<Vec<u8>>, Option<Zeroizing<Vec<u8>>>) {
    const TIMES: usize = 3;
    for _ in 1..TIMES {
        let certificate = fs::read(certificate_file).ok();
        let key = fs::read(key_file).ok().map(Zeroizing::new);
        if certificate.is_some() && key.is_some() && fs::read(certificate_file).ok() == certificate {
            return (certificate, key);
        }
    }
    let certificate = read(reader, certificate_key, certificate_file, hint);
    (certificate, read(reader, key_key, key_file, hint).map(Zeroizing::new))
}

fn read(reader: &mut Reader<'_, '_>, key: &Key, file: &Path, hint: &str) -> Option<Vec<u8>> {
    match fs::read(file) {
        Ok(content) => Some(content),
        Err(error) => {
            let hint = if error.kind() == io::ErrorKind::NotFound { hint } else { "" };
            reader
                .problem(key, format!("names a file that cannot be read: {}: {error}{hint}", file.display()));
            None
        }
    }
}

fn certificates(
    reader: &mut Reader<'_, '_>,
    key: &Key,
    file: &Path,
    pem: &[u8],
    check: impl Fn(&CertificateDer<'_>) -> Result<(), Error>,
) -> Option<Vec<CertificateDer<'static>>> {
    let wrong = match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(found) if found.is_empty() => "no certificate in PEM is in it".to_owned(),
        Ok(found) => match found.iter().find_map(|one| check(one).err()) {
            Some(error) => format!("a certificate in it cannot be used: {error}"),
            None => return Some(found),
        },
        Err(error) => format!("it is not PEM: {error}"),
    };
    reader.problem(key, format!("names a file that is no certificate: {}: {wrong}", file.display()));
    None
}

fn private_key(
    reader: &mut Reader<'_, '_>,
    key: &Key,
    file: &Path,
    pem: &[u8],
) -> Option<PrivateKeyDer<'static>> {
    if fs::metadata(file).is_ok_and(|metadata| metadata.mode() & 0o007 != 0) {
        reader.warning(
            key,
            format!("names a file that every user of this machine may open: {}", file.display()),
        );
    }
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Some(key),
        Err(error) => {
            let wrong = match error {
                pem::Error::NoItemsFound => "no private key in PEM is in it".to_owned(),
                // The other errors may quote what is in the file.
                _ => "it is not PEM".to_owned(),
            };
            reader.problem(key, format!("names a file that is no private key: {}: {wrong}", file.display()));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData;

    use super::*;

    #[test]
    fn a_pin_is_that_of_the_key_whatever_the_certificate() {
        let pair = rcgen::generate_simple_self_signed(["alpha.example".to_owned()]).unwrap();
        let expected: [u8; 32] = Sha256::digest(pair.signing_key.subject_public_key_info()).into();
        assert_eq!(pin(pair.cert.der()), Ok(expected));
        let renewed = rcgen::CertificateParams::new(["beta.example".to_owned()]).unwrap();
        let renewed = renewed.self_signed(&pair.signing_key).unwrap();
        assert_eq!(pin(renewed.der()), Ok(expected));
    }
}
