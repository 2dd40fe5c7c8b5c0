//! How many instructions the [hot paths](crate::paths) take, counted by valgrind: a figure that does not depend on what
//! else the machine does.
//!
//! A path is run twice, in processes of their own, once with twice as many iterations. The difference is that of the
//! path alone: making ready costs the same both times.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::BenchError;
use crate::paths::HotPath;

/// How often a path is run, and then twice as often.
const ITERATIONS: usize = 100;
/// What the count may grow by, in percent, before it is a regression; and shrink by before it is recorded anew.
const TOLERANCE: i64 = 10;

/// The counts, and what they depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// As `rustc -vV` says.
    pub rustc: String,
    /// The machine that it compiles for.
    pub target: String,
    /// Of one iteration, by the path's name.
    pub instructions: BTreeMap<String, u64>,
}

/// What a count is compared with the recorded one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// About the same.
    Same,
    /// More than the tolerance above.
    Worse,
    /// More than the tolerance below.
    Better,
    /// There is no recorded one.
    New,
}

impl Verdict {
    /// Of a count, and the change in percent.
    pub fn of(count: u64, recorded: Option<u64>) -> (Self, i64) {
        let Some(recorded) = recorded.filter(|recorded| *recorded > 0) else { return (Self::New, 0) };
        let (count, recorded) = (i128::from(count), i128::from(recorded));
        let percent = i64::try_from((count - recorded) * 100 / recorded).unwrap_or(i64::MAX);
        // Rounded towards zero, so that what is a little above the tolerance has to be looked at itself.
        let verdict = if (count - recorded) * 100 > i128::from(TOLERANCE) * recorded {
            Self::Worse
        } else if (recorded - count) * 100 > i128::from(TOLERANCE) * recorded {
            Self::Better
        } else {
            Self::Same
        };
        (verdict, percent)
    }
}

/// Runs a path in this process, which valgrind watches. The second run, `twice`, differs in nothing but the iterations.
pub fn run(path: HotPath, twice: bool) -> Result<(), BenchError> {
    let mut iteration = path.prepare(2 * ITERATIONS)?;
    (0..if twice { 2 * ITERATIONS } else { ITERATIONS }).try_for_each(|_| iteration())
}

/// Whether there is a valgrind.
pub fn is_possible() -> Result<bool, BenchError> {
    match Command::new("valgrind").arg("--version").output() {
        Ok(output) => Ok(output.status.success()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Counts one iteration of a path. `program` takes the arguments `--run PATH`, and `--twice`.
pub fn count(program: &Path, path: HotPath) -> Result<u64, BenchError> {
    // Side by side: how long it takes does not matter, only that the gate does not wait for both in turn.
    let once = watched(program, &["--run", path.name()])?;
    let twice = watched(program, &["--run", path.name(), "--twice"])?;
    let (once, twice) = (collected(once)?, collected(twice)?);
    Ok(twice.saturating_sub(once) / ITERATIONS as u64)
}

/// Starts a program under valgrind.
fn watched(program: &Path, arguments: &[&str]) -> Result<Child, BenchError> {
    Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)
}

fn collected(valgrind: Child) -> Result<u64, BenchError> {
    let output = valgrind.wait_with_output().map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stderr);
    match total(&text) {
        Some(total) if output.status.success() => Ok(total),
        _ => Err(BenchError::Generator(format!("valgrind did not count: {text}"))),
    }
}

fn failed(source: std::io::Error) -> BenchError {
    BenchError::Io { what: "valgrind".into(), source }
}

/// `==42== Collected : 123456`
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.split_once("Collected : "))?;
    line.1.split_ascii_whitespace().next()?.parse().ok()
}

/// The compiler's version and target, if there is one to ask.
pub fn compiler() -> Option<(String, String)> {
    let output =
        Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("-vV").output();
    let text = String::from_utf8(output.ok()?.stdout).ok()?;
    let value = |key| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
    Some((value("release: ")?, value("host: ")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_more_is_allowed_and_not_one_instruction_beyond() {
        let verdict = |count| Verdict::of(count, Some(1000)).0;
        assert_eq!(
            [1100, 1101, 900, 899].map(verdict),
            [Verdict::Same, Verdict::Worse, Verdict::Same, Verdict::Better]
        );
        assert_eq!(Verdict::of(1500, Some(1000)), (Verdict::Worse, 50));
        assert_eq!(Verdict::of(5, None), (Verdict::New, 0));
    }

    #[test]
    fn reads_what_valgrind_says() {
        let text = "==42== Events    : Ir\n==42== Collected : 1234567\n==42==\n";
        assert_eq!((total(text), total("valgrind: no such file")), (Some(1_234_567), None));
    }
}
