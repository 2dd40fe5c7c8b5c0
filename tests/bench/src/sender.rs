//! A client that submits batches over one connection, as an app's server would.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use postrider_client::{Relay, SubmitResult};
use postrider_common::{Address, Domain, Envelope};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::BenchError;
use crate::books::Books;

/// How long to wait where a relay says to come again, and not when.
const PAUSE: Duration = Duration::from_millis(100);

/// One client.
pub(crate) struct Sender {
    pub(crate) number: u32,
    pub(crate) relay: Relay,
    pub(crate) to: Arc<[Address]>,
    pub(crate) batch: usize,
    pub(crate) window: Window,
    pub(crate) books: Arc<Books>,
    /// How many envelopes all senders together submit.
    pub(crate) most: u64,
}

/// What bounds the envelopes of a sender that are under way.
#[derive(Clone)]
pub(crate) enum Window {
    /// Room is made when the recipient has acknowledged, by the recipient.
    Acknowledged(Arc<Semaphore>),
    /// Room is made when the relay has answered; so long that took counts as the latency.
    Answered(Arc<Semaphore>),
}

impl Sender {
    /// Submits until it is told to stop, or all is submitted; then waits for what the relay has not answered yet.
    pub(crate) async fn run(self, stopping: impl Future<Output = ()>) -> Result<(), BenchError> {
        tokio::pin!(stopping);
        let mut flying = FuturesUnordered::new();
        let mut is_over = false;
        while !(is_over && flying.is_empty()) {
            tokio::select! {
                biased;
                () = &mut stopping, if !is_over => is_over = true,
                Some(done) = flying.next() => done?,
                room = self.room(), if !is_over => {
                    room?;
                    let items = self.items()?;
                    is_over = items.is_empty();
                    if !is_over {
                        flying.push(self.submit(items));
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits until a batch may be submitted.
    async fn room(&self) -> Result<(), BenchError> {
        let (Window::Acknowledged(room) | Window::Answered(room)) = &self.window;
        let count = u32::try_from(self.batch).unwrap_or(u32::MAX);
        let taken = room.acquire_many(count).await;
        taken.map_err(|error| BenchError::Generator(error.to_string()))?.forget();
        Ok(())
    }

    fn items(&self) -> Result<Vec<(Domain, Envelope)>, BenchError> {
        let left = self.most.saturating_sub(self.books.submitted());
        let count = self.batch.min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            let mut domain = None;
            let envelope = self.books.envelope(self.number, |number| {
                let to = &self.to[usize::try_from(number % self.to.len() as u64).unwrap_or_default()];
                domain = Some(&to.domain);
                to.mailbox
            })?;
            items.extend(domain.cloned().map(|domain| (domain, envelope)));
        }
        Ok(items)
    }

    /// Submits a batch, and what of it the relay wants to have later.
    async fn submit(&self, mut items: Vec<(Domain, Envelope)>) -> Result<(), BenchError> {
        let count = items.len();
        let started = Instant::now();
        while !items.is_empty() {
            let results = self.relay.submit(&items).await?;
            let mut pause = None;
            let mut results = results.into_iter();
            let mut refusal = None;
            items.retain(|_| match results.next() {
                Some(SubmitResult::Stored | SubmitResult::Queued { .. }) => false,
                Some(SubmitResult::Refused { reason, retry_after: None }) => {
                    refusal = Some(reason);
                    false
                }
                Some(SubmitResult::Refused { retry_after: Some(after), .. }) => {
                    pause = pause.max(Some(after.max(PAUSE)));
                    true
                }
                _ => true,
            });
            if let Some(reason) = refusal {
                return Err(BenchError::Refused(reason));
            }
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
        self.books.taken(count);
        if let Window::Answered(room) = &self.window {
            room.add_permits(count);
            self.books.took(started.elapsed());
        }
        Ok(())
    }
}
