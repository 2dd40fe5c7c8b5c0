//! How fast the relay is, and what that costs: load on real relay processes, over loopback, with TLS and durable
//! stores. `docs/performance.md` says how to run it and what the figures mean.
//!
//! Whatever is said about a relay comes from what the system keeps of its process, not from the relay.

mod bed;
mod books;
mod crew;
mod descriptors;
mod flush;
pub mod instructions;
mod options;
pub mod paths;
mod process;
mod recipient;
mod report;
mod scenario;
mod sender;

pub use options::{Options, Scenario};
pub use report::Report;

use postrider_common::wire::WireError;
use postrider_tests::cluster::ClusterError;

/// A measurement could not be made, or the relays did not do what they promise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The relays could not be started or stopped.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A client's call failed.
    #[error(transparent)]
    Client(#[from] postrider_client::Error),
    /// An envelope of this size cannot be made.
    #[error(transparent)]
    Envelope(#[from] WireError),
    /// The store of a hot path.
    #[error(transparent)]
    Store(#[from] postrider::store::StoreError),
    /// A file, or what the system says about a process.
    #[error("{what}: {source}")]
    Io {
        /// What was to be done.
        what: String,
        /// Why it was not.
        source: std::io::Error,
    },
    /// A relay refused an envelope for good.
    #[error("an envelope was refused: {0}")]
    Refused(postrider_common::FailureClass),
    /// The books do not balance.
    #[error("the books do not balance: {0}")]
    Books(String),
    /// Something did not happen in time.
    #[error("nothing has moved for {0} s: {1}")]
    Stuck(u64, String),
    /// A part of the load generator ended that should not have.
    #[error("{0}")]
    Generator(String),
}

/// Runs one scenario and says what was measured: in one report, or in `abuse` in one for each kind. `progress` is told what
/// goes on, for people.
pub async fn run(options: &Options, progress: &(dyn Fn(&str) + Sync)) -> Result<Vec<Report>, BenchError> {
    scenario::run(options, progress).await
}
