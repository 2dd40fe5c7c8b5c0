//! The marks by which an envelope that comes again is recognised.
//!
//! A mark is a keyed hash of 16 bytes: the disk does not tell which envelopes have been here, nor can a sender find
//! two with the same mark. Marks lie in buckets named by the time when the whole bucket may go, so that forgetting
//! them is a walk over what is over and nothing else. There are about three buckets at any time.

use std::collections::BTreeSet;
use std::time::Duration;

use postrider_common::secret::Secret;
use postrider_common::{Domain, EnvelopeId, MailboxId, Timestamp};
use sha2::{Digest, Sha256};

use super::StoreError;
use super::group::Group;
use super::keys;
use super::kv::{Key, Kv};
use super::records::{self, MarkRecord};

/// Two buckets are at least so far apart, in milliseconds.
const LEAST_WIDTH: u64 = 1000;

/// Which buckets there are, and how marks are made.
#[derive(Debug)]
pub(crate) struct Marks {
    secret: Secret<32>,
    retention: Duration,
    buckets: BTreeSet<Timestamp>,
}

/// One envelope's mark.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark([u8; 16]);

impl Marks {
    /// Finds the buckets by skipping from one to the next.
    pub(crate) fn load<K: Kv>(kv: &K, secret: Secret<32>, retention: Duration) -> Result<Self, StoreError> {
        let mut buckets = BTreeSet::new();
        let (mut start, end) = (vec![keys::MARKS], keys::end_of(&[keys::MARKS]));
        while let Some((key, _)) = kv.range(&start, &end, 1)?.first() {
            let bucket = Timestamp::from_millis(keys::first_number(key)?);
            buckets.insert(bucket);
            start = keys::end_of(&keys::bucket(bucket));
        }
        Ok(Self { secret, retention, buckets })
    }

    /// The mark of an envelope in a mailbox here.
    pub(crate) fn of_deposit(&self, mailbox: &MailboxId, envelope: &EnvelopeId) -> Mark {
        self.mark(b'd', mailbox, envelope, "")
    }

    /// The mark of an envelope queued for `destination`.
    pub(crate) fn of_queued(&self, destination: &Domain, mailbox: &MailboxId, envelope: &EnvelopeId) -> Mark {
        self.mark(b'q', mailbox, envelope, destination.as_str())
    }

    /// The buckets that are over, earliest first.
    pub(crate) fn over(&self, now: Timestamp) -> Vec<Timestamp> {
        self.buckets.range(..=now).copied().collect()
    }

    /// A bucket has been emptied.
    pub(crate) fn forget(&mut self, bucket: Timestamp) {
        self.buckets.remove(&bucket);
    }

    fn mark(&self, kind: u8, mailbox: &MailboxId, envelope: &EnvelopeId, destination: &str) -> Mark {
        // Every part but the last has a fixed length.
        let digest = Sha256::new()
            .chain_update(self.secret.expose())
            .chain_update([kind])
            .chain_update(mailbox.as_bytes())
            .chain_update(envelope.as_bytes())
            .chain_update(destination)
            .finalize();
        let mut mark = [0; 16];
        mark.copy_from_slice(&digest[..16]);
        Mark(mark)
    }

    /// Where a mark made now goes: the bucket that ends a full retention from now or up to half of one later.
    ///
    /// A clock that was set back a little does not bring back an earlier bucket: what is marked until it has caught
    /// up would live too short.
    fn current(&mut self, now: Timestamp) -> Timestamp {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let width = (millis(self.retention) / 2).max(LEAST_WIDTH);
        let end = (now + self.retention).as_millis();
        let by_clock = Timestamp::from_millis(end.div_ceil(width).saturating_mul(width));
        let latest = self.buckets.range(by_clock..=by_clock + Duration::from_millis(width));
        let current = latest.last().copied().unwrap_or(by_clock);
        self.buckets.insert(current);
        current
    }
}

impl<K: Kv> Group<'_, K> {
    /// The key and the record of `mark`, if it was made and not yet forgotten.
    pub(crate) fn marked(&mut self, mark: Mark) -> Result<Option<(Key, MarkRecord)>, StoreError> {
        let buckets: Vec<_> = self.rules.marks.buckets.iter().rev().copied().collect();
        for bucket in buckets {
            let key = keys::mark(bucket, &mark.0);
            if let Some(record) = self.record(&key)? {
                return Ok(Some((key, record)));
            }
        }
        Ok(None)
    }

    /// Makes `mark`, which is not there, or no longer.
    pub(crate) fn put_mark(&mut self, mark: Mark, record: MarkRecord, now: Timestamp) {
        let bucket = self.rules.marks.current(now);
        self.put_new(keys::mark(bucket, &mark.0), records::encode(&record));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn marks() -> Marks {
        Marks { secret: Secret::new([1; 32]), retention: 7 * DAY, buckets: BTreeSet::new() }
    }

    #[test]
    fn a_bucket_ends_no_earlier_than_any_of_its_marks() {
        let mut marks = marks();
        let start = Timestamp::from_secs(1_790_000_000);
        for hour in 0..24 * 60 {
            let now = start + Duration::from_secs(3600) * hour;
            let end = marks.current(now);
            assert!(end >= now + 7 * DAY && end < now + 11 * DAY, "{now} → {end}");
        }
    }

    #[test]
    fn a_clock_set_back_uses_no_earlier_bucket() {
        let mut marks = marks();
        let width = 7 * DAY / 2;
        // The first millisecond of a bucket, then one before it.
        let edge = Timestamp::from_millis(1) + width * 6000;
        let later = marks.current(edge);
        assert_eq!(marks.current(edge - Duration::from_secs(60)), later);
        // A clock that was a year ahead does not keep every mark from then on for a year.
        marks.current(edge + 365 * DAY);
        assert_eq!(marks.current(edge), later);
    }

    #[test]
    fn marks_differ_by_each_part() {
        let marks = marks();
        let (mailbox, id) = (MailboxId::from_bytes([1; 32]), EnvelopeId::from_bytes([2; 16]));
        let (a, b): (Domain, Domain) = ("a.example".parse().unwrap(), "b.example".parse().unwrap());
        let all = [
            marks.of_deposit(&mailbox, &id),
            marks.of_deposit(&MailboxId::from_bytes([3; 32]), &id),
            marks.of_deposit(&mailbox, &EnvelopeId::from_bytes([3; 16])),
            marks.of_queued(&a, &mailbox, &id),
            marks.of_queued(&b, &mailbox, &id),
        ];
        let distinct: BTreeSet<_> = all.iter().map(|mark| mark.0).collect();
        assert_eq!(distinct.len(), all.len());
    }
}
