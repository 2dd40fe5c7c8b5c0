//! The marks by which an envelope that comes again is recognised.
//!
//! A mark is a keyed hash of 16 bytes: the disk does not tell which envelopes have been here, nor can a sender find
//! two with the same mark. Marks lie in buckets named by the time when the whole bucket may go, so that forgetting
//! them is a walk over what is over and nothing else.
//!
//! Within a bucket they are in the order of the hash, which is none: whatever moves new marks into an ordered store
//! touches every part of the bucket. A bucket that is full is therefore followed by another one, which ends a millisecond
//! later. How large a full one is grows with the whole, so that there are some twenty to look into and not thousands.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_common::secret::Secret;
use postrider_common::{Domain, EnvelopeId, MailboxId, Timestamp};
use sha2::{Digest, Sha256};

use super::filter::Filter;
use super::group::Group;
use super::keys;
use super::kv::{Key, Kv};
use super::records::MarkRecord;
use super::{Source, StoreError};

/// Two buckets are at least so far apart, in milliseconds.
const LEAST_WIDTH: u64 = 1000;
/// When a bucket ends that follows a full one, after that.
const FOLLOWS_AFTER: Duration = Duration::from_millis(1);
/// A bucket is full when it has so many marks,
const LEAST_FULL: u64 = 1 << 18;
/// and one of so many of all that there are.
const FULL_SHARE: u64 = 8;
/// How many marks are read into a filter together.
const PAGE: usize = 1024;

/// Which buckets there are, and how marks are made.
#[derive(Debug)]
pub(crate) struct Marks {
    secret: Secret<32>,
    retention: Duration,
    buckets: BTreeMap<Timestamp, Bucket>,
}

/// What is known of a bucket.
#[derive(Debug, Default)]
struct Bucket {
    filter: Filter,
    /// How many marks the filter has.
    marks: u64,
    /// The filter lacks the marks from here on that were made before the store was opened.
    unread: Option<Key>,
}

/// One envelope's mark.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark([u8; 16]);

