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

/// Families of libraries, and how much they say.
const QUIET: [(&str, &str); 2] = [
    ("hickory", ",hickory_net=error,hickory_proto=error,hickory_resolver=error"),
    // Even as an error it tells what is then mended, or refused by the store.
    ("sled", ",sled=off"),
];

/// What libraries warn of is met and told by the relay, in words for its administrator; who wants theirs asks for them.
fn with_quiet_libraries(filter: &str) -> String {
    let mut quiet = filter.to_owned();
    for (family, directives) in QUIET {
        if !filter.contains(family) {
            quiet.push_str(directives);
        }
    }
    quiet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quiet_unless_they_are_asked() {
        let quiet = with_quiet_libraries("info");
        assert!(quiet.starts_with("info,") && quiet.contains("hickory_proto=error"), "{quiet}");
        assert!(EnvFilter::try_new(&quiet).is_ok());
        assert_eq!(with_quiet_libraries("info,hickory_proto=debug"), "info,hickory_proto=debug,sled=off");
    }
}
