//! `postrider queue`: what waits for other relays, of a relay that runs.

mod export;
mod show;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use postrider_common::Domain;
use serde::Serialize;

use super::place::Place;
use super::show::Style;
use crate::admin::documents::{DestinationDetails, Done, Quarantine, Queue, Selection};
use crate::admin::{Client, ClientError};
use crate::config::ConfigErrors;
use crate::exit::Exit;
pub(super) use show::{destinations as failing, met};

/// What to do with the queue.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// List the destinations that something waits for, that fail, or that are paused.
    List(AskArgs),
    /// Show one destination: how it has failed lately, and what waits for it.
    Show(ShowArgs),
    /// Try again at once.
    ///
    /// Whatever is held against the destination is forgotten, and it is tried now. With `--item`: only these envelopes,
    /// which the destination has asked for at a later time, become due.
    Retry(RetryArgs),
    /// Hold a destination back until it is resumed, also across restarts.
    ///
    /// What is under way still ends. Envelopes for it are taken, kept, and expire at their time. Ephemeral envelopes,
    /// which are never queued, are not held back.
    Pause(OneArgs),
    /// Deliver to a paused destination again.
    Resume(OneArgs),
    /// Give envelopes up: their senders are told `dropped`.
    ///
    /// What is under way at that moment is left. To keep a copy, `queue export` first.
    Drop(DropArgs),
    /// Write the envelopes that wait for a destination into a file, encrypted as they are. They stay in the queue.
    ///
    /// One JSON object on each line: the destination, the tracking id, the end of its time, and the envelope as it goes over
    /// the wire, in base64. The file says which mailboxes are written to; it is made readable for its owner only.
    Export(ExportArgs),
    /// Look at the envelopes that a destination could neither read nor take.
    ///
    /// They have failed for their senders. The last 16 of each destination are kept for a while, so that the cause can be
    /// found.
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
}

/// What to do with the quarantine.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// List what is kept of one destination.
    List(OneArgs),
    /// Show one envelope: its parts' sizes, and its bytes in base64.
    Show(QuarantinedArgs),
    /// Delete one envelope.
    Drop(QuarantinedArgs),
}

/// For what needs to know no more than which relay is asked.
#[derive(Debug, Args)]
pub struct AskArgs {
    #[command(flatten)]
    pub(super) asked: Asked,
}

/// Whom to ask, and how the answer is wanted.
#[derive(Debug, Args)]
pub struct Asked {
    #[command(flatten)]
    pub(super) place: Place,
    /// Print the answer as one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// For one destination.
#[derive(Debug, Args)]
pub struct OneArgs {
    #[command(flatten)]
    asked: Asked,
    /// Which destination.
    #[arg(value_name = "DOMAIN")]
    domain: Domain,
}

/// For `queue show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    asked: Asked,
    /// Which destination.
    #[arg(value_name = "DOMAIN")]
    domain: Domain,
    /// How many envelopes to show, at most 256.
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    items: u16,
    /// Begin after this one, instead of with the oldest.
    #[arg(long, value_name = "ITEM")]
    after: Option<u64>,
}

/// For `queue retry`.
#[derive(Debug, Args)]
pub struct RetryArgs {
    #[command(flatten)]
    asked: Asked,
    /// Which destination.
    #[arg(value_name = "DOMAIN")]
    domain: Domain,
    /// Only this envelope, by its place in the queue as `queue show` tells it. Can be given several times.
    #[arg(long = "item", value_name = "ITEM")]
    items: Vec<u64>,
}

/// For `queue drop`.
#[derive(Debug, Args)]
pub struct DropArgs {
    #[command(flatten)]
    asked: Asked,
    /// Which destination.
    #[arg(value_name = "DOMAIN")]
    domain: Domain,
    #[command(flatten)]
    which: Which,
}

/// Which envelopes.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// This envelope, by its place in the queue as `queue show` tells it. Can be given several times.
    #[arg(long = "item", value_name = "ITEM")]
    items: Vec<u64>,
    /// Everything that waits for the destination.
    #[arg(long)]
    all: bool,
}

/// For `queue export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    place: Place,
    /// Which destination.
    #[arg(value_name = "DOMAIN")]
    domain: Domain,
    /// The file to write, which must not exist; `-` for standard output.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// One envelope in quarantine.
#[derive(Debug, Args)]
pub struct QuarantinedArgs {
    #[command(flatten)]
    asked: Asked,
    /// Which destination.
    #[arg(value_name = "DOMAIN")]
    domain: Domain,
    /// Which envelope, as `queue quarantine list` tells it.
    #[arg(value_name = "ITEM")]
    item: u64,
}

/// Why a command that asks a running relay failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminCommandError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The relay.
    #[error(transparent)]
    Relay(#[from] ClientError),
    /// The command line asks for something else than there can be.
    #[error("{0}")]
    Usage(String),
    /// What was asked for is not there.
    #[error("{0}")]
    NotThere(String),
    /// The relay takes no envelopes at the moment.
    #[error("the relay is not ready: {0}")]
    NotReady(String),
    /// The file of an export.
    #[error("{}: {error}", file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What a command needs of the system.
    #[error("the system refuses threads: {0}")]
    System(io::Error),
    /// The result could not be told.
    #[error("the result cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl AdminCommandError {
    /// What the process exits with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(errors) => errors.exit(),
            Self::Relay(error) => match error {
                ClientError::PermissionDenied(_) => Exit::NoPermission,
                ClientError::Answer { .. } => Exit::Software,
                ClientError::NoRelay(_)
                | ClientError::Connection { .. }
                | ClientError::NotFound(_)
                | ClientError::Refused(_) => Exit::Unavailable,
            },
            Self::Usage(_) => Exit::Usage,
            Self::NotThere(_) | Self::NotReady(_) => Exit::Unavailable,
            Self::File { error, .. } => Exit::for_creating(error),
            Self::System(_) => Exit::Software,
            Self::Output(_) => Exit::Io,
        }
    }
}

