//! The client commands, from one organisation to another.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use postrider_tests::binary::postrider;
use postrider_tests::cluster::{Cluster, PATIENCE};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

pub(crate) const ALPHA: &str = "alpha.example";
pub(crate) const BETA: &str = "beta.example";

/// Somebody with a shell.
pub(crate) struct Person {
    pub(crate) relay: &'static str,
    pub(crate) identity: PathBuf,
    pub(crate) card: PathBuf,
    pub(crate) to_relay: Vec<String>,
}

impl Person {
    pub(crate) async fn new(name: &str, relay: &'static str, cluster: &Cluster, directory: &Path) -> Self {
        let ca = cluster.authority().write_root(directory, name).unwrap();
        let address = cluster.door(relay).unwrap().address();
        let to_relay = ["--relay", &format!("https://{relay}"), "--ca", ca.to_str().unwrap()]
            .into_iter()
            .chain(["--address", &address.to_string()])
            .map(str::to_owned)
            .collect();
        let (identity, card) =
            (directory.join(format!("{name}.identity")), directory.join(format!("{name}.card")));
        let made = client(&["keygen", "--domain", relay, "--out", identity.to_str().unwrap()]).await;
        assert!(made.status.success(), "{made:?}");
        std::fs::write(&card, &made.stdout).unwrap();
        Self { relay, identity, card, to_relay }
    }

    /// Of a command with two words, a space is between them.
    pub(crate) async fn run(&self, command: &str, arguments: &[&str]) -> Output {
        let identity = ["--identity", self.identity.to_str().unwrap()];
        let identity = if command == "status" { &[][..] } else { &identity[..] };
        let to_relay: Vec<_> = self.to_relay.iter().map(String::as_str).collect();
        let command: Vec<_> = command.split(' ').collect();
        client(&[&command, identity, &to_relay, arguments].concat()).await
    }

    pub(crate) async fn send(&self, to: &Self, message: &str) -> Output {
        let card = to.card.to_str().unwrap();
        self.run("send", &["--card", card, "--message", message, "--wait"]).await
    }
}

async fn client(arguments: &[&str]) -> Output {
    let mut command = Command::new(postrider());
    command.arg("client").args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    timeout(PATIENCE, command.output()).await.expect("it ends in time").unwrap()
}

pub(crate) fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn a_message_goes_from_one_organisation_to_the_other_and_is_answered() {
    let cluster = Cluster::start([ALPHA, BETA]).await.unwrap();
    let directory = TempDir::new().unwrap();
    let alice = Person::new("alice", ALPHA, &cluster, directory.path()).await;
    let bob = Person::new("bob", BETA, &cluster, directory.path()).await;
    for person in [&alice, &bob] {
        assert_eq!(printed(&person.run("receive", &["--register"]).await), "", "{}", person.relay);
    }

    let sent = printed(&alice.send(&bob, "Are you there?").await);
    let (tracking, rest) = sent.split_once('\n').unwrap();
    assert_eq!(rest, "stored\n");
    let status = printed(&alice.run("status", &[tracking]).await);
    assert!(status.contains("stored") && status.contains(BETA), "{status}");

    let received = printed(&bob.run("receive", &[]).await);
    assert!(received.contains("Are you there?") && received.contains(ALPHA), "{received}");
    assert_eq!(printed(&bob.run("receive", &[]).await), "", "it was acknowledged");

    printed(&bob.send(&alice, "I am.").await);
    assert!(printed(&alice.run("receive", &[]).await).contains("I am."));
    // Within one organisation there is nothing to wait for.
    assert_eq!(printed(&alice.send(&alice, "A note to myself.").await), "stored\n");
}

