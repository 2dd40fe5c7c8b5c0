//! The store, in memory and on disk: one envelope's way through a mailbox, in groups of several sizes.

#![expect(clippy::expect_used, reason = "whatever is refused here ends the measurement")]

use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use postrider::store::{Options, Store, StoreLimits, Window, in_memory, open};
use postrider_bench::paths::{DEVICE, MAILBOX, NOW, envelopes};
use postrider_common::EntryId;
use postrider_common::supervisor::Supervisor;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

const GROUPS: [usize; 3] = [1, 32, 256];
const LIMITS: fn() -> StoreLimits =
    || StoreLimits { mailbox_entries: u64::MAX, mailbox_bytes: u64::MAX, ..StoreLimits::default() };

fn memory(criterion: &mut Criterion) {
    let store = in_memory(LIMITS(), &Supervisor::new()).expect("memory can be opened");
    through("memory", criterion, &store);
}

fn disk(criterion: &mut Criterion) {
    // Beside the build, which is on a disk; `/tmp` may be in memory.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory can be made");
    let options = Options { limits: LIMITS(), ..Options::default() };
    let store = open(directory.path(), &options, &Supervisor::new()).expect("an empty store can be opened");
    through("disk", criterion, &store);
}

/// Deposits a group, fetches it and acknowledges it.
fn through(engine: &str, criterion: &mut Criterion, store: &Arc<dyn Store>) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(store.register(MAILBOX, DEVICE, NOW)).expect("there is room for a mailbox");
    let mut mailbox = Mailbox { runtime, store, next: 0 };
    let mut group = criterion.benchmark_group(engine);
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    for size in GROUPS {
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::new("deposit", size), |bencher| {
            bencher.iter_custom(|times| {
                let deposits = (0..times).map(|_| {
                    mailbox.empty();
                    mailbox.deposit(size)
                });
                deposits.sum()
            });
        });
        mailbox.deposit(size);
        group.bench_function(BenchmarkId::new("fetch", size), |bencher| bencher.iter(|| mailbox.fetch(size)));
        group.bench_function(BenchmarkId::new("acknowledge", size), |bencher| {
            bencher.iter_custom(|times| {
                let acknowledgements = (0..times).map(|_| {
                    mailbox.empty();
                    mailbox.deposit(size);
                    mailbox.empty()
                });
                acknowledgements.sum()
            });
        });
    }
    group.finish();
}

/// The one that everything goes through.
struct Mailbox<'a> {
    runtime: Runtime,
    store: &'a Arc<dyn Store>,
    next: usize,
}

impl Mailbox<'_> {
    /// How long a deposit of so many new envelopes takes.
    fn deposit(&mut self, count: usize) -> Duration {
        let batch = envelopes(self.next, count).expect("the envelopes are within the limits");
        self.next += count;
        let started = Instant::now();
        self.runtime.block_on(self.store.deposit(batch, NOW)).expect("there is room");
        started.elapsed()
    }

    fn fetch(&self, count: usize) -> Vec<EntryId> {
        let window = Window { count, bytes: usize::MAX };
        let page = self.runtime.block_on(self.store.fetch(MAILBOX, DEVICE, None, window, NOW));
        page.expect("the store is open").entries.into_iter().map(|entry| entry.id).collect()
    }

    /// How long it takes to acknowledge everything, together.
    fn empty(&self) -> Duration {
        let entries = self.fetch(usize::MAX);
        let started = Instant::now();
        self.runtime.block_on(self.store.acknowledge(MAILBOX, DEVICE, entries)).expect("the store is open");
        started.elapsed()
    }
}

criterion_group!(benches, memory, disk);
criterion_main!(benches);
