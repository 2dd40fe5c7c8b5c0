//! One relay of a cluster: in this process, or as a process of its own.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use postrider::config::Config;
use postrider::daemon::Daemon;
use postrider_common::Domain;
use postrider_common::clock::SharedClock;
use postrider_common::supervisor::Supervisor;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::Dispatch;

use super::log::Log;
use super::{ClusterError, PATIENCE};
use crate::authority::Certified;

/// Where a relay's files are.
#[derive(Debug)]
pub(super) struct NodeFiles {
    pub(super) directory: PathBuf,
    pub(super) config: PathBuf,
}

/// How a relay ended that was told to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// In order.
    InOrder,
    /// Otherwise; the reason, or the exit status.
    Otherwise(String),
}

/// How a relay is told of the others.
#[derive(Debug)]
pub(super) enum Peers<'a> {
    /// They have certificates of one authority.
    Certified { all: &'a [Domain], authority: &'a Path },
    /// They have been imported.
    Imported,
}

/// A relay that runs or does not.
#[derive(Debug)]
pub(super) struct Node {
    kind: Kind,
    running: Option<Running>,
    log: Log,
    environment: Vec<(String, String)>,
}

#[derive(Debug)]
enum Kind {
    InProcess { clock: SharedClock, dispatch: Dispatch },
    Process { binary: PathBuf },
}

#[derive(Debug)]
struct Running {
    /// At least one.
    addresses: Vec<SocketAddr>,
    metrics: Option<SocketAddr>,
    engine: Engine,
}

#[derive(Debug)]
enum Engine {
    /// On a runtime of its own, so that dropping the runtime ends all of it at once.
    InProcess {
        runtime: Threads,
        shutdown: oneshot::Sender<()>,
        ended: oneshot::Receiver<Result<(), String>>,
    },
    Process {
        child: Child,
        /// Owns the task that reads what the process logs.
        reader: Supervisor,
    },
}

/// A runtime that may be dropped anywhere: dropping a bare one panics inside an asynchronous task.
#[derive(Debug)]
struct Threads(Option<Runtime>);

impl NodeFiles {
    pub(super) fn write(
        cluster: &Path,
        domain: &Domain,
        certified: &Certified,
        configuration: &str,
    ) -> io::Result<Self> {
        let directory = cluster.join(domain.as_str());
        fs::create_dir(&directory)?;
        certified.write(&directory, "relay")?;
        let config = directory.join("postrider.toml");
        fs::write(&config, configuration)?;
        Ok(Self { directory, config })
    }
}

/// What a relay of the cluster is told: every other one is a peer whose certificate the cluster's authority issued; or
/// it has its peers, and its identity, in its data directory.
pub(super) fn configuration(
    own: &Domain,
    peers: &Peers<'_>,
    dns: SocketAddr,
    listen: &str,
    more: &str,
) -> String {
    let mut text = format!(
        r#"domain = "{own}"
data_dir = "data"

[listen]
addresses = ["127.0.0.1:0"]
{listen}

[tls]
certificate = "relay.pem"
key = "relay.key"

[dns]
servers = ["{dns}"]
allow_networks = ["127.0.0.0/8"]

[federation]
policy = "allow-list"
"#
    );
    if let Peers::Certified { all, authority } = peers {
        text.push_str("certificate = \"relay.pem\"\nkey = \"relay.key\"\n");
        for peer in all.iter().filter(|peer| *peer != own) {
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "\n[[federation.peers]]\ndomain = \"{peer}\"\ntrust = \"private-ca\"\nca = \"{}\"\n",
                authority.display()
            );
        }
    }
    text.push('\n');
    text.push_str(more);
    text
}

impl Node {
    pub(super) fn in_process(clock: SharedClock, dispatch: Option<Dispatch>) -> Self {
        let log = Log::default();
        let dispatch = dispatch.unwrap_or_else(|| log.dispatch());
        Self { kind: Kind::InProcess { clock, dispatch }, running: None, log, environment: Vec::new() }
    }

