//! The relays that are measured.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use postrider_client::{Identity, Relay, Trust};
use postrider_common::Domain;
use postrider_tests::abuse::Abuser;
use postrider_tests::cluster::{Cluster, ClusterError};
use tempfile::TempDir;

use crate::process::{Memory, Usage};
use crate::recipient::Recipient;
use crate::{BenchError, Options};

/// What the relays are told beside what the cluster writes: limits that exist against one client's or one peer's greed
/// are lifted, for here one client is everybody. Everything else is as it comes.
const CONFIGURATION: &str = r#"
[limits]
connections = 1000000
connections_per_ip = 1000000
beginning_connections_per_ip = 1000000
mailbox_entries = 10000000
mailbox_bytes = "64 GiB"
queue_envelopes = 10000000
queue_bytes = "64 GiB"
attachment = "32 GiB"
mailbox_attachments = "64 GiB"
attachments = "128 GiB"
"#;
const SUBMISSION: &str = r#"
rate_per_second = 1000000
burst = 1000000
upload_per_second = "64 GiB"
"#;
/// Mailboxes that are registered at the same time.
const REGISTERING: usize = 16;

/// Running relays, each a process of its own, which reach each other directly.
pub(crate) struct Bed {
    cluster: Cluster,
    names: Vec<&'static str>,
    directory: TempDir,
}

impl Bed {
    /// Starts relays that are peers of one another.
    pub(crate) async fn start(options: &Options, names: &[&'static str]) -> Result<Self, BenchError> {
        Self::start_with(options, names, CONFIGURATION, SUBMISSION).await
    }

    /// The same with every limit as it comes.
    pub(crate) async fn start_as_it_comes(
        options: &Options,
        names: &[&'static str],
    ) -> Result<Self, BenchError> {
        Self::start_with(options, names, "", "").await
    }

    async fn start_with(
        options: &Options,
        names: &[&'static str],
        limits: &'static str,
        submission: &str,
    ) -> Result<Self, BenchError> {
        let io = |source| BenchError::Io { what: options.directory.display().to_string(), source };
        std::fs::create_dir_all(&options.directory).map_err(io)?;
        let directory = TempDir::with_prefix_in("postrider-bench-", &options.directory).map_err(io)?;
        let cluster = Cluster::builder(names.iter().copied())
            .processes(&options.binary)
            .directory(directory.path())
            .submission(submission)
            .configure(|_| limits.into());
        let cluster = Box::pin(cluster.start()).await?;
        let bed = Self { cluster, names: names.to_vec(), directory };
        for name in names {
            bed.publish(name).await?;
        }
        Ok(bed)
    }

    /// Where everything is written.
    pub(crate) fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// What a relay keeps.
    pub(crate) fn data(&self, name: &str) -> Result<PathBuf, BenchError> {
        Ok(self.cluster.directory(name)?.join("data"))
    }

    /// The relays' names.
    pub(crate) fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// A client of a relay, with connections of its own.
    pub(crate) async fn client(&self, name: &str) -> Result<Relay, BenchError> {
        let address = self.cluster.address(name).await?;
        let trust = Trust::AuthorityPem(self.cluster.authority().root_pem());
        Ok(Relay::builder(format!("https://{name}")).address(address).trust(trust).build()?)
    }

    /// Somebody who means a relay no good, at this address.
    pub(crate) async fn abuser(&self, name: &str, from: IpAddr) -> Result<Abuser, BenchError> {
        let address = self.cluster.address(name).await?;
        let abuser = Abuser::new(self.cluster.authority(), name, address, from);
        abuser.map_err(|error| BenchError::Generator(error.to_string()))
    }

    /// New mailboxes at a relay.
    pub(crate) async fn recipients(
        &self,
        name: &str,
        count: usize,
    ) -> Result<Vec<Arc<Recipient>>, BenchError> {
        let domain: Domain = name.parse().map_err(ClusterError::from)?;
        self.sign_in(name, (0..count).map(|_| Identity::generate(domain.clone())).collect()).await
    }

    /// Signs devices in, after registering those that are not.
    pub(crate) async fn sign_in(
        &self,
        name: &str,
        identities: Vec<Identity>,
    ) -> Result<Vec<Arc<Recipient>>, BenchError> {
        let relay = self.client(name).await?;
        let sign_in = async |identity| Recipient::register(&relay, &identity).await.map(Arc::new);
        stream::iter(identities).map(sign_in).buffer_unordered(REGISTERING).try_collect().await
    }

    /// A relay's process.
    pub(crate) async fn process(&self, name: &str) -> Result<u32, BenchError> {
        let process = self.cluster.process_id(name).await?;
        process.ok_or_else(|| BenchError::Generator(format!("{name} is not running")))
    }

    /// What each relay has used since it started; one that is down, nothing.
    pub(crate) async fn usage(&self) -> Result<Vec<Usage>, BenchError> {
        let mut all = Vec::new();
        for name in &self.names {
            all.push(match self.cluster.process_id(name).await? {
                Some(process) => Usage::of(process)?,
                None => Usage::default(),
            });
        }
        Ok(all)
    }

    /// What each relay has in memory.
    pub(crate) async fn memory(&self) -> Result<Vec<Memory>, BenchError> {
        let mut all = Vec::new();
        for name in &self.names {
            all.push(Memory::of(self.process(name).await?)?);
        }
        Ok(all)
    }

    /// Stops a relay in order.
    pub(crate) async fn stop(&self, name: &str) -> Result<(), BenchError> {
        self.cluster.stop(name).await?;
        Ok(())
    }

    /// Ends it with `SIGKILL`.
    pub(crate) async fn kill(&self, name: &str) -> Result<(), BenchError> {
        self.cluster.kill(name).await?;
        Ok(())
    }

    /// Starts it again.
    pub(crate) async fn restart(&self, name: &str) -> Result<(), BenchError> {
        self.cluster.restart(name).await?;
        self.publish(name).await
    }

    /// Stops everything and removes what was written.
    pub(crate) async fn shut_down(self) -> Result<(), BenchError> {
        self.cluster.shut_down().await?;
        let what = self.directory.path().display().to_string();
        self.directory.close().map_err(|source| BenchError::Io { what, source })
    }

    /// Tells the others where a relay is itself, without the cluster's link in front: what goes over a link goes
    /// through this process, and would be counted as the generator's work.
    async fn publish(&self, name: &str) -> Result<(), BenchError> {
        let address = self.cluster.address(name).await?;
        let domain: Domain = name.parse().map_err(ClusterError::from)?;
        for other in self.names.iter().filter(|other| **other != name) {
            let records = self.cluster.view(other)?.records();
            records.set_ttl(1);
            records.publish(&domain, address).map_err(ClusterError::from)?;
        }
        Ok(())
    }
}
