//! What became of queued envelopes: under the ids that their senders have, and by the marks that know them again.
//!
//! An envelope that goes on to another destination is another item there, with a tracking id of its own, to which the
//! record of the one before points.

use std::sync::Mutex;

use postrider_common::random::{Random, bytes_of};
use postrider_common::{Domain, Envelope, Timestamp, TrackingId};
use sha2::{Digest, Sha256};

use super::group::Group;
use super::keys;
use super::kv::Kv;
use super::leases::Leases;
use super::marks::Mark;
use super::queue::lock;
use super::records::{self, EndRecord, MarkRecord, TrackingRecord};
use super::view::View;
use super::{StoreError, Tracking};

/// More than an envelope goes on: what is told of one in a ring of moves has an end.
const MOST_MOVES: usize = 16;

impl<K: Kv> Group<'_, K> {
    /// The tracking id of an envelope that was queued before, unless that has failed.
    pub(crate) fn queued_before(&self, mark: Mark) -> Result<Option<TrackingId>, StoreError> {
        let Some(id) = self.tracked_by(mark)? else { return Ok(None) };
        let end = self.last_tracked(&id)?.map(|record| record.end);
        // One whose record is gone cannot be told about any more, so it counts as one that has failed.
        Ok(matches!(end, Some(None | Some((EndRecord::Stored, _)))).then_some(id))
    }

    /// Whether an envelope to this address was queued, and has arrived where its mailbox was.
    pub(crate) fn has_arrived(&self, addressed: &Domain, envelope: &Envelope) -> Result<bool, StoreError> {
        let mark = self.rules.marks.of_queued(addressed, envelope.mailbox(), envelope.id());
        let Some(id) = self.tracked_by(mark)? else { return Ok(false) };
        let end = self.last_tracked(&id)?.and_then(|record| record.end);
        Ok(matches!(end, Some((EndRecord::Stored, _))))
    }

    /// The tracking id that a mark of what is queued tells of.
    pub(crate) fn tracked_by(&self, mark: Mark) -> Result<Option<TrackingId>, StoreError> {
        let Some((_, record)) = self.marked(mark)? else { return Ok(None) };
        let lacks_it = || StoreError::Damaged("a queued envelope's mark lacks its tracking id".into());
        record.tracking.map(Some).ok_or_else(lacks_it)
    }

    /// From now on `mark` tells of `tracking`, and of nothing before.
    pub(crate) fn mark_anew(
        &mut self,
        mark: Mark,
        tracking: TrackingId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if let Some((key, _)) = self.marked(mark)? {
            self.remove(key);
        }
        self.put_mark(mark, MarkRecord { tracking: Some(tracking) }, now);
        Ok(())
    }

    /// Until when a tracking record is kept after all that is due at `now`, as an envelope that has gone on is tracked at
    /// another destination; `None`: not any longer.
    pub(crate) fn tracked_on_until(
        &self,
        id: &TrackingId,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let retention = self.rules.limits.tracking_retention;
        Ok(match self.last_tracked(id)?.map(|record| record.end) {
            None => None,
            Some(None) => Some(now + retention),
            Some(Some((_, at))) => Some(at + retention).filter(|until| *until > now),
        })
    }

    /// An envelope's record at the destination that it has gone on to last, if it is there.
    fn last_tracked(&self, id: &TrackingId) -> Result<Option<TrackingRecord>, StoreError> {
        let mut next = *id;
        for _ in 0..MOST_MOVES {
            let record = self.record::<TrackingRecord>(&keys::tracking(&next))?;
            match record.as_ref().and_then(|record| record.end.as_ref()) {
                Some((EndRecord::Moved(to), _)) => next = *to,
                _ => return Ok(record),
            }
        }
        Ok(None)
    }
}

impl<K: Kv> View<K> {
    /// What became of an envelope, also where it went on from there.
    pub(crate) fn tracking(
        &self,
        id: &TrackingId,
        leases: &Mutex<Leases>,
    ) -> Result<Option<Tracking>, StoreError> {
        let (mut next, mut told) = (*id, None::<Tracking>);
        for _ in 0..MOST_MOVES {
            let Some(bytes) = self.get(&keys::tracking(&next))? else { break };
            let record: TrackingRecord = records::decode(&bytes)?;
            let moved_on = match &record.end {
                Some((EndRecord::Moved(to), _)) => Some(*to),
                _ => None,
            };
            let mut here = Tracking::from(record);
            here.is_unreadable = here.end.is_none() && lock(leases).is_unreadable_as(&here.destination, next);
            told = Some(match told {
                None => here,
                Some(before) => Tracking {
                    queued_at: before.queued_at,
                    attempts: before.attempts.saturating_add(here.attempts),
                    ..here
                },
            });
            let Some(to) = moved_on else { break };
            next = to;
        }
        Ok(told)
    }
}

/// Its first two bytes come from the destination: that is what finds the record in an engine that is divided by
/// destinations.
pub(crate) fn new_tracking_id(destination: &Domain, random: &dyn Random) -> TrackingId {
    let mut id: [u8; TrackingId::SIZE] = bytes_of(random);
    id[..2].copy_from_slice(&Sha256::digest(destination.as_str())[..2]);
    TrackingId::from_bytes(id)
}