#[tokio::test]
async fn files_go_along_and_are_saved() {
    let members = "policy = \"members\"";
    let cluster = Cluster::builder([ALPHA, BETA]).submission(members).start().await.unwrap();
    let directory = TempDir::new().unwrap();
    let alice = Person::new("alice", ALPHA, &cluster, directory.path()).await;
    let bob = Person::new("bob", BETA, &cluster, directory.path()).await;
    for person in [&alice, &bob] {
        printed(&person.run("receive", &["--register"]).await);
    }
    let content: Vec<u8> = (0..5_000_000_u32).map(|n| n.to_be_bytes()[3]).collect();
    let (one, two) = (directory.path().join("one.bin"), directory.path().join("two.txt"));
    std::fs::write(&one, &content).unwrap();
    std::fs::write(&two, "short").unwrap();
    let [card, one, two] = [&bob.card, &one, &two].map(|path| path.to_str().unwrap());
    let files = ["--attach", one, "--attach", two];
    let sent = [&["--card", card, "--message", "Here they are.", "--wait"], &files[..]].concat();
    printed(&alice.run("send", &sent).await);

    let left = printed(&bob.run("receive", &[]).await);
    assert!(left.contains("attachment two.txt, 5 bytes: kept at the relay"), "{left}");
    let into = directory.path().join("saved");
    std::fs::create_dir(&into).unwrap();
    std::fs::write(into.join("two.txt"), "something else").unwrap();
    let saved = printed(&bob.run("receive", &["--save", into.to_str().unwrap()]).await);
    assert!(saved.contains("Here they are.") && saved.contains("two (2).txt"), "{saved}");
    assert!(std::fs::read(into.join("one.bin")).unwrap() == content);
    assert_eq!(std::fs::read(into.join("two (2).txt")).unwrap(), b"short");
    assert_eq!(std::fs::read(into.join("two.txt")).unwrap(), b"something else");
    assert_eq!(printed(&bob.run("receive", &[]).await), "", "it was acknowledged");

    let none = alice.run("send", &["--card", card, "--message", "x", "--attach", "/nowhere"]).await;
    assert_eq!(none.status.code(), Some(74), "{none:?}");
    assert!(String::from_utf8_lossy(&none.stderr).starts_with("postrider: /nowhere: "), "{none:?}");
}

#[tokio::test]
async fn what_does_not_arrive_is_said_in_one_sentence() {
    let cluster = Cluster::start([ALPHA, BETA]).await.unwrap();
    let directory = TempDir::new().unwrap();
    let alice = Person::new("alice", ALPHA, &cluster, directory.path()).await;
    let bob = Person::new("bob", BETA, &cluster, directory.path()).await;
    let carol = Person::new("carol", ALPHA, &cluster, directory.path()).await;
    for (to, code, said) in [
        (&bob, 69, "postrider: the message was not delivered: no-such-mailbox\n"),
        (&carol, 69, "postrider: the relay did not take the message: no-such-mailbox\n"),
    ] {
        let output = alice.send(to, "Is this you?").await;
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), said);
    }
    cluster.stop(ALPHA).await.unwrap();
    let output = alice.run("receive", &[]).await;
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{output:?}");
}

#[tokio::test]
async fn a_mailbox_is_moved_and_its_owner_reads_on_there() {
    let cluster = Cluster::start([ALPHA, BETA]).await.unwrap();
    let directory = TempDir::new().unwrap();
    let alice = Person::new("alice", ALPHA, &cluster, directory.path()).await;
    let mut bob = Person::new("bob", BETA, &cluster, directory.path()).await;
    for person in [&alice, &bob] {
        printed(&person.run("receive", &["--register"]).await);
    }
    printed(&alice.send(&bob, "Before you go.").await);

    let (ca, address) = (&alice.to_relay[3], &alice.to_relay[5]);
    let out = directory.path().join("bob-at-alpha.identity");
    let to = ["--to", &format!("https://{ALPHA}"), "--to-ca", ca, "--to-address", address];
    let arguments = [&to[..], &["--out", out.to_str().unwrap()]].concat();
    let card = printed(&bob.run("move", &arguments).await);
    assert!(card.starts_with("postrider-card:"), "{card}");
    let again = bob.run("move", &arguments).await;
    assert_eq!(again.status.code(), Some(65), "the file exists: {again:?}");
    let other = directory.path().join("again.identity");
    let arguments = [&to[..], &["--out", other.to_str().unwrap()]].concat();
    assert_eq!(printed(&bob.run("move", &arguments).await), card, "moving twice is moving once");

    printed(&alice.send(&bob, "To the old address.").await);
    let refused = bob.run("receive", &[]).await;
    assert_eq!(refused.status.code(), Some(69), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("it is kept at alpha.example"), "{said}");
    bob = Person { relay: ALPHA, identity: out, card: bob.card, to_relay: alice.to_relay.clone() };
    let mut received = String::new();
    while received.lines().count() < 2 {
        received.push_str(&printed(&bob.run("receive", &[]).await));
    }
    assert!(received.contains("Before you go.") && received.contains("To the old address."), "{received}");
}
