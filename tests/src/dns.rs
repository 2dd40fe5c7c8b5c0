//! An authoritative DNS server for tests, on a UDP and a TCP port of the loopback interface.
//!
//! [`Dns`] holds the records that everybody sees. Each [`View`] is a server on a port of its own with records of its
//! own, which come first: give every relay its view, and one relay may find another at another address, or not at
//! all, or wait in vain for an answer.

mod handler;
mod records;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use postrider_common::supervisor::Supervisor;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use handler::Handler;
pub use hickory_proto::rr::{RData, RecordType};
pub use records::{NotAName, Records, Srv, Trouble, srv_name};

/// How often each name and type was asked for. Names are in lower case with a trailing dot.
type Queries = HashMap<(String, RecordType), u64>;

/// The DNS of a test: what all views answer for names that they have nothing of their own for.
#[derive(Debug, Clone, Default)]
pub struct Dns {
    records: Records,
}

impl Dns {
    /// One without records.
    pub fn new() -> Self {
        Self::default()
    }

    /// The records that every view has. They may be changed at any time.
    pub const fn records(&self) -> &Records {
        &self.records
    }

    /// Starts a server that answers from its own records first, then from these.
    pub async fn view(&self) -> io::Result<View> {
        let (udp, tcp) = bind().await?;
        let address = udp.local_addr()?;
        let records = Records::default();
        let queries = Arc::new(watch::Sender::new(Queries::new()));
        let trouble = Arc::new(watch::Sender::new(None));
        let mut server = Server::new(Handler {
            own: records.clone(),
            shared: self.records.clone(),
            trouble: Arc::clone(&trouble),
            queries: Arc::clone(&queries),
        });
        server.register_socket(udp);
        server.register_listener(tcp, IDLE, RESPONSES);

        let supervisor = Supervisor::new();
        let stopping = supervisor.stopping();
        supervisor.spawn_service("dns", async move {
            tokio::select! {
                () = stopping => {
                    if let Err(error) = server.shutdown_gracefully().await {
                        tracing::warn!(%error, "the DNS server did not stop in order");
                    }
                }
                result = server.block_until_done() => {
                    tracing::warn!(?result, "the DNS server ended");
                }
            }
        });
        Ok(View { address, records, trouble, queries, supervisor })
    }
}

/// How long a TCP connection may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// Answers waiting on one TCP connection.
const RESPONSES: usize = 16;

/// One server. It stops when it is dropped.
#[derive(Debug)]
pub struct View {
    address: SocketAddr,
    records: Records,
    trouble: Arc<watch::Sender<Option<Trouble>>>,
    queries: Arc<watch::Sender<Queries>>,
    supervisor: Supervisor,
}

impl View {
    /// Where it listens, over UDP and TCP.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The records that only this view has. A name that is here hides all that [`Dns`] has for it.
    pub const fn records(&self) -> &Records {
        &self.records
    }

    /// Makes it answer every query in this way, or as usual again.
    pub fn set_trouble(&self, trouble: Option<Trouble>) {
        self.trouble.send_replace(trouble);
    }

    /// How often this was asked for, answered or not.
    pub fn queries(&self, name: &str, kind: RecordType) -> u64 {
        count(&self.queries.borrow(), name, kind)
    }

    /// How often anything was asked for.
    pub fn all_queries(&self) -> u64 {
        self.queries.borrow().values().sum()
    }

    /// Waits until this was asked for so many times in all.
    pub async fn wait_for_queries(&self, name: &str, kind: RecordType, at_least: u64) {
        let mut queries = self.queries.subscribe();
        // It ends early only when the sender is gone, and `self` holds it.
        let _ = queries.wait_for(|queries| count(queries, name, kind) >= at_least).await;
    }

    /// Stops it and waits until its ports are free.
    pub async fn stop(self) {
        self.supervisor.stop();
        self.supervisor.finished().await;
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.supervisor.stop();
    }
}

fn count(queries: &Queries, name: &str, kind: RecordType) -> u64 {
    let name = format!("{}.", name.trim_end_matches('.').to_ascii_lowercase());
    queries.get(&(name, kind)).copied().unwrap_or_default()
}

/// A UDP and a TCP socket with the same port number.
async fn bind() -> io::Result<(UdpSocket, TcpListener)> {
    /// The operating system chooses the UDP port without regard to TCP.
    const TRIES: usize = 64;
    let mut failure = None;
    for _ in 0..TRIES {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}
