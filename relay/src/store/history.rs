//! What was met on the way to a destination, and what it has answered about an envelope: for an operator who asks why.
//!
//! The same class in the same words is one entry however often it was met in a row, and few entries are kept, so a
//! destination that fails for a month has a small record.

use postrider_common::{Domain, FailureClass, Timestamp, TrackingId};

use super::group::Group;
use super::keys;
use super::kv::Kv;
use super::records::{self, HistoryRecord, MetRecord};
use super::view::View;
use super::{Backoff, Met, StoreError};

/// How many entries are kept of one destination, and of one envelope. The oldest goes first.
pub const MET_ENTRIES: usize = 16;
/// The longest sentence that is kept.
const DETAIL_CHARS: usize = 400;

impl<K: Kv> Group<'_, K> {
    pub(crate) fn fail(
        &mut self,
        domain: &Domain,
        backoff: Backoff,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let key = keys::history(domain);
        let before: Option<HistoryRecord> = self.record(&key)?;
        if let Some(until) = before.as_ref().and_then(|before| before.until) {
            self.remove(keys::history_end(until, domain));
        }
        let mut met = before.map_or_else(Vec::new, |before| before.met);
        add(&mut met, backoff.class, &backoff.detail, now);
        let until = now + self.rules.limits.tracking_retention;
        self.put(key, &HistoryRecord { met, until: Some(until) });
        // The index may have been there before: a clock that stands still gives the same time again.
        self.put(keys::history_end(until, domain), &());
        self.put_backoff(domain, Some(backoff))
    }

    /// The destination has answered that the envelope should come again.
    pub(crate) fn note_answer(
        &mut self,
        id: &TrackingId,
        class: FailureClass,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let key = keys::answers(id);
        let before: Option<HistoryRecord> = self.record(&key)?;
        let mut met = before.map_or_else(Vec::new, |before| before.met);
        add(&mut met, class, "", now);
        self.put(key, &HistoryRecord { met, until: None });
        Ok(())
    }
}

fn add(met: &mut Vec<MetRecord>, class: FailureClass, detail: &str, now: Timestamp) {
    let detail: String = detail.chars().take(DETAIL_CHARS).collect();
    match met.last_mut() {
        Some(last) if last.class == class.slug() && last.detail == detail => {
            last.last = now;
            last.times = last.times.saturating_add(1);
        }
        _ => {
            met.drain(..(met.len() + 1).saturating_sub(MET_ENTRIES));
            met.push(MetRecord { class: class.slug().into(), detail, first: now, last: now, times: 1 });
        }
    }
}

impl<K: Kv> View<K> {
    pub(crate) fn history(&self, domain: &Domain) -> Result<Vec<Met>, StoreError> {
        self.met(&keys::history(domain))
    }

    pub(crate) fn answers(&self, id: &TrackingId) -> Result<Vec<Met>, StoreError> {
        self.met(&keys::answers(id))
    }

    fn met(&self, key: &[u8]) -> Result<Vec<Met>, StoreError> {
        let Some(bytes) = self.get(key)? else {
            return Ok(Vec::new());
        };
        let record: HistoryRecord = records::decode(&bytes)?;
        Ok(record.met.into_iter().map(Into::into).collect())
    }
}
