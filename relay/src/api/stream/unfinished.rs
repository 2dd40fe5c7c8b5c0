//! How much a device may send without a message that is whole.
//!
//! A message may come in as many frames as the device likes, and frames may be empty. The WebSocket below counts what is in them
//! and tells of whole messages only, so that frames without end would be read for ever and nobody would hear of them.

use std::io::{self, ErrorKind};
use std::task::{Context, Poll};

use super::{MAX_INCOMING, MOST_PINGS};
use crate::reading::Reading;

/// What the frames of one message have together, with their heads and with the pings and pongs between them.
const MOST: usize = 128 << 10;

/// The largest message in frames of one byte each, with the longest pings and pongs that there may be, has room.
const _: () = assert!(MAX_INCOMING * 7 + (MOST_PINGS as usize) * (6 + 125) <= MOST);

/// Only so much of a connection is read until a message is whole.
#[derive(Debug)]
pub(super) struct Unfinished {
    left: usize,
}

impl Unfinished {
    pub(super) const fn new() -> Self {
        Self { left: MOST }
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
}

impl Reading for Unfinished {
    fn may_read(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(if self.is_over() { Err(ErrorKind::QuotaExceeded.into()) } else { Ok(()) })
    }

    fn has_read(&mut self, bytes: Poll<usize>) {
        if let Poll::Ready(bytes) = bytes {
            self.left = self.left.saturating_sub(bytes);
        }
    }
}

/// Whether reading ended because of the limit.
pub(super) fn is_limit(error: &io::Error) -> bool {
    error.kind() == ErrorKind::QuotaExceeded
}
