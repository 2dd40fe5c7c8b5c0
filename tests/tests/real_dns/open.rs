//! Two whole relays that have never heard of each other, brought together by nothing but signed DNS.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use postrider::config::Config;
use postrider::daemon::Daemon;
use postrider_client::{Identity, KeyPin, Relay, Trust};
use postrider_common::clock::{Clock, SystemClock};
use postrider_common::supervisor::Supervisor;
use postrider_tests::authority::{Files, Leaf, self_signed};
use postrider_tests::cluster::User;
use postrider_tests::link::Link;

use super::lab::Lab;
use super::programs::are_installed;
use super::relay::domain;
use super::zones::{Signing, Zone};

/// A relay's files, and the way to it, whose port is published.
struct Site {
    name: &'static str,
    directory: tempfile::TempDir,
    pin: String,
    door: Link,
}

impl Site {
    async fn new(name: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Nobody vouches for it but the key itself.
        let certified = self_signed(&Leaf::new(&domain(name), SystemClock.now())).unwrap();
        let Files { .. } = certified.write(directory.path(), "relay").unwrap();
        let identity = postrider_federation::Identity::from_pem(
            &domain(name),
            certified.chain_pem().as_bytes(),
            certified.key_pem().as_bytes(),
        );
        let door = Link::to(([127, 0, 0, 1], 9).into()).await.unwrap();
        Self { name, directory, pin: identity.unwrap().pin().to_string(), door }
    }

    fn records(&self) -> String {
        let (name, port) = (self.name.strip_suffix(".signed").unwrap(), self.door.address().port());
        format!(
            "_postrider._tcp.{name} IN SRV 0 0 {port} relay.{name}\nrelay.{name} IN A 127.0.0.1\n\
             _{port}._tcp.relay.{name} IN TLSA 3 1 1 {}\n",
            self.pin
        )
    }

    async fn start(&self, lab: &Lab, supervisor: &Supervisor) {
        let (name, servers) = (self.name, lab.address());
        fs::write(self.file("anchor.key"), lab.anchor()).unwrap();
        let text = format!(
            "domain = \"{name}\"\n[listen]\naddresses = [\"127.0.0.1:0\"]\n\
             [registration]\npolicy = \"open\"\n[submission]\npolicy = \"open\"\n\
             [federation]\npolicy = \"open\"\nunlisted_trust = \"dane\"\ncertificate = \"relay.pem\"\nkey = \"relay.key\"\n\
             [dns]\nservers = [\"{servers}\"]\nallow_networks = [\"127.0.0.0/8\"]\ntrust_anchor = \"anchor.key\"\n"
        );
        fs::write(self.file("postrider.toml"), text).unwrap();
        let config = Config::load(&self.file("postrider.toml")).unwrap();
        let daemon = Daemon::build(config, Arc::new(SystemClock)).await.unwrap();
        self.door.set_target(daemon.addresses()[0]);
        let stopping = supervisor.stopping();
        supervisor.spawn("relay", async move {
            daemon.run(stopping).await.unwrap();
        });
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        Path::new(self.directory.path()).join(name)
    }

    async fn user(&self) -> User {
        let identity = Identity::generate(domain(self.name));
        let pin: KeyPin = self.pin.parse().unwrap();
        let relay = Relay::builder(format!("https://{}", self.name))
            .address(self.door.address())
            .trust(Trust::Pinned(vec![pin]))
            .build();
        let user = User::new(identity, relay.unwrap(), Arc::new(SystemClock));
        user.session().await.unwrap().register().await.unwrap();
        user
    }
}

#[tokio::test]
async fn strangers_exchange_envelopes_by_dane_alone() {
    if !are_installed() {
        return;
    }
    let (alpha, beta) = (Site::new("alpha.signed").await, Site::new("beta.signed").await);
    let records = alpha.records() + &beta.records();
    let Some(lab) = Lab::start(&[Zone { name: "signed", signing: Signing::Signed, records }]).await else {
        return;
    };
    let supervisor = Supervisor::new();
    alpha.start(&lab, &supervisor).await;
    beta.start(&lab, &supervisor).await;
    let (alice, bob) = (alpha.user().await, beta.user().await);
    alice.send(&bob, b"there").await.unwrap();
    assert_eq!(bob.receive().await.unwrap().message, b"there");
    bob.send(&alice, b"and back").await.unwrap();
    assert_eq!(alice.receive().await.unwrap().message, b"and back");
    drop((alice, bob));
    supervisor.stop();
    supervisor.finished().await;
}
