//! What DNS answered, and how far it can be believed.

use std::fmt;
use std::time::Duration;

use crate::certificate::Pin;

/// What DNSSEC says about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// Every record of it is signed, from the trust anchor down.
    Secure,
    /// It is proven that nobody signs it.
    Insecure,
    /// Nobody has looked: DNSSEC cannot be checked here, or the answer is an old one that was signed.
    Unchecked,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secure => "secure",
            Self::Insecure => "insecure",
            Self::Unchecked => "unchecked",
        })
    }
}

/// An answer. One without records says that there are none, which can be proven too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The records, in no particular order.
    pub records: Vec<T>,
    /// What DNSSEC says about them.
    pub proof: Proof,
    /// For how long they may still be used.
    pub life: Duration,
    /// Their time is over, and served only because no name server can be asked.
    pub is_stale: bool,
}

impl<T> Answer<T> {
    /// A fresh answer.
    pub const fn new(records: Vec<T>, proof: Proof, life: Duration) -> Self {
        Self { records, proof, life, is_stale: false }
    }

    /// The same answer with other records.
    pub fn map<U>(self, each: impl FnMut(T) -> Option<U>) -> Answer<U> {
        Answer {
            records: self.records.into_iter().filter_map(each).collect(),
            proof: self.proof,
            life: self.life,
            is_stale: self.is_stale,
        }
    }
}

/// A TLSA record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tlsa {
    /// What kind of certificate it is about; 3 is the peer's own.
    pub usage: u8,
    /// Which part of it; 1 is the key.
    pub selector: u8,
    /// In which form; 1 is SHA-256.
    pub matching: u8,
    /// The data.
    pub data: Vec<u8>,
}

impl Tlsa {
    /// The key that a record `3 1 1` names. No other kind is used.
    pub fn pin(&self) -> Option<Pin> {
        match (self.usage, self.selector, self.matching) {
            (3, 1, 1) => self.data.as_slice().try_into().ok().map(Pin::from_bytes),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_key_of_the_peers_own_is_used() {
        let record =
            |usage, selector, matching, length| Tlsa { usage, selector, matching, data: vec![7; length] };
        assert_eq!(record(3, 1, 1, 32).pin(), Some(Pin::from_bytes([7; 32])));
        for other in [
            record(2, 1, 1, 32),
            record(3, 0, 1, 32),
            record(3, 1, 2, 64),
            record(3, 1, 0, 32),
            record(3, 1, 1, 31),
            record(3, 1, 1, 0),
        ] {
            assert_eq!(other.pin(), None, "{other:?}");
        }
    }
}