impl Mark {
    /// What a filter knows it by.
    pub(crate) const fn short(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    #[cfg(test)]
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl Marks {
    /// Finds the buckets by skipping from one to the next. Their marks are read [later](Self::read_some).
    pub(crate) fn load<K: Kv>(kv: &K, secret: Secret<32>, retention: Duration) -> Result<Self, StoreError> {
        let mut buckets = BTreeMap::new();
        let (mut start, end) = (Key::from_slice(&[keys::MARKS]), keys::end_of(&[keys::MARKS]));
        while let Some((key, _)) = kv.range(&start, &end, 1)?.first() {
            let bucket = Timestamp::from_millis(keys::first_number(key)?);
            start = keys::end_of(&keys::bucket(bucket));
            buckets.insert(bucket, Bucket { unread: Some(key.clone()), ..Bucket::default() });
        }
        Ok(Self { secret, retention, buckets })
    }

    /// The mark of an envelope in a mailbox here.
    pub(crate) fn of_deposit(&self, mailbox: &MailboxId, envelope: &EnvelopeId) -> Mark {
        self.mark(b'd', mailbox, envelope, "")
    }

    /// The mark of an envelope that was queued, and is `addressed` to this domain.
    pub(crate) fn of_queued(&self, addressed: &Domain, mailbox: &MailboxId, envelope: &EnvelopeId) -> Mark {
        self.mark(b'q', mailbox, envelope, addressed.as_str())
    }

    /// The mark of an envelope queued for `destination` because it has followed a binding from `source`.
    pub(crate) fn of_sent_on(&self, destination: &Domain, mailbox: &MailboxId, source: Source) -> Mark {
        let (kind, number) = match source {
            Source::Item(tracking) => (b'o', *tracking.as_bytes()),
            Source::Held { entry, serial } => {
                let number = u128::from(entry.0) << 64 | u128::from(serial);
                (b'h', number.to_be_bytes())
            }
        };
        self.mark(kind, mailbox, &EnvelopeId::from_bytes(number), destination.as_str())
    }

    /// The buckets that are over, earliest first.
    pub(crate) fn over(&self, now: Timestamp) -> Vec<Timestamp> {
        self.buckets.range(..=now).map(|(end, _)| *end).collect()
    }

    /// A bucket has been emptied.
    pub(crate) fn forget(&mut self, bucket: Timestamp) {
        self.buckets.remove(&bucket);
    }

    /// Reads some marks of before the store was opened into the filters. Until all are read, look-ups take longer; an
    /// opening that waited for tens of millions of them would, too.
    pub(crate) fn read_some<K: Kv>(&mut self, kv: &K) -> Result<(), StoreError> {
        let unread = |(end, bucket): (&Timestamp, &mut Bucket)| Some((*end, bucket.unread.take()?));
        let Some((end, from)) = self.buckets.iter_mut().find_map(unread) else {
            return Ok(());
        };
        let page = kv.range(&from, &keys::end_of(&keys::bucket(end)), PAGE);
        let Some(bucket) = self.buckets.get_mut(&end) else {
            return Ok(());
        };
        // What cannot be read now is tried again.
        bucket.unread = Some(from);
        let page = page?;
        for (key, _) in &page {
            bucket.insert(Mark(*key.last_chunk().ok_or_else(damaged)?));
        }
        bucket.unread = page.last().filter(|_| page.len() == PAGE).map(|(key, _)| keys::next(key));
        Ok(())
    }

    fn mark(&self, kind: u8, mailbox: &MailboxId, envelope: &EnvelopeId, domain: &str) -> Mark {
        // Every part but the last has a fixed length.
        let digest = Sha256::new()
            .chain_update(self.secret.expose())
            .chain_update([kind])
            .chain_update(mailbox.as_bytes())
            .chain_update(envelope.as_bytes())
            .chain_update(domain)
            .finalize();
        let mut mark = [0; 16];
        mark.copy_from_slice(&digest[..16]);
        Mark(mark)
    }

    /// Where a mark made now goes: the bucket that ends a full retention from now or up to half of one later, or one that
    /// follows it because it is full.
    ///
    /// A clock that was set back a little does not bring back an earlier bucket: what is marked until it has caught
    /// up would live too short.
    fn current(&mut self, now: Timestamp) -> Timestamp {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let width = (millis(self.retention) / 2).max(LEAST_WIDTH);
        let end = (now + self.retention).as_millis();
        let by_clock = Timestamp::from_millis(end.div_ceil(width).saturating_mul(width));
        // Those that end by the clock's own bounds, this one and the next, and those that follow them.
        let beyond = by_clock + Duration::from_millis(width) * 2;
        let latest = self.buckets.range(by_clock..beyond).next_back();
        let current = match latest.map(|(end, bucket)| (*end, *end + FOLLOWS_AFTER, bucket)) {
            None => by_clock,
            Some((_, next, bucket)) if next < beyond && self.is_full(bucket) => next,
            Some((end, ..)) => end,
        };
        self.buckets.entry(current).or_default();
        current
    }

    fn is_full(&self, bucket: &Bucket) -> bool {
        let all = || self.buckets.values().map(|bucket| bucket.marks).sum::<u64>();
        bucket.marks >= LEAST_FULL && bucket.marks >= all() / FULL_SHARE
    }
}

impl Bucket {
    fn insert(&mut self, mark: Mark) {
        self.filter.insert(mark);
        self.marks += 1;
    }
}

impl<K: Kv> Group<'_, K> {
    /// The key and the record of `mark`, if it was made and not yet forgotten.
    pub(crate) fn marked(&self, mark: Mark) -> Result<Option<(Key, MarkRecord)>, StoreError> {
        for (end, bucket) in self.rules.marks.buckets.iter().rev() {
            if bucket.unread.is_none() && !bucket.filter.may_have(mark) {
                continue;
            }
            let key = keys::mark(*end, &mark.0);
            if let Some(record) = self.record(&key)? {
                return Ok(Some((key, record)));
            }
        }
        Ok(None)
    }

    /// Makes `mark`, which is not there, or no longer.
    pub(crate) fn put_mark(&mut self, mark: Mark, record: MarkRecord, now: Timestamp) {
        let end = self.rules.marks.current(now);
        if let Some(bucket) = self.rules.marks.buckets.get_mut(&end) {
            bucket.insert(mark);
        }
        self.put(keys::mark(end, &mark.0), &record);
    }
}

fn damaged() -> StoreError {
    StoreError::Damaged("a mark's key has not its length".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn marks() -> Marks {
        Marks { secret: Secret::new([1; 32]), retention: 7 * DAY, buckets: BTreeMap::new() }
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
    fn a_full_bucket_is_followed_by_another_one() {
        let mut marks = marks();
        let now = Timestamp::from_secs(1_790_000_000);
        let first = marks.current(now);
        marks.buckets.get_mut(&first).unwrap().marks = LEAST_FULL - 1;
        assert_eq!(marks.current(now), first);
        marks.buckets.get_mut(&first).unwrap().marks = LEAST_FULL;
        let second = marks.current(now);
        assert_eq!(second, first + FOLLOWS_AFTER);
        assert_eq!(marks.current(now), second, "it is not full");
        // The next one by the clock comes when its time has come, and stays if the clock is set back.
        let third = marks.current(now + 7 * DAY / 2);
        assert_eq!(third, first + 7 * DAY / 2);
        marks.buckets.get_mut(&third).unwrap().marks = LEAST_FULL;
        assert_eq!(marks.current(now), third + FOLLOWS_AFTER);
    }

    #[test]
    fn buckets_grow_with_the_whole() {
        let mut marks = marks();
        let now = Timestamp::from_secs(1_790_000_000);
        let mut made = 0;
        while made < 40_000_000 {
            let current = marks.current(now);
            marks.buckets.get_mut(&current).unwrap().marks += LEAST_FULL / 4;
            made += LEAST_FULL / 4;
        }
        assert!(marks.buckets.len() < 40, "{}", marks.buckets.len());
        let largest = marks.buckets.values().map(|bucket| bucket.marks).max().unwrap();
        assert!(largest <= made / FULL_SHARE + LEAST_FULL, "{largest}");
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
        let distinct: std::collections::BTreeSet<_> = all.iter().map(|mark| mark.0).collect();
        assert_eq!(distinct.len(), all.len());
    }
}
