//! Attachments: clients bring them, relays bring them to one another ahead of the envelope, and what nobody needs goes.
//!
//! What counts of them is in the store, and that is real. Their bytes are not: a chunk is its number and its digest.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use postrider::delivery::Brought;
use postrider::store::{Change, Chunk, FileId, Offered, Store, StoreError};
use postrider_common::clock::Clock;
use postrider_common::{
    Attachment, AttachmentId, Domain, Envelope, Failure, FailureClass, Outcome, Timestamp,
};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::sleep;

use super::ledger::{Ledger, Request};
use super::network::{Network, take_one};
use super::node::{Life, Node, is_failure};
use super::script::{CHUNKS, Letter};
use super::world::{World, answered};

/// When a relay asks again that could not bring everything.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How many files are deleted at a time.
const PAGE: usize = 64;

/// What a relay is asked about attachments.
type Question<T> =
    Box<dyn FnOnce(Arc<dyn Store>, Timestamp) -> BoxFuture<'static, Result<T, StoreError>> + Send>;

/// A letter's attachment, if it has one.
pub(super) fn attachment_of(letter: &Letter) -> Option<Attachment> {
    letter.attachment.map(|_| attachment(letter.number))
}

/// The attachment of a letter's number. The last chunk is shorter than the others.
pub(super) fn attachment(number: u16) -> Attachment {
    let mut id = [0xa7; AttachmentId::SIZE];
    id[..2].copy_from_slice(&number.to_be_bytes());
    let length = 4 * CHUNKS as u64 - 1;
    Attachment { id: AttachmentId::from_bytes(id), length, chunk_length: 4 }
}

/// The same for each relay.
fn chunk(number: u32) -> Chunk {
    let [.., last] = number.to_be_bytes();
    Chunk { number, digest: [last; 32] }
}

impl World {
    /// A client makes room for an attachment, and brings chunks, one after the other.
    pub(super) fn bring(&self, number: u16, at: u8, chunks: [bool; CHUNKS]) {
        let Some(life) = self.node(at).and_then(|node| node.life()) else { return };
        let began = self.ledger.note(format_args!("the attachment of {number} is brought to {at}"));
        {
            let mut books = self.ledger.books();
            let posted = books.letters.get(&number);
            let mut submissions = posted.iter().flat_map(|posted| &posted.submissions);
            if !submissions.all(|submission| submission.is_refused_for_certain()) {
                return;
            }
            for (index, _) in (0..).zip(chunks).filter(|(_, is_brought)| *is_brought) {
                books.chunks.entry((number, index)).or_default().push(Request { began, answer: None });
            }
        }
        let ledger = Arc::clone(&self.ledger);
        let Some(clock) = self.node(at).map(|node| Arc::clone(&node.clock)) else { return };
        life.supervisor.clone().spawn("client request", async move {
            let id = attachment(number).id;
            let reserved = match life.store.reserve_attachment(attachment(number), clock.now()).await {
                Ok(Some(reserved)) => reserved,
                Ok(None) => return,
                Err(error) => return ledger.request_failed(at, &error),
            };
            for (index, _) in (0_u32..).zip(chunks).filter(|(_, is_brought)| *is_brought) {
                let put = life.store.put_chunk(id, reserved.file, chunk(index), clock.now()).await;
                let tick = ledger.note(format_args!("chunk {index} of {number} is at {at}: {put:?}"));
                let is_there = match put {
                    Ok(is_there) => is_there,
                    Err(error) => return ledger.request_failed(at, &error),
                };
                let mut books = ledger.books();
                answered(books.chunks.entry((number, index)).or_default(), began, tick, is_there);
            }
        });
    }
}

