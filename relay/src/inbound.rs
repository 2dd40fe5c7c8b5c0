//! The federation edge: what peers hand over goes to the core, and a peer that calls is a peer that is up.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use postrider_common::wire::attachments::{AttachmentOffer, AttachmentWanted, AttachmentsWanted};
use postrider_common::{AttachmentId, Envelope, FailureClass, Outcome};
use postrider_federation::{Busy, ChunkRefused, Inbound, IncomingChunk, PeerId};

use crate::attachments::{AttachmentError, Attachments, Bringer, Offer};
use crate::delivery::Delivery;
use crate::exchange::Exchange;
use crate::store::{Chunk, StoreError};
use crate::telemetry::Seldom;

/// When a peer is asked back after something could not be done at the moment,
const RETRY_SOON: Duration = Duration::from_secs(5);
/// and when there was no room for a chunk.
const RETRY_FULL: Duration = Duration::from_secs(300);

/// Joins the federation server to the core.
#[derive(Debug)]
pub struct FederationEdge {
    exchange: Arc<Exchange>,
    attachments: Attachments,
    delivery: Delivery,
}

impl FederationEdge {
    /// Peers' batches go to `exchange`, and what they bring ahead to `attachments`; `delivery` hears who is up.
    pub fn new(exchange: Arc<Exchange>, attachments: Attachments, delivery: Delivery) -> Self {
        Self { exchange, attachments, delivery }
    }
}

impl Inbound for FederationEdge {
    fn receive<'a>(
        &'a self,
        peer: &'a PeerId,
        batch: Vec<Result<Envelope, FailureClass>>,
    ) -> BoxFuture<'a, Result<Vec<Outcome>, Busy>> {
        Box::pin(async move {
            let laden = laden(&batch);
            let outcomes = self.exchange.receive(batch).await;
            let ids: Vec<_> = laden.iter().flat_map(|(_, ids)| ids).copied().collect();
            if let Err(error) = self.attachments.submitted(&ids).await {
                complain(&error);
            }
            let is_refused = |place: usize| match outcomes.get(place) {
                Some(Outcome::Reject { reason }) => !comes_again(*reason),
                _ => false,
            };
            let refused = laden.into_iter().filter(|(place, _)| is_refused(*place)).flat_map(|(_, ids)| ids);
            if let Err(error) = self.attachments.withdraw(peer.domain(), refused.collect()).await {
                complain(&error);
            }
            Ok(outcomes)
        })
    }

    fn offered<'a>(
        &'a self,
        peer: &'a PeerId,
        offer: AttachmentOffer,
    ) -> BoxFuture<'a, Result<AttachmentsWanted, Busy>> {
        Box::pin(async move {
            let AttachmentOffer { mailbox, envelope, attachments } = offer;
            let offered = self.attachments.offer(peer.domain(), mailbox, envelope, attachments).await;
            let missing = match offered {
                Ok(Offer::Wanted(missing)) => missing,
                // What is wrong with it, the envelope's outcome says.
                Ok(Offer::NotNeeded | Offer::MailboxFull)
                | Err(AttachmentError::TooLarge(_) | AttachmentError::Impossible | AttachmentError::Busy) => {
                    Vec::new()
                }
                Err(error) => {
                    complain(&error);
                    return Err(Busy { reason: FailureClass::Unavailable, retry_after: RETRY_SOON });
                }
            };
            let wanted = missing.into_iter().filter(|(_, missing)| !missing.is_empty());
            let attachments = wanted.map(|(id, missing)| AttachmentWanted { id, missing }).collect();
            Ok(AttachmentsWanted { attachments })
        })
    }

    fn take_chunk<'a>(
        &'a self,
        peer: &'a PeerId,
        chunk: IncomingChunk,
    ) -> BoxFuture<'a, Result<(), ChunkRefused>> {
        Box::pin(async move {
            let IncomingChunk { id, number, digest, body } = chunk;
            let bringer = Bringer::Peer(peer.domain().clone());
            let taken = self.attachments.receive(id, Chunk { number, digest }, &bringer, body).await;
            taken.map_err(|error| match error {
                AttachmentError::ChunkDiffers => ChunkRefused::Differs,
                AttachmentError::WrongDigest | AttachmentError::WrongLength(_) | AttachmentError::Broken => {
                    ChunkRefused::Wrong
                }
                AttachmentError::Slow => ChunkRefused::Slow,
                AttachmentError::Full
                | AttachmentError::TooMuchWaits
                | AttachmentError::Store(StoreError::Full) => ChunkRefused::Full(RETRY_FULL),
                AttachmentError::Busy => ChunkRefused::Busy,
                AttachmentError::Store(_) | AttachmentError::Disk(_) => {
                    complain(&error);
                    ChunkRefused::Busy
                }
                _ => ChunkRefused::Unknown,
            })
        })
    }

    fn authenticated(&self, peer: &PeerId) {
        self.delivery.peer_is_up(peer.domain());
    }
}

/// The attachments of those envelopes that have any, each with its envelope's place in the batch.
fn laden(batch: &[Result<Envelope, FailureClass>]) -> Vec<(usize, Vec<AttachmentId>)> {
    let envelopes = batch.iter().enumerate().filter_map(|(place, item)| Some((place, item.as_ref().ok()?)));
    let laden = envelopes.filter(|(_, envelope)| !envelope.attachments().is_empty());
    laden
        .map(|(place, envelope)| (place, envelope.attachments().iter().map(|one| one.id).collect()))
        .collect()
}

/// Whether the origin may offer an envelope that was refused for this once more: as one of the two clocks is wrong, or as its
/// mailbox has moved here and its owner is late.
const fn comes_again(reason: FailureClass) -> bool {
    use FailureClass::{Expired, LifetimeTooLong, NoSuchDevice, NoSuchMailbox};
    matches!(reason, Expired | LifetimeTooLong | NoSuchDevice | NoSuchMailbox)
}

/// A disk or a store that fails does so again and again.
fn complain(error: &AttachmentError) {
    static SAID: Seldom = Seldom::new();
    if SAID.is_due(&error.to_string()) {
        tracing::error!("attachments from other relays cannot be taken: {error}");
    }
}
