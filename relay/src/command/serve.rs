//! `postrider serve`: the daemon.

use std::io::{self, Write};
use std::num::NonZero;
use std::sync::Arc;

use postrider_common::clock::SystemClock;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::ServeArgs;
use crate::config::{Config, ConfigErrors};
use crate::daemon::{Daemon, Reload, RunError, StartError};
use crate::exit::Exit;
use crate::telemetry;

/// How many threads read from a disk at once, when what is asked for is not in memory. Each costs memory of its own, and
/// more of them make no disk faster.
const READING_THREADS: usize = 16;

/// After how many steps of tasks a thread looks what has come from the network,
const LOOKS_AT_NETWORK: u32 = 16;
/// and what other threads have left for it, such as answers of the store: a few steps are long ones, and a lone envelope
/// is not to wait behind dozens of them.
const LOOKS_AT_OTHERS: u32 = 4;

/// Why `serve` ended other than in order.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// Something that the system did not give: threads, signals, standard output.
    #[error("the system refuses {what}: {error}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Why it was not given.
        error: io::Error,
    },
    /// The start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The run.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl ServeError {
    /// As sysexits has it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Start(StartError::Configuration(_)) => Exit::Config,
            Self::System { .. } | Self::Run(RunError::Task(_)) => Exit::Software,
            Self::Start(StartError::Bind { .. }) | Self::Run(RunError::DrainTimeout(_)) => Exit::Unavailable,
            Self::Start(StartError::Store { error, .. }) | Self::Run(RunError::Store(error)) => {
                Exit::for_store(error)
            }
            Self::Start(StartError::DataDir { .. } | StartError::StoreGone(_)) => Exit::Io,
        }
    }
}

/// Serves until SIGTERM or SIGINT, then drains. Reads the configuration again on SIGHUP.
pub fn run(args: &ServeArgs) -> Result<(), ServeError> {
    let config = Config::load(&args.config)?;
    // Another subscriber is there only in a test that calls this, and then it is the one that is wanted.
    let _ = telemetry::start(&config.log);
    for warning in &config.warnings {
        tracing::warn!("{}", warning.in_file(&config.file));
    }
    let refused = |what| move |error| ServeError::System { what, error };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads())
        .max_blocking_threads(READING_THREADS)
        .event_interval(LOOKS_AT_NETWORK)
        .global_queue_interval(LOOKS_AT_OTHERS)
        .enable_all()
        .build()
        .map_err(refused("threads"))?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(refused("signals"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(refused("signals"))?;
        let mut hangup = signal(SignalKind::hangup()).map_err(refused("signals"))?;
        let daemon = Daemon::build(config, Arc::new(SystemClock)).await?;
        announce(&daemon).map_err(refused("standard output"))?;
        let reload = daemon.reload().clone();
        Ok(daemon.run(told_to_stop(&mut terminate, &mut interrupt, &mut hangup, &reload)).await?)
    })
}

/// As many as there are processors, less one for the store's writer, which is as busy as all of them together.
fn worker_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(2, NonZero::get);
    processors.saturating_sub(1).max(1)
}

/// One line of JSON on standard output, once every address is bound: for whoever started the process.
fn announce(daemon: &Daemon) -> io::Result<()> {
    let addresses: Vec<String> = daemon.addresses().iter().map(ToString::to_string).collect();
    tracing::info!(domain = %daemon.domain(), addresses = addresses.join(", "), "serving");
    let mut ready = serde_json::json!({
        "event": "ready",
        "domain": daemon.domain(),
        "addresses": addresses,
        "version": env!("CARGO_PKG_VERSION"),
    });
    if let Some(address) = daemon.monitoring() {
        ready["metrics"] = address.to_string().into();
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{ready}")?;
    out.flush()
}

async fn told_to_stop(terminate: &mut Signal, interrupt: &mut Signal, hangup: &mut Signal, reload: &Reload) {
    loop {
        tokio::select! {
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
            _ = hangup.recv() => {
                // What came of it was logged.
                let _ = reload.reload();
            }
        }
    }
}
