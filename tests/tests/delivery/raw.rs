//! A request that the SDK does not make.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use postrider_common::supervisor::Supervisor;
use postrider_common::wire::CONTENT_TYPE;
use postrider_tests::cluster::Cluster;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Submits these bytes, and returns those of the answer.
pub(crate) async fn submit(cluster: &Cluster, domain: &str, body: Bytes) -> Bytes {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(cluster.authority().root_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(cluster.door(domain).unwrap().address()).await.unwrap();
    let name = ServerName::try_from(domain.to_owned()).unwrap();
    let tls = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await.unwrap();
    Supervisor::new().spawn("connection", async move {
        let _ = connection.await;
    });
    let request = Request::post("/v1/envelopes")
        .header("host", domain)
        .header("content-type", CONTENT_TYPE)
        .body(Full::new(body))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.into_body().collect().await.unwrap().to_bytes()
}
