//! `postrider client …`: keys, sending and receiving from a shell.
//!
//! For trying a relay out and for scripts. Messages are encrypted with the client crate's reference scheme.

mod devices;
mod files;
mod notes;
mod outgoing;
mod problem;
mod receive;
mod send;
mod show;

use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use postrider_client::{Error, Identity, IdentityError, Invite, KeyPin, Proxy, Relay, Trust};
use postrider_common::wire::control::BindingStatement;
use postrider_common::{Binding, Domain, TrackingId};

use devices::DevicesCommand;
pub use problem::ClientCommandError;
use receive::{fetch, follow};
pub use send::SendArgs;

/// The first pause between two tries, or two questions about a queued message, at most,
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// and the longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a user does with a relay.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Make keys, and print the contact card that others need to write to you
    Keygen(KeygenArgs),
    /// Encrypt a message and hand it to your relay
    Send(SendArgs),
    /// Print the messages that wait for you, and delete them from the relay
    Receive(ReceiveArgs),
    /// Say what became of a message that was queued for another relay
    Status(StatusArgs),
    /// Look after your devices: list them, name one, remove one
    #[command(subcommand)]
    Devices(DevicesCommand),
    /// Move your mailbox to another relay, with all that waits in it, and print its new contact card
    Move(MoveArgs),
}

/// `keygen`.
#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// The domain of the relay that will keep your mailbox
    #[arg(long)]
    domain: Domain,
    /// The file to write; one that exists is not overwritten
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// `receive`.
#[derive(Debug, Args)]
pub struct ReceiveArgs {
    /// The file that `keygen` wrote
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    #[command(flatten)]
    relay: RelayArgs,
    /// Register the mailbox and this device first, where that has not been done
    #[arg(long)]
    register: bool,
    /// The invite that the relay asks for when it registers a new mailbox: the whole link
    #[arg(long, value_name = "URL", requires = "register")]
    invite: Option<Invite>,
    /// Fetch attached files into this directory; without it, such messages stay
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Stay, and print messages as they arrive
    #[arg(long)]
    follow: bool,
}

/// `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    relay: RelayArgs,
    /// What `send` printed
    #[arg(value_name = "TRACKING-ID")]
    id: TrackingId,
}

/// `move`.
#[derive(Debug, Args)]
pub struct MoveArgs {
    /// The file that `keygen` wrote
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    #[command(flatten)]
    relay: RelayArgs,
    #[command(flatten)]
    to: NewRelayArgs,
    /// The file to write for the mailbox at the new relay; one that exists is not overwritten
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Do not ask the old relay, where you cannot sign in any more: write what its administrator puts in force there with
    /// `postrider mailbox redirect` into this file
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
}

/// Where a mailbox moves to, and how that relay proves to be that one.
#[derive(Debug, Args)]
struct NewRelayArgs {
    /// The new relay, for instance https://relay.example.net
    #[arg(long = "to", value_name = "URL")]
    to_url: String,
    /// Trust this key of the new relay only: the SHA-256 of its public key
    #[arg(long, value_name = "HEX", conflicts_with = "to_ca")]
    to_pin: Option<KeyPin>,
    /// For the new relay, trust the authority in this PEM file, instead of the web's authorities
    #[arg(long, value_name = "FILE")]
    to_ca: Option<PathBuf>,
    /// Connect to the new relay at this address, instead of looking its name up
    #[arg(long, value_name = "IP:PORT")]
    to_address: Option<SocketAddr>,
    /// The invite that the new relay asks for: the whole link
    #[arg(long, value_name = "URL")]
    to_invite: Option<Invite>,
}

/// Which relay, and how it proves to be that one.
#[derive(Debug, Args)]
struct RelayArgs {
    /// Your relay, for instance https://relay.example.org
    #[arg(long = "relay", value_name = "URL")]
    url: String,
    /// Trust this key only: the SHA-256 of the relay's public key
    #[arg(long, value_name = "HEX", conflicts_with = "ca")]
    pin: Option<KeyPin>,
    /// Trust the authority in this PEM file, instead of the web's authorities
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Connect to this address, instead of looking the relay's name up
    #[arg(long, value_name = "IP:PORT")]
    address: Option<SocketAddr>,
    /// Go through this SOCKS5 proxy, for instance socks5://127.0.0.1:9050
    #[arg(long, value_name = "URL")]
    proxy: Option<Proxy>,
}

