//! `postrider identity`: who this relay is to others, and how that changes without anybody being refused.
//!
//! A key is changed in two steps. The next one is made and announced: `identity export`, `peer export` and `dns` tell both.
//! When others have had the time to enter it, it takes the current one's place, and the current one is kept beside.

mod rotate;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use postrider_common::Timestamp;
use postrider_common::clock::{Clock, SystemClock};
use postrider_federation::{Identity, IdentityError, Presented};

use super::announcement::{Host, block};
use super::owner::become_owner;
use super::queue::AdminCommandError;
use super::show::facts;
use crate::acme;
use crate::config::{Config, ConfigErrors, Credentials};
use crate::exit::Exit;

pub(super) use rotate::Next;

/// What to do with the identity.
#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// Show the current key and the next one.
    Show(IdentityArgs),
    /// Change the key, in two steps.
    ///
    /// The first call makes the next key, to be announced: hand the output of `identity export` to your peers, and publish what
    /// `postrider dns` prints. The second call puts it in the current one's place, and is refused before
    /// `federation.key_announcement` is over, since peers that do not know the next key yet would refuse this relay. Called by
    /// root, it goes on as the user whose the data directory is.
    Rotate(RotateArgs),
    /// Print what another relay's administrator needs: domain, records, and the pins of the current and the next key.
    Export(ExportArgs),
}

/// Whose identity.
#[derive(Debug, Args)]
pub struct IdentityArgs {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE")]
    pub(super) config: PathBuf,
}

/// For `identity rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    #[command(flatten)]
    place: IdentityArgs,
    /// Change now: every peer has the next key, or nobody may rely on the current one any longer.
    #[arg(long)]
    now: bool,
}

/// For `identity export` and `peer export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    place: IdentityArgs,
    #[command(flatten)]
    host: Host,
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityCommandError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The identity is not ours to change.
    #[error(
        "the identity is in files that the configuration names ({}): change those, announce the new key, and reload",
        .0.display()
    )]
    Elsewhere(PathBuf),
    /// The next key is too young.
    #[error(
        "the next key was announced {since}, and peers may not know it before {from}; `--now` changes it all the same"
    )]
    TooEarly {
        /// Since when it has been announced.
        since: Timestamp,
        /// From when on it may be used.
        from: Timestamp,
    },
    /// A file.
    #[error("{}: {error}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A key or certificate.
    #[error("{}: {error}", path.display())]
    Identity {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: IdentityError,
    },
    /// The running relay.
    #[error("it was changed, but the running relay goes on with what it had: {0}")]
    Reload(AdminCommandError),
    /// The result could not be told.
    #[error("the result cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl IdentityCommandError {
    /// What the process exits with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(errors) => errors.exit(),
            Self::Elsewhere(_) => Exit::Usage,
            Self::TooEarly { .. } => Exit::TemporaryFailure,
            Self::File { error, .. } => Exit::for_creating(error),
            Self::Identity { .. } => Exit::Data,
            Self::Reload(error) => error.exit(),
            Self::Output(_) => Exit::Io,
        }
    }
}

/// Carries a command out.
pub fn run(command: &IdentityCommand, out: &mut dyn Write) -> Result<(), IdentityCommandError> {
    match command {
        IdentityCommand::Show(args) => show(args, &SystemClock, out),
        IdentityCommand::Rotate(args) => rotate(args, &SystemClock, out),
        IdentityCommand::Export(args) => export(args, out),
    }
}

/// Prints one block for another administrator.
pub(super) fn export(args: &ExportArgs, out: &mut dyn Write) -> Result<(), IdentityCommandError> {
    let config = Config::load(&args.place.config)?;
    let next = Next::of(&config)?;
    Ok(out.write_all(block(&config, next.as_ref(), &args.host).as_bytes())?)
}

