//! What the binary prints, what it leaves on disk, and how it ends.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use postrider_tests::binary::postrider;
use postrider_tests::cluster::PATIENCE;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// What is printed, word for word.
#[test]
fn help_and_refusals_are_as_written_down() {
    trycmd::TestCases::new()
        .register_bin("postrider", postrider())
        .env("COLUMNS", "100")
        .case("tests/cmd/*.trycmd");
}

/// A relay's directory as `init` made it.
struct Made {
    _parent: TempDir,
    config: PathBuf,
}

async fn run(arguments: &[&str]) -> Output {
    let running = Command::new(postrider()).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    timeout(PATIENCE, running).await.expect("it ends in time").unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

async fn init(listen: &str) -> Made {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("relay");
    let path = directory.to_str().unwrap();
    let made = run(&["init", "--domain", "alpha.example", "--dir", path, "--listen", listen]).await;
    assert_eq!((made.status.code(), text(&made.stderr)), (Some(0), ""));
    Made { config: directory.join("postrider.toml"), _parent: parent }
}

/// `serve`, once it has said that it is ready.
struct Serving {
    child: Child,
    addresses: Vec<SocketAddr>,
}

impl Serving {
    async fn start(config: &Path) -> Self {
        let mut child = Command::new(postrider())
            .args(["serve", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.expect("it is ready in time").unwrap().unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (ready["event"].as_str(), ready["domain"].as_str()),
            (Some("ready"), Some("alpha.example"))
        );
        let addresses = ready["addresses"].as_array().unwrap();
        let addresses = addresses.iter().map(|address| address.as_str().unwrap().parse().unwrap()).collect();
        Self { child, addresses }
    }

    /// The exit code, and what was logged.
    async fn signal(mut self, signal: &str) -> (Option<i32>, String) {
        let process = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &process]).status().await.unwrap().success());
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).await.unwrap();
        (timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").unwrap().code(), log)
    }
}

/// Asserts that the process gave up with this code and one sentence that says why.
#[track_caller]
fn assert_gave_up(output: &Output, code: i32, sentence: &str) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(text(&output.stdout), "", "nobody may take it for ready");
    let said: Vec<_> = stderr.lines().filter(|line| line.starts_with("postrider: ")).collect();
    assert_eq!(said.len(), 1, "{stderr}");
    assert!(said[0].contains(sentence), "{sentence}: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[tokio::test]
async fn a_relay_is_made_checked_served_and_stopped() {
    let made = init("127.0.0.1:0").await;
    let directory = made.config.parent().unwrap();
    let key = directory.join("data/identity/key.pem");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let config = made.config.to_str().unwrap();

    let checked = run(&["check-config", "--config", config]).await;
    assert_eq!((checked.status.code(), text(&checked.stderr)), (Some(0), ""));
    assert!(text(&checked.stdout).starts_with(&format!("{config}: ok\n")), "{}", text(&checked.stdout));

    for signal in ["-TERM", "-INT"] {
        let serving = Serving::start(&made.config).await;
        assert_eq!(serving.addresses.len(), 1);
        assert_ne!(serving.addresses[0].port(), 0, "the line names the port that the system gave");
        tokio::net::TcpStream::connect(serving.addresses[0]).await.unwrap();
        let (code, log) = serving.signal(signal).await;
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("serving") && log.contains("draining") && log.contains("stopped"), "{log}");
        assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
    }

    // Made once: a second time it would take the place of an identity that peers know.
    let before = fs::read(&key).unwrap();
    let again = run(&["init", "--domain", "alpha.example", "--dir", directory.to_str().unwrap()]).await;
    assert_gave_up(&again, 73, "exists already and is left as it is");
    assert_eq!(fs::read(&key).unwrap(), before);
}

#[tokio::test]
async fn an_address_in_use_is_said() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let made = init(&address.to_string()).await;
    let output = run(&["serve", "--config", made.config.to_str().unwrap()]).await;
    assert_gave_up(&output, 69, &format!("cannot listen on {address}: Address already in use"));
}

#[tokio::test]
async fn a_store_in_use_is_said_and_left_alone() {
    let made = init("127.0.0.1:0").await;
    let serving = Serving::start(&made.config).await;
    let output = run(&["serve", "--config", made.config.to_str().unwrap()]).await;
    assert_gave_up(&output, 74, "in use by another process");
    assert!(text(&output.stderr).contains("data/store"), "{}", text(&output.stderr));
    let (code, log) = serving.signal("-TERM").await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn a_store_that_cannot_be_made_is_said() {
    let made = init("127.0.0.1:0").await;
    // A file is where the store's directory belongs.
    fs::write(made.config.parent().unwrap().join("data/store"), b"").unwrap();
    let output = run(&["serve", "--config", made.config.to_str().unwrap()]).await;
    assert_gave_up(&output, 74, "data/store");
}

#[tokio::test]
async fn every_mistake_in_a_configuration_stops_the_start() {
    let made = init("127.0.0.1:0").await;
    let config = made.config.to_str().unwrap();
    fs::write(&made.config, "domain = \"Alpha.example\"\nlisten = 3\n\n[limits]\nbodie = \"1 KiB\"\n")
        .unwrap();
    for command in ["serve", "check-config"] {
        let output = run(&[command, "--config", config]).await;
        let stderr = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(78), ""), "{stderr}");
        for key in [":1: domain", ":2: listen", ":5: limits.bodie"] {
            assert!(stderr.contains(key), "{key}: {stderr}");
        }
    }
}

/// As the README has it: `init`, an invite, and the command that uses it.
#[tokio::test]
async fn a_new_relay_is_not_open_and_its_invites_pin_its_key() {
    let made = init("127.0.0.1:0").await;
    let serving = Serving::start(&made.config).await;
    let config = made.config.to_str().unwrap();
    let created = run(&["invite", "create", "--config", config]).await;
    let link = text(&created.stdout).trim().to_owned();
    let (_, pin) = link.rsplit_once("&pin=").expect("it names the relay's own key");

    let identity = made.config.with_file_name("me.identity");
    let (identity, address) = (identity.to_str().unwrap(), serving.addresses[0].to_string());
    let keys = run(&["client", "keygen", "--domain", "alpha.example", "--out", identity]).await;
    assert_eq!(keys.status.code(), Some(0), "{}", text(&keys.stderr));
    let relay = ["--relay", "https://relay.alpha.example", "--pin", pin, "--address", &address];
    let receive = [&["client", "receive", "--identity", identity], &relay[..]].concat();
    let without = run(&[&receive[..], &["--register"]].concat()).await;
    assert_eq!(without.status.code(), Some(69));
    assert!(text(&without.stderr).contains("It takes an invite"), "{}", text(&without.stderr));
    let with = run(&[&receive[..], &["--register", "--invite", &link]].concat()).await;
    assert_eq!((text(&with.stdout), text(&with.stderr)), ("", ""));
    assert_eq!(run(&receive).await.status.code(), Some(0), "it is registered");
    let (code, log) = serving.signal("-TERM").await;
    assert_eq!(code, Some(0), "{log}");
}
