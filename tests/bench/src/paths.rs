//! The paths that every envelope takes, without sockets and disks, so that each does the same work every time.
//!
//! The program `instructions` counts what they cost, and `cargo bench` times them.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider::queue::judge_answer;
use postrider::route::route;
use postrider::store::{Store, StoreLimits, Window, in_memory};
use postrider_common::supervisor::Supervisor;
use postrider_common::wire::mailbox::{Entry, ServerMessage};
use postrider_common::wire::{forward, submit};
use postrider_common::{
    DeviceId, Domain, DomainError, Draft, EntryId, Envelope, EnvelopeId, MailboxId, Outcome, Timestamp,
};
use tokio::runtime::Runtime;

use crate::BenchError;

/// Envelopes in a batch.
pub const BATCH: usize = 32;
/// Bytes of a body.
pub const BODY: usize = 1024;
/// The time for all of it.
pub const NOW: Timestamp = Timestamp::from_secs(1_790_035_200);
/// Whose mailbox and device it is.
pub const MAILBOX: MailboxId = MailboxId::from_bytes([7; 32]);
/// The mailbox's only one.
pub const DEVICE: DeviceId = DeviceId::from_bytes([8; 32]);
/// What a device is sent at once.
const PAGE: Window = Window { count: 64, bytes: 256 << 10 };

/// One of the paths. Each iteration is one call, with a [`BATCH`] where it takes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HotPath {
    /// A client writes a submission.
    EncodeSubmission,
    /// The relay reads it.
    DecodeSubmission,
    /// A relay writes a batch for another.
    EncodeForward,
    /// That one reads it.
    DecodeForward,
    /// The relay writes entries for a device.
    EncodeEntries,
    /// Where a batch goes.
    Route,
    /// What the answers to a batch mean for the queue.
    Judge,
    /// A batch is put into a mailbox in memory.
    Deposit,
    /// A page of 64 is read from it.
    Fetch,
    /// A batch of entries is acknowledged, and deleted.
    Acknowledge,
    /// A batch is queued for another relay, in memory.
    Enqueue,
}

/// One iteration.
pub type Iteration = Box<dyn FnMut() -> Result<(), BenchError>>;

impl HotPath {
    /// Each of them.
    pub const ALL: [Self; 11] = [
        Self::EncodeSubmission,
        Self::DecodeSubmission,
        Self::EncodeForward,
        Self::DecodeForward,
        Self::EncodeEntries,
        Self::Route,
        Self::Judge,
        Self::Deposit,
        Self::Fetch,
        Self::Acknowledge,
        Self::Enqueue,
    ];

    /// In the record, and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EncodeSubmission => "encode-submission",
            Self::DecodeSubmission => "decode-submission",
            Self::EncodeForward => "encode-forward",
            Self::DecodeForward => "decode-forward",
            Self::EncodeEntries => "encode-entries",
            Self::Route => "route",
            Self::Judge => "judge",
            Self::Deposit => "deposit",
            Self::Fetch => "fetch",
            Self::Acknowledge => "acknowledge",
            Self::Enqueue => "enqueue",
        }
    }

    /// Makes all that up to `most` iterations need; then each call does one of them, and nothing else.
    pub fn prepare(self, most: usize) -> Result<Iteration, BenchError> {
        let domain: Domain = parse("beta.example")?;
        let batch = envelopes(0, BATCH)?;
        Ok(match self {
            Self::EncodeSubmission => {
                let items: Vec<_> = batch.into_iter().map(|envelope| (domain.clone(), envelope)).collect();
                each(move || black_box(submit::encode_request(black_box(&items))))
            }
            Self::DecodeSubmission => {
                let items: Vec<_> = batch.into_iter().map(|envelope| (domain.clone(), envelope)).collect();
                let body = submit::encode_request(&items);
                each(move || black_box(submit::decode_request(black_box(&body))))
            }
            Self::EncodeForward => each(move || black_box(forward::encode_request(black_box(&batch).iter()))),
            Self::DecodeForward => {
                let body = forward::encode_request(batch.iter());
                each(move || black_box(forward::decode_request(black_box(&body))))
            }
            Self::EncodeEntries => {
                let entry = |(id, envelope)| Entry::new(EntryId(id), envelope);
                let message = ServerMessage::Entries((1..).zip(batch).map(entry).collect());
                each(move || black_box(black_box(&message).encode()))
            }
            Self::Route => {
                let (own, other) = (parse("alpha.example")?, domain);
                each(move || {
                    for to in [&own, &other].into_iter().cycle().take(BATCH) {
                        black_box(route(black_box(&own), black_box(to), black_box(None)));
                    }
                })
            }
            Self::Judge => each(move || {
                for envelope in &batch {
                    black_box(judge_answer(black_box(&Outcome::Stored), envelope, 0, NOW, 0.5));
                }
            }),
            Self::Deposit => {
                let memory = Memory::open()?;
                let mut batches = memory.batches(most)?;
                Box::new(move || memory.deposit(batches.next().unwrap_or_default()))
            }
            Self::Fetch => {
                let memory = Memory::open()?;
                memory.fill(8)?;
                Box::new(move || memory.fetch())
            }
            Self::Acknowledge => {
                let memory = Memory::open()?;
                memory.fill(most)?;
                let mut entries = memory.entries()?.into_iter();
                Box::new(move || memory.acknowledge(entries.by_ref().take(BATCH).collect()))
            }
            Self::Enqueue => {
                let memory = Memory::open()?;
                let mut batches = memory.batches(most)?;
                Box::new(move || memory.enqueue(&domain, batches.next().unwrap_or_default()))
            }
        })
    }
}

