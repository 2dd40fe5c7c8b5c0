//! `postrider dns`: the records to publish.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::announcement::{Host, zone};
use super::identity::{IdentityCommandError, Next};
use crate::config::Config;

/// For `dns`.
#[derive(Debug, Args)]
pub struct DnsArgs {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    host: Host,
}

/// Prints them.
pub fn run(args: &DnsArgs, out: &mut dyn Write) -> Result<(), IdentityCommandError> {
    let config = Config::load(&args.config)?;
    let next = Next::of(&config)?;
    out.write_all(zone(&config, next.as_ref(), &args.host).as_bytes())?;
    Ok(())
}
