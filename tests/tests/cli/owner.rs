//! What a mailbox's owner does about the mailbox itself: moving it where the ordinary way is closed, and its devices.

use std::path::Path;
use std::process::{Output, Stdio};

use postrider_client::{ContactCard, Identity};
use postrider_tests::binary::postrider;
use postrider_tests::cluster::{Cluster, PATIENCE};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use crate::client::{ALPHA, BETA, Person, printed};

/// What the administrator of a relay has done.
async fn administer(cluster: &Cluster, domain: &str, arguments: &[&str]) -> String {
    let data = cluster.directory(domain).unwrap().join("data");
    let mut command = Command::new(postrider());
    command.args(arguments).arg("--data").arg(data).stdin(Stdio::null()).kill_on_drop(true);
    printed(&timeout(PATIENCE, command.output()).await.expect("it ends in time").unwrap())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Where `other` is at home, as the place to move to.
fn to(other: &Person) -> Vec<String> {
    let url = format!("https://{}", other.relay);
    ["--to", &url, "--to-ca", &other.to_relay[3], "--to-address", &other.to_relay[5]]
        .map(str::to_owned)
        .into()
}

async fn moved(person: &Person, to: &[String], more: &[&str]) -> Output {
    let arguments: Vec<_> = to.iter().map(String::as_str).chain(more.iter().copied()).collect();
    person.run("move", &arguments).await
}

#[tokio::test]
async fn who_was_shut_out_is_followed_by_what_an_export_says() {
    let cluster = Cluster::builder([ALPHA, BETA]).processes(postrider()).start().await.unwrap();
    let directory = TempDir::new().unwrap();
    let alice = Person::new("alice", ALPHA, &cluster, directory.path()).await;
    let bob = Person::new("bob", BETA, &cluster, directory.path()).await;
    for person in [&alice, &bob] {
        printed(&person.run("receive", &["--register"]).await);
    }
    printed(&alice.send(&bob, "Before you go.").await);
    let card: ContactCard = std::fs::read_to_string(&bob.card).unwrap().parse().unwrap();
    let mailbox = card.mailbox().to_string();
    administer(&cluster, BETA, &["mailbox", "suspend", &mailbox]).await;
    let (out, binding) = (directory.path().join("new.identity"), directory.path().join("binding.json"));

    let files = ["--out", text(&out)];
    let refused = moved(&bob, &to(&alice), &files).await;
    assert!(!refused.status.success() && !out.exists(), "the old relay does not let him in: {refused:?}");
    let card =
        printed(&moved(&bob, &to(&alice), &[&files[..], &["--export", text(&binding)]].concat()).await);
    assert!(card.starts_with("postrider-card:"), "{card}");
    let bob_there =
        Person { relay: ALPHA, identity: out, card: bob.card.clone(), to_relay: alice.to_relay.clone() };
    assert_eq!(printed(&bob_there.run("receive", &[]).await), "", "the old relay has not been told");

    let redirect = ["mailbox", "redirect", &mailbox, "--binding", text(&binding)];
    let told = administer(&cluster, BETA, &redirect).await;
    assert!(told.contains("is kept at alpha.example"), "{told}");
    let mut received = String::new();
    while received.is_empty() {
        received.push_str(&printed(&bob_there.run("receive", &[]).await));
    }
    assert!(received.contains("Before you go."), "{received}");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_mailbox_moves_in_where_it_takes_an_invite() {
    let relays = Cluster::builder([ALPHA, BETA]).processes(postrider()).registration("invite");
    let cluster = relays.start().await.unwrap();
    let directory = TempDir::new().unwrap();
    let alice = Person::new("alice", ALPHA, &cluster, directory.path()).await;
    let people = [
        Person::new("bob", BETA, &cluster, directory.path()).await,
        Person::new("carol", BETA, &cluster, directory.path()).await,
    ];
    let create = |uses| ["invite", "create", "--host", "relay.example", "--uses", uses];
    let in_beta = administer(&cluster, BETA, &create("2")).await;
    for person in &people {
        printed(&person.run("receive", &["--register", "--invite", in_beta.trim()]).await);
    }
    let into_alpha = administer(&cluster, ALPHA, &create("1")).await;
    let [bob, carol] = &people;
    let out = directory.path().join("new.identity");

    let files = ["--out", text(&out)];
    let refused = moved(bob, &to(&alice), &files).await;
    assert_eq!(refused.status.code(), Some(69), "{refused:?}");
    assert!(said(&refused).contains("invite") && !out.exists(), "{refused:?}");
    let invited = [&files[..], &["--to-invite", into_alpha.trim()]].concat();
    let card: ContactCard = printed(&moved(bob, &to(&alice), &invited).await).trim().parse().unwrap();
    assert_eq!(card.domain().as_str(), ALPHA);
    assert!(out.exists());

    let late = directory.path().join("late.identity");
    let again = moved(carol, &to(&alice), &["--out", text(&late), "--to-invite", into_alpha.trim()]).await;
    assert_eq!(again.status.code(), Some(69), "it was for one: {again:?}");
    assert!(!late.exists());
    assert_eq!(printed(&carol.run("receive", &[]).await), "", "her mailbox is where it was");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn devices_are_listed_named_and_removed() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let directory = TempDir::new().unwrap();
    let phone = Person::new("bob", ALPHA, &cluster, directory.path()).await;
    let stranger = Person::new("mallory", ALPHA, &cluster, directory.path()).await;
    let identity = directory.path().join("laptop.identity");
    let laptop_keys = Identity::load(&phone.identity).unwrap().with_new_device();
    laptop_keys.save(&identity).unwrap();
    let laptop =
        Person { relay: ALPHA, identity, card: phone.card.clone(), to_relay: phone.to_relay.clone() };
    for person in [&phone, &laptop, &stranger] {
        printed(&person.run("receive", &["--register"]).await);
    }
    let id = laptop_keys.device().to_string();
    printed(&phone.run("devices name", &["My phone"]).await);
    printed(&phone.run("devices name", &["--device", &id, "Old\u{1b}[2J laptop"]).await);

    let listed = printed(&laptop.run("devices list", &[]).await);
    let lines: Vec<_> = listed.lines().collect();
    let [first, second] = lines[..] else { panic!("two devices are expected: {listed}") };
    assert!(first.contains(" My phone: last connected on ") && !first.contains("this device"), "{first}");
    assert!(second.starts_with(&id) && second.ends_with(", this device"), "{second}");
    assert!(second.contains("laptop") && !second.contains('\u{1b}'), "it steers no terminal: {second}");
    assert!(lines.iter().all(|line| line.contains(", removed on ")), "{listed}");

    let of_others = stranger.run("devices remove", &[&id]).await;
    assert_eq!(of_others.status.code(), Some(69), "{of_others:?}");
    printed(&phone.run("devices remove", &[&id]).await);
    let listed = printed(&phone.run("devices list", &[]).await);
    assert!(listed.contains("My phone") && listed.lines().count() == 1, "{listed}");
    let removed = laptop.run("receive", &[]).await;
    assert_eq!(removed.status.code(), Some(69), "{removed:?}");
    cluster.shut_down().await.unwrap();
}
