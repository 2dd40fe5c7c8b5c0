//! Attachments: within a relay, between relays, interrupted everywhere, and gone when nobody needs them.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use postrider_client::{AttachedFile, SealOptions, SubmitResult, TrackingState, Upload, seal_with};
use postrider_common::{Attachment, Domain, Draft, Envelope, FailureClass};
use postrider_tests::binary::{postrider, postrider_with_failpoints};
use postrider_tests::clock::StandingClock;
use postrider_tests::cluster::{Cluster, User};
use tempfile::TempDir;

use crate::plain::{ALPHA, BETA, GAMMA, draft, envelope, refused, text, tracking, waiting};

const MIB: usize = 1 << 20;

/// A file whose bytes say where they are.
fn file(directory: &Path, bytes: usize) -> PathBuf {
    let path = directory.join("a file.bin");
    let content: Vec<u8> = (0..bytes).step_by(8).flat_map(|at| (at as u64).to_be_bytes()).collect();
    fs::write(&path, &content[..bytes]).unwrap();
    path
}

async fn upload(user: &User, path: &Path) -> AttachedFile {
    Upload::new(path).unwrap().run(user.relay(), &mut |_, _| {}).await.unwrap()
}

fn sealed(cluster: &Cluster, from: &User, to: &User, files: &[AttachedFile]) -> Envelope {
    let now = cluster.clock().now();
    seal_with(now, from.identity(), to.card(), b"look", files, &SealOptions::default()).unwrap()
}

/// Attachments of a few bytes, without encryption.
async fn small(user: &User, content: &'static [u8]) -> Attachment {
    let status = user.relay().reserve_attachment(content.len() as u64, 4).await.unwrap();
    for (number, chunk) in (0..).zip(content.chunks(4)) {
        user.relay().put_chunk(status.id, number, Bytes::from_static(chunk)).await.unwrap();
    }
    status.attachment()
}

fn laden(cluster: &Cluster, to: &User, what: &str, attachments: &[&Attachment]) -> Envelope {
    let attachments = attachments.iter().map(|attachment| (*attachment).clone()).collect();
    Draft { attachments, ..draft(cluster, to, what) }.finish().unwrap()
}

async fn content(user: &User, attachment: &Attachment) -> Vec<u8> {
    let mut content = Vec::new();
    for number in 0..attachment.chunks() {
        content.extend(user.relay().chunk(attachment, number).await.unwrap());
    }
    content
}

/// How many files of attachments a relay has.
fn files_of(cluster: &Cluster, relay: &str) -> usize {
    fn count(path: &Path) -> usize {
        let entries = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
    }
    count(&cluster.directory(relay).unwrap().join("data/attachments"))
}

