//! Certificates that are renewed in their files while nobody tells the relay.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use postrider_client::{KeyPin, Relay, Trust};
use postrider_federation::Identity;
use postrider_tests::authority::{Certified, Leaf};
use postrider_tests::clock::StandingClock;
use postrider_tests::cluster::Cluster;

use crate::commands::{ALPHA, BETA, ask, queue};

/// A relay whose time is moved from look to look.
struct Bench {
    cluster: Cluster,
    clock: StandingClock,
    looks: usize,
}

impl Bench {
    async fn start() -> Self {
        let clock = StandingClock::new();
        let cluster = Cluster::builder([ALPHA, BETA]).clock(clock.clone()).start().await.unwrap();
        let bench = Self { cluster, clock, looks: 1 };
        bench.looked().await;
        bench
    }

    /// Waits for as many looks as there were time for.
    async fn looked(&self) {
        self.cluster.logged_times(ALPHA, "the certificate files were looked at", self.looks).await.unwrap();
    }

    /// Lets half a minute pass.
    async fn look_again(&mut self) {
        self.clock.advance(Duration::from_secs(30));
        self.looks += 1;
        self.looked().await;
    }

    fn directory(&self) -> &Path {
        self.cluster.directory(ALPHA).unwrap()
    }

    fn issue(&self) -> (Certified, KeyPin) {
        let leaf = Leaf::new(&ALPHA.parse().unwrap(), self.cluster.clock().now());
        let issued = self.cluster.authority().issue(&leaf).unwrap();
        let (chain, key) = (issued.chain_pem(), issued.key_pem());
        let identity = Identity::from_pem(&ALPHA.parse().unwrap(), chain.as_bytes(), key.as_bytes()).unwrap();
        let pin = identity.pin().to_string().parse().unwrap();
        (issued, pin)
    }

    /// Whether a client that accepts this key alone gets through.
    async fn shows(&self, pin: KeyPin) -> bool {
        let relay = Relay::builder(format!("https://{ALPHA}"))
            .address(self.cluster.address(ALPHA).await.unwrap())
            .trust(Trust::Pinned(vec![pin]))
            .build()
            .unwrap();
        relay.info().await.is_ok()
    }

    async fn times_logged(&self, text: &str) -> usize {
        self.cluster.log(ALPHA).await.unwrap().matches(text).count()
    }
}

const KEPT: &str = "certificate files have changed, and what was shown before is shown still";

