//! The bytes of attachments: files beside the store, which counts what is there.
//!
//! An attachment is one file; a chunk has its place in it. In this order things become durable:
//!
//! 1. The store knows the attachment (`reserve`). It has no file yet.
//! 2. With its first chunk the file is made, and the directory flushed.
//! 3. A chunk's bytes are written to their place while they arrive, hashed on the way, and flushed. Only then the store
//!    knows the chunk. A place whose chunk the store knows is never written again.
//! 4. When nobody needs the attachment any more, the store forgets it and dooms the file, in one batch.
//! 5. The file is deleted, the directory flushed, and the doom forgotten.
//!
//! A crash after 1 leaves nothing on the disk, one within 2 or 3 bytes in a file that belongs to a known attachment,
//! and one before 5 a doomed file, which the next start deletes. Nothing has to be looked for: what is to be deleted is
//! in the store. A file is made by whoever writes a chunk, who is known as such before it looks whether the attachment
//! is still there; and a doomed file that somebody writes to is deleted after that.
//!
//! No chunk is ever in memory as a whole: it passes through in pieces.

mod collecting;
mod files;
mod reading;
mod receiving;
mod shares;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postrider_common::clock::SharedClock;
use postrider_common::supervisor::Supervisor;
use postrider_common::{Attachment, AttachmentId, Domain, EnvelopeId, MailboxId};
use tokio::sync::{Notify, Semaphore};

use crate::store::{Abandoned, AttachmentLimits, AttachmentState, Chunk, FileId, Offered, Store, StoreError};

use shares::Shares;

pub(crate) use files::Files;
pub use reading::{Content, Reader};
pub use shares::Bringer;

/// How many chunks may be on their way to the disk at a time. Each takes the memory of a piece.
const RECEIVING: usize = 128;
/// How many attachments may be read from the disk for clients at a time. The same.
const READING: usize = 512;
/// And for other relays, which clients do not keep waiting.
const SENDING: usize = 128;
/// What is read from a socket or a file before it goes on.
const PIECE_BYTES: usize = 128 << 10;
/// And in how many frames: each may keep a buffer alive that is much larger than it.
const PIECE_FRAMES: usize = 256;
/// Slower than this in the long run, a chunk is given up.
const LEAST_BYTES_PER_SECOND: u64 = 16 << 10;

/// How long a chunk may take from when it comes until the store knows it.
const NOTING: Duration = Duration::from_secs(3600);

/// How attachments are kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where their files are.
    pub directory: PathBuf,
    /// How much there may be.
    pub limits: AttachmentLimits,
    /// Free disk below which no chunk is taken.
    pub reserve_bytes: u64,
    /// How long a chunk may pause on its way here, and what is read on its way out.
    pub pause: Duration,
}

/// The attachments of a relay. Clones share them.
#[derive(Debug, Clone)]
pub struct Attachments(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    clock: SharedClock,
    supervisor: Supervisor,
    settings: Settings,
    files: Files,
    /// The bytes of all chunks, those included that are on their way, and of files that are yet to be deleted.
    used: AtomicU64,
    writers: Mutex<Writers>,
    /// A file is no longer written to.
    written: Notify,
    receiving: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    sending: Arc<Semaphore>,
    shares: Shares,
}

/// Who writes.
#[derive(Debug, Default)]
struct Writers {
    chunks: HashSet<(FileId, u32)>,
    files: HashMap<FileId, usize>,
}

/// Why an attachment, or a chunk of one, was not taken or given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachmentError {
    /// There is none with this id.
    #[error("there is no such attachment")]
    Unknown,
    /// Its chunks are not all there.
    #[error("the attachment is not whole yet")]
    Incomplete,
    /// An envelope needs it.
    #[error("an envelope needs the attachment")]
    InUse,
    /// It has no chunk with this number.
    #[error("the attachment has no such chunk")]
    NoSuchChunk,
    /// That chunk is there, with other bytes.
    #[error("the chunk is there already, with another digest")]
    ChunkDiffers,
    /// The bytes are not those that the digest is of.
    #[error("the bytes are not those of the digest")]
    WrongDigest,
    /// The chunk has another length.
    #[error("the chunk has {0} bytes")]
    WrongLength(u32),
    /// It is larger than this relay takes.
    #[error("an attachment has at most {0} bytes")]
    TooLarge(u64),
    /// Its lengths are none that an attachment can have.
    #[error("an attachment has at least one byte, and at most 4096 chunks of at most 16 MiB")]
    Impossible,
    /// Too much is on its way already, or the same chunk.
    #[error("the chunk, or too much else, is on its way already")]
    Busy,
    /// The relay has as many attachments as it may, or its disk is nearly full.
    #[error("the relay has no room for it")]
    Full,
    /// Who brings it has brought too much that no envelope needs yet.
    #[error("too much that was brought from there has yet to be submitted")]
    TooMuchWaits,
    /// It did not come in time.
    #[error("the chunk did not come in time")]
    Slow,
    /// Who asked for it did not take it in time.
    #[error("the attachment was not taken in time")]
    Stalled,
    /// It did not come to its end.
    #[error("the chunk ended early")]
    Broken,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk failed.
    #[error("an attachment's file failed: {0}")]
    Disk(String),
}