    pub(super) fn process(binary: PathBuf) -> Self {
        Self { kind: Kind::Process { binary }, running: None, log: Log::default(), environment: Vec::new() }
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.running.as_ref().and_then(|running| running.addresses.first().copied())
    }

    pub(super) fn addresses(&self) -> Option<Vec<SocketAddr>> {
        self.running.as_ref().map(|running| running.addresses.clone())
    }

    pub(super) fn metrics(&self) -> Option<SocketAddr> {
        self.running.as_ref().and_then(|running| running.metrics)
    }

    pub(super) fn process_id(&self) -> Option<u32> {
        match &self.running.as_ref()?.engine {
            Engine::Process { child, .. } => child.id(),
            Engine::InProcess { .. } => None,
        }
    }

    /// The program that it runs, if it is a process.
    pub(super) fn binary(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Process { binary } => Some(binary),
            Kind::InProcess { .. } => None,
        }
    }

    /// What it has logged in all its runs.
    pub(super) const fn log(&self) -> &Log {
        &self.log
    }

    pub(super) async fn start(&mut self, files: &NodeFiles) -> Result<SocketAddr, ClusterError> {
        if self.running.is_some() {
            return Err(ClusterError::Start("it is running".into()));
        }
        let running = match &self.kind {
            Kind::InProcess { clock, dispatch } => {
                start_in_process(&files.config, clock.clone(), dispatch.clone()).await?
            }
            Kind::Process { binary } => start_process(binary, files, &self.environment, &self.log).await?,
        };
        let address = first(&running.addresses)?;
        self.running = Some(running);
        Ok(address)
    }

    pub(super) fn set_environment(&mut self, variables: &[(&str, &str)]) {
        self.environment = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    }

    pub(super) fn has_ended(&mut self) -> Result<Option<String>, ClusterError> {
        match &mut self.running {
            Some(Running { engine: Engine::Process { child, .. }, .. }) => {
                Ok(child.try_wait()?.map(|status| status.to_string()))
            }
            _ => Ok(None),
        }
    }

    pub(super) async fn ended(&mut self) -> Result<String, ClusterError> {
        let Some(Running { engine: Engine::Process { child, reader }, .. }) = &mut self.running else {
            return Err(ClusterError::Start("it is no process that runs".into()));
        };
        let ended = timeout(PATIENCE, child.wait()).await;
        let status = ended.map_err(|_| ClusterError::Patience("the end of the process"))??;
        reader.finished().await;
        self.running = None;
        Ok(status.to_string())
    }

    pub(super) async fn stop(&mut self) -> Result<Stopped, ClusterError> {
        let Some(Running { engine, .. }) = self.running.take() else {
            return Err(ClusterError::Start("it is not running".into()));
        };
        match engine {
            Engine::InProcess { runtime, shutdown, ended } => {
                let _ = shutdown.send(());
                let ended =
                    timeout(PATIENCE, ended).await.map_err(|_| ClusterError::Patience("the drain"))?;
                end(runtime).await?;
                Ok(match ended {
                    Ok(Ok(())) => Stopped::InOrder,
                    Ok(Err(reason)) => Stopped::Otherwise(reason),
                    Err(_) => Stopped::Otherwise("its main task is gone".into()),
                })
            }
            Engine::Process { mut child, reader } => {
                terminate(&child).await?;
                let status = timeout(PATIENCE, child.wait())
                    .await
                    .map_err(|_| ClusterError::Patience("the drain"))??;
                reader.finished().await;
                Ok(if status.success() { Stopped::InOrder } else { otherwise(status) })
            }
        }
    }

    pub(super) async fn kill(&mut self) -> Result<(), ClusterError> {
        match self.running.take().map(|running| running.engine) {
            None => Err(ClusterError::Start("it is not running".into())),
            Some(Engine::InProcess { runtime, .. }) => end(runtime).await,
            Some(Engine::Process { mut child, reader }) => {
                child.kill().await?;
                reader.finished().await;
                Ok(())
            }
        }
    }
}

