//! The end of a connection on which more may be coming.
//!
//! Whoever closes a socket with bytes in it that were not read resets the connection, and with it may go the answer that was
//! sent last. So what still comes of a body that nobody wants is read and thrown away for a while (RFC 9112 section 9.6).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// As much as the largest body that is asked for, and a little of what is around it.
const MOST: usize = 17 << 20;
/// How long it may take, and how long nothing may come meanwhile.
const WHOLE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(5);

/// How the rest of a connection is thrown away.
#[derive(Debug)]
pub(crate) struct Linger {
    left: usize,
    until: Instant,
    pause: Pin<Box<Sleep>>,
    scrap: Box<[u8]>,
}

impl Linger {
    pub(crate) fn new() -> Self {
        Self {
            left: MOST,
            until: Instant::now() + WHOLE,
            pause: Box::pin(sleep(PAUSE)),
            scrap: vec![0; 16 << 10].into(),
        }
    }

    /// Ready when the other side has closed, or enough has been waited for.
    pub(crate) fn poll<IO: AsyncRead + Unpin>(&mut self, io: &mut IO, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.left == 0 || self.pause.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut scrap = ReadBuf::new(&mut self.scrap);
            let read: Poll<io::Result<()>> = Pin::new(&mut *io).poll_read(cx, &mut scrap);
            match (read, scrap.filled().len()) {
                (Poll::Pending, _) => return Poll::Pending,
                (Poll::Ready(Err(_)), _) | (_, 0) => return Poll::Ready(()),
                (_, bytes) => self.left = self.left.saturating_sub(bytes),
            }
            self.pause.as_mut().reset(self.until.min(Instant::now() + PAUSE));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    async fn time_of(io: &mut (impl AsyncRead + Unpin)) -> Duration {
        let (started, mut linger) = (Instant::now(), Linger::new());
        poll_fn(|cx| linger.poll(io, cx)).await;
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_over_when_the_other_side_closes_or_has_sent_more_than_anybody_would() {
        let (mut here, mut there) = duplex(1024);
        let sending = async {
            there.write_all(&[7; 100_000]).await.unwrap();
            drop(there);
        };
        let (took, ()) = tokio::join!(time_of(&mut here), sending);
        assert!(took < PAUSE, "{took:?}");
        let mut endless = tokio::io::repeat(7).take(2 * MOST as u64);
        assert!(time_of(&mut endless).await < PAUSE);
        let taken = 2 * MOST as u64 - endless.limit();
        assert_eq!(taken, MOST as u64, "that much, and no more");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_stays_silent_or_is_slow_is_not_waited_for() {
        let (mut here, mut there) = duplex(1024);
        assert_eq!(time_of(&mut here).await, PAUSE);
        let slow = async {
            while there.write_all(&[7]).await.is_ok() {
                sleep(PAUSE / 2).await;
            }
        };
        tokio::select! {
            took = time_of(&mut here) => assert_eq!(took, WHOLE),
            () = slow => panic!("it closes when it is dropped"),
        }
    }
}
