//! A connection that gives way to others.
//!
//! Whoever always has more to send would otherwise be read for as long as it pleases the scheduler, megabytes of small
//! frames at a time, while everybody else waits.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read of one connection before it is somebody else's turn.
const TURN: usize = 16 << 10;

/// A connection that is read for a turn at a time.
#[derive(Debug)]
pub(super) struct Turns<IO> {
    io: IO,
    taken: usize,
}

impl<IO> Turns<IO> {
    pub(super) const fn new(io: IO) -> Self {
        Self { io, taken: 0 }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Turns<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.taken >= TURN {
            self.taken = 0;
            // Behind everybody who is waiting already.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        match read {
            Poll::Ready(_) => self.taken += buffer.filled().len() - before,
            Poll::Pending => self.taken = 0,
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Turns<IO> {
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
    use futures_util::FutureExt;
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn whoever_always_has_more_is_read_a_turn_at_a_time() {
        let mut io = Turns::new(tokio::io::join(tokio::io::repeat(7), tokio::io::sink()));
        let mut piece = vec![0; TURN / 4];
        for _ in 0..3 {
            for _ in 0..4 {
                assert!(io.read_exact(&mut piece).now_or_never().is_some());
            }
            assert!(io.read(&mut piece).now_or_never().is_none(), "it is somebody else's turn");
        }
    }
}