async fn has_no_files(cluster: &Cluster, relay: &str) {
    let gone = async {
        while files_of(cluster, relay) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(postrider_tests::cluster::PATIENCE, gone).await.expect("the files are deleted");
}

/// Takes the one entry that waits, saves its file, and acknowledges.
async fn receive(to: &User, directory: &Path) -> Vec<u8> {
    let entries = to.waiting().await.unwrap();
    let opened = to.identity().open(&entries[0].envelope).unwrap();
    let saved = opened.files[0].save(to.relay(), directory, &mut |_, _| {}).await.unwrap();
    assert_eq!(saved.file_name().unwrap().to_str(), Some("a file.bin"));
    to.session().await.unwrap().acknowledge(&[entries[0].id]).await.unwrap();
    fs::read(saved).unwrap()
}

#[tokio::test]
async fn a_file_goes_to_a_mailbox_of_the_same_relay_and_is_gone_once_it_is_there() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    let directory = TempDir::new().unwrap();
    for bytes in [0, 1, 4096, 9 * MIB + 5] {
        let path = file(directory.path(), bytes);
        let attached = upload(&alice, &path).await;
        assert_eq!(
            alice.submit(&bob, sealed(&cluster, &alice, &bob, &[attached])).await.unwrap(),
            SubmitResult::Stored
        );
        let to = TempDir::new().unwrap();
        assert!(receive(&bob, to.path()).await == fs::read(&path).unwrap(), "{bytes} bytes");
        has_no_files(&cluster, ALPHA).await;
    }
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn what_is_not_whole_is_not_taken() {
    let cluster = Cluster::start([ALPHA, BETA]).await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let status = alice.relay().reserve_attachment(6, 4).await.unwrap();
    alice.relay().put_chunk(status.id, 1, Bytes::from_static(b"ef")).await.unwrap();
    let missing = refused(FailureClass::AttachmentMissing);
    for to in [&alice, &bob] {
        let item = |envelope| [(to.identity().domain().clone(), envelope)];
        let attachment = status.attachment();
        let unfinished = item(laden(&cluster, to, "x", &[&attachment]));
        assert_eq!(alice.relay().submit(&unfinished).await.unwrap(), std::slice::from_ref(&missing));
        let other = Attachment { length: 7, ..attachment };
        assert_eq!(
            alice.relay().submit(&item(laden(&cluster, to, "x", &[&other]))).await.unwrap(),
            std::slice::from_ref(&missing)
        );
        let huge = Attachment { length: 1 << 40, ..other };
        let too_large = refused(FailureClass::TooLarge);
        assert_eq!(
            alice.relay().submit(&item(laden(&cluster, to, "x", &[&huge]))).await.unwrap(),
            [too_large]
        );
    }
    let told = alice.relay().attachment(status.id).await.unwrap();
    assert_eq!(told.missing, [(0, 0)]);
    alice.relay().abandon_attachment(status.id).await.unwrap();
    let error = alice.relay().attachment(status.id).await.unwrap_err();
    assert_eq!(error.slug(), Some("unknown-attachment"));
    has_no_files(&cluster, ALPHA).await;
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn one_attachment_goes_with_a_batch_to_several_relays() {
    let cluster = Cluster::start([ALPHA, BETA, GAMMA]).await.unwrap();
    let alice = cluster.user(ALPHA).await.unwrap();
    let others = [
        cluster.user(ALPHA).await.unwrap(),
        cluster.user(BETA).await.unwrap(),
        cluster.user(BETA).await.unwrap(),
        cluster.user(GAMMA).await.unwrap(),
    ];
    let attachment = small(&alice, b"shared bytes").await;
    let items: Vec<(Domain, Envelope)> = others
        .iter()
        .map(|to| (to.identity().domain().clone(), laden(&cluster, to, "all", &[&attachment])))
        .collect();
    for result in alice.relay().submit(&items).await.unwrap() {
        if let SubmitResult::Queued { tracking } = result {
            assert_eq!(alice.outcome(tracking).await.unwrap().state, TrackingState::Stored);
        } else {
            assert_eq!(result, SubmitResult::Stored);
        }
    }
    for to in &others {
        assert_eq!(waiting(to).await, ["all"]);
        assert_eq!(content(to, &attachment).await, b"shared bytes");
        let entries = to.waiting().await.unwrap();
        to.session().await.unwrap().acknowledge(&[entries[0].id]).await.unwrap();
    }
    for relay in [ALPHA, BETA, GAMMA] {
        has_no_files(&cluster, relay).await;
    }
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_full_mailbox_gets_it_later_and_others_do_not_wait() {
    let limits = "[limits]\nattachment = \"1 KiB\"\nmailbox_attachments = \"1 KiB\"\n";
    let cluster = Cluster::builder([ALPHA, BETA]).configure(move |_| limits.into()).start().await.unwrap();
    let alice = cluster.user(ALPHA).await.unwrap();
    let (bob, carol) = (cluster.user(BETA).await.unwrap(), cluster.user(BETA).await.unwrap());
    static CONTENT: [u8; 800] = [7; 800];
    let mut ids = Vec::new();
    for what in ["one", "two"] {
        let status = alice.relay().reserve_attachment(800, 800).await.unwrap();
        alice.relay().put_chunk(status.id, 0, Bytes::from_static(&CONTENT)).await.unwrap();
        let envelope = laden(&cluster, &bob, what, &[&status.attachment()]);
        ids.push(tracking(alice.submit(&bob, envelope).await.unwrap()));
    }
    // Which of the two is first is open.
    let full = |status: &postrider_client::TrackingStatus| status.reason.as_deref() == Some("mailbox-full");
    let is_decided =
        |status: &postrider_client::TrackingStatus| status.state == TrackingState::Stored || full(status);
    let mut states = Vec::new();
    for id in &ids {
        states.push(alice.tracked(*id, is_decided).await.unwrap());
    }
    assert_eq!(states.iter().filter(|status| full(status)).count(), 1, "{states:?}");
    let plain = tracking(alice.submit(&carol, envelope(&cluster, &carol, "plain")).await.unwrap());
    assert_eq!(alice.outcome(plain).await.unwrap().state, TrackingState::Stored, "it overtakes");
    assert_eq!(files_of(&cluster, ALPHA), 1, "what waits is kept");
    cluster.shut_down().await.unwrap();
}

/// Nobody fills the relay with what they do not submit.
#[tokio::test]
async fn a_member_who_submits_nothing_leaves_room_for_the_others() {
    static CONTENT: [u8; 1000] = [7; 1000];
    let limits = "[limits]\nattachment = \"1 KiB\"\nattachments = \"4 KiB\"\n";
    let submission = "policy = \"members\"\nrate_per_second = 1000000\nburst = 1000000";
    let cluster = Cluster::builder([ALPHA]).configure(move |_| limits.into()).submission(submission);
    // What waits is looked up only once while no time passes; what was submitted is known without that.
    let cluster = cluster.clock(StandingClock::new()).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    let bring = async |from: &User| {
        let status = from.session().await.unwrap().reserve_attachment(1000, 1000).await?;
        from.relay().put_chunk(status.id, 0, Bytes::from_static(&CONTENT)).await?;
        Ok::<_, postrider_client::Error>(status.attachment())
    };
    let first = bring(&alice).await.unwrap();
    let error = bring(&alice).await.unwrap_err();
    assert_eq!((error.slug(), error.is_retryable()), (Some("storage-full"), true), "{error}");
    assert!(error.to_string().contains("has yet to be submitted"), "{error}");
    bring(&bob).await.unwrap();
    let envelope = laden(&cluster, &bob, "here", &[&first]);
    let submit = async |envelope| {
        let to = bob.identity().domain().clone();
        alice.session().await.unwrap().submit(&[(to, envelope)]).await.unwrap()
    };
    assert_eq!(submit(envelope).await, [SubmitResult::Stored]);
    let second = bring(&alice).await.unwrap();
    // And nobody fills a mailbox by naming one thing many times.
    let twice = laden(&cluster, &bob, "twice", &[&second, &second]);
    assert_eq!(submit(twice).await, [refused(FailureClass::Malformed)]);
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_mailbox_moves_with_its_attachments() {
    let cluster = Cluster::start([ALPHA, BETA]).await.unwrap();
    let bob = cluster.user(ALPHA).await.unwrap();
    let attachment = small(&bob, b"moving bytes").await;
    bob.submit(&bob, laden(&cluster, &bob, "one", &[&attachment])).await.unwrap();
    let moved = bob.session().await.unwrap().move_to(&cluster.client(BETA).unwrap()).await.unwrap();
    let moved = cluster.connect(&moved).unwrap();
    let postrider_client::Delivery::Entry(entry) = moved.next().await.unwrap() else {
        panic!("an entry is expected")
    };
    assert_eq!(
        (text(&entry.envelope).as_str(), content(&moved, &attachment).await.as_slice()),
        ("one", &b"moving bytes"[..])
    );
    has_no_files(&cluster, ALPHA).await;
    moved.acknowledge(entry.id).await.unwrap();
    has_no_files(&cluster, BETA).await;
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn what_was_delivered_before_a_move_is_known_without_its_attachments() {
    let cluster = Cluster::start([ALPHA, BETA, GAMMA]).await.unwrap();
    let alice = cluster.user(ALPHA).await.unwrap();
    let (bob, carol) = (cluster.user(BETA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let brought = small(&alice, b"from alpha").await;
    let from_alice = laden(&cluster, &bob, "from another relay", &[&brought]);
    let id = tracking(alice.submit(&bob, from_alice.clone()).await.unwrap());
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);
    let entries = bob.waiting().await.unwrap();
    bob.session().await.unwrap().acknowledge(&[entries[0].id]).await.unwrap();
    let brought = small(&carol, b"from beta").await;
    let from_carol = laden(&cluster, &bob, "from the same", &[&brought]);
    assert_eq!(carol.submit(&bob, from_carol.clone()).await.unwrap(), SubmitResult::Stored);

    // What has yet to be fetched goes along.
    let moved = bob.session().await.unwrap().move_to(&cluster.client(GAMMA).unwrap()).await.unwrap();
    let moved = cluster.connect(&moved).unwrap();
    let postrider_client::Delivery::Entry(entry) = moved.next().await.unwrap() else {
        panic!("an entry is expected")
    };
    moved.acknowledge(entry.id).await.unwrap();
    let later = tracking(alice.submit(&bob, envelope(&cluster, &bob, "later")).await.unwrap());
    assert_eq!(alice.outcome(later).await.unwrap().destination.as_str(), GAMMA);
    for relay in [ALPHA, BETA, GAMMA] {
        has_no_files(&cluster, relay).await;
    }

    assert_eq!(tracking(alice.submit(&bob, from_alice).await.unwrap()), id);
    let told = tracking(carol.submit(&bob, from_carol).await.unwrap());
    let status = carol.outcome(told).await.unwrap();
    assert_eq!((status.destination.as_str(), status.state), (GAMMA, TrackingState::Stored));
    assert_eq!(waiting(&moved).await, ["later"]);
    cluster.shut_down().await.unwrap();
}

/// What the process has held in memory at most, and holds now.
fn memory(process: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    };
    (of("VmHWM:"), of("VmRSS:"))
}

#[tokio::test]
async fn a_large_file_takes_little_memory_and_is_resumed_at_both_hops() {
    resumed_at_both_hops(64 * MIB).await;
}

#[tokio::test]
#[ignore = "takes some minutes; see CONTRIBUTING.md"]
async fn a_gibibyte_takes_as_little() {
    resumed_at_both_hops(1024 * MIB).await;
}

async fn resumed_at_both_hops(bytes: usize) {
    let limits = format!("[limits]\nattachment = \"{} MiB\"\n", bytes / MIB + 1);
    let builder = Cluster::builder([ALPHA, BETA]).processes(postrider()).configure(move |_| limits.clone());
    let cluster = builder.start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let directory = TempDir::new().unwrap();
    let path = file(directory.path(), bytes);
    let mut grown = Vec::new();
    let mut before = Vec::new();
    for relay in [ALPHA, BETA] {
        before.push(memory(cluster.process_id(relay).await.unwrap().unwrap()).1);
    }

    // The client's way: alpha is killed when a third is there.
    let mut upload = Upload::new(&path).unwrap();
    let mut brought = 0;
    {
        let relay = alice.relay().clone();
        let (told, mut hear) = tokio::sync::watch::channel(0);
        let mut progress = |done: u64, _: u64| {
            let _ = told.send(done);
        };
        let mut running = Box::pin(upload.run(&relay, &mut progress));
        tokio::select! {
            ended = &mut running => panic!("{ended:?}"),
            _ = hear.wait_for(|done| *done >= (bytes / 3) as u64) => {}
        }
        drop(running);
        brought = brought.max(*hear.borrow());
    }
    grown.push((ALPHA, memory(cluster.process_id(ALPHA).await.unwrap().unwrap()).0 - before[0]));
    cluster.kill(ALPHA).await.unwrap();
    cluster.restart(ALPHA).await.unwrap();
    let base = memory(cluster.process_id(ALPHA).await.unwrap().unwrap()).1;
    let mut first = None;
    let mut told = |done, _| {
        first.get_or_insert(done);
    };
    let attached = upload.run(alice.relay(), &mut told).await.unwrap();
    assert!(first >= Some(brought), "{first:?} of {brought} are still there");

    // The way between the relays: cut, and then both ends killed, one after the other.
    let link = cluster.link(ALPHA, BETA).unwrap();
    let id = tracking(alice.submit(&bob, sealed(&cluster, &alice, &bob, &[attached])).await.unwrap());
    let sent =
        |bytes: usize| async move { link.wait_for(|traffic| traffic.request_bytes >= bytes as u64).await };
    sent(8 * MIB).await;
    link.cut();
    link.heal();
    bob.send(&alice, b"still here").await.unwrap();
    sent(24 * MIB).await;
    grown.push((BETA, memory(cluster.process_id(BETA).await.unwrap().unwrap()).0 - before[1]));
    cluster.kill(BETA).await.unwrap();
    cluster.restart(BETA).await.unwrap();
    bob.send(&alice, b"back").await.unwrap();
    sent(36 * MIB).await;
    grown.push((ALPHA, memory(cluster.process_id(ALPHA).await.unwrap().unwrap()).0 - base));
    cluster.kill(ALPHA).await.unwrap();
    cluster.restart(ALPHA).await.unwrap();
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);
    let forward = link.traffic().request_bytes;
    assert!(forward < (bytes + 64 * MIB) as u64, "{forward} bytes went over, so it was not resumed");
    has_no_files(&cluster, ALPHA).await;

    let to = TempDir::new().unwrap();
    assert!(receive(&bob, to.path()).await == fs::read(&path).unwrap());
    has_no_files(&cluster, BETA).await;
    for (relay, bytes) in grown {
        assert!(bytes < 64 * MIB as u64, "{relay} took {} MiB", bytes / MIB as u64);
    }
    cluster.shut_down().await.unwrap();
}

/// A relay ends at each step of an attachment, and nothing is lost and nothing left.
async fn a_relay_ends_at(relay: &str, step: &str, during_upload: bool) {
    let binary = postrider_with_failpoints();
    let cluster = Cluster::builder([ALPHA, BETA]).processes(binary).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let directory = TempDir::new().unwrap();
    let path = file(directory.path(), 9 * MIB);
    let arm = async || {
        cluster.stop(relay).await.unwrap();
        cluster.set_environment(relay, &[("POSTRIDER_FAILPOINT", step)]).await.unwrap();
        cluster.restart(relay).await.unwrap();
    };
    let comes_back = async || {
        let how = cluster.ended(relay).await.unwrap();
        assert!(how.contains("SIGABRT"), "{how}");
        cluster.set_environment(relay, &[]).await.unwrap();
        cluster.restart(relay).await.unwrap();
    };
    let mut upload = Upload::new(&path).unwrap();
    if during_upload {
        arm().await;
        let mut quiet = |_: u64, _: u64| {};
        // It may be tried again for long enough, or not.
        let _ = tokio::join!(upload.run(alice.relay(), &mut quiet), comes_back());
    }
    let attached = upload.run(alice.relay(), &mut |_, _| {}).await.unwrap();
    if !during_upload {
        arm().await;
    }
    let id = tracking(alice.submit(&bob, sealed(&cluster, &alice, &bob, &[attached])).await.unwrap());
    if !during_upload {
        comes_back().await;
        bob.send(&alice, b"I am back").await.unwrap();
    }
    assert_eq!(alice.outcome(id).await.unwrap().state, TrackingState::Stored);
    has_no_files(&cluster, ALPHA).await;
    let to = TempDir::new().unwrap();
    assert!(receive(&bob, to.path()).await == fs::read(&path).unwrap());
    has_no_files(&cluster, BETA).await;
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn the_origin_ends_after_a_chunk_before_it_knows() {
    a_relay_ends_at(ALPHA, "chunk-written:2", true).await;
}

#[tokio::test]
async fn the_origin_ends_between_two_chunks_that_it_sends() {
    a_relay_ends_at(ALPHA, "chunk-sent:2", false).await;
}

#[tokio::test]
async fn the_destination_ends_after_a_chunk_before_it_knows() {
    a_relay_ends_at(BETA, "chunk-written:2", false).await;
}

#[tokio::test]
async fn the_origin_ends_after_it_has_deleted_a_file_before_it_knows() {
    a_relay_ends_at(ALPHA, "file-deleted:1", false).await;
}
