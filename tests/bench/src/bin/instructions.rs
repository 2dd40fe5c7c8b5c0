//! Counts the instructions of the hot paths, and compares them with the recorded ones.
//!
//! ```sh
//! cargo run --profile instructions -p postrider-bench --bin instructions            # compare
//! cargo run --profile instructions -p postrider-bench --bin instructions -- --record
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use postrider_bench::instructions::{self, Record, Verdict};
use postrider_bench::paths::HotPath;

/// Where the counts are kept.
const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.toml");
/// What stands above them.
const HEAD: &str = "# Instructions of one iteration of each hot path, which is a batch of 32 envelopes of 1 KiB, or a page of 64 (`fetch`).
# Written by `cargo run --profile instructions --bin instructions -- --record`; they hold for this compiler and target.
";

/// Count the instructions of the hot paths under valgrind, and compare them with the recorded ones.
#[derive(Debug, Parser)]
#[command(name = "instructions")]
struct Args {
    /// Write the counts down instead of comparing them
    #[arg(long)]
    record: bool,
    /// Run one path: what valgrind watches
    #[arg(long, hide = true)]
    run: Option<String>,
    /// With twice the iterations
    #[arg(long, hide = true, requires = "run")]
    twice: bool,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::parse();
    if let Some(name) = &args.run {
        let path =
            HotPath::ALL.into_iter().find(|path| path.name() == name).ok_or("there is no such path")?;
        instructions::run(path, args.twice)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = io::stdout();
    if cfg!(debug_assertions) {
        return Err("a debug build says nothing: run it with --profile instructions".into());
    }
    if !instructions::is_possible()? {
        writeln!(out, "skipped: valgrind is not installed")?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some((rustc, target)) = instructions::compiler() else {
        writeln!(out, "skipped: there is no rustc to ask for its version")?;
        return Ok(ExitCode::SUCCESS);
    };
    if args.record {
        let counts = HotPath::ALL.into_iter().map(|path| Ok((path.name().to_owned(), count(path)?)));
        let counts = counts.collect::<Result<BTreeMap<_, _>, Box<dyn Error>>>()?;
        let record = Record { rustc, target, instructions: counts };
        fs::write(RECORD, format!("{HEAD}{}", toml::to_string(&record)?))?;
        writeln!(out, "recorded")?;
        return Ok(ExitCode::SUCCESS);
    }
    let record: Record = toml::from_str(&fs::read_to_string(RECORD)?)?;
    if (&record.rustc, &record.target) != (&rustc, &target) {
        let Record { rustc: recorded, target: on, .. } = record;
        writeln!(
            out,
            "skipped: recorded with rustc {recorded} for {on}; this is rustc {rustc} for {target}"
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    compare(&record, &mut out)
}

fn compare(record: &Record, out: &mut impl Write) -> Result<ExitCode, Box<dyn Error>> {
    let (mut worse, mut stale) = (0, 0);
    for path in HotPath::ALL {
        let count = count(path)?;
        let (verdict, percent) = Verdict::of(count, record.instructions.get(path.name()).copied());
        let word = match verdict {
            Verdict::Same => "",
            Verdict::Worse => "  too many",
            Verdict::Better => "  fewer",
            Verdict::New => "  not recorded",
        };
        worse += u32::from(verdict == Verdict::Worse);
        stale += u32::from(matches!(verdict, Verdict::Better | Verdict::New));
        writeln!(out, "{:<20}{count:>10} instructions {percent:>+4} %{word}", path.name())?;
    }
    if stale > 0 {
        writeln!(out, "keep what was gained: run it again with --record and commit {RECORD}")?;
    }
    if worse > 0 {
        writeln!(out, "{worse} of the paths take over 10 % more instructions than recorded")?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn count(path: HotPath) -> Result<u64, Box<dyn Error>> {
    Ok(instructions::count(&std::env::current_exe()?, path)?)
}
