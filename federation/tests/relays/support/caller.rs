//! A caller that does as the test says, right or wrong.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use postrider_common::Envelope;
use postrider_common::supervisor::Supervisor;
use postrider_common::wire::control::Problem;
use postrider_common::wire::{CONTENT_TYPE, forward};
use postrider_federation::{ALPN, TaskExecutor};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) struct Caller {
    sender: SendRequest<BoxBody<Bytes, std::io::Error>>,
}

impl Caller {
    /// The TLS handshake alone, with stock rustls; `own` is a certificate and its key as PEM.
    pub(crate) async fn handshake(
        relay: SocketAddr,
        name: &'static str,
        roots: Arc<RootCertStore>,
        own: Option<(&str, &str)>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_root_certificates(roots);
        let mut config = match own {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                // Without asking whether they belong together.
                let key = any_supported_type(&key).unwrap();
                let own = SingleCertAndKey::from(CertifiedKey::new(chain, key));
                config.with_client_cert_resolver(Arc::new(own))
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        let stream = TcpStream::connect(relay).await?;
        let name = ServerName::try_from(name).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// HTTP/2 on top of a handshake.
    pub(crate) async fn new(stream: TlsStream<TcpStream>) -> Self {
        let supervisor = Supervisor::new();
        let executor = TaskExecutor::new(supervisor.clone(), "caller");
        let (sender, connection) = handshake(executor, TokioIo::new(stream)).await.unwrap();
        supervisor.spawn("caller", async {
            let _ = connection.await;
        });
        Self { sender }
    }

    /// A request for a batch, right in every way; a test changes what it is about.
    pub(crate) fn batch(origin: &str, destination: &str, envelopes: &[Envelope]) -> Request<Bytes> {
        Request::post("https://relay/federation/v1/envelopes")
            .header("postrider-origin", origin)
            .header("postrider-destination", destination)
            .header("content-type", CONTENT_TYPE)
            .body(forward::encode_request(envelopes.iter()))
            .unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.send_body(request.map(|body| Full::new(body).map_err(|never| match never {}).boxed())).await
    }

    pub(crate) async fn send_body(
        &self,
        request: Request<BoxBody<Bytes, std::io::Error>>,
    ) -> Response<Bytes> {
        let response = self.sender.clone().send_request(request).await.unwrap();
        let (head, body) = response.into_parts();
        Response::from_parts(head, body.collect().await.unwrap().to_bytes())
    }
}

/// Status, slug and sentence of a problem.
pub(crate) fn problem(response: &Response<Bytes>) -> (u16, String, String) {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Problem = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(problem.status, response.status().as_u16());
    (problem.status, problem.slug().to_owned(), problem.detail.unwrap())
}