/// So many envelopes for [`MAILBOX`], numbered from `first` on.
pub fn envelopes(first: usize, count: usize) -> Result<Vec<Envelope>, BenchError> {
    let body = Bytes::from(vec![0x5a; BODY]);
    let one = |number: usize| {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&(number as u64).to_be_bytes());
        let draft = Draft::new(MAILBOX, NOW + Duration::from_secs(86_400), body.clone());
        Ok(Draft { id: EnvelopeId::from_bytes(id), ..draft }.finish()?)
    };
    (first..first + count).map(one).collect()
}

/// A store in memory with one mailbox, and a runtime to ask it with.
struct Memory {
    store: Arc<dyn Store>,
    runtime: Runtime,
}

impl Memory {
    fn open() -> Result<Self, BenchError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.map_err(|source| BenchError::Io { what: "a runtime".into(), source })?;
        let limits = StoreLimits {
            mailbox_entries: u64::MAX,
            mailbox_bytes: u64::MAX,
            queue_items: u64::MAX,
            queue_bytes: u64::MAX,
            ..StoreLimits::default()
        };
        let store = in_memory(limits, &Supervisor::new())?;
        runtime.block_on(store.register(MAILBOX, DEVICE, NOW))?;
        Ok(Self { store, runtime })
    }

    fn batches(&self, count: usize) -> Result<impl Iterator<Item = Vec<Envelope>> + use<>, BenchError> {
        let all: Vec<_> =
            (0..count).map(|batch| envelopes(batch * BATCH, BATCH)).collect::<Result<_, _>>()?;
        Ok(all.into_iter())
    }

    fn fill(&self, batches: usize) -> Result<(), BenchError> {
        self.batches(batches)?.try_for_each(|batch| self.deposit(batch))
    }

    fn deposit(&self, batch: Vec<Envelope>) -> Result<(), BenchError> {
        let count = batch.len();
        let outcomes = self.runtime.block_on(self.store.deposit(batch, NOW))?;
        let stored = outcomes.iter().filter(|outcome| **outcome == Outcome::Stored).count();
        expect(stored, count.max(1))
    }

    fn fetch(&self) -> Result<(), BenchError> {
        let fetched = self.runtime.block_on(self.store.fetch(MAILBOX, DEVICE, None, PAGE, NOW))?;
        expect(black_box(fetched).entries.len(), PAGE.count)
    }

    fn acknowledge(&self, entries: Vec<EntryId>) -> Result<(), BenchError> {
        expect(self.runtime.block_on(self.store.acknowledge(MAILBOX, DEVICE, entries))?, BATCH)
    }

    fn enqueue(&self, to: &Domain, batch: Vec<Envelope>) -> Result<(), BenchError> {
        let queued = self.runtime.block_on(self.store.enqueue(to.clone(), to.clone(), batch, NOW))?;
        expect(queued.len(), BATCH)
    }

    fn entries(&self) -> Result<Vec<EntryId>, BenchError> {
        let all = Window { count: usize::MAX, bytes: usize::MAX };
        let fetched = self.runtime.block_on(self.store.fetch(MAILBOX, DEVICE, None, all, NOW))?;
        Ok(fetched.entries.into_iter().map(|entry| entry.id).collect())
    }
}

fn each<T>(mut path: impl FnMut() -> T + 'static) -> Iteration {
    Box::new(move || {
        path();
        Ok(())
    })
}

/// What is measured has to have done its work.
fn expect(count: usize, wanted: usize) -> Result<(), BenchError> {
    if count == wanted {
        Ok(())
    } else {
        Err(BenchError::Books(format!("{count} envelopes were served, not {wanted}")))
    }
}

fn parse(domain: &str) -> Result<Domain, BenchError> {
    domain.parse().map_err(|error: DomainError| BenchError::Generator(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_does_its_work() {
        for path in HotPath::ALL {
            let mut iteration = path.prepare(3).unwrap();
            for _ in 0..3 {
                iteration().unwrap_or_else(|error| panic!("{}: {error}", path.name()));
            }
        }
    }

    #[test]
    fn a_path_without_work_is_an_error() {
        for path in [HotPath::Deposit, HotPath::Acknowledge, HotPath::Enqueue] {
            let mut iteration = path.prepare(1).unwrap();
            iteration().unwrap();
            assert!(iteration().is_err(), "{}", path.name());
        }
    }
}
