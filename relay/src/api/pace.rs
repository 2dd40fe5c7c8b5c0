//! A client's connection, read no faster than it asks for something.
//!
//! Frames that ask for nothing (PING, SETTINGS, data of bodies that nobody wants) cost whoever sends them nothing. So that
//! they cost the relay little, a connection is read slowly after a few of them, unless a request's body is on its way, or
//! a long answer, whose progress the client acknowledges.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// What may come at once beyond requests, and then in each [`PAUSE`]. An idle client's answers to pings are 17 bytes.
const FREE: usize = 16 << 10;
const PAUSE: Duration = Duration::from_millis(500);

/// What is going on on a connection. Clones are of the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Activity(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Bodies and long answers that are on their way.
    busy: AtomicUsize,
    /// Bytes that came while there was none, since the last request.
    idle_bytes: AtomicUsize,
}

/// A body, or a long answer, that is on its way.
#[derive(Debug)]
pub(super) struct Busy(Activity);

/// A connection, read at the pace of its [`Activity`].
#[derive(Debug)]
pub(super) struct Paced<IO> {
    io: IO,
    activity: Activity,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Activity {
    /// A request has come.
    pub(super) fn asked(&self) {
        self.0.idle_bytes.store(0, Ordering::Relaxed);
    }

    /// Something is on its way, for as long as the guard lives.
    pub(super) fn busy(&self) -> Busy {
        self.0.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// From now on the connection is something else, with rules of its own.
    pub(super) fn release(&self) {
        self.0.busy.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what has come. How long nothing more is to be read.
    fn took(&self, bytes: usize) -> Duration {
        if self.0.busy.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        let before = self.0.idle_bytes.fetch_add(bytes, Ordering::Relaxed);
        let over = before.saturating_add(bytes) / FREE - before / FREE;
        PAUSE * u32::try_from(over).unwrap_or(u32::MAX)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.idle_bytes.store(0, Ordering::Relaxed);
        self.0.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<IO> Paced<IO> {
    pub(super) fn new(io: IO, activity: Activity) -> Self {
        Self { io, activity, pause: None }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Paced<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(cx));
            this.pause = None;
        }
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut this.io).poll_read(cx, buffer));
        let pause = this.activity.took(buffer.filled().len() - before);
        if !pause.is_zero() {
            this.pause = Some(Box::pin(sleep(pause)));
        }
        Poll::Ready(read)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Paced<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::time::Instant;

    use super::*;

    /// How long it takes to read so many bytes, with the clock stopped but for waiting.
    async fn time_of(bytes: usize, activity: &Activity) -> Duration {
        let started = Instant::now();
        let source = tokio::io::repeat(7).take(bytes as u64);
        let mut io = Paced::new(tokio::io::join(source, tokio::io::sink()), activity.clone());
        let mut piece = [0; 4096];
        while io.read(&mut piece).await.unwrap() > 0 {}
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn what_asks_for_nothing_is_read_slowly() {
        let activity = Activity::default();
        assert!(time_of(FREE / 2, &activity).await < PAUSE, "a little is free");
        assert!(time_of(20 * FREE, &activity).await >= 20 * PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_belongs_to_a_request_is_not_slowed() {
        let activity = Activity::default();
        let request = activity.busy();
        assert!(time_of(20 * FREE, &activity).await < PAUSE);
        drop(request);
        assert!(time_of(20 * FREE, &activity).await >= PAUSE, "the request is over");
        activity.release();
        assert!(time_of(20 * FREE, &activity).await < PAUSE, "it is no longer HTTP");
    }
}
