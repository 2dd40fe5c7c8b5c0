//! One connection over a link.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::{Condition, Direction, Traffic};

/// Counts a connection as open until it is dropped.
pub(super) struct Opened(Arc<watch::Sender<Traffic>>);

impl Opened {
    pub(super) fn new(traffic: &Arc<watch::Sender<Traffic>>) -> Self {
        traffic.send_modify(|traffic| {
            traffic.connections += 1;
            traffic.open += 1;
        });
        Self(Arc::clone(traffic))
    }

    pub(super) fn traffic(&self) -> &watch::Sender<Traffic> {
        &self.0
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.send_modify(|traffic| traffic.open -= 1);
    }
}

/// Passes the caller's connection on to the target, until both have closed it or it is reset.
pub(super) async fn carry(
    mut caller: TcpStream,
    target: SocketAddr,
    condition: watch::Receiver<Condition>,
    traffic: &watch::Sender<Traffic>,
    stopping: impl Future<Output = ()>,
) {
    let holes = Holes::default();
    let reset = async {
        tokio::select! {
            () = stopping => {}
            () = broken(condition.clone(), &holes) => {}
        }
    };
    tokio::pin!(reset);
    let connected = tokio::select! {
        () = &mut reset => None,
        connected = TcpStream::connect(target) => connected.ok(),
    };
    let Some(mut target) = connected else {
        abort(&caller);
        return;
    };
    // Should it fail, small pieces are late, and nothing else.
    let _ = (caller.set_nodelay(true), target.set_nodelay(true));

    let way = |direction| Way { direction, condition: condition.clone(), traffic, holes: &holes };
    let (from_caller, to_caller) = caller.split();
    let (from_target, to_target) = target.split();
    let both = async {
        tokio::try_join!(
            way(Direction::Request).pass(from_caller, to_target),
            way(Direction::Response).pass(from_target, to_caller),
        )
    };
    let in_order = tokio::select! {
        () = &mut reset => false,
        result = both => result.is_ok(),
    };
    if !in_order {
        abort(&caller);
        abort(&target);
    }
}

/// Has the other side see a reset once the stream is dropped.
fn abort(stream: &TcpStream) {
    // A failure means that the other side is gone already.
    let _ = stream.set_zero_linger();
}

/// On which ways a connection has lost something.
#[derive(Default)]
struct Holes {
    request: AtomicBool,
    response: AtomicBool,
}

impl Holes {
    const fn of(&self, direction: Direction) -> &AtomicBool {
        match direction {
            Direction::Request => &self.request,
            Direction::Response => &self.response,
        }
    }

    /// Whether bytes may pass that come after lost ones.
    fn would_show(&self, condition: Condition) -> bool {
        [Direction::Request, Direction::Response]
            .into_iter()
            .any(|direction| self.of(direction).load(Ordering::Relaxed) && !condition.drops(direction))
    }
}

/// Completes when the connection has to be reset.
async fn broken(mut condition: watch::Receiver<Condition>, holes: &Holes) {
    let reset = |condition: &Condition| *condition == Condition::Cut || holes.would_show(*condition);
    // The sender goes only when the link does, which ends the connection in another way.
    if condition.wait_for(reset).await.is_err() {
        std::future::pending().await
    }
}

/// One of the two ways of a connection.
struct Way<'a> {
    direction: Direction,
    condition: watch::Receiver<Condition>,
    traffic: &'a watch::Sender<Traffic>,
    holes: &'a Holes,
}

impl Way<'_> {
    async fn pass(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return self.close(to).await;
            }
            let mut rest = &buffer[..read];
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(self.piece().min(rest.len()));
                self.pass_piece(piece, &mut to, rest.len() == read).await?;
                rest = later;
            }
        }
    }

    /// How much goes at once: at a limited rate a twentieth of a second's worth, so that it trickles.
    fn piece(&self) -> usize {
        match *self.condition.borrow() {
            Condition::Slow { bytes_per_second: Some(rate), .. } => {
                usize::try_from(rate.get() / 20).unwrap_or(usize::MAX).max(1)
            }
            _ => usize::MAX,
        }
    }

    async fn pass_piece(&mut self, piece: &[u8], to: &mut WriteHalf<'_>, first: bool) -> io::Result<()> {
        let dropped = self.hold(piece.len(), first).await;
        if dropped {
            self.holes.of(self.direction).store(true, Ordering::Relaxed);
        } else {
            to.write_all(piece).await?;
        }
        self.traffic.send_modify(|traffic| traffic.count(self.direction, dropped, piece.len()));
        Ok(())
    }

    /// Waits for as long as the condition wants it, then tells whether the bytes vanish. A change of the condition
    /// takes the place of what was left of the wait.
    async fn hold(&mut self, bytes: usize, first: bool) -> bool {
        loop {
            let condition = *self.condition.borrow_and_update();
            // What follows something lost must not be seen, even if the reset comes a moment later.
            if condition.drops(self.direction) || self.holes.of(self.direction).load(Ordering::Relaxed) {
                return true;
            }
            let Condition::Slow { delay, bytes_per_second } = condition else {
                return false;
            };
            let paced = bytes_per_second.map_or(0.0, |rate| bytes as f64 / f64::from(rate.get()));
            let wait = Duration::from_secs_f64(paced) + if first { delay } else { Duration::ZERO };
            tokio::select! {
                () = tokio::time::sleep(wait) => return false,
                changed = self.condition.changed() => if changed.is_err() {
                    return true;
                },
            }
        }
    }

    /// Passes the end of the stream on, unless that vanishes too.
    async fn close(mut self, mut to: WriteHalf<'_>) -> io::Result<()> {
        if self.hold(0, true).await {
            self.holes.of(self.direction).store(true, Ordering::Relaxed);
            Ok(())
        } else {
            to.shutdown().await
        }
    }
}
