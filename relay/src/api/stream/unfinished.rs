//! How much a device may send without a message that is whole.
//!
//! A message may come in as many frames as the device likes, and frames may be empty. The WebSocket below counts what is in them
//! and tells of whole messages only, so that frames without end would be read for ever and nobody would hear of them.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{MAX_INCOMING, MOST_PINGS};

/// What the frames of one message have together, with their heads and with the pings and pongs between them.
const MOST: usize = 128 << 10;

/// The largest message in frames of one byte each, with the longest pings and pongs that there may be, has room.
const _: () = assert!(MAX_INCOMING * 7 + (MOST_PINGS as usize) * (6 + 125) <= MOST);

/// A connection of which only so much is read until a message is whole.
#[derive(Debug)]
pub(super) struct Unfinished<IO> {
    io: IO,
    left: usize,
}

impl<IO> Unfinished<IO> {
    pub(super) const fn new(io: IO) -> Self {
        Self { io, left: MOST }
    }

    /// A message was whole, or a ping was sent: pings and pongs are no messages, and come without one for as long as the
    /// stream is open.
    pub(super) const fn begin_anew(&mut self) {
        self.left = MOST;
    }

    /// Whether a device has sent too much without a whole message.
    pub(super) const fn is_over(&self) -> bool {
        self.left == 0
    }

    /// The connection itself.
    pub(super) const fn io(&mut self) -> &mut IO {
        &mut self.io
    }
}

/// Whether reading ended because of the limit.
pub(super) fn is_limit(error: &io::Error) -> bool {
    error.kind() == ErrorKind::QuotaExceeded
}

impl<IO: AsyncRead + Unpin> AsyncRead for Unfinished<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over() {
            return Poll::Ready(Err(ErrorKind::QuotaExceeded.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        self.left = self.left.saturating_sub(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Unfinished<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
