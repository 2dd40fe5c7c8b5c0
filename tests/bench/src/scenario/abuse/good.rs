//! The good client: submits an envelope to itself, takes it, acknowledges it, and after a moment the next one.

use std::sync::Arc;
use std::time::Duration;

use postrider_client::{Delivery, Relay, SubmitResult};
use postrider_common::Envelope;
use tokio::time::{Instant, sleep, sleep_until};

use crate::BenchError;
use crate::books::{Books, Mark};
use crate::recipient::Recipient;

/// How often it does that at most: half of what one address may submit.
const EVERY: Duration = Duration::from_millis(10);
/// How long to wait where a relay says to come again, and not when.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn talk(
    relay: Relay,
    own: Arc<Recipient>,
    books: Arc<Books>,
    stopping: impl Future<Output = ()>,
) -> Result<(), BenchError> {
    tokio::pin!(stopping);
    let mut stream = own.connect().await?;
    let address = own.address();
    loop {
        let started = Instant::now();
        let envelope = books.envelope(0, |_| address.mailbox)?;
        submit(&relay, &address.domain, envelope).await?;
        books.taken(1);
        let entry = match stream.next().await {
            Some(Ok(Delivery::Entry(entry))) => entry,
            Some(Ok(_)) => {
                return Err(BenchError::Books("nobody sent anything but entries".into()));
            }
            Some(Err(error)) => return Err(error.into()),
            None => {
                return Err(BenchError::Generator("the relay has closed the good client's stream".into()));
            }
        };
        let mark = Mark::of(&entry.envelope);
        let mark = mark.ok_or_else(|| BenchError::Books("an envelope is of another run".into()))?;
        stream.acknowledge(&[entry.id]).await?;
        books.arrived(&[mark]);
        tokio::select! {
            () = &mut stopping => return Ok(stream.close().await?),
            () = sleep_until(started + EVERY) => {}
        }
    }
}

/// As often as it takes.
async fn submit(
    relay: &Relay,
    domain: &postrider_common::Domain,
    envelope: Envelope,
) -> Result<(), BenchError> {
    loop {
        let wait = match relay.submit_one(domain, envelope.clone()).await {
            Ok(SubmitResult::Stored | SubmitResult::Queued { .. }) => return Ok(()),
            Ok(SubmitResult::Refused { reason, retry_after: None }) => {
                return Err(BenchError::Refused(reason));
            }
            Ok(SubmitResult::Refused { retry_after, .. }) => retry_after,
            Ok(_) => None,
            Err(error) if error.is_retryable() => error.retry_after(),
            Err(error) => return Err(error.into()),
        };
        sleep(wait.unwrap_or_default().max(PAUSE)).await;
    }
}
