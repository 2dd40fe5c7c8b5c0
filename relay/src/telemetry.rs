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
    let filter = EnvFilter::new(with_quiet_libraries(&config.filter));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => {
            builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).finish().try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    }
}

/// What libraries warn of is met and told by the relay, in words for its administrator; who wants theirs asks for them.
fn with_quiet_libraries(filter: &str) -> String {
    if filter.contains("hickory") {
        return filter.to_owned();
    }
    let quiet =
        ["hickory_net", "hickory_proto", "hickory_resolver"].map(|library| format!(",{library}=error"));
    format!("{filter}{}", quiet.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quiet_unless_they_are_asked() {
        let quiet = with_quiet_libraries("info");
        assert!(quiet.starts_with("info,") && quiet.contains("hickory_proto=error"), "{quiet}");
        assert!(EnvFilter::try_new(&quiet).is_ok());
        assert_eq!(with_quiet_libraries("info,hickory_proto=debug"), "info,hickory_proto=debug");
    }
}
