//! The TLS of federation: version 1.3, certificates on both sides, no resumption.

mod verifier;

use std::sync::Arc;

use postrider_common::Domain;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, CommonState, ServerConfig};
use webpki::EndEntityCert;

use crate::{ALPN, Identity};
use verifier::AnyCertificate;

/// The cryptography, with the hybrid post-quantum key exchange first.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// For connections to peers.
#[expect(clippy::expect_used, reason = "the argument is in the message")]
pub(crate) fn client_config(identity: &Identity) -> Arc<ClientConfig> {
    let provider = provider();
    let verifier = Arc::new(AnyCertificate::new(&provider));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has cipher suites for TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(identity.certified());
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// For connections from peers.
///
/// A resumed session would skip the client verifier and show the certificate of an earlier day, so there is nothing to
/// resume: no tickets are sent and no sessions are kept.
#[expect(clippy::expect_used, reason = "the argument is in the message")]
pub(crate) fn server_config(identity: &Identity) -> Arc<ServerConfig> {
    let provider = provider();
    let verifier = Arc::new(AnyCertificate::new(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has cipher suites for TLS 1.3")
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(identity.certified());
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Arc::new(config)
}

/// The name that the server is asked for: the peer's domain, never the host that SRV names.
pub(crate) fn server_name(domain: &Domain) -> Option<ServerName<'static>> {
    ServerName::try_from(domain.as_str().to_owned()).ok()
}

/// Whether a certificate is for `domain`, by its subject alternative names.
pub(crate) fn is_for(certificate: &CertificateDer<'_>, domain: &Domain) -> bool {
    is_for_host(certificate, domain.as_str())
}

/// The same for the name of a host.
pub(crate) fn is_for_host(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let Ok(parsed) = EndEntityCert::try_from(certificate) else {
        return false;
    };
    ServerName::try_from(host).is_ok_and(|name| parsed.verify_is_valid_for_subject_name(&name).is_ok())
}

/// The key exchange that a connection agreed on, for instance `X25519MLKEM768`.
pub(crate) fn key_exchange(session: &CommonState) -> String {
    session
        .negotiated_key_exchange_group()
        .map_or_else(|| "none".into(), |group| format!("{:?}", group.name()))
}
