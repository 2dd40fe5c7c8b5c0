//! How much may be under way to one destination.

/// A destination's window. A failing one gets a single probe; after a success the window doubles up to the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    batches: usize,
    probing: bool,
    maximum: usize,
    /// What the peer takes as one batch, once it has refused a larger one.
    largest: usize,
}

impl Pace {
    /// For a destination that is not known to fail.
    pub fn open(maximum: usize) -> Self {
        let maximum = maximum.max(1);
        Self { batches: maximum, probing: false, maximum, largest: usize::MAX }
    }

    /// How many batches may be under way.
    pub const fn batches(&self) -> usize {
        self.batches
    }

    /// How many envelopes the next batch may have, where `full` is what it has in good times.
    pub fn envelopes(&self, full: usize) -> usize {
        if self.probing { 1 } else { full.min(self.largest) }
    }

    /// After the peer refused a batch of so many envelopes as too large, while it takes each by itself perhaps:
    /// from now on batches have half as many.
    pub fn shrink(&mut self, refused: usize) {
        self.largest = self.largest.min((refused / 2).max(1));
    }

    /// After an attempt that failed.
    pub fn close(&mut self) {
        (self.batches, self.probing) = (1, true);
    }

    /// After an attempt that succeeded.
    pub fn widen(&mut self) {
        if self.probing {
            self.probing = false;
        } else {
            self.batches = (self.batches * 2).min(self.maximum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_with_one_envelope_then_doubles() {
        let mut pace = Pace::open(8);
        assert_eq!((pace.batches(), pace.envelopes(256)), (8, 256));
        pace.close();
        let mut seen = Vec::new();
        for _ in 0..6 {
            seen.push((pace.batches(), pace.envelopes(256)));
            pace.widen();
        }
        assert_eq!(seen, [(1, 1), (1, 256), (2, 256), (4, 256), (8, 256), (8, 256)]);
    }

    #[test]
    fn batches_become_smaller_until_the_peer_takes_them() {
        let mut pace = Pace::open(8);
        let mut sizes = Vec::new();
        for _ in 0..9 {
            let size = pace.envelopes(100);
            sizes.push(size);
            pace.shrink(size);
        }
        assert_eq!(sizes, [100, 50, 25, 12, 6, 3, 1, 1, 1]);
    }
}