fn otherwise(status: ExitStatus) -> Stopped {
    Stopped::Otherwise(status.to_string())
}

/// Dropping a runtime waits, which an asynchronous task must not do; and the store's file lock is free only then.
async fn end(mut threads: Threads) -> Result<(), ClusterError> {
    let Some(runtime) = threads.0.take() else { return Ok(()) };
    tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE))
        .await
        .map_err(|error| ClusterError::Start(error.to_string()))
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

async fn start_in_process(
    config: &Path,
    clock: SharedClock,
    dispatch: Dispatch,
) -> Result<Running, ClusterError> {
    let config = Config::load(config)?;
    let on_thread = dispatch.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        // The guard is kept for as long as the thread lives: the thread belongs to this relay.
        .on_thread_start(move || std::mem::forget(tracing::dispatcher::set_default(&on_thread)))
        .build()?;
    let (shutdown, shut_down) = oneshot::channel();
    let (started, start) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    runtime.spawn(async move {
        let daemon = match Daemon::build(config, clock).await {
            Ok(daemon) => daemon,
            Err(error) => {
                let _ = started.send(Err(error.to_string()));
                return;
            }
        };
        let _ = started.send(Ok((daemon.addresses().to_vec(), daemon.monitoring())));
        let run = daemon.run(async {
            // A sender that is gone is a cluster that was dropped.
            let _ = shut_down.await;
        });
        let _ = end.send(run.await.map_err(|error| error.to_string()));
    });
    let (addresses, metrics) = match start.await {
        Ok(Ok(started)) => started,
        Ok(Err(reason)) => {
            self::end(Threads(Some(runtime))).await?;
            return Err(ClusterError::Start(reason));
        }
        Err(_) => return Err(ClusterError::Start("it ended at once".into())),
    };
    Ok(Running {
        addresses,
        metrics,
        engine: Engine::InProcess { runtime: Threads(Some(runtime)), shutdown, ended },
    })
}

async fn start_process(
    binary: &Path,
    files: &NodeFiles,
    environment: &[(String, String)],
    log: &Log,
) -> Result<Running, ClusterError> {
    let mut child = Command::new(binary)
        .arg("serve")
        .arg("--config")
        .arg(&files.config)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let reader = Supervisor::new();
    if let Some(stderr) = child.stderr.take() {
        reader.spawn("log of a relay", read_log(stderr, log.clone()));
    }
    let stdout = child.stdout.take().ok_or(ClusterError::Start("no standard output".into()))?;
    let mut lines = BufReader::new(stdout).lines();
    let line = timeout(PATIENCE, lines.next_line())
        .await
        .map_err(|_| ClusterError::Patience("the ready line"))??;
    let Some(line) = line else {
        reader.finished().await;
        return Err(ClusterError::Start(log.text()));
    };
    let ready: serde_json::Value =
        serde_json::from_str(&line).map_err(|error| ClusterError::Start(format!("{line}: {error}")))?;
    let metrics = ready["metrics"].as_str().and_then(|text| text.parse().ok());
    let addresses = ready["addresses"].as_array().into_iter().flatten();
    let addresses: Vec<SocketAddr> =
        addresses.filter_map(|address| address.as_str().and_then(|text| text.parse().ok())).collect();
    Ok(Running { addresses, metrics, engine: Engine::Process { child, reader } })
}

/// Until the process is gone.
async fn read_log(mut stderr: ChildStderr, log: Log) {
    let mut buffer = vec![0; 8 << 10];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        log.append(&buffer[..read]);
    }
}

fn first(addresses: &[SocketAddr]) -> Result<SocketAddr, ClusterError> {
    addresses.first().copied().ok_or(ClusterError::Start("it named no address".into()))
}

async fn terminate(child: &Child) -> Result<(), ClusterError> {
    let gone = || ClusterError::Start("the process has ended by itself".into());
    let pid = child.id().ok_or_else(gone)?;
    let status = Command::new("kill").arg("-TERM").arg(pid.to_string()).status().await?;
    if status.success() { Ok(()) } else { Err(gone()) }
}
