//! `postrider doctor`: whether an envelope would reach another relay, and if not, where the way ends.

mod findings;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use postrider_common::clock::{SharedClock, SystemClock};
use postrider_common::supervisor::Supervisor;
use postrider_common::{Domain, Failure};
use postrider_federation::Pin;
use serde_json::json;

use super::show::{Cell, Style, Tone, one_line, table};
use crate::config::{Config, ConfigErrors};
use crate::daemon::{self, StartError};
use crate::exit::Exit;
use findings::{Finding, Findings, Verdict};

/// For `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
    /// The other relay.
    #[arg(value_name = "DOMAIN")]
    domain: Domain,
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// What it says cannot be put together.
    #[error(transparent)]
    Parts(#[from] StartError),
    /// An envelope would not go through.
    #[error("an envelope for {domain} would not go through: {} ({})", failure.class, failure.class.whose_end().word())]
    Obstacle {
        /// Where to.
        domain: Domain,
        /// What it would meet.
        failure: Failure,
    },
    /// What a command needs of the system.
    #[error("the system refuses threads: {0}")]
    System(io::Error),
    /// The result could not be told.
    #[error("the result cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl DoctorError {
    /// What the process exits with.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Config(errors) => errors.exit(),
            Self::Parts(_) => Exit::Config,
            Self::Obstacle { .. } => Exit::Unavailable,
            Self::System(_) => Exit::Software,
            Self::Output(_) => Exit::Io,
        }
    }
}

/// Walks the way and tells it.
pub fn run(args: &DoctorArgs, out: &mut dyn Write) -> Result<(), DoctorError> {
    let config = Config::load(&args.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let found = runtime.map_err(DoctorError::System)?.block_on(async {
        let (clock, supervisor): (SharedClock, _) = (Arc::new(SystemClock), Supervisor::new());
        let client = daemon::outbound(&config, &clock, &supervisor)?;
        let examination = client.examine(&args.domain).await;
        let mut found = if args.domain == config.domain {
            Findings::of_own(&examination, Pin::from_bytes(config.federation.identity.pin), clock.now())
        } else {
            Findings::of(&examination, clock.now())
        };
        if found.is_proven {
            let asked_at = clock.now();
            found.add_hello(client.hello(&args.domain).await, asked_at);
        }
        supervisor.stop();
        supervisor.hurry();
        Ok::<_, DoctorError>(found)
    })?;
    if args.json {
        serde_json::to_writer(&mut *out, &document(&args.domain, &found)).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        out.write_all(shown(Style::of_stdout(), &found).as_bytes())?;
    }
    match found.obstacle {
        None => Ok(()),
        Some(failure) => Err(DoctorError::Obstacle { domain: args.domain.clone(), failure }),
    }
}

fn document(domain: &Domain, found: &Findings) -> serde_json::Value {
    let class = |failure: &Failure| failure.class.slug();
    let end = |failure: &Failure| failure.class.whose_end().word();
    let finding = |finding: &Finding| {
        json!({
            "step": finding.step,
            "verdict": finding.verdict.word(),
            "text": finding.text,
            "class": finding.failure.as_ref().map(class),
            "whose_end": finding.failure.as_ref().map(end),
        })
    };
    json!({
        "domain": domain,
        "passes": found.obstacle.is_none(),
        "class": found.obstacle.as_ref().map(class),
        "whose_end": found.obstacle.as_ref().map(end),
        "findings": found.list.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn shown(style: Style, found: &Findings) -> String {
    let row = |finding: &Finding| {
        let tone = match finding.verdict {
            Verdict::Good => Tone::Good,
            Verdict::Odd => Tone::Odd,
            Verdict::Bad => Tone::Bad,
        };
        let text = match &finding.failure {
            Some(failure) => {
                let (class, end) = (failure.class, failure.class.whose_end().word());
                format!("{class} ({end}): {}", finding.text)
            }
            None => finding.text.clone(),
        };
        vec![
            Cell::new(finding.verdict.word()).toned(tone),
            Cell::new(finding.step),
            Cell::new(one_line(&text)),
        ]
    };
    let rows: Vec<_> = found.list.iter().map(row).collect();
    let mut shown = table(style, &["", "STEP", "WHAT"], &rows);
    match found.obstacle {
        None if found.is_own => shown.push_str("\nAn envelope would be delivered here.\n"),
        None => shown.push_str("\nAn envelope would go through.\n"),
        Some(_) => {}
    }
    shown
}
