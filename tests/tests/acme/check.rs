//! The check of a challenge, as RFC 8737 has it: a TLS handshake with the name's host.

use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::asn1_rs::oid;
use x509_parser::prelude::{FromDer, X509Certificate};

pub(crate) const ALPN: &str = "acme-tls/1";

/// Connects as an ACME server does; what is shown there.
pub(crate) async fn shown(
    address: SocketAddr,
    name: &str,
    alpn: &[&str],
) -> std::io::Result<(Option<Vec<u8>>, Vec<CertificateDer<'static>>)> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let session = stream.get_ref().1;
    let chain = session.peer_certificates().unwrap_or_default().to_vec();
    Ok((session.alpn_protocol().map(<[u8]>::to_vec), chain))
}

/// Whether the challenge is answered; otherwise why not.
pub(crate) async fn check(address: SocketAddr, name: &str, key_authorization: &str) -> Result<(), String> {
    let (alpn, chain) = shown(address, name, &[ALPN]).await.map_err(|error| error.to_string())?;
    if alpn.as_deref() != Some(ALPN.as_bytes()) {
        return Err(format!("{ALPN} is not spoken"));
    }
    let [certificate] = &chain[..] else { return Err(format!("{} certificates", chain.len())) };
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let names = certificate.subject_alternative_name().ok().flatten().ok_or("no names")?;
    if names.value.general_names != [GeneralName::DNSName(name)] {
        return Err(format!("it is for {:?}", names.value.general_names));
    }
    let proof = certificate.extensions().iter().find(|extension| extension.oid == oid!(1.3.6.1.5.5.7.1.31));
    let proof = proof.ok_or("there is no acmeIdentifier")?;
    let expected = [&[0x04, 0x20][..], &Sha256::digest(key_authorization)].concat();
    if !proof.critical || proof.value != expected {
        return Err("the acmeIdentifier is not that of the key authorization".into());
    }
    match proof.parsed_extension() {
        ParsedExtension::ParseError { .. } => Err("it does not parse".into()),
        _ => Ok(()),
    }
}

/// Only that whoever shows a certificate has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // By hand: what rustls has for it refuses certificates with the critical extension of a challenge.
        let wrong = || Error::General("the signature is wrong".into());
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| wrong())?;
        let key = &certificate.public_key().subject_public_key.data;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key);
        let is_of_p256 = signature.scheme == SignatureScheme::ECDSA_NISTP256_SHA256;
        let verified = key.verify(message, signature.signature()).ok().filter(|()| is_of_p256);
        verified.map(|()| HandshakeSignatureValid::assertion()).ok_or_else(wrong)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