impl Attachments {
    /// Looks at what there is, and from then on deletes files that nobody needs.
    pub async fn open(
        settings: Settings,
        store: Arc<dyn Store>,
        clock: SharedClock,
        supervisor: &Supervisor,
    ) -> Result<Self, AttachmentError> {
        let files = Files::open(&settings.directory)?;
        let used = AtomicU64::new(store.attachment_bytes().await?);
        let shares = Shares::new(settings.limits.retention + NOTING);
        let attachments = Self(Arc::new(Shared {
            store,
            clock,
            supervisor: supervisor.clone(),
            settings,
            files,
            used,
            writers: Mutex::default(),
            written: Notify::new(),
            receiving: Arc::new(Semaphore::new(RECEIVING)),
            reading: Arc::new(Semaphore::new(READING)),
            sending: Arc::new(Semaphore::new(SENDING)),
            shares,
        }));
        supervisor.spawn_service("attachments", attachments.clone().collect());
        Ok(attachments)
    }

    /// A client is about to bring an attachment of this size. Its id is random: whoever knows it may bring chunks, and
    /// fetch them. Until an envelope needs it, its bytes are part of what `bringer` may have waiting.
    pub async fn reserve(
        &self,
        length: u64,
        chunk_length: u32,
        bringer: &Bringer,
    ) -> Result<AttachmentState, AttachmentError> {
        let attachment = Attachment { id: AttachmentId::random(), length, chunk_length };
        self.check(&attachment)?;
        let (id, now) = (attachment.id, self.0.clock.now());
        if !self.0.shares.announce(id, bringer, now) {
            self.settle_beside(&id, bringer).await?;
            if !self.0.shares.announce(id, bringer, now) {
                return Err(AttachmentError::TooMuchWaits);
            }
        }
        let reserved = self.0.store.reserve_attachment(attachment, now).await;
        // Nobody draws the same 32 bytes twice.
        let reserved =
            reserved.map_err(Into::into).and_then(|reserved| reserved.ok_or(AttachmentError::Busy));
        reserved.inspect_err(|_| self.0.shares.settle(&id))
    }

    /// A peer is about to bring the attachments of an envelope for a mailbox of ours: what is missing of each.
    pub async fn offer(
        &self,
        origin: &Domain,
        mailbox: MailboxId,
        envelope: EnvelopeId,
        attachments: Vec<Attachment>,
    ) -> Result<Offer, AttachmentError> {
        for attachment in &attachments {
            self.check(attachment)?;
        }
        let now = self.0.clock.now();
        match self.0.store.offer_attachments(origin.clone(), mailbox, envelope, attachments, now).await? {
            Offered::NotNeeded => Ok(Offer::NotNeeded),
            Offered::Full => Ok(Offer::MailboxFull),
            Offered::Busy => Err(AttachmentError::Busy),
            Offered::Wanted(states) => {
                let mut missing = Vec::with_capacity(states.len());
                for state in states {
                    self.0.shares.prolong(&state.attachment.id, now);
                    missing.push((state.attachment.id, self.missing_of(&state).await?));
                }
                Ok(Offer::Wanted(missing))
            }
        }
    }

    /// One attachment.
    pub async fn state(&self, id: AttachmentId) -> Result<AttachmentState, AttachmentError> {
        self.0.store.attachment(id).await?.ok_or(AttachmentError::Unknown)
    }

    /// The chunks that are not there yet, as ranges with both ends in them.
    pub async fn missing(&self, id: AttachmentId) -> Result<(Attachment, Vec<(u32, u32)>), AttachmentError> {
        let state = self.state(id).await?;
        let missing = self.missing_of(&state).await?;
        Ok((state.attachment, missing))
    }

