//! A store that has something of everything.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use postrider_common::supervisor::Supervisor;
use postrider_common::{
    Attachment, AttachmentId, Binding, DeviceId, Domain, Draft, Envelope, FailureClass, InviteId, MailboxId,
    Outcome, Timestamp,
};
use sha2::{Digest, Sha256};

use crate::store::kv::Key;
use crate::store::memory::Content;
use crate::store::{
    Abandoned, Backoff, Chunk, Enqueued, Invited, MemoryDisk, Onward, SentOn, Source, Store, StoreLimits,
    Verdict, Window,
};

pub(in crate::store) const NOW: Timestamp = Timestamp::from_secs(1_790_035_200);
/// A mailbox with two devices, one with one, and one that is deleted.
pub(in crate::store) const MAILBOXES: [MailboxId; 3] =
    [MailboxId::from_bytes([0x11; 32]), MailboxId::from_bytes([0x22; 32]), MailboxId::from_bytes([0x33; 32])];
pub(in crate::store) const DEVICES: [DeviceId; 2] =
    [DeviceId::from_bytes([0x44; 32]), DeviceId::from_bytes([0x55; 32])];
const DAY: Duration = Duration::from_secs(86_400);
const ALL: Window = Window { count: usize::MAX, bytes: usize::MAX };

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// The mailbox that has moved.
pub(in crate::store) fn moved() -> MailboxId {
    MailboxId::from_bytes(key(0x66).verifying_key().to_bytes())
}

/// An envelope with a body of `bytes` bytes that are all `fill`.
pub(in crate::store) fn envelope(mailbox: MailboxId, fill: u8, bytes: usize) -> Envelope {
    let draft = Draft::new(mailbox, NOW + DAY * (1 + u32::from(fill % 3)), vec![fill; bytes]);
    draft.finish().unwrap()
}

/// Two chunks.
pub(crate) fn attachment(n: u8) -> Attachment {
    Attachment { id: AttachmentId::from_bytes([n; 32]), length: 300_000, chunk_length: 200_000 }
}

