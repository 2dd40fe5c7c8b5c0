//! `postrider peer`: whom this relay deals with, and setting that up between two administrators.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use postrider_common::Domain;
use serde::Serialize;

use super::identity::{ExportArgs, IdentityCommandError, export, tell_running_relay};
use super::owner::become_owner;
use super::queue::AdminCommandError;
use super::show::{Cell, Style, facts, table};
use crate::config::{
    Config, ConfigErrors, FederationPolicy, PeerConfig, PeerDirection, Problem, TrustConfig, peer_file,
    peers_directory,
};
use crate::exit::Exit;

/// The largest block that is read.
const BLOCK_BYTES: u64 = 1 << 20;

/// What to do with the peers.
#[derive(Debug, Subcommand)]
pub enum PeerCommand {
    /// List the peers.
    List(ListArgs),
    /// Show one peer.
    Show(OneArgs),
    /// Print one block for another administrator: domain, records to publish, pins of the current and the next key.
    Export(ExportArgs),
    /// Take another administrator's block: its relay is a peer from then on.
    ///
    /// It is checked like the configuration and written into a file of its own in the data directory, in place of one about
    /// the same domain; a running relay reads it at once. What the configuration file itself lists is changed there. All that
    /// was taken is shown, and what it was before. What says more than `peer export` does, such as an address or an authority,
    /// is taken only with `--beyond-pins`; what takes something away from a known peer, or has none of its keys, only with
    /// `--replace`. Called by root, it goes on as the user whose the data directory is.
    Import(ImportArgs),
    /// Take a peer out again that was imported. A running relay closes its connections at once.
    Remove(OneArgs),
}

/// For `peer list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Print the answer as one JSON object.
    #[arg(long)]
    json: bool,
}

/// For one peer.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Which peer.
    #[arg(value_name = "DOMAIN")]
    domain: Domain,
}

/// For `peer import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// The file with the block; `-` for standard input.
    #[arg(value_name = "BLOCK")]
    block: PathBuf,
    /// Take what is trusted more than the keys in the block: another mode of trust, an authority, addresses, limits.
    #[arg(long)]
    beyond_pins: bool,
    /// Take what changes more about a known peer than to add a key to one that it keeps.
    #[arg(long)]
    replace: bool,
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum PeerCommandError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// What `peer export` met.
    #[error(transparent)]
    Export(#[from] IdentityCommandError),
    /// The block is none. One line for each problem.
    #[error("{}", lines(file, problems))]
    Block {
        /// Where it was read from.
        file: PathBuf,
        /// What is wrong.
        problems: Vec<Problem>,
    },
    /// It is no text.
    #[error("{}: this is no text, and no block that `postrider peer export` has printed", .0.display())]
    NoText(PathBuf),
    /// With it, something else in the configuration would be wrong.
    #[error("{}: nothing was imported, for with it the configuration would be wrong:\n{errors}", file.display())]
    AtOdds {
        /// Where it was read from.
        file: PathBuf,
        /// What would be wrong.
        errors: ConfigErrors,
    },
    /// It has no peer, or several.
    #[error("{}: {}", file.display(), match count {
        0 => "no entry [[federation.peers]] is there: was the block copied as a whole?".to_owned(),
        count => format!("one entry [[federation.peers]] is expected, and {count} are there"),
    })]
    Count {
        /// Where it was read from.
        file: PathBuf,
        /// How many there are.
        count: usize,
    },
    /// It asks for more than another administrator can be expected to.
    #[error(
        "{}: {domain} asks for more than to be known by its key: {}. Whoever has looked at that takes it with `--beyond-pins`",
        file.display(), more.join("; ")
    )]
    Beyond {
        /// Where it was read from.
        file: PathBuf,
        /// Which peer.
        domain: Domain,
        /// What it asks for, such as `trust = "webpki"`.
        more: Vec<String>,
    },
    /// It changes what has to be looked at.
    #[error(
        "{}: {domain} is a peer already, and would be dealt with in another way:\n{changes}Whoever has asked its \
         administrator takes that with `--replace`",
        file.display()
    )]
    Changes {
        /// Where it was read from.
        file: PathBuf,
        /// Which peer.
        domain: Domain,
        /// A line for each setting.
        changes: String,
    },
    /// The peer is not there.
    #[error("{0} is no peer")]
    NoSuchPeer(Domain),
    /// It is written elsewhere.
    #[error("{domain} is listed in {}: change it there, and reload", file.display())]
    Listed {
        /// Which peer.
        domain: Domain,
        /// Where.
        file: PathBuf,
    },
    /// A file.
    #[error("{}: {error}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The running relay.
    #[error("it was written, but the running relay goes on with what it had: {0}")]
    Reload(AdminCommandError),
    /// The result could not be told.
    #[error("the result cannot be written: {0}")]
    Output(#[from] io::Error),
}

