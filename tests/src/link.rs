//! A TCP connection's way between two relays, that a test can cut, slow down or make lose what goes over it.
//!
//! A [`Link`] listens on a port of its own and passes each connection on to its target. What it does to the bytes, its
//! [`Condition`], can be changed at any time and holds for open connections at once.

mod connection;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use postrider_common::supervisor::Supervisor;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What a link does to the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// They pass.
    #[default]
    Open,
    /// Open connections are reset, and so are new ones as soon as they are made.
    Cut,
    /// They pass late.
    Slow {
        /// How long each piece of at most 16 KiB is held.
        delay: Duration,
        /// How many pass in a second at most, each way and for each connection.
        bytes_per_second: Option<NonZeroU32>,
    },
    /// What the caller sends vanishes.
    DropRequests,
    /// What the target sends vanishes: it has done what it was asked, and the caller does not learn of it.
    DropResponses,
    /// Everything vanishes, as when packets are dropped on the way.
    DropAll,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// From the caller.
    Request,
    /// From the target.
    Response,
}

impl Condition {
    /// Whether bytes vanish on this way.
    const fn drops(self, direction: Direction) -> bool {
        match self {
            Self::Open | Self::Slow { .. } => false,
            Self::DropRequests => matches!(direction, Direction::Request),
            Self::DropResponses => matches!(direction, Direction::Response),
            Self::Cut | Self::DropAll => true,
        }
    }
}

/// What went over a link since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Connections that callers made, those reset at once included.
    pub connections: u64,
    /// Of them, those that are open now.
    pub open: u64,
    /// Bytes from callers that reached the target.
    pub request_bytes: u64,
    /// Bytes from callers that vanished.
    pub dropped_request_bytes: u64,
    /// Bytes from the target that reached callers.
    pub response_bytes: u64,
    /// Bytes from the target that vanished.
    pub dropped_response_bytes: u64,
}

impl Traffic {
    fn count(&mut self, direction: Direction, dropped: bool, bytes: usize) {
        let counter = match (direction, dropped) {
            (Direction::Request, false) => &mut self.request_bytes,
            (Direction::Request, true) => &mut self.dropped_request_bytes,
            (Direction::Response, false) => &mut self.response_bytes,
            (Direction::Response, true) => &mut self.dropped_response_bytes,
        };
        *counter += bytes as u64;
    }
}

/// A proxy from a port of the loopback interface to a target. It stops when it is dropped, and its connections with it.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    condition: Arc<watch::Sender<Condition>>,
    target: Arc<watch::Sender<SocketAddr>>,
    traffic: Arc<watch::Sender<Traffic>>,
    supervisor: Supervisor,
}

impl Link {
    /// Starts an open one.
    pub async fn to(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let link = Self {
            address: listener.local_addr()?,
            condition: Arc::new(watch::Sender::new(Condition::Open)),
            target: Arc::new(watch::Sender::new(target)),
            traffic: Arc::new(watch::Sender::new(Traffic::default())),
            supervisor: Supervisor::new(),
        };
        let serve = serve(
            listener,
            Arc::clone(&link.condition),
            Arc::clone(&link.target),
            Arc::clone(&link.traffic),
            link.supervisor.clone(),
        );
        link.supervisor.spawn_service("link", serve);
        Ok(link)
    }

    /// Where callers connect to.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the condition, for open connections too.
    ///
    /// A connection that has lost bytes is reset as soon as bytes would pass on that way again: the streams of TCP have
    /// no holes, and what is behind one would make no sense.
    pub fn set(&self, condition: Condition) {
        self.condition.send_replace(condition);
    }

    /// [`Condition::Cut`].
    pub fn cut(&self) {
        self.set(Condition::Cut);
    }

    /// [`Condition::Open`].
    pub fn heal(&self) {
        self.set(Condition::Open);
    }

    /// The condition it is in.
    pub fn condition(&self) -> Condition {
        *self.condition.borrow()
    }

    /// Sends connections that are made from now on to another target, such as a relay that was restarted.
    pub fn set_target(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    /// Where it leads.
    pub fn target(&self) -> SocketAddr {
        *self.target.borrow()
    }

    /// What went over it.
    pub fn traffic(&self) -> Traffic {
        *self.traffic.borrow()
    }

    /// Waits until `reached` holds for what went over it, which may be so already.
    pub async fn wait_for(&self, reached: impl FnMut(&Traffic) -> bool) -> Traffic {
        let mut traffic = self.traffic.subscribe();
        // It fails only when the sender is gone, and `self` holds it.
        let seen = traffic.wait_for(reached).await.map(|traffic| *traffic);
        seen.unwrap_or_else(|_| self.traffic())
    }

    /// Stops it and waits until its port is free.
    pub async fn stop(self) {
        self.supervisor.stop();
        self.supervisor.finished().await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.supervisor.stop();
    }
}

/// After a failed accept.
const PAUSE: Duration = Duration::from_millis(20);

async fn serve(
    listener: TcpListener,
    condition: Arc<watch::Sender<Condition>>,
    target: Arc<watch::Sender<SocketAddr>>,
    traffic: Arc<watch::Sender<Traffic>>,
    supervisor: Supervisor,
) {
    loop {
        let accepted = tokio::select! {
            () = supervisor.stopping() => return,
            accepted = listener.accept() => accepted,
        };
        let caller = match accepted {
            Ok((caller, _)) => caller,
            Err(error) => {
                // The caller is gone, or the process is out of descriptors; the latter takes a moment to pass.
                tracing::warn!(%error, "a link could not accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let opened = connection::Opened::new(&traffic);
        let (condition, target) = (condition.subscribe(), *target.borrow());
        let stopping = supervisor.stopping();
        supervisor.spawn("link connection", async move {
            connection::carry(caller, target, condition, opened.traffic(), stopping).await;
        });
    }
}