/// Runs what asks the relay to its end.
pub(super) fn block_on<T>(
    asking: impl Future<Output = Result<T, AdminCommandError>>,
) -> Result<T, AdminCommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(AdminCommandError::System)?.block_on(asking)
}

/// Carries a command out.
pub fn run(command: &QueueCommand, out: &mut dyn Write) -> Result<(), AdminCommandError> {
    block_on(carry_out(command, out))
}

async fn carry_out(command: &QueueCommand, out: &mut dyn Write) -> Result<(), AdminCommandError> {
    let style = Style::of_stdout();
    match command {
        QueueCommand::List(AskArgs { asked }) => {
            let queue: Queue = asked.client()?.get("/v1/queue").await?;
            asked.tell(&queue, || show::queue(style, &queue), out)
        }
        QueueCommand::Show(ShowArgs { asked, domain, items, after }) => {
            let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
            let path = format!("/v1/queue/{domain}?count={items}{after}");
            let details: DestinationDetails = asked.client()?.get(&path).await?;
            asked.tell(&details, || show::details(style, &details), out)
        }
        QueueCommand::Retry(RetryArgs { asked, domain, items }) => {
            let selection = Selection { items: texts(items), ..Selection::default() };
            let done: Done = asked.client()?.post(&format!("/v1/queue/{domain}/retry"), &selection).await?;
            let text = || match items.len() {
                0 => format!("{domain} is tried at once\n"),
                _ => show::done(&done, "made due", "were not waiting for a later time"),
            };
            asked.tell(&done, text, out)
        }
        QueueCommand::Pause(OneArgs { asked, domain }) => {
            let nothing = Selection::default();
            let done: Done = asked.client()?.post(&format!("/v1/queue/{domain}/pause"), &nothing).await?;
            let text = || {
                format!(
                    "{domain} is paused: what comes for it waits until `postrider queue resume {domain}`\n"
                )
            };
            asked.tell(&done, text, out)
        }
        QueueCommand::Resume(OneArgs { asked, domain }) => {
            let nothing = Selection::default();
            let done: Done = asked.client()?.post(&format!("/v1/queue/{domain}/resume"), &nothing).await?;
            asked.tell(&done, || format!("{domain} is no longer paused\n"), out)
        }
        QueueCommand::Drop(DropArgs { asked, domain, which }) => {
            let done = discard(&asked.client()?, domain, which).await?;
            asked.tell(&done, || show::done(&done, "dropped", "were under way or gone already"), out)
        }
        QueueCommand::Export(args) => export::run(args, out).await,
        QueueCommand::Quarantine(command) => quarantine(command, style, out).await,
    }
}

/// A step at a time, so that no request is a long one.
async fn discard(client: &Client, domain: &Domain, which: &Which) -> Result<Done, AdminCommandError> {
    let path = format!("/v1/queue/{domain}/drop");
    let mut selection = Selection { items: texts(&which.items), all: which.all, after: None };
    let mut sum = Done::default();
    loop {
        let done: Done = client.post(&path, &selection).await?;
        (sum.done, sum.left) = (sum.done + done.done, sum.left + done.left);
        match done.next {
            Some(next) => selection.after = Some(next),
            None => return Ok(sum),
        }
    }
}

async fn quarantine(
    command: &QuarantineCommand,
    style: Style,
    out: &mut dyn Write,
) -> Result<(), AdminCommandError> {
    match command {
        QuarantineCommand::List(OneArgs { asked, domain }) => {
            let kept: Quarantine = asked.client()?.get(&format!("/v1/queue/{domain}/quarantine")).await?;
            asked.tell(&kept, || show::quarantine(style, &kept), out)
        }
        QuarantineCommand::Show(QuarantinedArgs { asked, domain, item }) => {
            let kept: Quarantine = asked.client()?.get(&format!("/v1/queue/{domain}/quarantine")).await?;
            let found = kept.items.into_iter().find(|kept| kept.item == item.to_string());
            let missing = || AdminCommandError::NotThere(format!("{item} is not in quarantine for {domain}"));
            let found = found.ok_or_else(missing)?;
            asked.tell(&found, || show::quarantined(&found), out)
        }
        QuarantineCommand::Drop(QuarantinedArgs { asked, domain, item }) => {
            let path = format!("/v1/queue/{domain}/quarantine/{item}");
            let done: Done = asked.client()?.delete(&path).await?;
            asked.tell(&done, || "1 envelope deleted\n".into(), out)
        }
    }
}

fn texts(items: &[u64]) -> Vec<String> {
    items.iter().map(u64::to_string).collect()
}

impl Asked {
    pub(super) fn client(&self) -> Result<Client, AdminCommandError> {
        Ok(Client::new(self.place.data_dir()?))
    }

    /// Writes an answer as it is wanted.
    pub(super) fn tell(
        &self,
        document: &impl Serialize,
        text: impl FnOnce() -> String,
        out: &mut dyn Write,
    ) -> Result<(), AdminCommandError> {
        if self.json {
            serde_json::to_writer(&mut *out, document).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            out.write_all(text().as_bytes())?;
        }
        Ok(())
    }
}
