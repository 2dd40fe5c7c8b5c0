//! The binary's commands, on a relay of a cluster.

use std::path::PathBuf;
use std::process::Output;
use std::process::Stdio;

use postrider_common::TrackingId;
use postrider_common::wire::submit::SubmitResult;
use postrider_tests::binary::postrider;
use postrider_tests::cluster::{Cluster, PATIENCE, User};
use tokio::process::Command;
use tokio::time::timeout;

pub(crate) const ALPHA: &str = "alpha.example";
pub(crate) const BETA: &str = "beta.example";

pub(crate) async fn run(arguments: &[&str]) -> Output {
    let running = Command::new(postrider()).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    timeout(PATIENCE, running).await.expect("it ends in time").unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Two relays as processes.
pub(crate) async fn two_relays() -> Cluster {
    Cluster::builder([ALPHA, BETA]).processes(postrider()).start().await.unwrap()
}

pub(crate) fn data(cluster: &Cluster, domain: &str) -> PathBuf {
    cluster.directory(domain).unwrap().join("data")
}

/// What a command says of the relay alpha; it has to end well.
pub(crate) async fn ask(cluster: &Cluster, arguments: &[&str]) -> String {
    let (code, out, err) = ask_anyhow(cluster, arguments).await;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}");
    out
}

pub(crate) async fn ask_json(cluster: &Cluster, arguments: &[&str]) -> serde_json::Value {
    let mut arguments = arguments.to_vec();
    arguments.push("--json");
    serde_json::from_str(&ask(cluster, &arguments).await).unwrap()
}

pub(crate) async fn ask_anyhow(cluster: &Cluster, arguments: &[&str]) -> (Option<i32>, String, String) {
    let data = data(cluster, ALPHA);
    let mut all = arguments.to_vec();
    all.extend(["--data", data.to_str().unwrap()]);
    let output = run(&all).await;
    (output.status.code(), text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
}

/// Sends a message that has to be queued.
pub(crate) async fn queue(from: &User, to: &User, message: &str) -> TrackingId {
    match from.send(to, message.as_bytes()).await.unwrap() {
        SubmitResult::Queued { tracking } => tracking,
        other => panic!("{other:?}"),
    }
}