fn show(args: &IdentityArgs, clock: &dyn Clock, out: &mut dyn Write) -> Result<(), IdentityCommandError> {
    let config = Config::load(&args.config)?;
    let next = Next::of(&config)?;
    let files = &config.federation.identity;
    let identity = Identity::from_pem(&config.domain, &files.certificate_pem, &files.key_pem);
    let path = files.certificate_file.clone();
    let identity = identity.map_err(|error| IdentityCommandError::Identity { path, error })?;
    // What is wrong with it, the relay itself tells.
    let issued = config.acme.as_ref().and_then(|acme| acme::stored(&config.data_dir, acme).ok().flatten());
    let shown = facts([
        ("domain", Some(config.domain.to_string())),
        ("certificate", Some(files.certificate_file.display().to_string())),
        ("pin", Some(HEXLOWER.encode(&files.pin))),
        ("valid until", identity.valid_until().map(|until| left(until, clock.now()))),
        ("issued for it", issued.as_ref().map(|issued| issued.certificate_file.display().to_string())),
        ("issued until", issued.as_ref().and_then(end).map(|until| left(until, clock.now()))),
        ("next pin", next.as_ref().map(|next| HEXLOWER.encode(&next.pin))),
        ("announced since", next.as_ref().map(|next| next.since.to_string())),
        ("to be used from", next.as_ref().map(|next| next.usable_from(&config).to_string())),
    ]);
    Ok(out.write_all(shown.as_bytes())?)
}

/// When a certificate ends.
fn end(certificate: &Credentials) -> Option<Timestamp> {
    Some(Presented::of(&certificate.certified.cert)?.not_after)
}

/// A date, and how far away it is.
fn left(until: Timestamp, now: Timestamp) -> String {
    const DAY: u64 = 86_400;
    if until <= now {
        format!("{until} (over)")
    } else {
        format!("{until} ({} days)", until.since(now).as_secs() / DAY)
    }
}

fn rotate(args: &RotateArgs, clock: &dyn Clock, out: &mut dyn Write) -> Result<(), IdentityCommandError> {
    let config = Config::load(&args.place.config)?;
    become_owner(&config.data_dir)
        .map_err(|error| IdentityCommandError::File { path: config.data_dir.clone(), error })?;
    let now = clock.now();
    let Some(next) = Next::of(&config)? else {
        let next = Next::make(&config, now)?;
        let days = config.federation.key_announcement.as_secs() / 86_400;
        writeln!(
            out,
            "The next key is made, and the current one is still in use.\n\n  next pin: {}\n",
            HEXLOWER.encode(&next.pin)
        )?;
        writeln!(
            out,
            "1. Hand what `postrider identity export` prints to every peer's administrator.\n\
             2. If the zone is signed, publish what `postrider dns` prints: both TLSA records.\n\
             3. Not before {} ({days} days), run `postrider identity rotate` again.",
            next.usable_from(&config)
        )?;
        return Ok(());
    };
    let from = next.usable_from(&config);
    if now < from && !args.now {
        return Err(IdentityCommandError::TooEarly { since: next.since, from });
    }
    next.use_it(&config)?;
    writeln!(
        out,
        "The next key is in use now. The earlier one is in {}.",
        rotate::previous(&config).display()
    )?;
    let told = tell_running_relay(&config.data_dir).map_err(IdentityCommandError::Reload)?;
    writeln!(out, "{told}")?;
    Ok(())
}

impl Next {
    /// When others can be expected to know it.
    fn usable_from(&self, config: &Config) -> Timestamp {
        let wait: Duration = config.federation.key_announcement;
        self.since + wait
    }
}

/// Has the relay on a data directory read its configuration, if one runs there; what to say about it.
pub(super) fn tell_running_relay(data_dir: &Path) -> Result<String, AdminCommandError> {
    use crate::admin::documents::Reloaded;
    use crate::admin::{Client, ClientError};
    let client = Client::new(data_dir);
    super::queue::block_on(async {
        match client.post::<Reloaded>("/v1/reload", &()).await {
            Ok(_) => Ok("The running relay has read it.".to_owned()),
            Err(ClientError::NoRelay(_)) => Ok("No relay runs; it counts from its next start.".to_owned()),
            Err(error) => Err(error.into()),
        }
    })
}

#[cfg(test)]
mod tests;
