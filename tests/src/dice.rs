//! Random numbers that a seed decides, on every machine and in every version alike.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators"). Not for secrets.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The numbers of a seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Others, for somebody who rolls at the same time: what one rolls does not depend on when the other does.
    #[must_use]
    pub(crate) const fn fork(&mut self) -> Self {
        Self(self.roll())
    }

    /// Any number.
    pub(crate) const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        // Below a `usize`, so it is one.
        usize::try_from(self.roll() % bound).unwrap_or_default()
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// Whether something happens that happens once in `times`.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A time from `low` to `high` milliseconds.
    pub(crate) fn millis(&mut self, low: usize, high: usize) -> Duration {
        Duration::from_millis(self.between(low, high) as u64)
    }

    /// A part of `whole`.
    pub(crate) fn part_of(&mut self, whole: Duration) -> Duration {
        whole.mul_f64(self.below(1 << 20) as f64 / f64::from(1 << 20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_numbers() {
        let rolls = |seed| {
            let mut dice = Dice::new(seed);
            (0..8).map(|_| dice.roll()).collect::<Vec<_>>()
        };
        assert_eq!(rolls(1), rolls(1));
        assert_ne!(rolls(1), rolls(2));
        // The first number of the published generator for the seed 0.
        assert_eq!(Dice::new(0).roll(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn bounds_hold_and_are_reached() {
        let mut dice = Dice::new(7);
        let rolled: std::collections::BTreeSet<_> = (0..200).map(|_| dice.between(3, 6)).collect();
        assert_eq!(rolled.into_iter().collect::<Vec<_>>(), [3, 4, 5, 6]);
        assert!(dice.part_of(Duration::from_secs(1)) < Duration::from_secs(1));
    }
}
