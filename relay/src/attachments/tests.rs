//! What the files and the books promise together, without a network.

mod sharing;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use postrider_common::clock::{ManualClock, SystemClock};
use postrider_common::{DeviceId, Draft, EntryId, Envelope, FailureClass, Outcome, Timestamp};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::store::{MemoryDisk, StoreLimits, Window};

const MAILBOX: MailboxId = MailboxId::from_bytes([1; 32]);
const DEVICE: DeviceId = DeviceId::from_bytes([2; 32]);
/// Who brings everything.
const ALICE: Bringer = Bringer::Member(MailboxId::from_bytes([3; 32]));
const HOUR: Duration = Duration::from_secs(3600);
const PAUSE: Duration = Duration::from_secs(60);

/// A relay's attachments, which can be closed and opened again.
struct Bench {
    disk: MemoryDisk,
    directory: tempfile::TempDir,
    limits: StoreLimits,
}

struct Open {
    attachments: Attachments,
    store: Arc<dyn Store>,
    supervisor: Supervisor,
}

impl Bench {
    fn new() -> Self {
        let limits = StoreLimits {
            attachments: AttachmentLimits {
                bytes: 1000,
                mailbox_bytes: 300,
                total_bytes: 500,
                retention: HOUR,
            },
            ..StoreLimits::default()
        };
        Self { disk: MemoryDisk::new(), directory: tempfile::tempdir().unwrap(), limits }
    }

    async fn open(&self) -> Open {
        self.open_at(Arc::new(SystemClock)).await
    }

    async fn open_at(&self, clock: SharedClock) -> Open {
        let supervisor = Supervisor::new();
        let store = self.disk.open(self.limits, &supervisor).unwrap();
        let settings = Settings {
            directory: self.directory.path().join("attachments"),
            limits: self.limits.attachments,
            reserve_bytes: 0,
            pause: PAUSE,
        };
        let attachments = Attachments::open(settings, Arc::clone(&store), clock, &supervisor).await.unwrap();
        Open { attachments, store, supervisor }
    }

    /// The files that there are.
    fn files(&self) -> usize {
        fn count(directory: &Path) -> usize {
            let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
            entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
        }
        count(&self.directory.path().join("attachments"))
    }

    /// Waits until there are none, and the books know it.
    async fn is_rid_of_files(&self) {
        while self.files() > 0 || self.disk.census().contains_key(&'O') {
            tokio::task::yield_now().await;
        }
    }
}

impl Open {
    async fn bring(
        &self,
        id: AttachmentId,
        number: u32,
        bytes: &'static [u8],
    ) -> Result<(), AttachmentError> {
        let body = Full::new(Bytes::from_static(bytes));
        self.attachments.receive(id, Chunk { number, digest: sha256(bytes) }, &ALICE, body).await
    }

    /// A whole one of two chunks.
    async fn whole(&self) -> Attachment {
        let state = self.attachments.reserve(6, 4, &ALICE).await.unwrap();
        self.bring(state.attachment.id, 1, b"ef").await.unwrap();
        self.bring(state.attachment.id, 0, b"abcd").await.unwrap();
        state.attachment
    }

    async fn deposit(&self, envelope: &Envelope) -> Outcome {
        self.store.deposit(vec![envelope.clone()], now()).await.unwrap().remove(0)
    }

    async fn entries(&self) -> Vec<EntryId> {
        let all = Window { count: 100, bytes: 1 << 20 };
        let fetched = self.store.fetch(MAILBOX, DEVICE, None, all, now()).await.unwrap();
        fetched.entries.iter().map(|entry| entry.id).collect()
    }

    async fn acknowledge(&self, entry: EntryId) {
        self.store.acknowledge(MAILBOX, DEVICE, vec![entry]).await.unwrap();
    }

    async fn close(self) {
        self.store.close().await.unwrap();
        self.supervisor.stop();
        self.supervisor.finished().await;
    }
}

fn now() -> Timestamp {
    use postrider_common::clock::Clock;
    SystemClock.now()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().unwrap()
}

fn envelope(attachments: Vec<Attachment>) -> Envelope {
    Draft { attachments, ..Draft::new(MAILBOX, now() + HOUR, &b"body"[..]) }.finish().unwrap()
}

async fn read(open: &Open, id: AttachmentId, start: u64, length: u64) -> Vec<u8> {
    use http_body_util::BodyExt;
    let body = open.attachments.read(id).await.unwrap().bytes(start, length);
    body.collect().await.unwrap().to_bytes().to_vec()
}

