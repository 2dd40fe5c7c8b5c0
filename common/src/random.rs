//! Randomness as a parameter.
//!
//! What decides when something happens, or under which identifier, is asked of a [`Random`], as the time is asked of
//! a [`Clock`](crate::clock::Clock). The daemon passes [`SystemRandom`]; a simulation passes numbers that a seed decides, so that a run
//! can be repeated. Keys and whatever else has to stay secret by itself are made by [`secret`](crate::secret).

use std::fmt;
use std::sync::Arc;

/// A source of random bytes.
pub trait Random: fmt::Debug + Send + Sync + 'static {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// A source that is shared between tasks.
pub type SharedRandom = Arc<dyn Random>;

/// The operating system's source.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        crate::secret::fill(bytes);
    }
}

/// `N` bytes of a source.
pub fn bytes_of<const N: usize>(random: &dyn Random) -> [u8; N] {
    let mut bytes = [0; N];
    random.fill(&mut bytes);
    bytes
}

/// A number from 0 to 1, both included: what spreads things over time that would otherwise happen together.
pub fn fraction_of(random: &dyn Random) -> f64 {
    f64::from(u32::from_be_bytes(bytes_of(random))) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_bytes_differ() {
        let random = SystemRandom;
        assert_ne!(bytes_of::<16>(&random), bytes_of::<16>(&random));
    }
}
