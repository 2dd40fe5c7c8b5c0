//! Relays to test against: real ones, as many as a test needs, in the test's own process.
//!
//! # Test your own client
//! One line starts a relay, with DNS, certificates and a store on disk:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = postrider_tests::cluster::Cluster::start(["alpha.example"]).await?;
//!
//! // What your client needs to know: where to connect, and whom to trust there as `alpha.example`.
//! let (address, authority) = (cluster.door("alpha.example")?.address(), cluster.authority().root_pem());
//! # drop((address, authority));
//! // Somebody for it to talk to.
//! let bob = cluster.user("alpha.example").await?;
//! println!("send something to {}", bob.identity().address());
//! let received = bob.next().await?;
//! # drop(received);
//! cluster.shut_down().await?;
//! # Ok(())
//! # }
//! ```
//!
//! With the SDK, [`Cluster::client`](cluster::Cluster::client) and [`Cluster::user`](cluster::Cluster::user) are all
//! that is needed. With more domains, relays are peers of one another, and a test can stop, kill and restart each
//! ([`Cluster::kill`](cluster::Cluster::kill)), break the way between two ([`Cluster::link`](cluster::Cluster::link)),
//! and move the time ([`Builder::clock`](cluster::Builder::clock)).
//!
//! # What it is made of
//! The parts are useful alone too: a [DNS server](dns), [links](link) that can be cut, slowed or made to lose what
//! goes over them, a [certificate authority](authority). Everything is real: packets on the loopback interface,
//! certificates that rustls checks. Nothing outside the process is touched, ports are chosen by the operating
//! system, and each part stops when it is dropped. The [`soak`] puts all of them together under load.

pub mod abuse;
pub mod authority;
pub mod binary;
pub mod clock;
pub mod cluster;
pub mod conformance;
mod dice;
pub mod dns;
pub mod link;
pub mod settled;
pub mod simulation;
pub mod soak;
