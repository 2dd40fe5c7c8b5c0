//! What a client signs: requests (JWS, RFC 7515) and requests for certificates (PKCS #10).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// A request in which nothing was changed since somebody signed it.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) protected: Value,
    /// Nothing for a request that only reads.
    pub(crate) payload: Option<Value>,
    signed: Vec<u8>,
    signature: Vec<u8>,
}

/// A client's public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    x: String,
    y: String,
}

impl Signed {
    /// What is in the body of a request, not yet checked.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let (protected, payload) = (body["protected"].as_str()?, body["payload"].as_str()?);
        Some(Self {
            protected: serde_json::from_slice(&decode(protected)?).ok()?,
            payload: match payload {
                "" => None,
                _ => Some(serde_json::from_slice(&decode(payload)?).ok()?),
            },
            signed: format!("{protected}.{payload}").into_bytes(),
            signature: decode(body["signature"].as_str()?)?,
        })
    }

    /// Whether the owner of the key has signed it.
    pub(crate) fn is_by(&self, key: &Key) -> bool {
        let Some(point) = key.point() else { return false };
        self.protected["alg"] == "ES256"
            && UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(&self.signed, &self.signature)
                .is_ok()
    }
}

impl Key {
    pub(crate) fn read(jwk: &Value) -> Option<Self> {
        let is_p256 = jwk["kty"] == "EC" && jwk["crv"] == "P-256";
        is_p256.then_some(Self { x: jwk["x"].as_str()?.into(), y: jwk["y"].as_str()?.into() })
    }

    fn point(&self) -> Option<Vec<u8>> {
        Some([vec![4], decode(&self.x)?, decode(&self.y)?].concat())
    }

    /// RFC 7638.
    pub(crate) fn thumbprint(&self) -> String {
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, self.x, self.y);
        BASE64URL_NOPAD.encode(&Sha256::digest(text))
    }
}

/// A request for a certificate whose sender has the key.
#[derive(Debug)]
pub(crate) struct CertificateRequest {
    pub(crate) names: Vec<String>,
    /// An uncompressed point of P-256.
    pub(crate) key: Vec<u8>,
}

impl CertificateRequest {
    pub(crate) fn read(payload: &Value) -> Option<Self> {
        let der = decode(payload["csr"].as_str()?)?;
        let (rest, request) = X509CertificationRequest::from_der(&der).ok()?;
        let key = request.certification_request_info.subject_pki.subject_public_key.data.to_vec();
        let signature = &request.signature_value.data;
        let signed = request.certification_request_info.raw;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key).verify(signed, signature).ok()?;
        let names = request.requested_extensions()?.find_map(|extension| match extension {
            ParsedExtension::SubjectAlternativeName(names) => Some(names.general_names.clone()),
            _ => None,
        })?;
        let names = names.iter().map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        rest.is_empty().then_some(Self { names: names.collect::<Option<_>>()?, key })
    }
}

pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(text.as_bytes()).ok()
}
