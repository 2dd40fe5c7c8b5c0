//! What a certificate says about itself, for verdicts and for the sentences that explain them.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use postrider_common::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The fingerprint of a relay's key: SHA-256 of the certificate's SubjectPublicKeyInfo.
///
/// As text it is 64 lower-case hexadecimal digits, which is also the data of a TLSA `3 1 1` record. It stays the same
/// when a certificate is renewed with the same key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; 32]);

/// A text that is not a [`Pin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pin is 64 lower-case hexadecimal digits")]
pub struct PinError;

impl Pin {
    /// A pin from the hash itself.
    pub const fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The fingerprint of the key in `certificate`.
    ///
    /// The parser is the one with which the handshake's signature is checked, so that no certificate can show one key
    /// to the pin and another to the signature.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Result<Self, rustls::Error> {
        let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        Ok(Self(Sha256::digest(key.as_ref()).into()))
    }
}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| PinError)?;
        bytes.try_into().map(Self).map_err(|_| PinError)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a peer presented, as far as a sentence or a check of it needs that. Texts come from a stranger, so they are
/// bounded and free of control characters; nothing is decided by them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// Whom the certificate is about.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// Whether the two are the same.
    pub is_self_issued: bool,
    /// The DNS names that it is for; the first of them if there are many.
    pub names: Vec<String>,
    /// From when on it is valid,
    pub not_before: Timestamp,
    /// and until when.
    pub not_after: Timestamp,
    /// What its key may be used for, if that is limited.
    pub usages: Vec<String>,
    /// The fingerprint of its key.
    pub key: Option<Pin>,
    /// The subjects of the certificates that came with it.
    pub accompanied_by: Vec<String>,
}

impl Presented {
    /// Of a chain, unless its first certificate is beyond parsing.
    pub fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        const NAMES: usize = 8;
        let (leaf, others) = chain.split_first()?;
        let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        let names = alternatives.map_or_else(Vec::new, |extension| {
            let dns = extension.value.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(printable(name, 253)),
                _ => None,
            });
            dns.take(NAMES).collect()
        });
        let subject = |certificate: &CertificateDer<'_>| {
            let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
            Some(printable(&parsed.subject().to_string(), 200))
        };
        Some(Self {
            subject: printable(&parsed.subject().to_string(), 200),
            issuer: printable(&parsed.issuer().to_string(), 200),
            is_self_issued: parsed.subject() == parsed.issuer(),
            names,
            not_before: timestamp(parsed.validity().not_before.timestamp()),
            not_after: timestamp(parsed.validity().not_after.timestamp()),
            usages: usages(&parsed),
            key: Pin::of(leaf).ok(),
            accompanied_by: others.iter().take(NAMES).filter_map(subject).collect(),
        })
    }

    /// The names for a sentence.
    pub(crate) fn named(&self) -> String {
        if self.names.is_empty() { "no name at all".into() } else { self.names.join(", ") }
    }
}

fn usages(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.extended_key_usage() else {
        return Vec::new();
    };
    let usage = extension.value;
    let known = [
        (usage.any, "anyExtendedKeyUsage"),
        (usage.server_auth, "serverAuth"),
        (usage.client_auth, "clientAuth"),
        (usage.code_signing, "codeSigning"),
        (usage.email_protection, "emailProtection"),
        (usage.time_stamping, "timeStamping"),
        (usage.ocsp_signing, "OCSPSigning"),
    ];
    let known = known.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| (*name).to_owned());
    known.chain(usage.other.iter().take(4).map(|oid| printable(&oid.to_string(), 64))).collect()
}

/// A stranger's text, fit for a log line.
pub(crate) fn printable(text: &str, length: usize) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(length).map(shown).collect()
}

fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_written_in_one_way() {
        let text = "0a".repeat(32);
        let pin: Pin = text.parse().unwrap();
        assert_eq!((pin.to_string(), *pin.as_bytes()), (text.clone(), [10; 32]));
        for wrong in ["", "0a", &text.to_uppercase(), &format!("{text}0a")] {
            assert_eq!(wrong.parse::<Pin>(), Err(PinError), "{wrong}");
        }
    }

    #[test]
    fn a_strangers_text_cannot_break_a_log_line() {
        assert_eq!(printable("a\nb\u{1b}[31m", 4), "a\u{fffd}b\u{fffd}");
    }
}
