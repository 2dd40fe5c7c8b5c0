//! `postrider doctor` and a peer that is proven by DANE, word for word: `doctor.txt` has what it prints in each case.
//!
//! Rewritten with `UPDATE_DOCS=1`. What differs from run to run is left out.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use postrider_common::clock::{Clock, SystemClock};
use postrider_federation::Identity;
use postrider_tests::binary::postrider;
use postrider_tests::cluster::PATIENCE;
use postrider_tests::settled::settled;
use tokio::process::Command;
use tokio::time::timeout;

use super::lab::Lab;
use super::programs::are_installed;
use super::relay::{Relay, domain, identity, pinned, policy};
use super::zones::{Signing, Zone};

async fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let mut running = Command::new(postrider());
    running.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, running.output()).await.expect("it ends in time").unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// The command goes by the machine's clock.
fn of_today(name: &str) -> Arc<Identity> {
    let pems = Identity::generate(&domain(name), SystemClock.now()).unwrap();
    let (certificate, key) = (pems.certificate_pem.as_bytes(), pems.key_pem.as_bytes());
    Arc::new(Identity::from_pem(&domain(name), certificate, key).unwrap())
}

/// What is not there in every run: the port, and how far apart the clocks are, of which one stands still.
fn steady(printed: &str, port: u16) -> String {
    let printed = printed.replace(&format!("_{port}._tcp"), "_PORT._tcp");
    let lines = printed.lines().filter(|line| !line.contains("clock"));
    settled(&lines.map(|line| format!("{line}\n")).collect::<String>())
}

#[tokio::test]
async fn each_case_of_dane_is_told_apart() {
    if !are_installed() {
        return;
    }
    let (listener, port) = Relay::bind().await;
    let b = of_today("match.signed");
    let key = b.pin().to_string();
    let other = identity("mismatch.signed").pin().to_string();
    let published = |name: &str, key: Option<&str>| {
        let tlsa = key.map(|key| format!("_{port}._tcp.relay.{name} IN TLSA 3 1 1 {key}\n"));
        format!("_postrider._tcp.{name} IN SRV 0 0 {port} relay.{name}\nrelay.{name} IN A 127.0.0.1\n")
            + &tlsa.unwrap_or_default()
    };
    let zone = |name, signing, records| Zone { name, signing, records };
    let signed =
        published("match", Some(&key)) + &published("mismatch", Some(&other)) + &published("missing", None);
    let zones = [
        zone("signed", Signing::Signed, signed),
        zone("unsigned", Signing::Unsigned, published("match", Some(&key))),
        zone("broken", Signing::Broken, published("match", Some(&key))),
    ];
    let Some(lab) = Lab::start(&zones).await else { return };

    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("relay");
    let made = run(&["init", "--domain", "a.example", "--dir", directory.to_str().unwrap()]).await;
    assert_eq!(made.0, Some(0), "{}", made.1);
    let pem = |name: &str| fs::read(directory.join("data/identity").join(name)).unwrap();
    let own = Identity::from_pem(&domain("a.example"), &pem("certificate.pem"), &pem("key.pem"));
    let own = Arc::new(own.unwrap());
    let _relay = Relay::serve(listener, &b, &policy(&b, "a.example", pinned(&own)), None);

    fs::write(directory.join("anchor.key"), lab.anchor()).unwrap();
    let names = ["match.signed", "mismatch.signed", "missing.signed", "match.unsigned", "match.broken"];
    let mut config = format!(
        "domain = \"a.example\"\ndata_dir = \"data\"\n[dns]\nservers = [\"{}\"]\nallow_networks = [\"127.0.0.0/8\"]\n\
         trust_anchor = \"anchor.key\"\n[federation]\npolicy = \"allow-list\"\n",
        lab.address()
    );
    for name in names {
        let _ = write!(config, "[[federation.peers]]\ndomain = \"{name}\"\ntrust = \"dane\"\n");
    }
    let file = directory.join("postrider.toml");
    fs::write(&file, config).unwrap();

    let mut told = String::new();
    for name in names {
        let (code, printed) = run(&["doctor", name, "--config", file.to_str().unwrap()]).await;
        let code = code.unwrap();
        assert_eq!(code == 0, name == "match.signed", "{name}: {printed}");
        let _ = write!(told, "## {name}\n\nexit code {code}\n\n{}\n", steady(&printed, port));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real_dns/doctor.txt");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &told).unwrap();
    }
    assert_eq!(told, fs::read_to_string(&path).unwrap());
}
