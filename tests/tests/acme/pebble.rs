//! The same with Pebble, the server with which the people of Let's Encrypt test clients. Of the nonces it gets it refuses
//! one in twenty, and it takes its time over everything.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use postrider_client::Trust;
use postrider_common::clock::{Clock, SystemClock};
use postrider_tests::authority::{Authority, Leaf};
use postrider_tests::clock::StandingClock;
use postrider_tests::cluster::PATIENCE;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::bench::{ALPHA, Bench, ISSUED, NAME};

struct Pebble {
    child: Child,
    directory: String,
    root: String,
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|place| place.join("pebble").exists()) {
        return true;
    }
    assert!(
        std::env::var_os("POSTRIDER_REQUIRE_PEBBLE").is_none(),
        "pebble is not installed, and the environment says that it has to be"
    );
    // Past the test runner, which keeps what passing tests print to itself.
    let _ = writeln!(std::io::stderr(), "skipped: pebble is not installed");
    false
}

/// An address of the loopback network that nobody else has: Pebble cannot be told to take any free port.
fn address() -> IpAddr {
    let [_, second, third, fourth] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 128 | (second & 0x3f), third, fourth).into()
}

impl Pebble {
    /// Starts it. Names lead to the addresses that `dns` tells, and challenges are checked at `port` there.
    async fn start(bench: &Bench, dns: SocketAddr, port: u16) -> Self {
        let ip = address();
        let authority = Authority::new("Pebble's own authority").unwrap();
        let leaf = Leaf::new(&"pebble.example".parse().unwrap(), SystemClock.now()).names([ip.to_string()]);
        let files = authority.issue(&leaf).unwrap().write(&bench.file("."), "pebble").unwrap();
        fs::write(bench.file("acme-server.pem"), authority.root_pem()).unwrap();
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("{ip}:14000"),
            "managementListenAddress": format!("{ip}:15000"),
            "certificate": files.certificate,
            "privateKey": files.key,
            "httpPort": 80,
            "tlsPort": port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        fs::write(bench.file("pebble.json"), config.to_string()).unwrap();
        let log = fs::File::create(bench.file("pebble.log")).unwrap();
        let mut child = Command::new("pebble")
            .args(["-strict", "-config", bench.file("pebble.json").to_str().unwrap()])
            .args(["-dnsserver", &dns.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let started = async {
            loop {
                if let Ok(stream) = TcpStream::connect((ip, 15000)).await {
                    return stream;
                }
                assert!(child.try_wait().unwrap().is_none(), "it has ended");
                tokio::task::yield_now().await;
            }
        };
        let stream = timeout(PATIENCE, started).await.expect("it starts");
        let mut roots = RootCertStore::empty();
        roots.add(authority.root().clone()).unwrap();
        let root = root(stream, ip, roots).await;
        Self { child, directory: format!("https://{ip}:14000/dir"), root }
    }
}

/// The root that it has made for this time.
async fn root(stream: TcpStream, ip: IpAddr, roots: RootCertStore) -> String {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(ServerName::IpAddress(ip.into()), stream).await.unwrap();
    stream.write_all(b"GET /roots/0 HTTP/1.0\r\nhost: pebble\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer[answer.find("-----BEGIN").expect("a certificate")..].to_owned()
}

#[tokio::test]
async fn pebble_issues_a_certificate() {
    if !is_installed() {
        return;
    }
    let bench = Bench::on(SystemClock, StandingClock::new()).await;
    bench.reload().await;
    bench.settle().await;
    let identity = bench.leaf(ALPHA, "h2").await;
    let view = bench.cluster.view(ALPHA).unwrap();
    for name in [NAME, ALPHA] {
        view.records().set_addresses(name, [Ipv4Addr::LOCALHOST.into()]).unwrap();
    }
    let port = bench.cluster.address(ALPHA).await.unwrap().port();
    let pebble = Pebble::start(&bench, view.address(), port).await;

    bench.ask_at(&pebble.directory, &[NAME], "").await;
    bench.logged(ISSUED).await;
    bench.settle().await;
    let trust = Trust::AuthorityPem(pebble.root.clone());
    assert!(bench.reaches(NAME, trust.clone()).await, "clients that trust it get through");
    assert!(bench.has_key_of(&identity).await, "the key is that of the identity");
    bench.ask_at(&pebble.directory, &[NAME, ALPHA], "shown_to = \"everybody\"\n").await;
    bench.logged("a certificate for relay.alpha.example, alpha.example was issued").await;
    bench.settle().await;
    assert!(bench.reaches(ALPHA, trust).await);
    assert_ne!(bench.leaf(ALPHA, "postrider/1").await, identity);

    view.records().set_addresses("elsewhere.example", [Ipv4Addr::new(127, 0, 0, 99).into()]).unwrap();
    bench.ask_at(&pebble.directory, &["elsewhere.example"], "").await;
    bench.logged("the ACME server's check of elsewhere.example: Failed to connect to 127.0.0.99").await;
    bench.cluster.shut_down().await.unwrap();
}
