//! A relay was killed; its store is checked, exported, and goes on elsewhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use postrider_client::SubmitResult;
use postrider_common::wire::control::TrackingState;
use postrider_tests::binary::postrider;
use postrider_tests::cluster::{Cluster, PATIENCE};
use tokio::process::Command;
use tokio::time::timeout;

use crate::plain::{ALPHA, BETA, envelope};

/// `postrider store` with a relay's data directory.
async fn store(command: &str, data: &Path, file: Option<&Path>) -> Output {
    let mut running = Command::new(postrider());
    running.args(["store", command, "--data"]).arg(data).args(file).stdin(Stdio::null()).kill_on_drop(true);
    timeout(PATIENCE, running.output()).await.expect("it ends in time").unwrap()
}

#[track_caller]
fn assert_ended(output: &Output, code: i32, said: &str) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let all = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{all}");
    assert!(all.contains(said), "{said}: {all}");
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("store/journal")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// A byte in the first frame of the first segment is another, or what it was.
fn flip(data: &Path) {
    let path = segments(data).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[80] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn what_a_killed_relay_has_is_whole_and_goes_on_in_another_store() {
    let cluster = Cluster::builder([ALPHA, BETA]).processes(postrider()).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let data = cluster.directory(ALPHA).unwrap().join("data");
    assert_ended(&store("check", &data, None).await, 74, "in use by another process");

    // Ten that wait here, and ten for a relay that is away.
    cluster.stop(BETA).await.unwrap();
    let here: Vec<_> = (0..10).map(|n| envelope(&cluster, &alice, format!("here {n}"))).collect();
    let there: Vec<_> = (0..10).map(|n| envelope(&cluster, &bob, format!("there {n}"))).collect();
    let mut queued = Vec::new();
    for envelope in &here {
        assert_eq!(alice.submit(&alice, envelope.clone()).await.unwrap(), SubmitResult::Stored);
    }
    for envelope in &there {
        match alice.submit(&bob, envelope.clone()).await.unwrap() {
            SubmitResult::Queued { tracking } => queued.push(tracking),
            other => panic!("{other:?}"),
        }
    }
    let before = alice.waiting().await.unwrap();
    assert_eq!(before.len(), 10);
    cluster.kill(ALPHA).await.unwrap();

    assert_ended(&store("check", &data, None).await, 0, ": clean\n");
    let file = cluster.directory(ALPHA).unwrap().join("export");
    flip(&data);
    assert_ended(&store("check", &data, None).await, 65, "(segment 1, byte 32)");
    assert_ended(&store("export", &data, Some(&file)).await, 65, "damaged");
    assert!(!file.exists());
    flip(&data);
    assert_ended(&store("export", &data, Some(&file)).await, 0, "exported");
    assert_ended(&store("import", &data, Some(&file)).await, 73, "exists already");

    fs::rename(data.join("store"), data.join("store-before")).unwrap();
    // Nor where it is gone, or as empty as a disk that is not mounted leaves it.
    for is_there in [false, true] {
        if is_there {
            fs::create_dir_all(data.join("store/lost+found")).unwrap();
        }
        let refused = cluster.restart(ALPHA).await.unwrap_err().to_string();
        assert!(refused.contains("data/store is gone, and the relay has served from there"), "{refused}");
    }
    fs::remove_dir_all(data.join("store")).unwrap();
    // As if the import had been killed: the relay does not begin with an empty store.
    fs::create_dir(data.join("store.import")).unwrap();
    let refused = cluster.restart(ALPHA).await.unwrap_err().to_string();
    assert!(refused.contains("an import was not finished"), "{refused}");
    assert_ended(&store("import", &data, Some(&file)).await, 0, "imported");
    assert_ended(&store("check", &data, None).await, 0, ": clean\n");

    cluster.restart(ALPHA).await.unwrap();
    assert_eq!(alice.waiting().await.unwrap(), before, "the same entries under the same ids");
    for envelope in &here {
        assert_eq!(alice.submit(&alice, envelope.clone()).await.unwrap(), SubmitResult::Stored);
    }
    assert_eq!(alice.waiting().await.unwrap(), before, "what comes again is recognised");
    for (envelope, tracking) in there.iter().zip(&queued) {
        let again = alice.submit(&bob, envelope.clone()).await.unwrap();
        assert_eq!(again, SubmitResult::Queued { tracking: *tracking });
    }
    cluster.restart(BETA).await.unwrap();
    for tracking in queued {
        assert_eq!(alice.outcome(tracking).await.unwrap().state, TrackingState::Stored);
    }
    assert_eq!(bob.waiting().await.unwrap().len(), 10);
    cluster.shut_down().await.unwrap();
}

/// Somebody else than the relay's user looks at its store, or a file has come back from a backup as root's.
#[tokio::test]
async fn a_file_of_the_store_that_may_not_be_read_is_named() {
    const NOBODY: u32 = 65_534;
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let data = home.path().join("data");
    let made = postrider::store::open(
        &data.join("store"),
        &postrider::store::Options::default(),
        &postrider_common::supervisor::Supervisor::new(),
    );
    made.unwrap().close().await.unwrap();
    let program = home.path().join("postrider");
    fs::copy(postrider(), &program).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        let given = std::process::Command::new("chown").arg("-R").arg("65534:65534").arg(&data).status();
        assert!(given.unwrap().success());
    }
    let check = async |command: &str| {
        let mut running = Command::new(&program);
        // Root may read everything.
        if is_root {
            running.uid(NOBODY).gid(NOBODY);
        }
        let export = (command == "export").then_some("-");
        running.args(["store", command, "--data"]).arg(&data).args(export).stdin(Stdio::null());
        timeout(PATIENCE, running.kill_on_drop(true).output()).await.expect("it ends in time").unwrap()
    };
    assert_ended(&check("check").await, 0, ": clean\n");
    for file in [segments(&data).remove(0), data.join("store/CURRENT"), data.join("store/journal")] {
        let before = fs::metadata(&file).unwrap().permissions();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
        for command in ["check", "export"] {
            let said = format!("postrider: {}: Permission denied (os error 13)\n", file.display());
            assert_ended(&check(command).await, 77, &said);
        }
        fs::set_permissions(&file, before).unwrap();
    }
    assert_ended(&check("check").await, 0, ": clean\n");
}
