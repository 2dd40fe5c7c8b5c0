//! Load and faults on real relays, until nothing is lost and nothing has arrived twice, or something has.
//!
//! ```sh
//! cargo run --release -p postrider-tests --bin soak -- --relays 3 --senders 2 --seconds 60 --kills 10 --cuts 10
//! ```

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use postrider_common::secret::random_bytes;
use postrider_tests::binary::postrider;
use postrider_tests::soak::{self, Options, Progress};

/// Drive load over several relays while they are killed and their links break, and keep books of every envelope.
#[derive(Debug, Parser)]
#[command(
    name = "soak",
    after_help = "It ends with one line:
  accepted=… delivered=… expired=… lost=0 duplicated=0 kills=… cuts=… rotations=… suspensions=… moves=…
and with exit code 1 if anything was lost, duplicated or otherwise broken."
)]
struct Args {
    /// Relays, each a process of its own
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=20))]
    relays: u16,
    /// Senders at each relay
    #[arg(long, default_value_t = 2)]
    senders: u16,
    /// How long the load lasts; queues drain after that
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How often a relay is killed and started again
    #[arg(long, default_value_t = 10)]
    kills: usize,
    /// How often a link between relays, a relay's door to its clients, or its DNS breaks for a while
    #[arg(long, default_value_t = 10)]
    cuts: usize,
    /// How often a relay's key is changed; with any, relays know one another by pins
    #[arg(long, default_value_t = 0)]
    rotations: usize,
    /// How often a mailbox is closed by its administrator for a while
    #[arg(long, default_value_t = 0)]
    suspensions: usize,
    /// How often a mailbox moves to another relay
    #[arg(long, default_value_t = 0)]
    moves: usize,
    /// Decides what breaks when, and what is sent to whom; a random one by default
    #[arg(long)]
    seed: Option<u64>,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::parse();
    let options = Options {
        relays: args.relays.into(),
        senders: args.senders.into(),
        duration: Duration::from_secs(args.seconds),
        kills: args.kills,
        cuts: args.cuts,
        rotations: args.rotations,
        suspensions: args.suspensions,
        moves: args.moves,
        seed: args.seed.unwrap_or_else(|| u64::from_be_bytes(random_bytes())),
    };
    let mut err = io::stderr();
    writeln!(err, "seed {}", options.seed)?;
    let is_terminal = err.is_terminal();
    let show = |progress: Progress| {
        if is_terminal {
            let Progress { elapsed, accepted, open, kills, cuts, rotations, suspensions, moves } = progress;
            let elapsed = elapsed.as_secs();
            // A terminal that is gone is no reason to stop.
            let _ = write!(
                io::stderr(),
                "\r{elapsed} of {} s, accepted {accepted}, under way {open}, kills {kills}, cuts {cuts}, \
                 rotations {rotations}, suspensions {suspensions}, moves {moves}   ",
                args.seconds
            );
        }
    };
    let report = soak::run(&options, postrider(), show).await?;
    if is_terminal {
        writeln!(err)?;
    }
    for detail in &report.details {
        writeln!(err, "{detail}")?;
    }
    if let Some(kept) = &report.kept {
        writeln!(err, "the relays' directories and logs are in {}", kept.display())?;
    }
    writeln!(io::stdout(), "{report}")?;
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
