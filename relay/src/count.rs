//! What is counted while a relay works: plain atomics, one addition each, for [`monitor`](crate::monitor) to read.
//!
//! Every part of the program has the counters of what it does itself, so that several relays in one process do not
//! count into each other's.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use postrider_common::FailureClass;

/// Something that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// So many more.
    pub fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Relaxed);
    }

    /// How many it were since the start.
    pub fn total(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How many there are of something at the moment.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Present<'a>(&'a Level);

impl Level {
    /// One more, for as long as the answer is kept.
    pub fn enter(&self) -> Present<'_> {
        self.0.fetch_add(1, Relaxed);
        Present(self)
    }

    /// How many there are.
    pub fn now(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// A counter for each failure class.
#[derive(Debug)]
pub struct ByClass([Counter; FailureClass::ALL.len()]);

impl ByClass {
    /// So many more of this class.
    pub fn add(&self, class: FailureClass, count: usize) {
        if let Some(counter) = self.0.get(class as usize) {
            counter.add(count);
        }
    }

    /// The classes that there were, each with how many.
    pub fn totals(&self) -> impl Iterator<Item = (FailureClass, u64)> + '_ {
        let all = FailureClass::ALL.iter().zip(&self.0).map(|(class, counter)| (*class, counter.total()));
        all.filter(|(_, total)| *total > 0)
    }
}

impl Default for ByClass {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

/// How often something was how large.
#[derive(Debug)]
pub struct Histogram {
    /// The upper end of each range, ascending. What is larger than all of them is in a last range.
    bounds: &'static [u64],
    ranges: Vec<Counter>,
    sum: Counter,
}

impl Histogram {
    /// Without anything in it.
    pub fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            ranges: (0..=bounds.len()).map(|_| Counter::default()).collect(),
            sum: Counter::default(),
        }
    }

    /// One more, of this size.
    pub fn add(&self, size: u64) {
        let range = self.bounds.partition_point(|bound| *bound < size);
        if let Some(counter) = self.ranges.get(range) {
            counter.add(1);
        }
        self.sum.0.fetch_add(size, Relaxed);
    }

    /// For each bound how many were at most as large; then how many there were in all, and their sum.
    pub fn totals(&self) -> (Vec<(u64, u64)>, u64, u64) {
        let mut so_far = 0;
        let mut ranges = self.ranges.iter().map(|range| {
            so_far += range.total();
            so_far
        });
        let bounded = self.bounds.iter().zip(&mut ranges).map(|(bound, count)| (*bound, count)).collect();
        let all = ranges.next().unwrap_or_default();
        (bounded, all, self.sum.total())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_counter_of_its_own() {
        let classes = ByClass::default();
        for (index, class) in FailureClass::ALL.iter().enumerate() {
            classes.add(*class, index + 1);
        }
        let expected: Vec<_> = FailureClass::ALL.iter().copied().zip(1..).collect();
        assert_eq!(classes.totals().collect::<Vec<_>>(), expected);
        assert_eq!(ByClass::default().totals().count(), 0);
    }

    #[test]
    fn a_histogram_counts_up_to_each_bound() {
        let histogram = Histogram::new(&[1, 10, 100]);
        for size in [0, 1, 2, 10, 11, 100, 101, 5000] {
            histogram.add(size);
        }
        assert_eq!(histogram.totals(), (vec![(1, 2), (10, 4), (100, 6)], 8, 5225));
    }

    #[test]
    fn a_level_falls_when_what_was_counted_goes() {
        let level = Level::default();
        let (one, two) = (level.enter(), level.enter());
        assert_eq!(level.now(), 2);
        drop(one);
        assert_eq!(level.now(), 1);
        drop(two);
        assert_eq!(level.now(), 0);
    }
}