/// Leads a name to another file, as tools that renew certificates do: at once, or not at all.
fn lead(directory: &Path, name: &str, to: &str) {
    let link = directory.join("link");
    symlink(to, &link).unwrap();
    fs::rename(link, directory.join(name)).unwrap();
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_clients_and_relays_without_a_word() {
    let mut bench = Bench::start().await;
    let users = (bench.cluster.user(ALPHA).await.unwrap(), bench.cluster.user(BETA).await.unwrap());
    let (renewed, pin) = bench.issue();
    renewed.write(bench.directory(), "renewed").unwrap();
    bench.look_again().await;
    assert!(!bench.shows(pin).await);

    lead(bench.directory(), "relay.pem", "renewed.pem");
    bench.look_again().await;
    // The key has not followed yet.
    lead(bench.directory(), "relay.key", "renewed.key");
    bench.look_again().await;
    assert!(!bench.shows(pin).await, "one look is not enough");
    bench.look_again().await;
    assert!(bench.shows(pin).await, "clients are shown it");
    let said = format!("other relays are shown a certificate with another key, whose pin is {pin}");
    assert_eq!(bench.times_logged(&said).await, 1, "{}", bench.cluster.log(ALPHA).await.unwrap());
    assert_eq!(bench.times_logged(KEPT).await, 0, "nothing was wrong");
    for (from, to) in [(&users.0, &users.1), (&users.1, &users.0)] {
        from.send(to, b"with the new one").await.unwrap();
        assert_eq!(to.receive().await.unwrap().message, b"with the new one");
    }

    bench.look_again().await;
    bench.look_again().await;
    assert_eq!(bench.times_logged("certificate files have changed").await, 2, "once for each pair");
    bench.cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn what_does_not_fit_is_said_once_and_taken_up_when_it_does() {
    let mut bench = Bench::start().await;
    let (first, first_pin) = bench.issue();
    first.write(bench.directory(), "relay").unwrap();
    bench.look_again().await;
    bench.look_again().await;
    assert!(bench.shows(first_pin).await);

    let (second, second_pin) = bench.issue();
    fs::write(bench.directory().join("relay.pem"), second.chain_pem()).unwrap();
    for _ in 0..5 {
        bench.look_again().await;
    }
    assert!(bench.shows(first_pin).await, "what was in force stays");
    let config = bench.directory().join("postrider.toml");
    for key in ["tls.key", "federation.key"] {
        let said = format!("{KEPT}: {}: {key} (", config.display());
        assert_eq!(bench.times_logged(&said).await, 1, "{}", bench.cluster.log(ALPHA).await.unwrap());
    }
    // Whatever stands in the configuration meanwhile.
    fs::write(&config, "colour = 3").unwrap();
    fs::write(bench.directory().join("relay.key"), second.key_pem()).unwrap();
    bench.look_again().await;
    bench.look_again().await;
    assert!(bench.shows(second_pin).await);

    for (wrong, said) in
        [(None, "cannot be read"), (Some("no certificate"), "no certificate in PEM is in it")]
    {
        let file = bench.directory().join("relay.pem");
        match wrong {
            None => fs::remove_file(&file).unwrap(),
            Some(text) => fs::write(&file, text).unwrap(),
        }
        for _ in 0..4 {
            bench.look_again().await;
        }
        assert!(bench.shows(second_pin).await, "{said}");
        assert_eq!(bench.times_logged(said).await, 2, "{}", bench.cluster.log(ALPHA).await.unwrap());
    }
    // A certificate for somebody else's domain proves nothing to other relays, and clients may be shown it.
    let other = Leaf::new(&"other.example".parse().unwrap(), bench.cluster.clock().now());
    bench.cluster.authority().issue(&other).unwrap().write(bench.directory(), "relay").unwrap();
    bench.look_again().await;
    bench.look_again().await;
    assert_eq!(bench.times_logged("names a certificate that is not for alpha.example").await, 1);
    assert!(!bench.shows(second_pin).await);
    let users = (bench.cluster.user(ALPHA).await.unwrap_err(), bench.cluster.user(BETA).await.unwrap());
    assert!(users.0.to_string().contains("certificate"), "{}", users.0);
    bench.cluster.shut_down().await.unwrap();
}

/// Who pins the next key already refuses the current one. Its relay is not made to wait for the next attempt.
#[tokio::test]
async fn who_refused_the_key_of_before_is_shown_the_new_one_at_once() {
    let bench = Bench::start().await;
    let (alice, bob) = (bench.cluster.user(ALPHA).await.unwrap(), bench.cluster.user(BETA).await.unwrap());
    let (next, pin) = bench.issue();
    let beta = bench.cluster.directory(BETA).unwrap();
    let config = fs::read_to_string(beta.join("postrider.toml")).unwrap();
    let (before, peer) = config.split_once("trust = \"private-ca\"\n").unwrap();
    let (_, after) = peer.split_once('\n').unwrap();
    let pinned = format!("{before}trust = \"pinned\"\npins = [\"{pin}\"]\n{after}");
    fs::write(beta.join("postrider.toml"), pinned).unwrap();
    let client = postrider::admin::Client::new(beta.join("data"));
    client.post::<postrider::admin::documents::Reloaded>("/v1/reload", &()).await.unwrap();
    let held = queue(&alice, &bob, "held").await;
    let met = alice.tracked(held, |status| status.reason.is_some()).await.unwrap();
    assert_eq!(met.reason.as_deref(), Some("tls-our-certificate-refused"));

    next.write(bench.directory(), "relay").unwrap();
    let said = ask(&bench.cluster, &["reload"]).await;
    assert!(said.contains("other relays are shown a certificate with another key"), "{said}");
    assert_eq!(bob.receive().await.unwrap().message, b"held", "although the clock stands still");
    bench.cluster.shut_down().await.unwrap();
}
