//! A connection of which reading goes by a rule. What is written to it goes through as it is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// When a connection may be read.
pub(crate) trait Reading {
    /// Whether it may be read now. Whoever says no sees to it that it is asked again.
    fn may_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// So many bytes came; `Pending`: none are there.
    fn has_read(&mut self, bytes: Poll<usize>);
}

/// A connection, and the rule.
#[derive(Debug)]
pub(crate) struct Ruled<IO, R> {
    pub(crate) io: IO,
    pub(crate) rule: R,
}

impl<IO: AsyncRead + Unpin, R: Reading + Unpin> AsyncRead for Ruled<IO, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.rule.may_read(cx))?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        let bytes = buffer.filled().len() - before;
        self.rule.has_read(if read.is_ready() { Poll::Ready(bytes) } else { Poll::Pending });
        read
    }
}

impl<IO: AsyncWrite + Unpin, R: Unpin> AsyncWrite for Ruled<IO, R> {
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