#[test]
fn gaps_are_told_as_ranges() {
    let of = |present: &[u32], count| gaps(present.iter().copied(), count);
    assert_eq!(of(&[], 3), [(0, 2)]);
    assert_eq!(of(&[0, 1, 2], 3), []);
    assert_eq!(of(&[1, 4], 6), [(0, 0), (2, 3), (5, 5)]);
}

#[tokio::test]
async fn chunks_come_in_any_order_and_are_checked() {
    let bench = Bench::new();
    let open = bench.open().await;
    let id = open.attachments.reserve(6, 4, &ALICE).await.unwrap().attachment.id;
    assert_eq!(bench.files(), 0, "what is only reserved takes no disk");
    assert_eq!(open.attachments.missing(id).await.unwrap().1, [(0, 1)]);
    assert_eq!(open.bring(id, 1, b"e").await, Err(AttachmentError::WrongLength(2)));
    assert_eq!(open.bring(id, 2, b"e").await, Err(AttachmentError::NoSuchChunk));
    let wrong = Chunk { number: 1, digest: [0; 32] };
    let brought = open.attachments.receive(id, wrong, &ALICE, Full::new(Bytes::from_static(b"ef"))).await;
    assert_eq!(brought, Err(AttachmentError::WrongDigest));
    assert_eq!(open.bring(id, 1, b"ef").await, Ok(()));
    assert_eq!(open.attachments.missing(id).await.unwrap().1, [(0, 0)]);
    assert!(matches!(open.attachments.read(id).await, Err(AttachmentError::Incomplete)));
    assert_eq!(open.bring(id, 0, b"abcd").await, Ok(()));
    assert_eq!(open.bring(id, 0, b"abcd").await, Ok(()), "again");
    assert_eq!(open.bring(id, 0, b"xxxx").await, Err(AttachmentError::ChunkDiffers));
    assert_eq!(read(&open, id, 0, 6).await, b"abcdef");
    assert_eq!(read(&open, id, 3, 2).await, b"de");
    assert_eq!(open.attachments.used_bytes(), 6);
    open.close().await;
    let open = bench.open().await;
    assert_eq!((read(&open, id, 0, 6).await, open.attachments.used_bytes()), (b"abcdef".to_vec(), 6));
    open.attachments.abandon(id).await.unwrap();
    bench.is_rid_of_files().await;
    open.close().await;
    let open = bench.open().await;
    assert_eq!(open.attachments.used_bytes(), 0);
    open.close().await;
}

#[tokio::test]
async fn it_stays_as_long_as_somebody_needs_it() {
    let bench = Bench::new();
    let open = bench.open().await;
    open.store.register(MAILBOX, DEVICE, now()).await.unwrap();
    let attachment = open.whole().await;
    let (first, second) = (envelope(vec![attachment.clone()]), envelope(vec![attachment.clone()]));
    assert_eq!(open.deposit(&first).await, Outcome::Stored);
    assert_eq!(open.deposit(&first).await, Outcome::Duplicate);
    assert_eq!(open.deposit(&second).await, Outcome::Stored);
    assert_eq!(open.attachments.abandon(attachment.id).await, Err(AttachmentError::InUse));
    let much_later = now() + 30 * 24 * HOUR;
    // Nobody submitted in time is not what it is any more.
    open.store.expire(now() + HOUR / 2, 100).await.unwrap();
    let entries = open.entries().await;
    open.acknowledge(entries[0]).await;
    assert_eq!(read(&open, attachment.id, 0, 6).await, b"abcdef");
    open.acknowledge(entries[1]).await;
    bench.is_rid_of_files().await;
    assert_eq!(open.attachments.state(attachment.id).await, Err(AttachmentError::Unknown));
    assert_eq!(open.deposit(&first).await, Outcome::Duplicate, "whose attachment has gone with it");
    let third = envelope(vec![attachment]);
    let missing = open.deposit(&third).await;
    assert!(matches!(missing, Outcome::Retry { reason: FailureClass::AttachmentMissing, .. }), "{missing:?}");

    // The other ways in which an entry ends.
    let attachment = open.whole().await;
    assert_eq!(open.deposit(&envelope(vec![attachment.clone()])).await, Outcome::Stored);
    open.store.expire(much_later, 100).await.unwrap();
    bench.is_rid_of_files().await;
    let attachment = open.whole().await;
    let mut late = envelope(vec![attachment.clone()]);
    late = Draft { attachments: vec![attachment], ..Draft::new(MAILBOX, late.expires_at(), &b"x"[..]) }
        .finish()
        .unwrap();
    assert_eq!(open.deposit(&late).await, Outcome::Stored);
    assert!(open.store.unregister(MAILBOX).await.unwrap());
    bench.is_rid_of_files().await;
    open.close().await;
    let left: Vec<_> =
        bench.disk.census().into_iter().filter(|(kind, _)| "AcSnqbO".contains(*kind)).collect();
    assert_eq!(left, []);
}

