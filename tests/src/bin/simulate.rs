//! Clusters in memory under faults, seed after seed, until a promise is broken or all seeds were tried.
//!
//! ```sh
//! cargo run --release -p postrider-tests --bin simulate -- --seeds 10000 --from 0
//! ```

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::thread::available_parallelism;

use clap::Parser;
use postrider_tests::simulation::{Campaign, Fault, RELAYS, Shape};

/// Run scripts of faults over simulated relays, and see that they keep their promises.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
struct Args {
    /// How many seeds to try
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// The most relays in a script
    #[arg(long, default_value_t = RELAYS, value_parser = clap::value_parser!(u8).range(1..=i64::from(RELAYS)))]
    relays: u8,
    /// The most operations in a script
    #[arg(long, default_value_t = Shape::default().ops)]
    ops: usize,
    /// Break a rule on purpose: answer-before-flush, forget-mark, settle-before-answer, lose-unclaimed, give-old,
    /// keep-of-removed, stay-open, count-part-as-whole or forget-reference
    #[arg(long = "break", value_name = "RULE")]
    fault: Option<Fault>,
    /// Threads; as many as there are processors by default
    #[arg(long)]
    jobs: Option<usize>,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::parse();
    let campaign = Campaign {
        from: args.from,
        seeds: args.seeds,
        shape: Shape { relays: args.relays, ops: args.ops },
        fault: args.fault,
        jobs: args.jobs.unwrap_or_else(|| available_parallelism().map_or(1, Into::into)),
    };
    let is_terminal = io::stderr().is_terminal();
    let report = campaign.run(|passed| {
        if is_terminal && passed % 100 == 0 {
            // A terminal that is gone is no reason to stop.
            let _ = write!(io::stderr(), "\r{passed} of {} seeds passed   ", args.seeds);
        }
    });
    if is_terminal {
        writeln!(io::stderr())?;
    }
    if let Some(finding) = &report.finding {
        writeln!(io::stderr(), "{finding}")?;
    }
    writeln!(io::stdout(), "{report}")?;
    Ok(if report.finding.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
