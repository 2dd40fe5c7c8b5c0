//! A chunk on its way to the disk: piece by piece, hashed on the way, flushed, and then known to the store.

use std::fs::File;
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use postrider_common::{Attachment, AttachmentId};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout;

use super::shares::{Left, Size};
use super::{
    AttachmentError, Attachments, Bringer, LEAST_BYTES_PER_SECOND, PIECE_BYTES, PIECE_FRAMES, Shared,
};
use crate::failpoint::{self, Step};
use crate::store::{AttachmentState, Chunk, FileId};
use crate::telemetry::Seldom;

impl Attachments {
    /// Takes a chunk. It is on stable storage when this succeeds; one that is there already succeeds without being read.
    pub async fn receive<B>(
        &self,
        id: AttachmentId,
        chunk: Chunk,
        bringer: &Bringer,
        body: B,
    ) -> Result<(), AttachmentError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let state = self.state(id).await?;
        let (start, bytes) = state.attachment.chunk(chunk.number).ok_or(AttachmentError::NoSuchChunk)?;
        if let Some(known) = self.0.store.chunk(id, chunk.number).await? {
            return if known == chunk.digest { Ok(()) } else { Err(AttachmentError::ChunkDiffers) };
        }
        if state.origin.as_ref() != bringer.peer() {
            return Err(AttachmentError::Unknown);
        }
        let size = body.size_hint();
        if size.lower() > bytes.into() || size.upper().is_some_and(|upper| upper < bytes.into()) {
            return Err(AttachmentError::WrongLength(bytes));
        }
        let place = Place::take(&self.0, &state, chunk.number, bytes)?;
        // Whoever has the place is waited for before the file is deleted. So it is made only if it will be deleted.
        if self.state(id).await?.file != state.file {
            return Err(AttachmentError::Unknown);
        }
        if self.0.store.chunk(id, chunk.number).await?.is_some() {
            return Err(AttachmentError::Busy);
        }
        self.admit(&state, bringer, place.room).await?;
        let writing = self.write(start, bytes, &chunk.digest, body, &place);
        let limit = self.0.settings.pause + Duration::from_secs(u64::from(bytes) / LEAST_BYTES_PER_SECOND);
        timeout(limit, writing).await.map_err(|_| AttachmentError::Slow)??;
        failpoint::reach(Step::ChunkWritten);
        self.commit(id, chunk, place).await
    }

    /// Whether whoever brings an attachment may fill so much of this room.
    async fn admit(
        &self,
        state: &AttachmentState,
        bringer: &Bringer,
        room: u64,
    ) -> Result<(), AttachmentError> {
        let shared = &self.0;
        let Attachment { id, length, chunk_length } = state.attachment;
        let (largest, now) = (shared.settings.limits.bytes, shared.clock.now());
        let missing = length.saturating_sub(u64::from(state.present) * u64::from(chunk_length));
        let admit =
            || shared.shares.admit(id, Size { length, missing }, bringer, Left { room, largest }, now);
        if admit() {
            return Ok(());
        }
        self.settle_beside(&id, bringer).await?;
        if admit() { Ok(()) } else { Err(AttachmentError::TooMuchWaits) }
    }

    async fn write<B>(
        &self,
        start: u64,
        bytes: u32,
        digest: &[u8; 32],
        mut body: B,
        place: &Arc<Place>,
    ) -> Result<(), AttachmentError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut sink = Sink::open(Arc::clone(place), start).await?;
        let (mut piece, mut in_piece, mut received) = (Vec::new(), 0, 0_u64);
        loop {
            let frame =
                timeout(self.0.settings.pause, body.frame()).await.map_err(|_| AttachmentError::Slow)?;
            let Some(frame) = frame else { break };
            let Ok(data) = frame.map_err(|_| AttachmentError::Broken)?.into_data() else { continue };
            // Frames of nothing take room too, and are counted nowhere.
            if data.is_empty() {
                continue;
            }
            received += data.len() as u64;
            if received > bytes.into() {
                return Err(AttachmentError::WrongLength(bytes));
            }
            in_piece += data.len();
            piece.push(data);
            if in_piece >= PIECE_BYTES || piece.len() >= PIECE_FRAMES {
                sink = sink.take(std::mem::take(&mut piece)).await?;
                in_piece = 0;
            }
        }
        if received != u64::from(bytes) {
            return Err(AttachmentError::WrongLength(bytes));
        }
        sink.take(piece).await?.finish(*digest).await
    }

    /// In a task of its own: whether or not anybody still waits for the answer, the place is taken until the store has
    /// given its own.
    async fn commit(&self, id: AttachmentId, chunk: Chunk, place: Arc<Place>) -> Result<(), AttachmentError> {
        let (answer, answered) = oneshot::channel();
        let shared = Arc::clone(&self.0);
        self.0.supervisor.spawn("attachment chunk", async move {
            let now = shared.clock.now();
            let known = shared.store.put_chunk(id, place.file, chunk, now).await;
            if matches!(known, Ok(true)) {
                shared.shares.brought(id, place.keep(), place.length);
            }
            drop(place);
            let _ = answer.send(known);
        });
        match answered.await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(AttachmentError::Unknown),
            Ok(Err(error)) => Err(error.into()),
            // The process ends.
            Err(_) => Err(AttachmentError::Busy),
        }
    }
}

