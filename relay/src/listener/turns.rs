//! A connection that gives way to others.
//!
//! Whoever always has more to send would otherwise be read for as long as it pleases the scheduler, megabytes of small
//! frames at a time, while everybody else waits.

use std::io;
use std::task::{Context, Poll};

use crate::reading::{Reading, Ruled};

/// What is read of one connection before it is somebody else's turn.
const TURN: usize = 16 << 10;

/// A connection is read for a turn at a time.
#[derive(Debug)]
pub(super) struct Turns {
    taken: usize,
}

/// A connection that is read so.
pub(super) type InTurns<IO> = Ruled<IO, Turns>;

pub(super) const fn in_turns<IO>(io: IO) -> InTurns<IO> {
    Ruled { io, rule: Turns { taken: 0 } }
}

impl Reading for Turns {
    fn may_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.taken < TURN {
            return Poll::Ready(Ok(()));
        }
        self.taken = 0;
        // Behind everybody who is waiting already.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn has_read(&mut self, bytes: Poll<usize>) {
        match bytes {
            Poll::Ready(bytes) => self.taken += bytes,
            Poll::Pending => self.taken = 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn whoever_always_has_more_is_read_a_turn_at_a_time() {
        let mut io = in_turns(tokio::io::join(tokio::io::repeat(7), tokio::io::sink()));
        let mut piece = vec![0; TURN / 4];
        for _ in 0..3 {
            for _ in 0..4 {
                assert!(io.read_exact(&mut piece).now_or_never().is_some());
            }
            assert!(io.read(&mut piece).now_or_never().is_none(), "it is somebody else's turn");
        }
    }
}
