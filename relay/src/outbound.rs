//! The way out: batches over the federation's client, and attachments ahead of the envelopes that name them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body_util::BodyExt;
use postrider_common::wire::attachments::{AttachmentOffer, AttachmentWanted};
use postrider_common::{Domain, Envelope, Failure, FailureClass, Outcome};
use postrider_federation::{ChunkAnswer, Client, OfferAnswer, OutgoingChunk};

use crate::attachments::{AttachmentError, Attachments};
use crate::delivery::{Brought, Forward};
use crate::failpoint::{self, Step};

/// How many chunks of one envelope are on their way at a time.
const IN_FLIGHT: usize = 4;
/// When a peer is asked again what it lacks that has refused a chunk.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// The federation's client with the attachments of this relay.
#[derive(Debug)]
pub struct Outbound {
    client: Client,
    attachments: Attachments,
}

/// Why an envelope's attachments are not there.
enum Obstacle {
    /// It concerns them alone.
    Later(FailureClass, Duration),
    /// It concerns all attachments.
    NotNow(Failure),
    /// It concerns the peer.
    Failed(Failure),
}

impl Outbound {
    /// Envelopes go over `client`, and what they name comes from `attachments`.
    pub const fn new(client: Client, attachments: Attachments) -> Self {
        Self { client, attachments }
    }

    async fn bring_all(
        &self,
        destination: &Domain,
        envelope: &Envelope,
        progress: &(dyn Fn() + Send + Sync),
    ) -> Result<(), Obstacle> {
        let offer = AttachmentOffer {
            mailbox: *envelope.mailbox(),
            envelope: *envelope.id(),
            attachments: envelope.attachments().to_vec(),
        };
        let wanted = match self.client.offer(destination, &offer).await.map_err(Obstacle::Failed)? {
            OfferAnswer::Wanted(wanted) => wanted,
            OfferAnswer::NotNow(failure) => return Err(Obstacle::NotNow(failure)),
        };
        progress();
        for wanted in wanted.attachments {
            // What the envelope does not name is not the peer's to ask for.
            if offer.attachments.iter().any(|attachment| attachment.id == wanted.id) {
                self.bring(destination, &wanted, progress).await?;
            }
        }
        Ok(())
    }

    async fn bring(
        &self,
        destination: &Domain,
        wanted: &AttachmentWanted,
        progress: &(dyn Fn() + Send + Sync),
    ) -> Result<(), Obstacle> {
        let ours = |error: AttachmentError| {
            match error {
                AttachmentError::Busy => tracing::debug!("an attachment for {destination} waits: {error}"),
                _ => tracing::error!("an attachment cannot be sent to {destination}: {error}"),
            }
            Obstacle::Later(FailureClass::Unavailable, ASK_AGAIN)
        };
        let reader = Arc::new(self.attachments.read_to_send(wanted.id).await.map_err(ours)?);
        let is_missing =
            |number: u32| wanted.missing.iter().any(|(first, last)| (*first..=*last).contains(&number));
        let chunks = self.attachments.chunks(wanted.id).await.map_err(ours)?;
        let outgoing = chunks.into_iter().filter(|chunk| is_missing(chunk.number)).filter_map(|chunk| {
            let (start, bytes) = reader.attachment().chunk(chunk.number)?;
            let reader = Arc::clone(&reader);
            let body = move || reader.bytes(start, bytes.into()).map_err(io::Error::other).boxed_unsync();
            let (number, digest) = (chunk.number, chunk.digest);
            Some(OutgoingChunk { id: wanted.id, number, digest, bytes, body: Arc::new(body) })
        });
        let send = |chunk: OutgoingChunk| async move {
            match self.client.send_chunk(destination, &chunk).await {
                Ok(ChunkAnswer::Taken) => {
                    failpoint::reach(Step::ChunkSent);
                    progress();
                    Ok(())
                }
                Ok(ChunkAnswer::Refused) => Err(Obstacle::Later(FailureClass::AttachmentMissing, ASK_AGAIN)),
                Ok(ChunkAnswer::Full(wait)) => Err(Obstacle::Later(FailureClass::StorageFull, wait)),
                Ok(ChunkAnswer::NotNow(failure)) => Err(Obstacle::NotNow(failure)),
                Err(failure) => Err(Obstacle::Failed(failure)),
            }
        };
        stream::iter(outgoing).map(send).buffer_unordered(IN_FLIGHT).try_collect().await
    }
}

impl Forward for Outbound {
    fn admit(&self, destination: &Domain) -> Result<(), Failure> {
        self.client.admit(destination)
    }

    fn forward<'a>(
        &'a self,
        destination: &'a Domain,
        envelopes: &'a [Envelope],
    ) -> BoxFuture<'a, Result<Vec<Outcome>, Failure>> {
        Box::pin(self.client.forward(destination, envelopes))
    }

    fn bring<'a>(
        &'a self,
        destination: &'a Domain,
        envelope: &'a Envelope,
        progress: &'a (dyn Fn() + Send + Sync),
    ) -> BoxFuture<'a, Result<Brought, Failure>> {
        Box::pin(async move {
            match self.bring_all(destination, envelope, progress).await {
                Ok(()) => Ok(Brought::Whole),
                Err(Obstacle::Later(reason, after)) => Ok(Brought::Later(Outcome::Retry { reason, after })),
                Err(Obstacle::NotNow(failure)) => Ok(Brought::NotNow(failure)),
                Err(Obstacle::Failed(failure)) => Err(failure),
            }
        })
    }

    fn greet<'a>(&'a self, peer: &'a Domain) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move { self.client.hello(peer).await.map(drop) })
    }

    fn fingerprint<'a>(&'a self, destination: &'a Domain) -> BoxFuture<'a, Option<u64>> {
        Box::pin(self.client.fingerprint(destination))
    }
}
