//! A file goes from alice at one organisation to bob at another, and is interrupted on its way.
//!
//! ```sh
//! cargo run --example send_file                # a file of 24 MiB that it makes
//! cargo run --example send_file -- holiday.jpg
//! ```
//!
//! It is encrypted and brought to alice's relay in chunks. After a third of them alice's app loses its connection; the
//! second call goes on where the first one stopped. The message to bob carries the file's name and key, sealed; his
//! relay gets the chunks, and then the envelope. Bob's app saves the file before it acknowledges, since with that the
//! relay deletes it. The relays are real ones, started in this process.

use std::error::Error;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use postrider_client::{AttachedFile, Delivery, SealOptions, Upload, seal_with};
use postrider_tests::cluster::{Cluster, User};
use tempfile::TempDir;
use tokio::sync::watch;

const MADE_BYTES: usize = 24 << 20;

#[tokio::main]
async fn main() -> ExitCode {
    match run(std::env::args_os().nth(1).map(PathBuf::from)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(path: Option<PathBuf>) -> Result<(), Box<dyn Error>> {
    let directory = TempDir::new()?;
    let path = path.map_or_else(|| make(directory.path()), Ok)?;
    let cluster = Cluster::start(["alpha.example", "beta.example"]).await?;
    let (alice, bob) = (cluster.user("alpha.example").await?, cluster.user("beta.example").await?);

    let attached = upload(&alice, &path).await?;
    let now = cluster.clock().now();
    let (files, options) = ([attached], SealOptions::default());
    let envelope = seal_with(now, alice.identity(), bob.card(), b"As promised.", &files, &options)?;
    alice.submit(&bob, envelope).await?;
    println!("alice has submitted the message that carries its key");

    let saved = receive(&bob, directory.path()).await?;
    let (sent, received) = (fs::read(&path)?, fs::read(&saved)?);
    cluster.shut_down().await?;
    if sent != received {
        return Err(format!("{} is not what was sent", saved.display()).into());
    }
    println!("ok: {} bytes, the same at both ends", received.len());
    Ok(())
}

/// Brings a file to the sender's relay, and is interrupted when a third is there.
async fn upload(user: &User, path: &Path) -> Result<AttachedFile, Box<dyn Error>> {
    let session = user.session().await?;
    let mut upload = Upload::new(path)?;
    let (told, mut brought) = watch::channel((0, u64::MAX));
    let mut progress = |done, of| {
        show("brought", done, of);
        told.send_replace((done, of));
    };
    tokio::select! {
        // A small file is there before that.
        attached = upload.run_as(&session, &mut progress) => return Ok(attached?),
        _ = brought.wait_for(|(done, of)| *done >= of / 3) => {}
    }
    println!("\nthe connection is lost, and the upload called once more");
    let attached = upload.run_as(&session, &mut |done, of| show("brought", done, of)).await?;
    println!();
    Ok(attached)
}

/// Saves the file that comes, and only then acknowledges the message that it came with.
async fn receive(user: &User, directory: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let session = user.session().await?;
    let mut receiver = session.receive();
    loop {
        let Delivery::Entry(entry) = receiver.next().await? else { continue };
        let opened = user.identity().open(&entry.envelope)?;
        println!("bob reads, from {}: {}", opened.sender.domain, String::from_utf8_lossy(&opened.message));
        let file = opened.files.first().ok_or("there is no file with it")?;
        let saved = file.save(user.relay(), directory, &mut |done, of| show("fetched", done, of)).await?;
        println!();
        receiver.acknowledge(&[entry.id]).await?;
        receiver.close().await?;
        return Ok(saved);
    }
}

/// A file that is large enough to take some chunks.
fn make(directory: &Path) -> io::Result<PathBuf> {
    let path = directory.join("made.bin");
    let content: Vec<u8> = (0..MADE_BYTES / 8).flat_map(|at| at.to_be_bytes()).collect();
    fs::write(&path, content)?;
    Ok(path)
}

/// A line of progress, on a terminal.
fn show(what: &str, done: u64, of: u64) {
    let mut out = io::stdout();
    if out.is_terminal() {
        // A terminal that is gone is no reason to stop.
        let _ = write!(out, "\r{what} {done} of {of} bytes ").and_then(|()| out.flush());
    }
}