fn lines(file: &Path, problems: &[Problem]) -> String {
    problems.iter().map(|problem| problem.in_file(file).to_string()).collect::<Vec<_>>().join("\n")
}

impl PeerCommandError {
    /// What the process exits with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(errors) => errors.exit(),
            Self::Export(error) => error.exit(),
            Self::Block { .. }
            | Self::NoText(_)
            | Self::AtOdds { .. }
            | Self::Count { .. }
            | Self::Beyond { .. }
            | Self::Changes { .. } => Exit::Data,
            Self::NoSuchPeer(_) => Exit::Unavailable,
            Self::Listed { .. } => Exit::CannotCreate,
            Self::File { error, .. } if error.kind() == io::ErrorKind::NotFound => Exit::Unavailable,
            Self::File { error, .. } => Exit::for_creating(error),
            Self::Reload(error) => error.exit(),
            Self::Output(_) => Exit::Io,
        }
    }
}

/// Carries a command out. A block named `-` comes from `input`.
pub fn run(command: &PeerCommand, input: &mut dyn Read, out: &mut dyn Write) -> Result<(), PeerCommandError> {
    match command {
        PeerCommand::List(args) => list(args, out),
        PeerCommand::Show(args) => show(args, out),
        PeerCommand::Export(args) => Ok(export(args, out)?),
        PeerCommand::Import(args) => import(args, input, out),
        PeerCommand::Remove(args) => remove(args, out),
    }
}

/// A peer in JSON.
#[derive(Serialize)]
struct Document<'a> {
    domain: &'a Domain,
    direction: &'static str,
    trust: &'static str,
    pins: Vec<String>,
    addresses: Vec<String>,
    imported: bool,
}

fn document<'a>(config: &Config, peer: &'a PeerConfig) -> Document<'a> {
    let (trust, pins) = match &peer.trust {
        TrustConfig::Pinned { pins } => ("pinned", pins.iter().map(|pin| HEXLOWER.encode(pin)).collect()),
        TrustConfig::PrivateCa { .. } => ("private-ca", Vec::new()),
        TrustConfig::Dane => ("dane", Vec::new()),
        TrustConfig::WebPki => ("webpki", Vec::new()),
    };
    let direction = match peer.direction {
        PeerDirection::Both => "both",
        PeerDirection::In => "in",
        PeerDirection::Out => "out",
    };
    Document {
        domain: &peer.domain,
        direction,
        trust,
        pins,
        addresses: peer.addresses.iter().map(ToString::to_string).collect(),
        imported: peer_file(&config.data_dir, &peer.domain).exists(),
    }
}

fn list(args: &ListArgs, out: &mut dyn Write) -> Result<(), PeerCommandError> {
    let config = Config::load(&args.config)?;
    let mut peers: Vec<_> = config.federation.peers.iter().map(|peer| document(&config, peer)).collect();
    peers.sort_by(|a, b| a.domain.cmp(b.domain));
    if args.json {
        serde_json::to_writer(&mut *out, &serde_json::json!({ "peers": peers })).map_err(io::Error::from)?;
        return Ok(writeln!(out)?);
    }
    if peers.is_empty() {
        return Ok(writeln!(out, "no peer is listed")?);
    }
    let row = |peer: &Document<'_>| {
        let place = if peer.imported { "imported" } else { "configuration" };
        [peer.domain.as_str(), peer.direction, peer.trust, place].map(Cell::new).to_vec()
    };
    let rows: Vec<_> = peers.iter().map(row).collect();
    let heads = ["PEER", "DIRECTION", "TRUST", "LISTED IN"];
    Ok(out.write_all(table(Style::of_stdout(), &heads, &rows).as_bytes())?)
}