impl Network {
    /// Brings an envelope's attachment to its destination, as far as that lacks something of it.
    pub(super) async fn bring(
        self: &Arc<Self>,
        from: u8,
        to: &Domain,
        envelope: &Envelope,
        progress: &(dyn Fn() + Send + Sync),
    ) -> Result<Brought, Failure> {
        let node = Arc::clone(self.find(to)?);
        let gone = || Failure::new(FailureClass::ConnectFailed, "the run is over");
        let origin = self.node(from).ok_or_else(gone)?;
        let domain = origin.domain.clone();
        let (mailbox, id) = (*envelope.mailbox(), *envelope.id());
        let attachments = envelope.attachments().to_vec();
        let offer: Question<Offered> = Box::new(move |store, now| {
            Box::pin(async move { store.offer_attachments(domain, mailbox, id, attachments, now).await })
        });
        let offered = self.ask(from, &node, offer).await?;
        self.ledger.note(format_args!("{from} may bring to {}: {offered:?}", node.number));
        progress();
        let later = |reason| Ok(Brought::Later(Outcome::retry(reason, ASK_AGAIN)));
        let states = match offered {
            Offered::Wanted(states) => states,
            Offered::NotNeeded | Offered::Full => return Ok(Brought::Whole),
            Offered::Busy => return later(FailureClass::Unavailable),
        };
        for state in states.into_iter().filter(|state| !state.is_whole()) {
            let (id, file) = (state.attachment.id, state.file);
            let ours = origin.life().ok_or_else(gone)?;
            let Ok(chunks) = ours.store.chunks(id).await else { return later(FailureClass::Unavailable) };
            for chunk in chunks {
                if !self.ask(from, &node, put(id, file, chunk)).await? {
                    return later(FailureClass::AttachmentMissing);
                }
                progress();
            }
        }
        Ok(Brought::Whole)
    }

    /// One request, which may be lost, and so may its answer.
    async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        from: u8,
        node: &Arc<Node>,
        question: Question<T>,
    ) -> Result<T, Failure> {
        let failed = |what| Failure::new(FailureClass::RemoteFailed, what);
        self.connect(from, node).await?;
        let (mut is_lost, mut answer_is_lost) = (false, false);
        self.change(from, node.number, |way| {
            is_lost = take_one(&mut way.lost_requests);
            answer_is_lost = take_one(&mut way.lost_answers);
        });
        sleep(self.delay(from, node.number)).await;
        if is_lost || self.is_cut(from, node.number) {
            return self.wait_in_vain().await;
        }
        let life = node.life().ok_or_else(|| failed("the connection broke"))?;
        let (answer, answered) = tokio::sync::oneshot::channel();
        let clock = Arc::clone(&node.clock);
        life.supervisor.clone().spawn("peer request", async move {
            let _ = answer.send(question(Arc::clone(&life.store), clock.now()).await);
        });
        let told = answered.await;
        sleep(self.delay(from, node.number)).await;
        if answer_is_lost || self.is_cut(from, node.number) {
            return self.wait_in_vain().await;
        }
        match told {
            Ok(Ok(told)) => Ok(told),
            Ok(Err(error)) => {
                self.ledger.request_failed(node.number, &error);
                Err(Failure::new(error.class(), "refused"))
            }
            Err(_) => Err(failed("the connection broke")),
        }
    }
}

fn put(id: AttachmentId, file: FileId, chunk: Chunk) -> Question<bool> {
    Box::new(move |store, now| Box::pin(async move { store.put_chunk(id, file, chunk, now).await }))
}

/// Deletes the files that nobody needs, which here are only names.
pub(super) async fn collect(number: u8, life: Arc<Life>, ledger: Arc<Ledger>) {
    let stopping = life.supervisor.stopping();
    tokio::pin!(stopping);
    let mut changes = life.store.watch();
    loop {
        if let Err(error) = delete_doomed(&life).await {
            return if is_failure(&error) {
                ledger.store_failed(number, &error)
            };
        }
        loop {
            tokio::select! {
                biased;
                () = &mut stopping => return,
                change = changes.recv() => match change {
                    Ok(Change::Doomed) | Err(RecvError::Lagged(_)) => break,
                    Ok(_) => {}
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }
}

async fn delete_doomed(life: &Life) -> Result<(), StoreError> {
    loop {
        let doomed = life.store.doomed(None, PAGE).await?;
        let is_last = doomed.len() < PAGE;
        if !doomed.is_empty() {
            life.store.forget_doomed(doomed.iter().map(|doomed| doomed.file).collect()).await?;
        }
        if is_last {
            return Ok(());
        }
    }
}
