//! What a cluster consists of, and how it starts.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postrider_common::Domain;
use postrider_common::clock::{Clock, SharedClock, SystemClock};
use tempfile::TempDir;
use tracing::Dispatch;

use super::node::{Node, NodeFiles, Peers, configuration};
use super::pinned::Identity;
use super::{Cluster, ClusterError, Member};
use crate::authority::{Authority, AuthorityError, Certified, Leaf};
use crate::dns::Dns;
use crate::link::Link;

/// What a cluster consists of, before it starts.
#[must_use = "it does nothing until it is started"]
pub struct Builder {
    domains: Vec<String>,
    clock: SharedClock,
    binary: Option<PathBuf>,
    configure: Box<dyn Fn(&Domain) -> String + Send + Sync>,
    submission: String,
    listen: String,
    registration: &'static str,
    certificate: Option<CertificateFor>,
    log: Option<LogFor>,
    directory: Option<PathBuf>,
    pinned: bool,
}

type CertificateFor = Box<dyn Fn(&Domain, &Authority) -> Result<Certified, AuthorityError> + Send + Sync>;
type LogFor = Arc<dyn Fn(&Domain) -> Dispatch + Send + Sync>;

impl Builder {
    /// Relays in this process that know one another by certificates.
    pub(super) fn new(domains: Vec<String>) -> Self {
        Self {
            domains,
            clock: Arc::new(SystemClock),
            binary: None,
            configure: Box::new(|_| String::new()),
            registration: "open",
            submission: "rate_per_second = 1000000\nburst = 1000000".into(),
            listen: String::new(),
            certificate: None,
            log: None,
            directory: None,
            pinned: false,
        }
    }

    /// The time that relays and clients go by. Only for relays in this process.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Runs each relay as a process of its own, of this `postrider` binary.
    pub fn processes(mut self, binary: impl Into<PathBuf>) -> Self {
        self.binary = Some(binary.into());
        self
    }

    /// Adds to the relays' configuration: whole sections, such as `[limits]`, that the cluster does not write itself
    /// (it writes `listen`, `tls`, `federation` and `dns`, and what [`submission`](Self::submission) and
    /// [`registration`](Self::registration) say).
    pub fn configure(mut self, more: impl Fn(&Domain) -> String + Send + Sync + 'static) -> Self {
        self.configure = Box::new(more);
        self
    }

    /// What the section `[listen]` says besides one address for everybody.
    pub fn listen(mut self, lines: impl Into<String>) -> Self {
        self.listen = lines.into();
        self
    }

    /// What the section `[submission]` says, instead of rates that no test reaches. Unless it says a policy, that is `open`.
    pub fn submission(mut self, section: impl Into<String>) -> Self {
        self.submission = section.into();
        self
    }

    /// The policy by which mailboxes are registered, instead of `open`.
    pub fn registration(mut self, policy: &'static str) -> Self {
        self.registration = policy;
        self
    }

    /// Which certificate a relay has, instead of a good one from the cluster's authority.
    pub fn certificate(
        mut self,
        issue: impl Fn(&Domain, &Authority) -> Result<Certified, AuthorityError> + Send + Sync + 'static,
    ) -> Self {
        self.certificate = Some(Box::new(issue));
        self
    }

    /// Where the relays in this process log to, instead of into memory.
    pub fn log(mut self, log: impl Fn(&Domain) -> Dispatch + Send + Sync + 'static) -> Self {
        self.log = Some(Arc::new(log));
        self
    }

    /// Has the relays know one another by the pins of their keys, each with an identity in its data directory and its
    /// peers imported, instead of by certificates of the cluster's authority. Clients see those all the same.
    pub fn pinned(mut self) -> Self {
        self.pinned = true;
        self
    }

    /// Where everything is written to, instead of into a temporary directory. It stays there.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Starts everything; when this returns, every relay serves.
    pub async fn start(self) -> Result<Cluster, ClusterError> {
        let domains: Vec<Domain> = self.domains.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
        let directory = match &self.directory {
            Some(_) => None,
            None => Some(TempDir::with_prefix("postrider-cluster-")?),
        };
        let given = self.directory.as_deref();
        let place: &Path = directory.as_ref().map(TempDir::path).or(given).unwrap_or(Path::new("."));
        let authority = Authority::new("Cluster authority")?;
        let root = authority.write_root(place, "authority")?;
        let dns = Dns::new();
        let mut identities = Vec::new();
        if self.pinned {
            let now = self.clock.now();
            identities = domains.iter().map(|domain| Identity::new(domain, now)).collect::<Result<_, _>>()?;
        }
        let peers = match self.pinned {
            true => Peers::Imported,
            false => Peers::Certified { all: &domains, authority: &root },
        };

        let mut nodes = BTreeMap::new();
        for domain in &domains {
            let view = dns.view().await?;
            let certified = match &self.certificate {
                Some(issue) => issue(domain, &authority)?,
                None => authority.issue(&Leaf::new(domain, self.clock.now()))?,
            };
            let everybody = if self.submission.contains("policy") { "" } else { "policy = \"open\"\n" };
            let more = format!(
                "[registration]\npolicy = \"{}\"\n\n[submission]\n{everybody}{}\n\n{}",
                self.registration,
                self.submission,
                (self.configure)(domain)
            );
            let configuration = configuration(domain, &peers, view.address(), &self.listen, &more);
            let files = NodeFiles::write(place, domain, &certified, &configuration)?;
            if let Some(own) = identities.iter().find(|own| own.domain == *domain) {
                own.write(&identities, &files.directory.join("data"))?;
            }
            let dispatch = self.log.as_ref().map(|log| log(domain));
            let mut node = match &self.binary {
                Some(binary) => Node::process(binary.clone()),
                None => Node::in_process(Arc::clone(&self.clock), dispatch),
            };
            let address = node.start(&files).await?;
            let door = Link::to(address).await?;
            let member = Member { node: tokio::sync::Mutex::new(node), files, view, door };
            nodes.insert(domain.clone(), member);
        }
        let mut links = BTreeMap::new();
        for (from, member) in &nodes {
            for (to, other) in nodes.iter().filter(|(to, _)| *to != from) {
                let link = Link::to(other.door.target()).await?;
                member.view.records().publish(to, link.address())?;
                links.insert((from.clone(), to.clone()), link);
            }
        }
        Ok(Cluster { nodes, links, authority, dns, clock: self.clock, directory })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("domains", &self.domains)
            .field("binary", &self.binary)
            .finish_non_exhaustive()
    }
}