#[tokio::test]
async fn what_is_queued_needs_it_too() {
    let bench = Bench::new();
    let open = bench.open().await;
    let to: Domain = "beta.example".parse().unwrap();
    let attachment = open.whole().await;
    let laden = envelope(vec![attachment.clone()]);
    let enqueue =
        |envelope: &Envelope| open.store.enqueue(to.clone(), to.clone(), vec![envelope.clone()], now());
    use crate::store::{Enqueued, Verdict};
    assert!(matches!(enqueue(&laden).await.unwrap()[..], [Enqueued::Queued(_)]));
    assert!(matches!(enqueue(&laden).await.unwrap()[..], [Enqueued::Duplicate(_)]));
    let all = Window { count: 100, bytes: 1 << 20 };
    let until = now() + HOUR;
    let plain = envelope(Vec::new());
    enqueue(&plain).await.unwrap();
    let leased = open.store.lease(to.clone(), all, now(), until).await.unwrap();
    assert_eq!(leased.iter().map(|item| &item.envelope).collect::<Vec<_>>(), [&plain], "it waits for nobody");
    let item = open.store.lease_laden(to.clone(), until).await.unwrap().unwrap();
    assert_eq!(item.envelope, laden);
    assert_eq!(open.store.lease_laden(to.clone(), until).await, Ok(None));
    let settle = |settlement| open.store.settle(to.clone(), vec![settlement], now());
    settle(item.end(Verdict::Released)).await.unwrap();
    open.store.lease(to.clone(), all, now(), until).await.unwrap();
    let again = open.store.lease_laden(to.clone(), until).await.unwrap().unwrap();
    assert_eq!(again.envelope, laden);
    open.store.prolong(&to, item.item, item.lease, now() + HOUR * 2);
    assert_eq!(settle(item.end(Verdict::Expired)).await, Ok(vec![false]), "it is another's by now");
    settle(again.end(Verdict::Quarantined(FailureClass::Malformed))).await.unwrap();
    assert_eq!(read(&open, attachment.id, 0, 6).await, b"abcdef", "kept for the operator");
    assert!(open.store.discard_quarantined(to.clone(), item.item).await.unwrap());
    bench.is_rid_of_files().await;
    let missing = enqueue(&envelope(vec![attachment])).await.unwrap();
    assert_eq!(missing, [Enqueued::AttachmentMissing]);
    open.close().await;
}

#[tokio::test]
async fn limits_hold() {
    let bench = Bench::new();
    let open = bench.open().await;
    open.store.register(MAILBOX, DEVICE, now()).await.unwrap();
    assert_eq!(
        open.attachments.reserve(1001, 100, &ALICE).await.err(),
        Some(AttachmentError::TooLarge(1000))
    );
    assert_eq!(open.attachments.reserve(0, 100, &ALICE).await.err(), Some(AttachmentError::Impossible));
    let large = open.attachments.reserve(400, 400, &ALICE).await.unwrap().attachment;
    open.bring(large.id, 0, &[7; 400]).await.unwrap();
    let full = open.deposit(&envelope(vec![large.clone()])).await;
    assert!(matches!(full, Outcome::Retry { reason: FailureClass::MailboxFull, .. }), "{full:?}");
    let another = open.attachments.reserve(200, 200, &ALICE).await.unwrap().attachment;
    assert_eq!(open.bring(another.id, 0, &[7; 200]).await, Err(AttachmentError::Full));
    assert_eq!(open.attachments.used_bytes(), 400, "what was refused does not count");
    open.attachments.abandon(large.id).await.unwrap();
    bench.is_rid_of_files().await;
    while open.attachments.used_bytes() > 0 {
        tokio::task::yield_now().await;
    }
    open.bring(another.id, 0, &[7; 200]).await.unwrap();
    assert_eq!(open.deposit(&envelope(vec![another])).await, Outcome::Stored);
    open.close().await;
}

