//! Receiving over as many streams as it takes, and by long poll where there is none to be had.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use postrider_common::backoff::spread;
use postrider_common::random::{SystemRandom, fraction_of};
use postrider_common::wire::mailbox::Entry;
use postrider_common::{EntryId, Timestamp};

use super::seen::Arrival;
use super::{Delivery, MailboxStream, Session};
use crate::Error;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After so many streams in a row that brought nothing, the network is taken for one in which WebSockets do not work.
const FUTILE_STREAMS: u32 = 3;
/// How long it is polled then, before a stream is tried again.
const POLLING: Duration = Duration::from_secs(600);
/// How long one poll waits: less than most proxies let a request stand.
const POLL: Duration = Duration::from_secs(45);

/// Hands out deliveries for as long as the app likes. When the stream breaks, or the relay closes it, it opens
/// another after a pause that grows with each failure.
///
/// Where three streams in a row bring nothing, or something on the way refuses WebSockets, it goes on by long poll, and tries
/// a stream again ten minutes later. Ephemeral envelopes come over streams only.
///
/// ```no_run
/// # use postrider_client::{Delivery, Error, Session};
/// # async fn example(session: Session) -> Result<(), Error> {
/// let mut receiver = session.receive();
/// let went = loop {
///     match receiver.next().await {
///         Ok(Delivery::Entry(entry)) => receiver.acknowledge(&[entry.id]).await?,
///         Ok(_) => {}
///         // What waiting helps against is not seen here. This device was removed, or the mailbox has moved:
///         Err(error) => break error,
///     }
/// };
/// println!("{went}; the mailbox is now at {:?}", went.moved_to());
/// # Ok(())
/// # }
/// ```
pub struct Receiver {
    session: Session,
    stream: Option<MailboxStream>,
    pause: Option<BoxFuture<'static, ()>>,
    failures: u32,
    polling: Option<Polling>,
}

/// While there is no stream to be had.
struct Polling {
    until: Timestamp,
    after: Option<EntryId>,
    /// Entries of the last answer that were not handed out yet.
    waiting: VecDeque<Entry>,
}

impl Receiver {
    pub(super) fn new(session: Session) -> Self {
        Self { session, stream: None, pause: None, failures: 0, polling: None }
    }

    /// The next delivery, as soon as there is one. An error is one that waiting does not help against; calling
    /// again tries again.
    ///
    /// Cancel-safe: nothing is lost when the future is dropped, and a pause goes on where it was.
    pub async fn next(&mut self) -> Result<Delivery, Error> {
        loop {
            if let Some(pause) = &mut self.pause {
                pause.await;
                self.pause = None;
            }
            let error = match self.try_next().await {
                Ok(Some(delivery)) => {
                    self.failures = 0;
                    return Ok(delivery);
                }
                Ok(None) => None,
                Err(error) if error.is_retryable() => Some(error),
                Err(error) if self.polling.is_none() && is_of_websockets(&error) => {
                    self.stream = None;
                    self.poll_for_a_while();
                    continue;
                }
                Err(error) => {
                    self.stream = None;
                    return Err(error);
                }
            };
            self.stream = None;
            self.failures = self.failures.saturating_add(1);
            // While the relay itself is away, polls fail as well, and the two ways are tried in turn.
            if self.polling.take().is_none() && self.failures >= FUTILE_STREAMS {
                self.poll_for_a_while();
            }
            let asked = error.as_ref().and_then(Error::retry_after);
            let pause = pause(self.failures, asked, fraction_of(&SystemRandom));
            tracing::debug!(
                seconds = pause.as_secs_f32(),
                "the stream ended, opening another after a pause: {}",
                error.map_or("closed by the relay".into(), |error| error.to_string())
            );
            self.pause = Some(self.session.relay().clock().sleep(pause));
        }
    }

    /// Opens the stream now if there is none. [`next`](Self::next) does it by itself; this is for an app that wants
    /// to be there for ephemeral envelopes before it waits.
    pub async fn connect(&mut self) -> Result<(), Error> {
        if self.stream.is_none() {
            self.stream = Some(self.session.stream().await?);
        }
        Ok(())
    }

    /// As [`MailboxStream::acknowledge`] while a stream is open, as [`Session::acknowledge`] otherwise.
    pub async fn acknowledge(&mut self, entries: &[EntryId]) -> Result<(), Error> {
        if let Some(stream) = &mut self.stream
            && stream.acknowledge(entries).await.is_ok()
        {
            return Ok(());
        }
        // That the stream is broken comes out in `next`.
        self.session.acknowledge(entries).await
    }

    /// Says goodbye to the relay.
    pub async fn close(self) -> Result<(), Error> {
        match self.stream {
            Some(stream) => stream.close().await,
            None => Ok(()),
        }
    }

    fn poll_for_a_while(&mut self) {
        let until = self.session.relay().clock().now() + POLLING;
        self.polling = Some(Polling { until, after: None, waiting: VecDeque::new() });
    }

    async fn try_next(&mut self) -> Result<Option<Delivery>, Error> {
        if let Some(polling) = &mut self.polling {
            if let Some(entry) = polling.next(&self.session).await? {
                return Ok(Some(Delivery::Entry(entry)));
            }
            self.polling = None;
        }
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(self.session.stream().await?),
        };
        stream.next().await.transpose()
    }
}

impl Polling {
    /// The next entry; none when it is time for a stream again.
    ///
    /// Cancel-safe: a poll whose answer is not read is asked anew.
    async fn next(&mut self, session: &Session) -> Result<Option<Entry>, Error> {
        loop {
            while let Some(entry) = self.waiting.front() {
                // Bound on its own: in the `match` itself the lock would be held while the relay is told.
                let arrival = session.seen().arrival(entry);
                match arrival {
                    Arrival::New => session.seen().handed_out(entry),
                    Arrival::Repeated => {}
                    Arrival::Settled => session.acknowledge(&[entry.id]).await?,
                }
                let entry = self.waiting.pop_front();
                if let (Some(entry), Arrival::New) = (entry, arrival) {
                    return Ok(Some(entry));
                }
            }
            if session.relay().clock().now() >= self.until {
                return Ok(None);
            }
            self.waiting = session.entries(self.after, POLL).await?.into();
            self.after = self.waiting.back().map(|entry| entry.id).or(self.after);
        }
    }
}

/// Whether an error can come of something on the way that knows no WebSockets.
fn is_of_websockets(error: &Error) -> bool {
    match error {
        Error::Status { .. } | Error::Protocol { .. } => true,
        other => other.slug() == Some("upgrade-required"),
    }
}

/// Half a second at most, doubled with each failure up to a minute.
fn pause(failures: u32, asked: Option<Duration>, jitter: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    spread(doubled.min(LONGEST_PAUSE), asked, jitter)
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("session", &self.session)
            .field("connected", &self.stream.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_to_a_minute() {
        let millis = |failures| pause(failures, None, 1.0).as_millis();
        let pauses: Vec<_> = (1..=9).map(millis).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(millis(u32::MAX), 60_000);
        assert_eq!(pause(2, None, 0.0), Duration::from_millis(500));
    }

    #[test]
    fn the_relays_wish_is_a_lower_bound() {
        let asked = |secs| pause(4, Some(Duration::from_secs(secs)), 1.0);
        assert_eq!(asked(120), Duration::from_secs(120));
        assert_eq!(asked(1), Duration::from_secs(4));
    }
}
