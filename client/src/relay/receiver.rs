//! Receiving over as many streams as it takes.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use postrider_common::EntryId;
use postrider_common::secret::random_bytes;

use super::{Delivery, MailboxStream, Session};
use crate::Error;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Hands out deliveries for as long as the app likes. When the stream breaks, or the relay closes it, it opens
/// another after a pause that grows with each failure.
pub struct Receiver {
    session: Session,
    stream: Option<MailboxStream>,
    pause: Option<BoxFuture<'static, ()>>,
    failures: u32,
}

impl Receiver {
    pub(super) fn new(session: Session) -> Self {
        Self { session, stream: None, pause: None, failures: 0 }
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
                Err(error) => {
                    self.stream = None;
                    return Err(error);
                }
            };
            self.stream = None;
            self.failures = self.failures.saturating_add(1);
            let asked = error.as_ref().and_then(Error::retry_after);
            let pause = pause(self.failures, asked, random_bytes::<1>()[0]);
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

    async fn try_next(&mut self) -> Result<Option<Delivery>, Error> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(self.session.stream().await?),
        };
        stream.next().await.transpose()
    }
}

/// Half a second, doubled with each failure up to a minute; between half and all of that, so that the clients of a
/// relay that was restarted do not return in step. Never less than the relay asked for.
fn pause(failures: u32, asked: Option<Duration>, jitter: u8) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let spread = doubled.min(LONGEST_PAUSE).mul_f64(0.5 + 0.5 * f64::from(jitter) / 255.0);
    spread.max(asked.unwrap_or_default())
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
        let millis = |failures| pause(failures, None, 255).as_millis();
        let pauses: Vec<_> = (1..=9).map(millis).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(millis(u32::MAX), 60_000);
        assert_eq!(pause(2, None, 0), Duration::from_millis(500));
    }

    #[test]
    fn the_relays_wish_is_a_lower_bound() {
        let asked = |secs| pause(4, Some(Duration::from_secs(secs)), 255);
        assert_eq!(asked(120), Duration::from_secs(120));
        assert_eq!(asked(1), Duration::from_secs(4));
    }
}
