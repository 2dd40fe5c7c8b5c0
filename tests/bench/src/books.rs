//! What was submitted, taken and acknowledged, and how long that took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use postrider_common::clock::{Clock, SystemClock};
use postrider_common::{Draft, Envelope, EnvelopeId, MailboxId};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::BenchError;

/// How long envelopes live: longer than any run.
const LIFE: Duration = Duration::from_secs(7 * 86_400);
/// Nothing takes that long while relays work.
const PATIENCE: Duration = Duration::from_secs(60);

/// The books of a run. Each envelope has a number, from zero on, and carries it in its header with when it was
/// submitted and by whom, so that nothing has to be remembered of it while it is under way.
pub(crate) struct Books {
    started: Instant,
    body: Bytes,
    next: AtomicU64,
    accepted: watch::Sender<u64>,
    arrivals: Mutex<Arrivals>,
    delivered: watch::Sender<u64>,
}

struct Arrivals {
    /// A bit for each envelope that has arrived.
    seen: Vec<u64>,
    count: u64,
    strays: u64,
    latencies: Histogram<u64>,
}

/// What an envelope says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) number: u64,
    pub(crate) sender: u32,
    /// Nanoseconds since the run started.
    submitted_at: u64,
}

/// Latencies in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Books {
    /// Empty ones, for envelopes with bodies of so many bytes.
    pub(crate) fn new(body_bytes: usize) -> Result<Self, BenchError> {
        // Not compressible by accident, the same each time; the relay does not look at it.
        let body =
            (0..body_bytes).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
        Ok(Self {
            started: Instant::now(),
            body,
            next: AtomicU64::new(0),
            accepted: watch::Sender::new(0),
            arrivals: Mutex::new(Arrivals { seen: Vec::new(), count: 0, strays: 0, latencies: histogram()? }),
            delivered: watch::Sender::new(0),
        })
    }

    /// The next envelope, submitted now.
    pub(crate) fn envelope(
        &self,
        sender: u32,
        to: impl FnOnce(u64) -> MailboxId,
    ) -> Result<Envelope, BenchError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mark = Mark { number, sender, submitted_at: self.now() };
        let mut id = [0; 16];
        id[..8].copy_from_slice(b"bench-id");
        id[8..].copy_from_slice(&number.to_be_bytes());
        let expires_at = SystemClock.now() + LIFE;
        let draft = Draft {
            id: EnvelopeId::from_bytes(id),
            header: mark.encode(),
            ..Draft::new(to(number), expires_at, self.body.clone())
        };
        Ok(draft.finish()?)
    }

    /// How long an envelope of this run is on the wire.
    pub(crate) fn envelope_bytes(&self) -> u64 {
        let draft = Draft {
            header: Bytes::from_static(&[0; Mark::LENGTH]),
            ..Draft::new(MailboxId::from_bytes([0; 32]), SystemClock.now(), self.body.clone())
        };
        draft.finish().map_or(0, |envelope| envelope.encoded().len() as u64)
    }

    /// Relays have taken envelopes.
    pub(crate) fn taken(&self, count: usize) {
        self.accepted.send_modify(|accepted| *accepted += count as u64);
    }

    /// Recipients have acknowledged these envelopes.
    pub(crate) fn arrived(&self, marks: &[Mark]) {
        let now = self.now();
        let mut arrivals = self.lock();
        let submitted = self.next.load(Ordering::Relaxed);
        for mark in marks {
            arrivals.note(mark, submitted, now);
        }
        let count = arrivals.count;
        drop(arrivals);
        self.delivered.send_replace(count);
    }

    /// Something else that took time, from the submission on.
    pub(crate) fn took(&self, duration: Duration) {
        self.lock().record(duration);
    }

    /// Starts the latencies afresh.
    pub(crate) fn reset_latencies(&self) {
        self.lock().latencies.reset();
    }

    /// The latencies since the last reset.
    pub(crate) fn latency(&self) -> Latency {
        let arrivals = self.lock();
        let latencies = &arrivals.latencies;
        let at = |quantile| ms(latencies.value_at_quantile(quantile));
        Latency { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: ms(latencies.max()) }
    }

    /// Envelopes that were submitted, whether or not a relay has answered yet.
    pub(crate) fn submitted(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Envelopes that relays have taken.
    pub(crate) fn accepted(&self) -> u64 {
        *self.accepted.borrow()
    }

    /// Envelopes that were acknowledged.
    pub(crate) fn delivered(&self) -> u64 {
        *self.delivered.borrow()
    }

    /// Waits until so many were taken. That nothing moves for long is an error.
    pub(crate) async fn all_accepted(&self, count: u64) -> Result<(), BenchError> {
        reached(&self.accepted, count, "were taken").await
    }

    /// Waits until so many were acknowledged. That nothing moves for long is an error.
    pub(crate) async fn all_delivered(&self, count: u64) -> Result<(), BenchError> {
        reached(&self.delivered, count, "have arrived").await
    }

    /// Whether each submitted envelope was taken and has arrived once, and nothing else has.
    pub(crate) fn balance(&self) -> Result<u64, BenchError> {
        let (submitted, accepted) = (self.submitted(), self.accepted());
        let arrivals = self.lock();
        let Arrivals { count, strays, .. } = *arrivals;
        if (accepted, count, strays) == (submitted, submitted, 0) {
            return Ok(submitted);
        }
        Err(BenchError::Books(format!(
            "{submitted} envelopes were submitted, {accepted} taken, {count} have arrived, and {strays} were not \
             expected"
        )))
    }

    fn now(&self) -> u64 {
        nanos(self.started.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, Arrivals> {
        // Counters have no states in between that a panic could leave behind.
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrivals {
    fn note(&mut self, mark: &Mark, submitted: u64, now: u64) {
        if mark.number >= submitted {
            self.strays += 1;
            return;
        }
        let (word, bit) = (usize::try_from(mark.number / 64).unwrap_or(usize::MAX), 1 << (mark.number % 64));
        if self.seen.len() <= word {
            self.seen.resize((word + 1).next_power_of_two(), 0);
        }
        if self.seen[word] & bit != 0 {
            self.strays += 1;
            return;
        }
        self.seen[word] |= bit;
        self.count += 1;
        self.record(Duration::from_nanos(now.saturating_sub(mark.submitted_at)));
    }

    fn record(&mut self, latency: Duration) {
        self.latencies.saturating_record(nanos(latency) / 1000);
    }
}

impl Mark {
    const LENGTH: usize = 20;

    fn encode(self) -> Bytes {
        let mut bytes = Vec::with_capacity(Self::LENGTH);
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.submitted_at.to_be_bytes());
        bytes.extend_from_slice(&self.sender.to_be_bytes());
        bytes.into()
    }

    /// What an envelope of this run says; none in another one.
    pub(crate) fn of(envelope: &Envelope) -> Option<Self> {
        let (number, rest) = envelope.header().split_first_chunk()?;
        let (submitted_at, rest) = rest.split_first_chunk()?;
        Some(Self {
            number: u64::from_be_bytes(*number),
            submitted_at: u64::from_be_bytes(*submitted_at),
            sender: u32::from_be_bytes(rest.try_into().ok()?),
        })
    }
}

async fn reached(counter: &watch::Sender<u64>, count: u64, what: &str) -> Result<(), BenchError> {
    let mut counter = counter.subscribe();
    loop {
        let have = *counter.borrow_and_update();
        if have >= count {
            return Ok(());
        }
        if timeout(PATIENCE, counter.changed()).await.is_err() {
            return Err(BenchError::Stuck(PATIENCE.as_secs(), format!("{have} of {count} envelopes {what}")));
        }
    }
}

/// In microseconds, to three digits, up to an hour.
fn histogram() -> Result<Histogram<u64>, BenchError> {
    Histogram::new_with_max(3_600_000_000, 3).map_err(|error| BenchError::Generator(error.to_string()))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "an hour in microseconds is far below 2^53")]
fn ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOB: MailboxId = MailboxId::from_bytes([7; 32]);

    fn marks(books: &Books, count: usize) -> Vec<Mark> {
        let envelopes = (0..count).map(|_| books.envelope(3, |_| BOB).unwrap());
        envelopes.map(|envelope| Mark::of(&envelope).unwrap()).collect()
    }

    #[test]
    fn an_envelope_says_which_it_is() {
        let books = Books::new(100).unwrap();
        let first = books.envelope(3, |_| BOB).unwrap();
        let second =
            books.envelope(4, |number| MailboxId::from_bytes([u8::try_from(number).unwrap(); 32])).unwrap();
        assert_ne!(first.id(), second.id());
        assert_eq!((second.mailbox(), second.body().len()), (&MailboxId::from_bytes([1; 32]), 100));
        let mark = Mark::of(&second).unwrap();
        assert_eq!((mark.number, mark.sender), (1, 4));
        let foreign = Draft::new(BOB, SystemClock.now() + LIFE, &b"body"[..]).finish().unwrap();
        assert_eq!(Mark::of(&foreign), None);
    }

    #[test]
    fn balance_when_each_has_arrived_once() {
        let books = Books::new(1).unwrap();
        let marks = marks(&books, 130);
        books.taken(130);
        books.arrived(&marks[64..]);
        assert!(books.balance().is_err(), "some are under way");
        books.arrived(&marks[..64]);
        assert_eq!((books.balance().unwrap(), books.delivered()), (130, 130));
        books.arrived(&marks[5..6]);
        assert!(books.balance().is_err(), "one came twice");
    }

    #[test]
    fn do_not_balance_with_what_was_not_taken_or_not_sent() {
        let books = Books::new(1).unwrap();
        let marks = marks(&books, 2);
        books.arrived(&marks);
        assert!(books.balance().is_err(), "no relay has said that it has them");
        books.taken(2);
        books.balance().unwrap();
        books.arrived(&[Mark { number: 2, ..marks[0] }]);
        assert!(books.balance().is_err(), "nobody sent it");
    }

    #[tokio::test]
    async fn latencies_begin_again() {
        let books = Books::new(1).unwrap();
        books.took(Duration::from_secs(9));
        books.reset_latencies();
        for millis in 1..=100 {
            books.took(Duration::from_millis(millis));
        }
        let Latency { p50, p95, p99, max } = books.latency();
        for (got, wanted) in [(p50, 50.0), (p95, 95.0), (p99, 99.0), (max, 100.0)] {
            assert!((got - wanted).abs() < 0.2, "{got} is not {wanted}");
        }
    }
}