/// Does what the command says. `input` is where a message comes from that is not among the arguments, `out` is for
/// what people and scripts read. `receive --follow` runs until it is dropped.
pub async fn run(
    command: ClientCommand,
    input: &mut (dyn Read + Send),
    out: &mut (dyn Write + Send),
) -> Result<(), ClientCommandError> {
    match command {
        ClientCommand::Keygen(keygen) => keygen.run(out),
        ClientCommand::Send(send) => send.run(input, out).await,
        ClientCommand::Receive(receive) => receive.run(out).await,
        ClientCommand::Status(status) => status.run(out).await,
        ClientCommand::Devices(command) => command.run(out).await,
        ClientCommand::Move(args) => args.run(out).await,
    }
}

/// [`run`] for a process that does nothing else.
pub fn run_to_end(
    command: ClientCommand,
    input: &mut (dyn Read + Send),
    out: &mut (dyn Write + Send),
) -> Result<(), ClientCommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| ClientCommandError::Input { what: "the network".into(), source })?;
    runtime.block_on(run(command, input, out))
}

impl KeygenArgs {
    fn run(self, out: &mut (dyn Write + Send)) -> Result<(), ClientCommandError> {
        let identity = Identity::generate(self.domain);
        identity.save(&self.out)?;
        print(out, &format!("{}\n", identity.card()))
    }
}

impl ReceiveArgs {
    async fn run(self, out: &mut (dyn Write + Send)) -> Result<(), ClientCommandError> {
        let identity = Identity::load(&self.identity)?;
        let session = self.relay.build()?.session(&identity).await?;
        if let Some(invite) = &self.invite {
            session.register_invited(&invite.secret).await?;
        } else if self.register {
            session.register().await?;
        }
        let save = self.save.as_deref();
        if self.follow { follow(&session, save, out).await } else { fetch(&session, save, out).await }
    }
}

impl StatusArgs {
    async fn run(self, out: &mut (dyn Write + Send)) -> Result<(), ClientCommandError> {
        let status = self.relay.build()?.track(self.id).await?;
        print(out, &show::status(&status))
    }
}

impl MoveArgs {
    /// Its file is written at the end, and what is done twice changes nothing: so after a failure the same command goes
    /// on.
    async fn run(self, out: &mut (dyn Write + Send)) -> Result<(), ClientCommandError> {
        let identity = Identity::load(&self.identity)?;
        if self.out.exists() {
            return Err(IdentityError::Exists { path: self.out }.into());
        }
        let invite = self.to.to_invite.as_ref().map(|invite| invite.secret.clone());
        // The same way to both, or the new relay would learn what the old one is not told.
        let there = RelayArgs { proxy: self.relay.proxy.clone(), ..RelayArgs::from(self.to) }.build()?;
        let moved = match &self.export {
            Some(file) => {
                let (moved, binding) = there.take_in(&identity, invite.as_ref()).await?;
                export(file, &binding)?;
                moved
            }
            None => {
                let session = self.relay.build()?.session(&identity).await?;
                match invite {
                    Some(invite) => session.move_to_invited(&there, &invite).await?,
                    None => session.move_to(&there).await?,
                }
            }
        };
        moved.save(&self.out)?;
        print(out, &format!("{}\n", moved.card()))
    }
}

/// There is nothing secret in it.
fn export(path: &Path, binding: &Binding) -> Result<(), ClientCommandError> {
    let text = serde_json::to_string(&BindingStatement::from(binding)).map_err(io::Error::from);
    let written = text.and_then(|text| fs::write(path, text + "\n"));
    written.map_err(ClientCommandError::Output)
}

impl From<NewRelayArgs> for RelayArgs {
    fn from(to: NewRelayArgs) -> Self {
        Self { url: to.to_url, pin: to.to_pin, ca: to.to_ca, address: to.to_address, proxy: None }
    }
}

impl RelayArgs {
    fn build(self) -> Result<Relay, Error> {
        let trust = match (self.pin, self.ca) {
            (Some(pin), _) => Trust::Pinned(vec![pin]),
            (None, Some(path)) => Trust::AuthorityFile(path),
            (None, None) => Trust::WebRoots,
        };
        let mut builder = Relay::builder(self.url).trust(trust);
        if let Some(address) = self.address {
            builder = builder.address(address);
        }
        if let Some(proxy) = self.proxy {
            builder = builder.proxy(proxy);
        }
        builder.build()
    }
}

fn print(out: &mut (dyn Write + Send), text: &str) -> Result<(), ClientCommandError> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(ClientCommandError::Output)
}

#[cfg(test)]
mod tests;
