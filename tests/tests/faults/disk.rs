//! The disk is full, or takes no writes. Needs the right to mount: without it these tests say so and are skipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use postrider_common::FailureClass;
use postrider_common::wire::submit::SubmitResult;
use postrider_tests::binary::postrider;
use postrider_tests::cluster::Cluster;

use crate::plain::{ALPHA, envelope, waiting};

const MIB: usize = 1 << 20;

/// A small disk in memory, until it is dropped.
struct Disk(PathBuf);

impl Disk {
    /// In the place of a directory, with what is in that. `None` where this process may not mount.
    fn over(directory: &Path) -> Option<Self> {
        let before = directory.with_extension("before");
        fs::rename(directory, &before).unwrap();
        fs::create_dir(directory).unwrap();
        let place = directory.to_str().unwrap();
        if !run("mount", &["-t", "tmpfs", "-o", "size=64m,mode=0700", "postrider-test", place]) {
            println!("skipped: this process may not mount a disk of its own");
            return None;
        }
        let disk = Self(directory.to_owned());
        assert!(run("cp", &["-a", &format!("{}/.", before.display()), place]));
        Some(disk)
    }

    /// Fills it until so much is left.
    fn fill_up_to(&self, left: usize) {
        let ballast = self.0.join("ballast");
        let _ = fs::remove_file(&ballast);
        // It is full when no more goes in.
        let mut file = fs::File::create(&ballast).unwrap();
        let mut written = 0;
        while let Ok(count @ 1..) = std::io::Write::write(&mut file, &[1; 64 << 10]) {
            written += count;
        }
        file.set_len(written.saturating_sub(left) as u64).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }

    fn remount(&self, how: &str) {
        assert!(run("mount", &["-o", &format!("remount,{how}"), self.0.to_str().unwrap()]));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a relay may still run on it when a test has failed.
        run("umount", &["--lazy", self.0.to_str().unwrap()]);
    }
}

fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// One relay, stopped, with its data on a disk of its own.
async fn on_a_small_disk() -> (Cluster, Option<Disk>) {
    let binary = postrider();
    let more = |_: &_| "[store]\nreserve = \"16 MiB\"\ncache = \"8 MiB\"\n".to_owned();
    let cluster = Cluster::builder([ALPHA]).processes(binary).configure(more).start().await.unwrap();
    cluster.stop(ALPHA).await.unwrap();
    let disk = Disk::over(&cluster.directory(ALPHA).unwrap().join("data"));
    (cluster, disk)
}

#[tokio::test]
async fn a_full_disk_takes_nothing_new_and_gives_out_what_it_has() {
    let (cluster, Some(disk)) = on_a_small_disk().await else { return };
    cluster.restart(ALPHA).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    for text in ["one", "two"] {
        alice.submit(&bob, envelope(&cluster, &bob, text)).await.unwrap();
    }
    disk.fill_up_to(8 * MIB);
    let late = loop {
        let late = envelope(&cluster, &bob, "late");
        match alice.relay().submit_one(bob.identity().domain(), late.clone()).await.unwrap() {
            SubmitResult::Refused { reason, retry_after } => {
                assert_eq!(reason, FailureClass::StorageFull);
                assert!(retry_after.is_some(), "it says when to come again");
                break late;
            }
            // What the file system said is believed for a second.
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    cluster.logged(ALPHA, "the disk is nearly full").await.unwrap();

    let session = bob.session().await.unwrap();
    let entries = bob.waiting().await.unwrap();
    assert!(entries.len() >= 2);
    session.acknowledge(&[entries[0].id]).await.unwrap();
    assert_eq!(bob.waiting().await.unwrap().len(), entries.len() - 1);

    // Not a byte is left, and then the relay ends.
    disk.fill_up_to(0);
    let _ = session.acknowledge(&[entries[1].id]).await;
    cluster.kill(ALPHA).await.unwrap();
    disk.free();
    cluster.restart(ALPHA).await.unwrap();
    let left = bob.waiting().await.unwrap();
    assert!(left.iter().all(|entry| entry.id != entries[0].id), "what was deleted stays so");
    assert!(
        entries[2..].iter().all(|entry| left.iter().any(|other| other.id == entry.id)),
        "the rest is there"
    );
    alice.submit(&bob, late.clone()).await.unwrap();
    cluster.stop(ALPHA).await.unwrap();
    drop(disk);
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_relay_says_that_its_disk_takes_no_writes_and_goes_on_once_it_does() {
    let (cluster, Some(disk)) = on_a_small_disk().await else { return };
    cluster.restart(ALPHA).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    alice.submit(&bob, envelope(&cluster, &bob, "hello")).await.unwrap();
    cluster.kill(ALPHA).await.unwrap();

    disk.remount("ro");
    let error = cluster.restart(ALPHA).await.unwrap_err().to_string();
    assert!(error.contains("Read-only file system") && error.contains("data"), "{error}");
    disk.remount("rw");
    cluster.restart(ALPHA).await.unwrap();
    assert_eq!(waiting(&bob).await, ["hello"]);
    cluster.stop(ALPHA).await.unwrap();
    drop(disk);
    cluster.shut_down().await.unwrap();
}
