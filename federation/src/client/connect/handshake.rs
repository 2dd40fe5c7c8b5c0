//! The TLS handshake with a peer, and what its failure means.

use std::io;
use std::time::Duration;

use postrider_common::{Domain, Failure, FailureClass};
use rustls::{AlertDescription, CertificateError, InvalidMessage};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{ALPN, tls};

/// TLS with our protocol in it. Whose key the other side has is proven then, and nothing else.
pub(super) async fn handshake(
    connector: &TlsConnector,
    domain: &Domain,
    stream: TcpStream,
    patience: Duration,
) -> Result<TlsStream<TcpStream>, Failure> {
    let name = tls::server_name(domain).ok_or_else(|| {
        Failure::new(FailureClass::DiscoveryFailed, format!("{domain} cannot be asked for by TLS"))
    })?;
    // What has answered there, or has not.
    let at = stream.peer_addr().map_or_else(|_| String::new(), |address| format!(" at {address}"));
    let stream = match timeout(patience, connector.connect(name, stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if is_no_tls(&error) => {
            let detail =
                format!("what answers for {domain}{at} does not speak TLS: is there a relay at that port?");
            return Err(Failure::new(FailureClass::VersionUnsupported, detail));
        }
        Ok(Err(error)) if is_other_protocol(&error) => return Err(other_protocol(domain, &at)),
        Ok(Err(error)) if is_closed(&error) => {
            let detail =
                format!("what answers for {domain}{at} closed the connection during the TLS handshake");
            return Err(Failure::new(FailureClass::ConnectFailed, detail));
        }
        Ok(Err(error)) => return Err(handshake_failed(domain, &error)),
        Err(_) => {
            let detail = format!(
                "what accepts connections for {domain}{at} did not finish the TLS handshake within {} s",
                patience.as_secs()
            );
            return Err(Failure::new(FailureClass::ConnectFailed, detail));
        }
    };
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() == Some(ALPN) { Ok(stream) } else { Err(other_protocol(domain, &at)) }
}

/// What the end of a handshake means, or of a connection on which the peer has not said a word yet.
pub(super) fn handshake_failed(domain: &Domain, error: &io::Error) -> Failure {
    use AlertDescription as Alert;
    match of_tls(error) {
        Some(rustls::Error::AlertReceived(
            alert @ (Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied),
        )) => Failure::new(
            FailureClass::TlsOurCertificateRefused,
            format!("{domain} does not accept our certificate: TLS alert {alert:?}"),
        ),
        Some(rustls::Error::AlertReceived(Alert::ProtocolVersion) | rustls::Error::PeerIncompatible(_)) => {
            Failure::new(
                FailureClass::VersionUnsupported,
                format!("{domain} does not speak TLS 1.3: {error}"),
            )
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::BadSignature)) => Failure::new(
            FailureClass::TlsUntrusted,
            format!("{domain} does not hold the key of the certificate that it presented"),
        ),
        Some(rustls::Error::InvalidCertificate(_)) => Failure::new(
            FailureClass::TlsUntrusted,
            format!("{domain} presented a certificate that cannot be used: {error}"),
        ),
        _ => Failure::new(
            FailureClass::ConnectFailed,
            format!("the TLS handshake with {domain} failed: {error}"),
        ),
    }
}

fn is_other_protocol(error: &io::Error) -> bool {
    matches!(of_tls(error), Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)))
}

fn of_tls(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
}

/// Whether bytes came that are no record of TLS.
fn is_no_tls(error: &io::Error) -> bool {
    matches!(
        of_tls(error),
        Some(rustls::Error::InvalidMessage(
            InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge
        ))
    )
}

/// Whether the peer hung up without a word of TLS.
pub(super) fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// Such as a web server.
fn other_protocol(domain: &Domain, at: &str) -> Failure {
    let detail = format!(
        "what answers for {domain}{at} does not speak the protocol postrider/1: is there a relay at that port?"
    );
    Failure::new(FailureClass::VersionUnsupported, detail)
}