/// Somebody gives up in the middle, and the attachment is given up under somebody's hands.
#[tokio::test]
async fn what_is_written_to_is_deleted_after_that() {
    let bench = Bench::new();
    let open = bench.open().await;
    let id = open.attachments.reserve(4, 4, &ALICE).await.unwrap().attachment.id;
    let (send, mut receive) = mpsc::channel::<Bytes>(1);
    let has_begun = Arc::new(AtomicBool::new(false));
    let begun = Arc::clone(&has_begun);
    let body = StreamBody::new(futures_util::stream::poll_fn(move |context| {
        begun.store(true, Ordering::Relaxed);
        receive.poll_recv(context).map(|data| data.map(|data| Ok::<_, std::io::Error>(Frame::data(data))))
    }));
    let chunk = Chunk { number: 0, digest: sha256(b"abcd") };
    let mut receiving = Box::pin(open.attachments.receive(id, chunk, &ALICE, body));
    while !has_begun.load(Ordering::Relaxed) {
        assert!(futures_util::poll!(&mut receiving).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.files(), 1);
    assert_eq!(open.bring(id, 0, b"abcd").await, Err(AttachmentError::Busy));
    open.attachments.abandon(id).await.unwrap();
    send.send(Bytes::from_static(b"abcd")).await.unwrap();
    drop(send);
    assert_eq!(receiving.await, Err(AttachmentError::Unknown));
    bench.is_rid_of_files().await;
    assert_eq!(open.attachments.used_bytes(), 0);
    open.close().await;
}

/// A relay that ends before it has deleted a file does so when it starts again.
#[tokio::test]
async fn what_is_doomed_is_deleted_at_the_next_start() {
    let bench = Bench::new();
    let open = bench.open().await;
    let attachment = open.whole().await;
    open.supervisor.kill();
    open.supervisor.finished().await;
    open.store.abandon_attachment(attachment.id).await.unwrap();
    open.store.close().await.unwrap();
    assert_eq!(bench.files(), 1);
    drop(open);
    let open = bench.open().await;
    bench.is_rid_of_files().await;
    open.close().await;
    assert_eq!(bench.disk.census().get(&'O'), None);
}

/// Frames without data, of which there may be any number, are not kept until the chunk's next piece is written.
#[tokio::test]
async fn frames_of_nothing_are_not_held() {
    const FRAMES: usize = 3;
    struct Nothing(#[expect(dead_code, reason = "counts who holds it")] Arc<()>);
    impl AsRef<[u8]> for Nothing {
        fn as_ref(&self) -> &[u8] {
            &[]
        }
    }
    let bench = Bench::new();
    let open = bench.open().await;
    let id = open.attachments.reserve(4, 4, &ALICE).await.unwrap().attachment.id;
    let (send, mut receive) = mpsc::channel::<Bytes>(FRAMES + 1);
    let body = StreamBody::new(futures_util::stream::poll_fn(move |context| {
        receive.poll_recv(context).map(|data| data.map(|data| Ok::<_, std::io::Error>(Frame::data(data))))
    }));
    let held = Arc::new(());
    for _ in 0..FRAMES {
        send.send(Bytes::from_owner(Nothing(Arc::clone(&held)))).await.unwrap();
    }
    let chunk = Chunk { number: 0, digest: sha256(b"abcd") };
    let mut receiving = Box::pin(open.attachments.receive(id, chunk, &ALICE, body));
    while send.capacity() <= FRAMES {
        assert!(futures_util::poll!(&mut receiving).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(Arc::strong_count(&held), 1, "all were taken and none is held");
    send.send(Bytes::from_static(b"abcd")).await.unwrap();
    drop(send);
    assert_eq!(receiving.await, Ok(()));
    open.close().await;
}

/// Otherwise a few who stop in the middle keep everybody else from reading.
#[tokio::test]
async fn who_takes_nothing_of_what_they_asked_for_is_given_up() {
    use http_body_util::BodyExt;
    let length = 8 * PIECE_BYTES;
    let bytes = length as u64;
    let limits = AttachmentLimits { bytes, mailbox_bytes: bytes, total_bytes: bytes, retention: HOUR };
    let bench =
        Bench { limits: StoreLimits { attachments: limits, ..StoreLimits::default() }, ..Bench::new() };
    let clock = ManualClock::new(now());
    let open = bench.open_at(Arc::new(clock.clone())).await;
    let state = open.attachments.reserve(bytes, length.try_into().unwrap(), &ALICE).await.unwrap();
    let id = state.attachment.id;
    open.bring(id, 0, vec![7; length].leak()).await.unwrap();
    let left = || open.attachments.0.reading.available_permits();

    // As long as a piece is taken now and then, it goes on.
    let mut slow = open.attachments.read(id).await.unwrap().bytes_while_taken(0, bytes);
    for _ in 0..6 {
        assert_eq!(slow.frame().await.unwrap().unwrap().into_data().unwrap().len(), PIECE_BYTES);
        clock.advance(PAUSE / 2);
    }
    assert_eq!(left(), READING - 1);
    let given_up = async {
        while left() < READING {
            clock.advance(PAUSE);
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), given_up).await.unwrap();
    assert_eq!(slow.frame().await.unwrap().unwrap_err(), AttachmentError::Stalled);

    // And whoever has gone leaves nobody behind.
    drop(open.attachments.read(id).await.unwrap().bytes_while_taken(0, 1));
    open.close().await;
}
