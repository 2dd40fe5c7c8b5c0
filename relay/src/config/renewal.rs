//! Certificates and keys, read again from the files of a configuration that is in force.
//!
//! Nothing else is read: a mistake that somebody is making in the configuration file meanwhile holds no renewal up.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::credentials::Credentials;
use super::file::Table;
use super::keys::{FEDERATION_CERTIFICATE, FEDERATION_KEY, TLS_CERTIFICATE, TLS_KEY};
use super::problem::Findings;
use super::reader::Reader;
use super::sections::is_for_domain;
use super::{Config, ConfigErrors};

/// A certificate file with its key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pair {
    /// `tls.certificate` and `tls.key`.
    Clients,
    /// `federation.certificate` and `federation.key`.
    Relays,
}

/// Tells one content of a pair of files from another, and both from files that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint([Result<[u8; 32], String>; 2]);

impl Config {
    /// The pair that this configuration was read from, if it has one.
    pub fn credentials(&self, pair: Pair) -> Option<&Credentials> {
        match pair {
            Pair::Clients => self.tls.as_ref(),
            Pair::Relays => Some(&self.federation.identity),
        }
    }

    /// This configuration with what is in the files of a pair by now, or what is wrong with them. A pair that the
    /// configuration does not have changes nothing.
    pub fn reread(&self, pair: Pair) -> Result<Self, ConfigErrors> {
        let mut after = Self { warnings: Vec::new(), ..self.clone() };
        let Some(files) = self.credentials(pair) else { return Ok(after) };
        let (certificate, key) = match pair {
            Pair::Clients => (&TLS_CERTIFICATE, &TLS_KEY),
            Pair::Relays => (&FEDERATION_CERTIFICATE, &FEDERATION_KEY),
        };
        let (table, mut findings) = (Table::default(), Findings::default());
        let mut reader = Reader::new(&table, Path::new(""), &mut findings);
        let (certificate, key) =
            ((certificate, files.certificate_file.clone()), (key, files.key_file.clone()));
        let read = Credentials::read(&mut reader, certificate, key, "");
        if let (Pair::Relays, Some(read)) = (pair, &read) {
            is_for_domain(&mut reader, read, &self.domain);
        }
        let read = read.filter(|_| findings.problems.is_empty());
        let Some(read) = read else { return Err(ConfigErrors::new(self.file.clone(), findings.problems)) };
        after.warnings = findings.warnings;
        match pair {
            Pair::Clients => after.tls = Some(read),
            Pair::Relays => after.federation.identity = read,
        }
        Ok(after)
    }
}

impl Credentials {
    /// Of what was read.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint([&self.certificate_pem, &*self.key_pem].map(|pem| Ok(Sha256::digest(pem).into())))
    }

    /// Of what is in the files now.
    pub fn fingerprint_now(&self) -> Fingerprint {
        let of = |path: &Path| match fs::read(path).map(zeroize::Zeroizing::new) {
            Ok(content) => Ok(Sha256::digest(&*content).into()),
            Err(error) => Err(error.to_string()),
        };
        Fingerprint([of(&self.certificate_file), of(&self.key_file)])
    }
}