    async fn missing_of(&self, state: &AttachmentState) -> Result<Vec<(u32, u32)>, AttachmentError> {
        if state.is_whole() {
            return Ok(Vec::new());
        }
        let present = self.0.store.chunks(state.attachment.id).await?;
        Ok(gaps(present.iter().map(|chunk| chunk.number), state.attachment.chunks()))
    }

    /// The chunks of a whole attachment, with their digests.
    pub async fn chunks(&self, id: AttachmentId) -> Result<Vec<Chunk>, AttachmentError> {
        Ok(self.0.store.chunks(id).await?)
    }

    /// Gives an attachment up that no envelope needs.
    pub async fn abandon(&self, id: AttachmentId) -> Result<(), AttachmentError> {
        match self.0.store.abandon_attachment(id).await? {
            Abandoned::Done => {
                self.0.shares.settle(&id);
                Ok(())
            }
            Abandoned::InUse => Err(AttachmentError::InUse),
            Abandoned::Unknown => Err(AttachmentError::Unknown),
        }
    }

    /// A peer has brought these for envelopes that were refused for good: nobody will need them, unless somebody does already.
    pub async fn withdraw(&self, peer: &Domain, ids: Vec<AttachmentId>) -> Result<(), AttachmentError> {
        for id in ids {
            let state = self.0.store.attachment(id).await?;
            if state.is_some_and(|state| state.origin.as_ref() == Some(peer) && !state.is_in_use) {
                match self.abandon(id).await {
                    Ok(()) | Err(AttachmentError::InUse | AttachmentError::Unknown) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// An envelope that names these was submitted: who has brought them is forgotten, if it was taken.
    pub async fn submitted(&self, ids: &[AttachmentId]) -> Result<(), AttachmentError> {
        // As nearly always.
        if ids.is_empty() {
            return Ok(());
        }
        self.settle(self.0.shares.among(ids).into_iter().collect()).await
    }

    async fn settle_beside(&self, id: &AttachmentId, bringer: &Bringer) -> Result<(), AttachmentError> {
        let now = self.0.clock.now();
        let beside = self.0.shares.beside(id, bringer, now);
        if !beside.is_empty() {
            self.settle(beside).await?;
            // Only now: whoever comes meanwhile looks as well, and is not refused for what is about to be forgotten.
            self.0.shares.looked_up(id, bringer, now);
        }
        Ok(())
    }

    /// Looks up which of them do not wait, and forgets those.
    async fn settle(&self, ids: Vec<AttachmentId>) -> Result<(), AttachmentError> {
        for id in ids {
            if self.0.store.attachment(id).await?.is_none_or(|state| state.is_in_use) {
                self.0.shares.settle(&id);
            }
        }
        Ok(())
    }

    /// Forgets who has brought what is gone. To be called now and then.
    pub fn tidy(&self) {
        self.0.shares.tidy(self.0.clock.now());
    }

    /// How many more clients may read one.
    pub fn readers_left(&self) -> usize {
        self.0.reading.available_permits()
    }

    /// How many bytes of attachments there may be.
    pub fn most_bytes(&self) -> u64 {
        self.0.settings.limits.total_bytes
    }

    /// The bytes of all attachments at present.
    pub fn used_bytes(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    fn check(&self, attachment: &Attachment) -> Result<(), AttachmentError> {
        let limit = self.0.settings.limits.bytes;
        if attachment.length > limit {
            return Err(AttachmentError::TooLarge(limit));
        }
        if attachment.is_possible() { Ok(()) } else { Err(AttachmentError::Impossible) }
    }
}

/// What a peer is told of the attachments that it is about to bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// The chunks of each that are missing, as ranges with both ends in them.
    Wanted(Vec<(AttachmentId, Vec<(u32, u32)>)>),
    /// None of them: the envelope's outcome says why.
    NotNeeded,
    /// The mailbox has no room for them.
    MailboxFull,
}

impl Shared {
    fn writers(&self) -> MutexGuard<'_, Writers> {
        // No code that can panic runs under this lock half way through a change.
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The numbers below `count` that are not in `present`, which ascends.
fn gaps(present: impl Iterator<Item = u32>, count: u32) -> Vec<(u32, u32)> {
    let (mut gaps, mut next) = (Vec::new(), 0);
    for number in present.chain([count]) {
        if number > next {
            gaps.push((next, number - 1));
        }
        next = number.saturating_add(1);
    }
    gaps
}

#[cfg(test)]
mod tests;
