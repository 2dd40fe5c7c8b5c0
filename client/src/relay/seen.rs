//! Which entries the app has had, so that none is handed out twice.

use std::collections::BTreeMap;

use postrider_common::{EntryId, EnvelopeId};

use crate::Entry;

/// How many entries are remembered: more than a mailbox holds by default. Beyond that the oldest are forgotten,
/// which the relay has deleted long ago unless they were never acknowledged.
const CAPACITY: usize = 20_000;

/// Entries that were handed out.
///
/// The envelope's id belongs to it because a mailbox that is deleted and made again begins to count anew: an entry
/// that only has the number of another must not be taken for it, and certainly not acknowledged unread.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<EntryId, Mark>);

#[derive(Debug)]
struct Mark {
    envelope: EnvelopeId,
    /// By the app.
    acknowledged: bool,
}

/// What to do with an entry that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Hand it out.
    New,
    /// The app has it and will acknowledge it.
    Repeated,
    /// The app has acknowledged it, but the relay does not know: tell it again.
    Settled,
}

impl Seen {
    pub(super) fn arrival(&self, entry: &Entry) -> Arrival {
        match self.0.get(&entry.id) {
            Some(mark) if mark.envelope != *entry.envelope.id() => Arrival::New,
            Some(mark) if mark.acknowledged => Arrival::Settled,
            Some(_) => Arrival::Repeated,
            None => Arrival::New,
        }
    }

    /// Call for an entry that is [new](Arrival::New).
    pub(super) fn handed_out(&mut self, entry: &Entry) {
        let mark = Mark { envelope: *entry.envelope.id(), acknowledged: false };
        self.0.insert(entry.id, mark);
        while self.0.len() > CAPACITY {
            self.0.pop_first();
        }
    }

    pub(super) fn acknowledged(&mut self, entries: &[EntryId]) {
        for entry in entries {
            if let Some(mark) = self.0.get_mut(entry) {
                mark.acknowledged = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_common::{Draft, MailboxId, Timestamp};

    use super::*;

    fn entry(id: u64) -> Entry {
        let draft = Draft::new(MailboxId::from_bytes([1; 32]), Timestamp::from_secs(1), "body");
        Entry::new(EntryId(id), draft.finish().unwrap())
    }

    #[test]
    fn an_entry_is_new_once() {
        let (five, six) = (entry(5), entry(6));
        let mut seen = Seen::default();
        assert_eq!(seen.arrival(&five), Arrival::New);
        seen.handed_out(&five);
        assert_eq!(seen.arrival(&five), Arrival::Repeated);
        seen.acknowledged(&[five.id, six.id]);
        assert_eq!(seen.arrival(&five), Arrival::Settled);
        assert_eq!(seen.arrival(&six), Arrival::New, "it was never handed out");
    }

    #[test]
    fn another_envelope_under_the_same_number_is_new() {
        let (old, new) = (entry(1), entry(1));
        let mut seen = Seen::default();
        seen.handed_out(&old);
        seen.acknowledged(&[old.id]);
        assert_eq!(seen.arrival(&new), Arrival::New);
        seen.handed_out(&new);
        assert_eq!(seen.arrival(&new), Arrival::Repeated);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_go_first() {
        let (mut seen, template) = (Seen::default(), entry(0));
        let numbered = |id| Entry::new(EntryId(id), template.envelope.clone());
        for id in 0..=CAPACITY as u64 {
            seen.handed_out(&numbered(id));
        }
        assert_eq!(seen.0.len(), CAPACITY);
        assert_eq!(seen.arrival(&numbered(0)), Arrival::New);
        assert_eq!(seen.arrival(&numbered(1)), Arrival::Repeated);
    }
}