fn show(args: &OneArgs, out: &mut dyn Write) -> Result<(), PeerCommandError> {
    let config = Config::load(&args.config)?;
    let peer = find(&config, &args.domain)?;
    Ok(out.write_all(described(&config, peer).as_bytes())?)
}

/// Everything that is set for a peer, and where.
fn described(config: &Config, peer: &PeerConfig) -> String {
    let path = peer_file(&config.data_dir, &peer.domain);
    let file = if path.exists() { path } else { config.file.clone() };
    let domain = ("domain", Some(peer.domain.to_string()));
    let place = ("listed in", Some(file.display().to_string()));
    facts([domain].into_iter().chain(settings(config, peer)).chain([place]))
}

/// What is set for a peer, by name.
fn settings(config: &Config, peer: &PeerConfig) -> [(&'static str, Option<String>); 7] {
    let shown = document(config, peer);
    let ca = match &peer.trust {
        TrustConfig::PrivateCa { ca, .. } => Some(ca.display().to_string()),
        _ => None,
    };
    let joined = |list: &[String]| (!list.is_empty()).then(|| list.join(", "));
    [
        ("direction", Some(shown.direction.to_owned())),
        ("trust", Some(shown.trust.to_owned())),
        ("pins", joined(&shown.pins)),
        ("authority", ca),
        ("addresses", joined(&shown.addresses)),
        ("batches in flight", peer.batches_in_flight.map(|count| count.to_string())),
        ("envelopes per second", peer.envelopes_per_second.map(|count| count.to_string())),
    ]
}

/// A line for each setting that is another one than before.
fn changes(config: &Config, before: &PeerConfig, after: &PeerConfig) -> String {
    let pairs = settings(config, before).into_iter().zip(settings(config, after));
    let none = || "none".to_owned();
    pairs
        .filter(|((_, old), (_, new))| old != new)
        .map(|((name, old), (_, new))| {
            format!("  {name}: {} -> {}\n", old.unwrap_or_else(none), new.unwrap_or_else(none))
        })
        .collect()
}

/// Whether nothing is different about a peer but which keys it has, and one of them was known before: as when it announces
/// its next one.
fn only_goes_on(before: &PeerConfig, after: &PeerConfig) -> bool {
    let (TrustConfig::Pinned { pins: old }, TrustConfig::Pinned { pins: new }) =
        (&before.trust, &after.trust)
    else {
        return before == after;
    };
    let with_new_keys = PeerConfig { trust: after.trust.clone(), ..before.clone() };
    with_new_keys == *after && new.iter().any(|pin| old.contains(pin))
}

/// What a peer asks for beyond being known by its key, and that could do harm: whose word counts for it, where it is sent
/// to, how much it may bring.
fn beyond_pins(peer: &PeerConfig) -> Vec<String> {
    let mut more = Vec::new();
    match &peer.trust {
        TrustConfig::Pinned { .. } => {}
        TrustConfig::PrivateCa { ca, .. } => {
            more.push(format!("trust = \"private-ca\" with ca = \"{}\"", ca.display()));
        }
        TrustConfig::Dane => more.push("trust = \"dane\"".into()),
        TrustConfig::WebPki => more.push("trust = \"webpki\"".into()),
    }
    if !peer.addresses.is_empty() {
        let addresses: Vec<_> = peer.addresses.iter().map(|address| format!("\"{address}\"")).collect();
        more.push(format!("addresses = [{}]", addresses.join(", ")));
    }
    if let Some(count) = peer.batches_in_flight {
        more.push(format!("batches_in_flight = {count}"));
    }
    if let Some(count) = peer.envelopes_per_second {
        more.push(format!("envelopes_per_second = {count}"));
    }
    more
}

fn import(args: &ImportArgs, input: &mut dyn Read, out: &mut dyn Write) -> Result<(), PeerCommandError> {
    let config = Config::load(&args.config)?;
    let text = read(&args.block, input)?;
    let directory = peers_directory(&config.data_dir);
    let file = args.block.clone();
    let read = config.federation.read_peers(&config.domain, &text, &directory);
    let peers = read.map_err(|problems| PeerCommandError::Block { file: file.clone(), problems })?;
    let [peer] = peers.as_slice() else {
        return Err(PeerCommandError::Count { file, count: peers.len() });
    };
    let path = peer_file(&config.data_dir, &peer.domain);
    let known = find(&config, &peer.domain).ok();
    if known.is_some() && !path.exists() {
        return Err(PeerCommandError::Listed { domain: peer.domain.clone(), file: config.file });
    }
    let more = beyond_pins(peer);
    if !args.beyond_pins && !more.is_empty() {
        return Err(PeerCommandError::Beyond { file, domain: peer.domain.clone(), more });
    }
    let changes = known.map(|known| changes(&config, known, peer));
    if let Some(known) = known.filter(|known| !args.replace && !only_goes_on(known, peer)) {
        let (domain, changes) = (known.domain.clone(), changes.unwrap_or_default());
        return Err(PeerCommandError::Changes { file, domain, changes });
    }
    become_owner(&config.data_dir).map_err(|error| failed(&config.data_dir, error))?;
    let before = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        read => Some(read.map_err(|error| failed(&path, error))?),
    };
    write(&directory, &path, &text)?;
    // The block may be at odds with what the configuration says elsewhere, as with `federation.deny`.
    if let Err(errors) = Config::load(&args.config) {
        match before {
            Some(before) => write(&directory, &path, &before)?,
            None => {
                fs::remove_file(&path).map_err(|error| failed(&path, error))?;
                sync(&directory)?;
            }
        }
        return Err(PeerCommandError::AtOdds { file, errors });
    }
    let (word, changes) = match &changes {
        None => ("is a peer", ""),
        Some(changes) if changes.is_empty() => ("is what it was", ""),
        Some(changes) => ("is changed", changes.as_str()),
    };
    writeln!(out, "{} {word}: {}\n{changes}", peer.domain, path.display())?;
    writeln!(out, "{}", described(&config, peer))?;
    if config.federation.policy == FederationPolicy::Closed {
        writeln!(
            out,
            "federation.policy is \"closed\": nothing is exchanged before that is \"allow-list\" or \"open\"."
        )?;
    }
    let told = tell_running_relay(&config.data_dir).map_err(PeerCommandError::Reload)?;
    Ok(writeln!(out, "{told}")?)
}

