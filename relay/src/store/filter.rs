//! Which marks a bucket may have: a few bits for each in memory, so that nearly every envelope is known to be new
//! without a look at the disk.
//!
//! It says "perhaps" for one mark in a hundred that is not there, and never "no" for one that is. It grows by layers,
//! each twice as large as the one before.

use fastbloom::BloomFilter;

use super::marks::Mark;

/// A layer has so many bits for each mark that it has room for: one false answer in a hundred.
const BITS_PER_MARK: usize = 10;
/// Room of the first layer, and of the largest.
const FIRST_ROOM: usize = 1 << 16;
const MOST_ROOM: usize = 1 << 24;
/// There are so many layers at the most, 64 MiB. The last one takes what more there is, and answers less exactly.
const MOST_LAYERS: usize = 11;

/// The marks of one bucket.
#[derive(Default)]
pub(crate) struct Filter {
    layers: Vec<BloomFilter>,
    /// How many more the last layer has room for.
    room: usize,
}

impl Filter {
    pub(crate) fn insert(&mut self, mark: Mark) {
        if self.room == 0 && self.layers.len() < MOST_LAYERS {
            self.room = (FIRST_ROOM << self.layers.len()).min(MOST_ROOM);
            let layer = BloomFilter::with_num_bits(self.room * BITS_PER_MARK);
            self.layers.push(layer.expected_items(self.room));
        }
        self.room = self.room.saturating_sub(1);
        if let Some(last) = self.layers.last_mut() {
            last.insert_hash(mark.short());
        }
    }

    /// False if the mark is not there.
    pub(crate) fn may_have(&self, mark: Mark) -> bool {
        self.layers.iter().any(|layer| layer.contains_hash(mark.short()))
    }
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").field("layers", &self.layers.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn mark(number: u32) -> Mark {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&Sha256::digest(number.to_be_bytes())[..16]);
        Mark::from_bytes(bytes)
    }

    #[test]
    fn it_has_what_was_put_in_and_little_else() {
        let mut filter = Filter::default();
        assert!(!filter.may_have(mark(0)));
        let count = u32::try_from(FIRST_ROOM).unwrap() * 5;
        (0..count).for_each(|number| filter.insert(mark(number)));
        assert_eq!(filter.layers.len(), 3);
        assert!((0..count).all(|number| filter.may_have(mark(number))));
        let wrong = (count..count + 10_000).filter(|number| filter.may_have(mark(*number))).count();
        assert!(wrong < 500, "{wrong}");
    }
}
