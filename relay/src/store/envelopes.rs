//! Envelopes, read from their pieces. Those that the disk does not give back as they were written are told and left out:
//! their neighbours go on. They stay where they are until their time is over, for a disk that can be read again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postrider_common::Envelope;

use super::kv::{Key, Kv};
use super::{StoreError, keys, records};

/// How many are told one by one.
const TOLD: usize = 1000;

/// The envelopes that could not be read since the store was opened, as far as somebody has asked for them and their time is
/// not over.
#[derive(Debug, Default)]
pub struct Unreadable(Mutex<Known>);

/// By their bodies' keys, those of the records that they are there with.
type Known = BTreeMap<Key, Key>;

impl Unreadable {
    /// How many there are, up to a thousand.
    pub fn count(&self) -> usize {
        self.known().len()
    }

    /// Leaves out what is under `body`, as long as there is `owner`, if it cannot be read. What concerns all of the store
    /// stays an error.
    pub(crate) fn leave_out(
        &self,
        body: &[u8],
        owner: impl FnOnce() -> Key,
        read: Result<Option<Envelope>, StoreError>,
    ) -> Result<Option<Envelope>, StoreError> {
        match read {
            Err(error @ StoreError::Damaged(_)) => {
                self.note(body, &owner(), &error);
                Ok(None)
            }
            read => read,
        }
    }

    /// Forgets those that are not there any more.
    pub(crate) fn forget_gone<K: Kv>(&self, kv: &K) {
        // The disk is asked while nobody waits for the lock.
        let known = self.known().clone();
        let is_gone = |owner: &Key| {
            let found = kv.keys(owner, &keys::next(owner), 1);
            found.is_ok_and(|found| found.is_empty())
        };
        let gone: Vec<_> = known.iter().filter(|(_, owner)| is_gone(owner)).collect();
        let mut known = self.known();
        for (body, _) in gone {
            known.remove(body);
        }
    }

    /// Tells it, the first time.
    pub(crate) fn note(&self, body: &[u8], owner: &[u8], error: &StoreError) {
        let mut known = self.known();
        if known.len() >= TOLD || known.contains_key(body) {
            return;
        }
        known.insert(Key::from_slice(body), Key::from_slice(owner));
        drop(known);
        tracing::error!(
            "an envelope cannot be read and is left out, {}: {error}. It stays there until its time is over; \
             `postrider store check` tells what else is damaged",
            place_of(body)
        );
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The envelope of `bytes` bytes whose pieces are under `body`, if all of them are there.
pub(crate) fn read<K: Kv>(kv: &K, body: &[u8], bytes: u32) -> Result<Option<Envelope>, StoreError> {
    assemble(kv, body, records::pieces(bytes)?)
}

/// The same by the number of pieces.
pub(crate) fn assemble<K: Kv>(kv: &K, body: &[u8], pieces: u16) -> Result<Option<Envelope>, StoreError> {
    let pieces =
        (0..pieces).map(|piece| kv.get(&keys::piece(body, piece))).collect::<Result<Option<Vec<_>>, _>>()?;
    pieces.map(|pieces| records::assemble(&pieces)).transpose()
}

/// Where envelopes with such bodies wait, in words.
fn place_of(body: &[u8]) -> String {
    match body.split_first() {
        Some((b'B', _)) => "in a mailbox".into(),
        Some((b'k', _)) => "in quarantine".into(),
        Some((b'P', rest)) => {
            let domain = rest.split(|byte| *byte == 0).next().map(keys::domain_in);
            domain
                .and_then(Result::ok)
                .map_or_else(|| "in the queue".into(), |domain| format!("for {domain}"))
        }
        _ => "somewhere".into(),
    }
}
