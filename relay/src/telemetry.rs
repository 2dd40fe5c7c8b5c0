//! Logs: to standard error, as text for people or as JSON for machines.
//!
//! At `info` and above no line names a mailbox, an envelope or a client's address.

mod seldom;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{LogConfig, LogFormat};

pub use seldom::Seldom;

/// Sends this process's log to standard error from now on.
pub fn start(config: &LogConfig) -> Result<(), TryInitError> {
    // The configuration has checked the directives.
    let filter = EnvFilter::new(&config.filter);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => {
            builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).finish().try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    }
}
