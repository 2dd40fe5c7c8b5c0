//! Two relays, of which one gets its certificates from a server beside them.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use postrider::admin::Client;
use postrider::admin::documents::{AcmeStatus, Reloaded, Status};
use postrider_client::{Relay, Trust};
use postrider_common::clock::Clock;
use postrider_tests::clock::StandingClock;
use postrider_tests::cluster::{Cluster, PATIENCE};
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::check::shown;
use crate::server::AcmeServer;

pub(crate) const ALPHA: &str = "alpha.example";
pub(crate) const BETA: &str = "beta.example";
/// Under which clients know alpha's relay.
pub(crate) const NAME: &str = "relay.alpha.example";

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// What the relay logs after each look at what is to be done, before the time until the next one.
const LOOKED: &str = "automatic certificates were looked at, next in ";

pub(crate) struct Bench {
    pub(crate) cluster: Cluster,
    pub(crate) clock: StandingClock,
    pub(crate) server: AcmeServer,
    /// How many looks had been made before whatever was done last.
    looks: Cell<usize>,
}

impl Bench {
    /// Alpha has its identity in its data directory, and asks nobody for certificates yet.
    pub(crate) async fn start() -> Self {
        let clock = StandingClock::new();
        Self::on(clock.clone(), clock).await
    }

    /// The relays go by a clock which need not be the one that the bench moves.
    pub(crate) async fn on(of_relays: impl Clock, clock: StandingClock) -> Self {
        let cluster = Cluster::builder([ALPHA, BETA]).clock(of_relays).start().await.unwrap();
        let server = AcmeServer::start(cluster.clock().clone()).await;
        server.lead_to(cluster.address(ALPHA).await.unwrap());
        let bench = Self { cluster, clock, server, looks: Cell::new(0) };
        let directory = bench.file("data/identity");
        fs::create_dir_all(&directory).unwrap();
        fs::copy(bench.file("relay.pem"), directory.join("certificate.pem")).unwrap();
        fs::copy(bench.file("relay.key"), directory.join("key.pem")).unwrap();
        fs::write(bench.file("acme-server.pem"), bench.server.own_root_pem()).unwrap();
        let config = bench.config();
        fs::write(
            bench.file("postrider.toml"),
            config.replace("certificate = \"relay.pem\"\nkey = \"relay.key\"\n", ""),
        )
        .unwrap();
        bench.settle().await;
        bench
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.cluster.directory(ALPHA).unwrap().join(name)
    }

    pub(crate) fn config(&self) -> String {
        fs::read_to_string(self.file("postrider.toml")).unwrap()
    }

    /// Has alpha ask the server for certificates.
    pub(crate) async fn switch_on(&self) -> Vec<String> {
        self.ask_at(&self.server.directory(), &[NAME], "").await
    }

    pub(crate) async fn ask_at(&self, directory: &str, names: &[&str], more: &str) -> Vec<String> {
        let config = self.config();
        let config = config.split("\n[acme]").next().unwrap();
        let acme = format!(
            "\n[acme]\nnames = {names:?}\nterms_of_service = \"agreed\"\ndirectory = \"{directory}\"\n\
             roots = \"acme-server.pem\"\ncontact = \"admin@alpha.example\"\n{more}"
        );
        fs::write(self.file("postrider.toml"), format!("{config}{acme}")).unwrap();
        self.reload().await
    }

    pub(crate) async fn reload(&self) -> Vec<String> {
        self.looks.set(self.times_logged(LOOKED).await);
        let done: Reloaded = Client::new(self.file("data")).post("/v1/reload", &()).await.unwrap();
        done.changes
    }

    /// What an administrator is told of it.
    pub(crate) async fn told(&self) -> AcmeStatus {
        let status: Status = Client::new(self.file("data")).get("/v1/status").await.unwrap();
        status.acme.expect("certificates are wanted")
    }

    /// Lets time pass, and what is due be done.
    pub(crate) async fn pass(&self, time: Duration) {
        self.looks.set(self.times_logged(LOOKED).await);
        self.clock.advance(time);
        self.settle().await;
    }

    /// Waits until a look was made after whatever was done last, and nothing more is to be done now. Nobody else may have
    /// been about to look when that was done, so that whatever is not waited for otherwise has to be settled before the next.
    pub(crate) async fn settle(&self) {
        loop {
            let log = self.cluster.log(ALPHA).await.unwrap();
            let looks = log.matches(LOOKED).count();
            let last = log.rsplit(LOOKED).next().filter(|rest| !rest.starts_with("0 s"));
            if looks > self.looks.get() && last.is_some() {
                return;
            }
            self.cluster.logged_times(ALPHA, LOOKED, looks + 1).await.unwrap();
        }
    }

    /// Starts the relay anew, after it was killed.
    pub(crate) async fn restart(&self) {
        self.cluster.kill(ALPHA).await.unwrap();
        self.looks.set(self.times_logged(LOOKED).await);
        self.cluster.restart(ALPHA).await.unwrap();
        self.server.lead_to(self.cluster.address(ALPHA).await.unwrap());
        self.settle().await;
    }

    /// Waits until the server was asked for something so many times, and no more.
    pub(crate) async fn until_asked(&self, what: &str, times: usize) {
        let asking = async {
            while self.server.asked(what) < times {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, asking).await.expect("it is asked");
        assert_eq!(self.server.asked(what), times);
    }

    pub(crate) async fn logged(&self, text: &str) {
        if let Err(error) = self.cluster.logged(ALPHA, text).await {
            panic!("{text}: {error}\n{}", self.cluster.log(ALPHA).await.unwrap());
        }
    }

    pub(crate) async fn times_logged(&self, text: &str) -> usize {
        self.cluster.log(ALPHA).await.unwrap().matches(text).count()
    }

    /// What whoever says this in the greeting is shown.
    pub(crate) async fn leaf(&self, name: &str, alpn: &str) -> CertificateDer<'static> {
        let address = self.cluster.address(ALPHA).await.unwrap();
        shown(address, name, &[alpn]).await.unwrap().1.remove(0)
    }

    /// Whether a client that trusts the server's authority, and no other, gets through.
    pub(crate) async fn is_certified_as(&self, name: &str) -> bool {
        self.reaches(name, Trust::AuthorityPem(self.server.root_pem())).await
    }

    /// Whether a client that accepts this certificate's key, and no other, gets through.
    pub(crate) async fn has_key_of(&self, certificate: &CertificateDer<'_>) -> bool {
        let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
        let pin = postrider_client::KeyPin::of(parsed.public_key().raw);
        self.reaches(ALPHA, Trust::Pinned(vec![pin])).await
    }

    pub(crate) async fn reaches(&self, name: &str, trust: Trust) -> bool {
        let address = self.cluster.address(ALPHA).await.unwrap();
        let relay = Relay::builder(format!("https://{name}")).address(address).trust(trust).build().unwrap();
        relay.info().await.is_ok()
    }
}

pub(crate) const ISSUED: &str = "a certificate for relay.alpha.example was issued";
