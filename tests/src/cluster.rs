//! Several relays that know each other: real ones, with real DNS, real TLS and real disks.
//!
//! ```no_run
//! # async fn example() -> Result<(), postrider_tests::cluster::ClusterError> {
//! use postrider_tests::cluster::Cluster;
//!
//! let cluster = Cluster::start(["alpha.example", "beta.example"]).await?;
//! let alice = cluster.user("alpha.example").await?;
//! let bob = cluster.user("beta.example").await?;
//! alice.send(&bob, b"hello").await?;
//! assert_eq!(bob.receive().await?.message, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! Each relay finds the others through a DNS server of its own and reaches each over a [`Link`] of its own, which can
//! be cut, slowed, or made to lose what goes over it. Clients reach a relay through a link too, which keeps its
//! address when the relay is restarted on another port. Everything is in a temporary directory and ends with the
//! cluster.

mod builder;
mod log;
mod node;
mod pinned;
mod user;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use postrider_client::Relay;
use postrider_common::clock::SharedClock;
use postrider_common::{Domain, DomainError};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::authority::{Authority, AuthorityError};
use crate::dns::{Dns, NotAName, View};
use crate::link::Link;
use node::{Node, NodeFiles};

pub use builder::Builder;
pub use log::Log;
pub use node::Stopped;
pub use user::{Received, User};

/// How long anything in a cluster may take before a test gives up: far longer than it ever should, on any machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Relays that are peers of one another.
#[derive(Debug)]
pub struct Cluster {
    nodes: BTreeMap<Domain, Member>,
    links: BTreeMap<(Domain, Domain), Link>,
    authority: Authority,
    dns: Dns,
    clock: SharedClock,
    /// Where everything is, unless somebody else gave the place.
    directory: Option<TempDir>,
}

/// One relay with its surroundings.
#[derive(Debug)]
struct Member {
    node: tokio::sync::Mutex<Node>,
    files: NodeFiles,
    view: View,
    /// Where clients connect.
    door: Link,
}

