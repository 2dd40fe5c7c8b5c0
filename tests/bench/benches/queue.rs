//! The rules of the queue, and the route: pure functions that are asked for every envelope.

#![expect(clippy::expect_used, reason = "whatever is refused here ends the measurement")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use postrider_bench::paths::{BATCH, HotPath};

fn rules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rules");
    group.throughput(Throughput::Elements(BATCH as u64));
    for path in [HotPath::Route, HotPath::Judge] {
        let mut iteration = path.prepare(1).expect("the envelopes are within the limits");
        group.bench_function(path.name(), |bencher| bencher.iter(&mut iteration));
    }
    group.finish();
}

criterion_group!(benches, rules);
criterion_main!(benches);
