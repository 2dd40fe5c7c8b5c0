//! The wire form: what a client, a relay and its peer encode and decode for a batch.

#![expect(clippy::expect_used, reason = "whatever is refused here ends the measurement")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use postrider_bench::paths::{BATCH, HotPath};

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(BATCH as u64));
    for path in [
        HotPath::EncodeSubmission,
        HotPath::DecodeSubmission,
        HotPath::EncodeForward,
        HotPath::DecodeForward,
        HotPath::EncodeEntries,
    ] {
        let mut iteration = path.prepare(1).expect("the envelopes are within the limits");
        group.bench_function(path.name(), |bencher| bencher.iter(&mut iteration));
    }
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