/// A cluster could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// A name is no domain.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// A name does not fit DNS.
    #[error(transparent)]
    Name(#[from] NotAName),
    /// A certificate could not be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A file, a port, a process.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The configuration that the cluster wrote is not accepted, mostly because of what a test added to it.
    #[error("{0}")]
    Configuration(#[from] postrider::config::ConfigErrors),
    /// A relay did not start.
    #[error("{0}")]
    Start(String),
    /// A relay did not stop in order.
    #[error("{domain} did not stop in order: {reason}")]
    Stop {
        /// Which relay.
        domain: Domain,
        /// What it said.
        reason: String,
    },
    /// A client's call failed.
    #[error(transparent)]
    Client(#[from] postrider_client::Error),
    /// A message could not be sealed.
    #[error(transparent)]
    Seal(#[from] postrider_client::SealError),
    /// A message could not be opened.
    #[error(transparent)]
    Open(#[from] postrider_client::OpenError),
    /// A relay did not take an envelope.
    #[error("the envelope was refused: {0}")]
    Refused(postrider_common::FailureClass),
    /// Something did not happen within [`PATIENCE`].
    #[error("{0} did not happen in time")]
    Patience(&'static str),
    /// There is no such relay in the cluster.
    #[error("{0} is not in the cluster")]
    NoSuchRelay(String),
}

impl Cluster {
    /// Starts relays in this process, each on threads and a store of its own.
    pub async fn start<S: Into<String>>(domains: impl IntoIterator<Item = S>) -> Result<Self, ClusterError> {
        Self::builder(domains).start().await
    }

    /// The same with choices.
    pub fn builder<S: Into<String>>(domains: impl IntoIterator<Item = S>) -> Builder {
        Builder::new(domains.into_iter().map(Into::into).collect())
    }

    /// A new user with a registered mailbox at a relay.
    pub async fn user(&self, domain: &str) -> Result<User, ClusterError> {
        let domain = self.domain(domain)?;
        let user = self.connect(&postrider_client::Identity::generate(domain))?;
        user.session().await?.register().await?;
        Ok(user)
    }

    /// An app of a user who may or may not be registered yet.
    pub fn connect(&self, identity: &postrider_client::Identity) -> Result<User, ClusterError> {
        let relay = self.client(identity.domain().as_str())?;
        Ok(User::new(identity.clone(), relay, Arc::clone(&self.clock)))
    }

    /// A client of a relay, to make requests with.
    pub fn client(&self, domain: &str) -> Result<Relay, ClusterError> {
        let member = self.member(domain)?;
        let trust = postrider_client::Trust::AuthorityPem(self.authority.root_pem());
        let builder = Relay::builder(format!("https://{domain}")).address(member.door.address()).trust(trust);
        Ok(builder.build()?)
    }

    /// The way from one relay to another.
    pub fn link(&self, from: &str, to: &str) -> Result<&Link, ClusterError> {
        let key = (self.domain(from)?, self.domain(to)?);
        self.links.get(&key).ok_or_else(|| ClusterError::NoSuchRelay(format!("{from} to {to}")))
    }

    /// The way from clients to a relay.
    pub fn door(&self, domain: &str) -> Result<&Link, ClusterError> {
        Ok(&self.member(domain)?.door)
    }

    /// The DNS that one relay sees.
    pub fn view(&self, domain: &str) -> Result<&View, ClusterError> {
        Ok(&self.member(domain)?.view)
    }

    /// The DNS that all relays see.
    pub const fn dns(&self) -> &Dns {
        &self.dns
    }

    /// Whoever issued the relays' certificates.
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The time that the cluster goes by.
    pub fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// The relay's directory: `postrider.toml`, its certificate, `data`.
    pub fn directory(&self, domain: &str) -> Result<&Path, ClusterError> {
        Ok(&self.member(domain)?.files.directory)
    }

    /// Where the relay listens itself, without a link in front.
    pub async fn address(&self, domain: &str) -> Result<std::net::SocketAddr, ClusterError> {
        self.member(domain)?
            .node
            .lock()
            .await
            .address()
            .ok_or(ClusterError::Start("it is not running".into()))
    }

    /// Every address that it listens on: that for everybody first, then what [`Builder::listen`] adds.
    pub async fn addresses(&self, domain: &str) -> Result<Vec<std::net::SocketAddr>, ClusterError> {
        let node = self.member(domain)?.node.lock().await;
        node.addresses().ok_or(ClusterError::Start("it is not running".into()))
    }

    /// Where the relay tells metrics and health, if its configuration says so.
    pub async fn metrics(&self, domain: &str) -> Result<Option<std::net::SocketAddr>, ClusterError> {
        Ok(self.member(domain)?.node.lock().await.metrics())
    }

    /// What a relay tells those who watch it: the status and the body of `GET path`. Needs `metrics` in [`Builder::listen`].
    pub async fn monitoring(&self, domain: &str, path: &str) -> Result<(u16, String), ClusterError> {
        let address = self.metrics(domain).await?.ok_or(ClusterError::Start("it tells no metrics".into()))?;
        Self::ask(address, path).await
    }

    /// The same of any address.
    pub async fn ask(address: std::net::SocketAddr, path: &str) -> Result<(u16, String), ClusterError> {
        let asking = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: relay\r\n\r\n").as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = timeout(PATIENCE, asking).await.map_err(|_| ClusterError::Patience("an answer"))??;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or(ClusterError::Start(format!("it answers {head:?}")))?;
        Ok((status, body.to_owned()))
    }

    /// The process that a relay is, if it runs as one.
    pub async fn process_id(&self, domain: &str) -> Result<Option<u32>, ClusterError> {
        Ok(self.member(domain)?.node.lock().await.process_id())
    }

    /// What a relay has logged in all its runs: in this process at `debug` and above, unless the cluster was built
    /// with a log of its own; as a process what its configuration says.
    pub async fn log(&self, domain: &str) -> Result<String, ClusterError> {
        Ok(self.member(domain)?.node.lock().await.log().text())
    }

    /// Waits until a relay has logged `text`, which it may have already.
    pub async fn logged(&self, domain: &str, text: &str) -> Result<(), ClusterError> {
        self.logged_times(domain, text, 1).await
    }

    /// Waits until a relay has logged `text` as often as that, since the cluster started.
    pub async fn logged_times(&self, domain: &str, text: &str, times: usize) -> Result<(), ClusterError> {
        let log = self.member(domain)?.node.lock().await.log().clone();
        let waiting = timeout(PATIENCE, log.wait_for(text, times));
        waiting.await.map_err(|_| ClusterError::Patience("what was to be logged"))
    }

    /// Stops a relay in order (`SIGTERM`), and says how it ended.
    pub async fn stop(&self, domain: &str) -> Result<Stopped, ClusterError> {
        self.member(domain)?.node.lock().await.stop().await
    }

    /// Ends a relay without a word: `SIGKILL` for a process; in this process its tasks are dropped where they are.
    pub async fn kill(&self, domain: &str) -> Result<(), ClusterError> {
        self.member(domain)?.node.lock().await.kill().await
    }

    /// How a relay has ended by itself, if it is a process and has.
    pub async fn has_ended(&self, domain: &str) -> Result<Option<String>, ClusterError> {
        self.member(domain)?.node.lock().await.has_ended()
    }

    /// Waits until a relay that is a process has ended by itself, and says how.
    pub async fn ended(&self, domain: &str) -> Result<String, ClusterError> {
        self.member(domain)?.node.lock().await.ended().await
    }

    /// Runs a command of the relay's program about it, such as `peer list`: `--config` is added. Only for processes.
    pub async fn command(&self, domain: &str, arguments: &[&str]) -> Result<Output, ClusterError> {
        let member = self.member(domain)?;
        let no_process = || ClusterError::Start(format!("{domain} is no process"));
        let binary = member.node.lock().await.binary().ok_or_else(no_process)?.to_owned();
        let running = Command::new(binary)
            .args(arguments)
            .arg("--config")
            .arg(&member.files.config)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        Ok(timeout(PATIENCE, running).await.map_err(|_| ClusterError::Patience("the end of a command"))??)
    }

    /// What the relay's process finds in its environment from its next start on, beside what this process has.
    /// Nothing for a relay in this process.
    pub async fn set_environment(
        &self,
        domain: &str,
        variables: &[(&str, &str)],
    ) -> Result<(), ClusterError> {
        self.member(domain)?.node.lock().await.set_environment(variables);
        Ok(())
    }

    /// Starts a stopped relay again, on the data that it left. It may come back on another port; links follow it.
    pub async fn restart(&self, domain: &str) -> Result<(), ClusterError> {
        let member = self.member(domain)?;
        let mut node = member.node.lock().await;
        let address = node.start(&member.files).await?;
        member.door.set_target(address);
        for ((_, to), link) in &self.links {
            if to.as_str() == domain {
                link.set_target(address);
            }
        }
        Ok(())
    }

    /// Stops every relay that runs, all at once, and removes what they wrote. That one does not stop in order is an
    /// error.
    pub async fn shut_down(self) -> Result<(), ClusterError> {
        let stop = |(domain, member): (Domain, Member)| async move {
            let mut node = member.node.lock().await;
            if node.address().is_none() {
                return Ok(());
            }
            match node.stop().await? {
                Stopped::InOrder => Ok(()),
                Stopped::Otherwise(reason) => Err(ClusterError::Stop { domain, reason }),
            }
        };
        try_join_all(self.nodes.into_iter().map(stop)).await?;
        Ok(self.directory.map_or(Ok(()), TempDir::close)?)
    }

    fn member(&self, domain: &str) -> Result<&Member, ClusterError> {
        let missing = || ClusterError::NoSuchRelay(domain.to_owned());
        self.nodes.get(&self.domain(domain)?).ok_or_else(missing)
    }

    fn domain(&self, domain: &str) -> Result<Domain, ClusterError> {
        Ok(domain.parse()?)
    }
}