/// A chunk's place, which nobody else writes to meanwhile. Whatever still writes to the file has it.
#[derive(Debug)]
struct Place {
    shared: Arc<Shared>,
    id: AttachmentId,
    /// The whole attachment's.
    length: u64,
    file: FileId,
    number: u32,
    /// Whether a chunk of it is there.
    is_begun: bool,
    /// How many bytes there was room for.
    room: u64,
    /// Counted as used, and given back unless they are kept.
    bytes: std::sync::atomic::AtomicU64,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn take(
        shared: &Arc<Shared>,
        state: &AttachmentState,
        number: u32,
        bytes: u32,
    ) -> Result<Arc<Self>, AttachmentError> {
        let permit = Arc::clone(&shared.receiving).try_acquire_owned().map_err(|_| AttachmentError::Busy)?;
        let mut writers = shared.writers();
        if !writers.chunks.insert((state.file, number)) {
            return Err(AttachmentError::Busy);
        }
        *writers.files.entry(state.file).or_default() += 1;
        drop(writers);
        let bytes = u64::from(bytes);
        let used = shared.used.fetch_add(bytes, Ordering::Relaxed);
        let room = shared.room(used);
        // From here on its drop takes all of that back.
        let place = Arc::new(Self {
            shared: Arc::clone(shared),
            id: state.attachment.id,
            length: state.attachment.length,
            file: state.file,
            number,
            is_begun: state.present > 0,
            room: room.as_ref().copied().unwrap_or_default(),
            bytes: bytes.into(),
            _permit: permit,
        });
        let room = room?;
        if bytes > room {
            complain_of_room(used, room);
            return Err(AttachmentError::Full);
        }
        Ok(place)
    }

    /// The chunk is there to stay. How many bytes it has.
    fn keep(&self) -> u64 {
        self.bytes.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        let mut writers = self.shared.writers();
        writers.chunks.remove(&(self.file, self.number));
        if let Some(count) = writers.files.get_mut(&self.file) {
            *count -= 1;
            if *count == 0 {
                writers.files.remove(&self.file);
                self.shared.shares.left(&self.id);
                self.shared.written.notify_one();
            }
        }
    }
}

impl Shared {
    /// How many bytes more there may be, where there are so many.
    fn room(&self, used: u64) -> Result<u64, AttachmentError> {
        let left = self.settings.limits.total_bytes.saturating_sub(used);
        match self.settings.reserve_bytes {
            0 => Ok(left),
            reserve => Ok(left.min(self.files.free_bytes()?.saturating_sub(reserve))),
        }
    }
}

/// Whoever is refused comes again, and others do.
fn complain_of_room(used: u64, room: u64) {
    static SAID: Seldom = Seldom::new();
    if SAID.is_due("no room") {
        tracing::warn!(
            "there is no room for attachments: they take {used} bytes, and {room} more would do (`limits.attachments`, \
             `store.reserve`)"
        );
    }
}

/// Where the pieces go. The disk's work is done on threads that may wait for it.
struct Sink {
    /// At where the next piece goes.
    file: File,
    hash: digest::Context,
    place: Arc<Place>,
}

impl Sink {
    async fn open(place: Arc<Place>, start: u64) -> Result<Self, AttachmentError> {
        on_disk(move || {
            let mut file = place.shared.files.writable(place.file, place.is_begun)?;
            file.seek(SeekFrom::Start(start))?;
            Ok(Self { file, hash: digest::Context::new(&SHA256), place })
        })
        .await
    }

    async fn take(mut self, piece: Vec<Bytes>) -> Result<Self, AttachmentError> {
        on_disk(move || {
            write_all(&mut self.file, &piece)?;
            for bytes in &piece {
                self.hash.update(bytes);
            }
            Ok(self)
        })
        .await
    }

    async fn finish(self, digest: [u8; 32]) -> Result<(), AttachmentError> {
        on_disk(move || {
            let Self { file, hash, place, .. } = self;
            if hash.finish().as_ref() != digest {
                return Err(AttachmentError::WrongDigest);
            }
            file.sync_data()?;
            drop(place);
            Ok(())
        })
        .await
    }
}

/// Writes one after the other, with as few calls as it takes: several chunks of a file wait for one another.
fn write_all(file: &mut impl Write, pieces: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<_> = pieces.iter().map(|bytes| IoSlice::new(bytes)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut left, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Runs what may wait for the disk.
pub(super) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AttachmentError> + Send + 'static,
) -> Result<T, AttachmentError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(AttachmentError::Disk(format!("the work on a file did not end: {error}"))),
    }
}