/// What is in the file of an attachment of which so many chunks are there.
pub(in crate::store) fn brought(n: u8, chunks: usize) -> Vec<u8> {
    let attachment = attachment(n);
    let whole = usize::try_from(attachment.length).unwrap();
    let there = whole.min(chunks * attachment.chunk_length as usize);
    (0..there).map(|at| n ^ at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect()
}

pub(in crate::store) fn destination(name: &str) -> Domain {
    name.parse().unwrap()
}

/// Deposits, acknowledges, queues, settles.
pub(in crate::store) async fn fill(store: &dyn Store) {
    let [two, one, gone] = MAILBOXES;
    for (mailbox, device) in [(two, 0), (two, 1), (one, 0), (gone, 0)] {
        store.register(mailbox, DEVICES[device], NOW).await.unwrap();
    }
    for mailbox in MAILBOXES {
        let envelopes: Vec<_> = [100, 1_000, 20_000, 70_000]
            .into_iter()
            .zip(1..)
            .map(|(bytes, n)| envelope(mailbox, n, bytes))
            .collect();
        let outcomes = store.deposit(envelopes, NOW).await.unwrap();
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Stored));
    }
    // Of one entry, one device has yet to acknowledge; another one has gone.
    let entries = store.fetch(two, DEVICES[0], None, ALL, NOW).await.unwrap().entries;
    store.acknowledge(two, DEVICES[0], vec![entries[0].id, entries[1].id]).await.unwrap();
    store.acknowledge(two, DEVICES[1], vec![entries[1].id]).await.unwrap();
    store.unregister(gone).await.unwrap();

    // One that has moved and holds something, and one of which others have told.
    store.register(moved(), DEVICES[0], NOW).await.unwrap();
    store.deposit(vec![envelope(moved(), 1, 100), envelope(moved(), 2, 20_000)], NOW).await.unwrap();
    store.put_binding(Binding::sign(&key(0x66), destination("b.example"), 7), false).await.unwrap();
    let elsewhere = Binding::sign(&key(0x77), destination("c.example"), 8);
    store.learn(elsewhere, destination("b.example"), NOW + DAY).await.unwrap();

    // One of them is closed, too, and a device has a name.
    store.suspend(moved(), true, NOW).await.unwrap();
    store.name_device(one, DEVICES[0], vec![7; 40]).await.unwrap();

    // An invite of which one use is taken, and one that is new.
    let invited = [1, 2].map(|n| Invited {
        id: InviteId::from_bytes([n; 16]),
        uses: 2,
        used: u32::from(n) - 1,
        expires_at: NOW + DAY,
    });
    store.add_invites(invited.into()).await.unwrap();

    let (b, c) = (destination("b.example"), destination("b.example.org"));
    for domain in [&b, &c] {
        let envelopes = (0..8).map(|n| envelope(one, n, 300 + 9_000 * usize::from(n))).collect();
        store.enqueue(domain.clone(), domain.clone(), envelopes, NOW).await.unwrap();
    }
    let leased = store.lease(b.clone(), ALL, NOW, NOW + DAY).await.unwrap();
    let onward = Onward { moves: 1, held: None };
    let source = Source::Item(leased[5].tracking);
    let sent_on = SentOn { envelope: envelope(one, 9, 5_000), addressed: None, onward, source };
    let sent_on = store.enqueue_onward(c.clone(), vec![sent_on], NOW).await.unwrap();
    let Enqueued::Queued(sent_on) = sent_on[0] else { unreachable!("{sent_on:?}") };
    let verdicts = [
        Verdict::Delivered,
        Verdict::Failed(FailureClass::NoSuchMailbox),
        Verdict::Quarantined(FailureClass::Malformed),
        Verdict::Retry { reason: FailureClass::MailboxFull, not_before: NOW + Duration::from_secs(600) },
        Verdict::Expired,
        Verdict::Moved(sent_on),
    ];
    let settlements = leased.iter().zip(verdicts).map(|(leased, verdict)| leased.end(verdict));
    store.settle(b.clone(), settlements.collect(), NOW).await.unwrap();
    // One attachment that an entry and an item need, one that is not whole, and one that is to be deleted.
    for (n, chunks) in [(1, 2), (2, 1), (3, 2)] {
        let state = store.reserve_attachment(attachment(n), NOW).await.unwrap().unwrap();
        let brought = brought(n, chunks);
        for (number, chunk) in (0..).zip(brought.chunks(state.attachment.chunk_length as usize)) {
            let chunk = Chunk { number, digest: Sha256::digest(chunk).into() };
            assert!(store.put_chunk(state.attachment.id, state.file, chunk, NOW).await.unwrap());
        }
    }
    let draft = Draft::new(one, NOW + DAY, vec![7; 100]);
    let laden = Draft { attachments: vec![attachment(1)], ..draft }.finish().unwrap();
    assert_eq!(store.deposit(vec![laden.clone()], NOW).await.unwrap(), [Outcome::Stored]);
    store.enqueue(b.clone(), b.clone(), vec![laden], NOW).await.unwrap();
    assert_eq!(store.abandon_attachment(attachment(3).id).await.unwrap(), Abandoned::Done);
    let backoff = Backoff {
        failing_since: NOW,
        failures: 3,
        class: FailureClass::ConnectFailed,
        class_since: NOW,
        detail: "nobody there".repeat(40),
        next_attempt: NOW + DAY,
    };
    store.put_backoff(c.clone(), Some(backoff.clone())).await.unwrap();
    store.fail(c, backoff, NOW).await.unwrap();
    store.pause(destination("d.example"), Some(NOW)).await.unwrap();
}

/// All pairs of such a store.
pub(in crate::store) async fn content() -> Vec<(Key, Bytes)> {
    let content = Content::default();
    let store =
        MemoryDisk::of(Arc::clone(&content)).open(StoreLimits::default(), &Supervisor::new()).unwrap();
    fill(&*store).await;
    store.close().await.unwrap();
    pairs(&content)
}

/// All pairs of an engine in memory.
pub(in crate::store) fn pairs(content: &Content) -> Vec<(Key, Bytes)> {
    content.read().unwrap().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}
