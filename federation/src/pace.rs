//! A connection that is read no faster than it asks for something.
//!
//! Frames that ask for nothing (PING, SETTINGS, data of bodies that nobody wants) cost whoever sends them nothing. So that
//! they cost a relay little, a connection is read slowly after a few of them, unless something is on its way on it that the
//! relay wants.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::linger::Linger;

/// What may come at once. An idle client's answers to pings are 17 bytes.
const FREE: usize = 16 << 10;
/// What may come after that in each pause.
const STEP: usize = 4 << 10;
const PAUSE: Duration = Duration::from_millis(500);

/// What is going on on a connection. Clones are of the same one.
#[derive(Debug, Clone, Default)]
pub struct Activity(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Things that are on their way.
    busy: AtomicUsize,
    /// Bytes that came while there was none, since the last request.
    idle_bytes: AtomicUsize,
    /// The last request's body was not read to its end.
    is_unread: AtomicBool,
    /// Whoever waits for the end of a pause.
    reader: AtomicWaker,
}

/// Something that is on its way, until it is dropped.
#[derive(Debug)]
pub struct OnItsWay(Activity);

/// A connection, read at the pace of its [`Activity`].
#[derive(Debug)]
pub struct Paced<IO> {
    io: IO,
    activity: Activity,
    pause: Option<Pin<Box<Sleep>>>,
    linger: Option<Linger>,
}

impl Activity {
    /// A request has come.
    pub fn asked(&self) {
        self.0.is_unread.store(false, Ordering::Relaxed);
        self.begin_anew();
    }

    /// A request is answered that has more of a body to come. If the connection is closed after that, it is only once the
    /// rest has come, or has been waited for.
    pub fn leave_unread(&self) {
        self.0.is_unread.store(true, Ordering::Relaxed);
    }

    /// Whether there is more to come of the last request.
    pub fn is_unread(&self) -> bool {
        self.0.is_unread.load(Ordering::Relaxed)
    }

    fn begin_anew(&self) {
        self.0.idle_bytes.store(0, Ordering::Relaxed);
    }

    /// Something is on its way, for as long as the guard lives: a body that is wanted, or an answer whose progress the
    /// other side acknowledges.
    pub fn busy(&self) -> OnItsWay {
        self.release();
        OnItsWay(self.clone())
    }

    /// From now on the connection is read as fast as it comes: others see to its limits.
    pub fn release(&self) {
        self.0.busy.fetch_add(1, Ordering::AcqRel);
        self.0.reader.wake();
    }

    fn is_busy(&self) -> bool {
        self.0.busy.load(Ordering::Acquire) > 0
    }

    /// Counts what has come. How long nothing more is to be read.
    fn took(&self, bytes: usize) -> Duration {
        if self.is_busy() {
            return Duration::ZERO;
        }
        let before = self.0.idle_bytes.fetch_add(bytes, Ordering::Relaxed);
        let over = |bytes: usize| bytes.saturating_sub(FREE).div_ceil(STEP);
        let steps = over(before.saturating_add(bytes)) - over(before);
        PAUSE * u32::try_from(steps).unwrap_or(u32::MAX)
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.begin_anew();
        self.0.0.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<IO> Paced<IO> {
    /// The connection, at the pace of `activity`.
    pub const fn new(io: IO, activity: Activity) -> Self {
        Self { io, activity, pause: None, linger: None }
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
            // In this order, so that no end of the pause is missed.
            this.activity.0.reader.register(cx.waker());
            if !this.activity.is_busy() {
                ready!(pause.as_mut().poll(cx));
            }
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

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Paced<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            if !this.activity.is_unread() {
                return Poll::Ready(Ok(()));
            }
        }
        this.linger.get_or_insert_with(Linger::new).poll(&mut this.io, cx).map(Ok)
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

    const MANY: usize = FREE + 20 * STEP;

    fn paced(bytes: usize, activity: &Activity) -> Paced<impl AsyncRead + Unpin> {
        Paced::new(tokio::io::repeat(7).take(bytes as u64), activity.clone())
    }

    /// How long it takes to read so many bytes, with the clock stopped but for waiting.
    async fn time_of(bytes: usize, activity: &Activity) -> Duration {
        let started = Instant::now();
        let mut io = paced(bytes, activity);
        let mut piece = [0; 1024];
        while io.read(&mut piece).await.unwrap() > 0 {}
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn what_asks_for_nothing_is_read_slowly() {
        let activity = Activity::default();
        assert!(time_of(FREE, &activity).await < PAUSE, "a little is free");
        activity.asked();
        assert!(time_of(MANY, &activity).await >= 20 * PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wanted_is_not_slowed() {
        let activity = Activity::default();
        let request = activity.busy();
        assert!(time_of(MANY, &activity).await < PAUSE);
        drop(request);
        assert!(time_of(MANY, &activity).await >= PAUSE, "it is over");
        activity.release();
        assert!(time_of(MANY, &activity).await < PAUSE, "others see to it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_as_soon_as_something_is_wanted() {
        let activity = Activity::default();
        let started = Instant::now();
        let mut io = paced(MANY, &activity);
        let mut piece = [0; 1024];
        let wanted = async {
            sleep(PAUSE / 10).await;
            activity.release();
        };
        tokio::join!(async { while io.read(&mut piece).await.unwrap() > 0 {} }, wanted);
        assert!(started.elapsed() < PAUSE, "{:?}", started.elapsed());
    }
}