fn remove(args: &OneArgs, out: &mut dyn Write) -> Result<(), PeerCommandError> {
    let config = Config::load(&args.config)?;
    find(&config, &args.domain)?;
    become_owner(&config.data_dir).map_err(|error| failed(&config.data_dir, error))?;
    let path = peer_file(&config.data_dir, &args.domain);
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(PeerCommandError::Listed { domain: args.domain.clone(), file: config.file });
        }
        removed => removed.map_err(|error| failed(&path, error))?,
    }
    sync(&peers_directory(&config.data_dir))?;
    writeln!(out, "{} is no longer a peer", args.domain)?;
    let told = tell_running_relay(&config.data_dir).map_err(PeerCommandError::Reload)?;
    Ok(writeln!(out, "{told}")?)
}

fn find<'a>(config: &'a Config, domain: &Domain) -> Result<&'a PeerConfig, PeerCommandError> {
    let found = config.federation.peers.iter().find(|peer| peer.domain == *domain);
    found.ok_or_else(|| PeerCommandError::NoSuchPeer(domain.clone()))
}

fn read(file: &Path, input: &mut dyn Read) -> Result<String, PeerCommandError> {
    let mut bytes = Vec::new();
    let read = if *file == *Path::new("-") {
        input.take(BLOCK_BYTES).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|opened| opened.take(BLOCK_BYTES).read_to_end(&mut bytes))
    };
    read.map_err(|error| failed(file, error))?;
    String::from_utf8(bytes).map_err(|_| PeerCommandError::NoText(file.to_owned()))
}

/// Under another name first, so that a relay that reads meanwhile finds the earlier file or the whole new one.
fn write(directory: &Path, path: &Path, text: &str) -> Result<(), PeerCommandError> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(directory);
    made.map_err(|error| failed(directory, error))?;
    let unfinished = path.with_extension("new");
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&unfinished);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.and_then(|()| fs::rename(&unfinished, path)).map_err(|error| failed(path, error))?;
    sync(directory)
}

fn sync(directory: &Path) -> Result<(), PeerCommandError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(|error| failed(directory, error))
}

fn failed(path: &Path, error: io::Error) -> PeerCommandError {
    PeerCommandError::File { path: path.to_owned(), error }
}
