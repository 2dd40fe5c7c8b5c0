//! Measures relays.
//!
//! ```sh
//! cargo run --release -p postrider-bench -- federated --seconds 20
//! ```

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use postrider_bench::{Options, Report, Scenario};
use postrider_tests::abuse::Kind;
use postrider_tests::binary::postrider;

/// Measure relays under load: real processes, over loopback, with TLS and durable stores.
#[derive(Debug, Parser)]
#[command(name = "postrider-bench")]
struct Args {
    /// What to measure
    scenario: Scenario,
    /// How long to measure, in the scenarios that go by time
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How long the load runs before that
    #[arg(long, default_value_t = 3)]
    warm_up: u64,
    /// Bytes of an envelope's body
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..=131_072))]
    size: u32,
    /// Clients that submit, each over one connection
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    senders: u16,
    /// Mailboxes, each with one device: by default 32, in `idle` 1000
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    recipients: Option<u32>,
    /// Envelopes in one submission
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=256))]
    batch: u32,
    /// Envelopes of one sender that are under way at the same time
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    window: u32,
    /// How many to store (`backlog`, `reopen`, by default 100000) or to queue (`outage`, by default 20000), or after how many
    /// to end
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    envelopes: Option<u64>,
    /// How many MiB the attachment has
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=30_000))]
    attachment_mib: u64,
    /// Which kind of abuse; by default all of them, one after the other
    #[arg(long)]
    kind: Option<Kind>,
    /// Abusive connections at a time
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// How long after the drain `backlog` looks at the disk again
    #[arg(long, default_value_t = 60)]
    settle: u64,
    /// Where the relays keep their data; by default beside this program
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The relay's program; by default that of this checkout
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Print one line of JSON, in `abuse` one for each kind, instead of a table
    #[arg(long)]
    json: bool,
}

// One thread: the relays need the others, and the generator's share of its own core tells whether it is the bottleneck.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::parse();
    let json = args.json;
    let options = options(args)?;
    let progress = |text: &str| {
        // A terminal that is gone is no reason to stop.
        let _ = writeln!(io::stderr(), "{text}");
    };
    match Box::pin(postrider_bench::run(&options, &progress)).await {
        Ok(reports) if json => {
            for report in reports {
                writeln!(io::stdout(), "{}", report.json())?;
            }
        }
        Ok(reports) => {
            write!(io::stdout(), "{}", reports.first().and_then(Report::heading).unwrap_or_default())?;
            for report in reports {
                write!(io::stdout(), "{report}")?;
            }
        }
        Err(error) => {
            writeln!(io::stderr(), "postrider-bench: {error}")?;
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn options(args: Args) -> Result<Options, Box<dyn Error>> {
    let directory = match args.dir {
        Some(directory) => directory,
        None => std::env::current_exe()?.parent().ok_or("this program is in no directory")?.to_owned(),
    };
    let recipients = if args.scenario == Scenario::Idle { 1000 } else { 32 };
    Ok(Options {
        scenario: args.scenario,
        binary: args.binary.unwrap_or_else(postrider),
        directory,
        duration: Duration::from_secs(args.seconds),
        warm_up: Duration::from_secs(args.warm_up),
        envelopes: args.envelopes,
        size: args.size.try_into()?,
        senders: args.senders.into(),
        recipients: args.recipients.unwrap_or(recipients).try_into()?,
        batch: args.batch.try_into()?,
        window: args.window.try_into()?,
        attachment_mib: args.attachment_mib,
        kind: args.kind,
        connections: args.connections.into(),
        settle: Duration::from_secs(args.settle),
    })
}
