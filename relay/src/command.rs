//! The command line.

pub mod announcement;
pub mod check_config;
pub mod client;
pub mod dns;
pub mod doctor;
pub mod identity;
pub mod init;
pub mod invite;
pub mod mailbox;
mod owner;
pub mod peer;
pub mod place;
pub mod queue;
pub mod reload;
pub mod serve;
mod show;
pub mod status;
pub mod store;
pub mod why;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use postrider_common::Domain;

use client::ClientCommand;
use dns::DnsArgs;
use doctor::DoctorArgs;
use identity::IdentityCommand;
use invite::InviteCommand;
use mailbox::MailboxCommand;
use peer::PeerCommand;
use queue::{AskArgs, QueueCommand};
use store::StoreCommand;
use why::WhyArgs;

use crate::exit::Exit;

/// A relay for end-to-end encrypted messages.
///
/// An organisation runs it for its own people. It keeps messages until their devices have fetched them, and hands those
/// for other organisations to their relays.
///
/// To set one up: `postrider init`, publish the DNS record that it prints, `postrider serve`.
#[derive(Debug, Parser)]
#[command(name = "postrider", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a configuration file and this relay's identity.
    ///
    /// Makes a directory with `postrider.toml`, in which every key is explained, and `data/`, which holds the
    /// relay's identity: the key that proves its domain to other relays. Nothing that exists is overwritten, and when
    /// something fails, nothing is left behind.
    Init(InitArgs),
    /// Run the relay.
    ///
    /// It stays in the foreground, logs to standard error, and stops in order on SIGTERM or SIGINT. A mistake in the
    /// configuration is reported before anything is opened.
    Serve(ServeArgs),
    /// Say whether a configuration file is good.
    ///
    /// Reads the file and those that it names, as `serve` would, and starts nothing. Prints a summary, or every
    /// problem on a line of its own (exit code 78). Run it as the user that the relay runs as, who has to be able to
    /// read the private keys.
    CheckConfig(CheckConfigArgs),
    /// Show how a running relay is, at a glance.
    ///
    /// Whether it takes envelopes, how much waits, which relays fail and why, how full the disk is, what is connected, and how
    /// many days certificates have left. Exit code 0 if it takes envelopes, 69 if it does not or no relay runs there.
    Status(AskArgs),
    /// Say whether an envelope would reach another relay, and if not, why.
    ///
    /// Walks the whole way, as a delivery would, and prints each step: policy, DNS, connection, TLS, certificate, trust, what
    /// the other relay sees of this one, clocks and versions. It sends no envelope, and needs no running relay. Exit code 0
    /// only when an envelope would go through, 69 otherwise.
    Doctor(DoctorArgs),
    /// Print the DNS records that this relay needs, as lines of a zone.
    Dns(DnsArgs),
    /// Look at this relay's identity, tell it to others, change its key.
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Look at the peers, and exchange with another administrator what both relays need.
    ///
    /// A peering takes two administrators: each runs `peer export`, hands what it prints to the other over a channel that
    /// both trust, and runs `peer import` with what the other has handed over.
    #[command(subcommand)]
    Peer(PeerCommand),
    /// Have a running relay read its configuration again.
    ///
    /// The policy, the peers and the certificates count at once, for open connections too. Everything else counts from
    /// the next start. If anything is wrong with the file, nothing changes, and every problem is told. SIGHUP does the
    /// same and tells it in the log.
    Reload(AskArgs),
    /// Let people register a mailbox at a running relay, by links to hand out.
    #[command(subcommand)]
    Invite(InviteCommand),
    /// Look after the mailboxes of a running relay, without seeing what is in them.
    #[command(subcommand)]
    Mailbox(MailboxCommand),
    /// Look into the queue of a running relay, and steer it.
    ///
    /// Envelopes for other relays wait in it, for each destination by itself. These commands ask the relay over the socket
    /// in its data directory: run them as the user that it runs as, or as root.
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Tell why an envelope is where it is.
    ///
    /// Asks the running relay that it was handed in at for everything that was met on its way: when, what, and at whose
    /// end it is mended. The tracking id is what the sender's app was given.
    Why(WhyArgs),
    /// Look after the store of a relay that is stopped: check it, back it up, move it.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Use a relay: make keys, send, receive.
    ///
    /// For trying a relay out and for scripts. Messages are encrypted with the client library's reference scheme.
    #[command(subcommand)]
    Client(Box<ClientCommand>),
}

/// For `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The DNS name that identifies the relay: the part after the `@` of its addresses.
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Domain,
    /// The directory to make. An existing one is used if it has neither `postrider.toml` nor `data` in it.
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// The address and port to listen on [default: `[::]:443`, every address].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
}

/// For `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
}

/// For `check-config`.
#[derive(Debug, Args)]
pub struct CheckConfigArgs {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 64 wrong command line, 65 wrong input, 69 something needed is not there, \
70 fault in the program, 73 cannot create a file, 74 reading or writing failed, 75 failed for now, 77 not permitted, \
78 wrong configuration. One sentence on standard error says why.";

impl Cli {
    /// Understands a command line, the program's name first. Otherwise says what is wrong with it, or shows the
    /// help or the version that was asked for, and gives the code to exit with.
    pub fn understand(
        arguments: impl IntoIterator<Item = OsString>,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<Self, Exit> {
        Self::try_parse_from(arguments).map_err(|error| {
            let text = error.render();
            // Where nobody reads, there is nobody to tell about it either.
            if error.use_stderr() {
                let _ = write!(err, "{text}");
                Exit::Usage
            } else {
                let _ = write!(out, "{text}");
                Exit::Ok
            }
        })
    }
}

/// Carries a command out. What goes wrong is one sentence on standard error, or one line for each problem.
pub fn run(command: Command) -> Exit {
    // Not locked: what runs below writes to both from its own threads.
    let mut out = io::stdout();
    let failed = |error: &dyn std::error::Error, exit| {
        let _ = writeln!(io::stderr(), "postrider: {error}");
        exit
    };
    match command {
        Command::Init(args) => match init::run(&args, init::generate, &mut out) {
            Ok(()) => Exit::Ok,
            Err(error) => failed(&error, error.exit()),
        },
        Command::Serve(args) => match serve::run(&args) {
            Ok(()) => Exit::Ok,
            Err(error) => failed(&error, error.exit()),
        },
        Command::CheckConfig(args) => match check_config::run(&args, &mut out) {
            Ok(()) => Exit::Ok,
            Err(error) => failed(&error, error.exit()),
        },
        Command::Doctor(args) => match doctor::run(&args, &mut out) {
            Ok(()) => Exit::Ok,
            Err(error) => failed(&error, error.exit()),
        },
        Command::Status(args) => match status::run(&args, &mut out) {
            Ok(()) => Exit::Ok,
            Err(error) => failed(&error, error.exit()),
        },
        Command::Dns(args) => match dns::run(&args, &mut out) {
            Ok(()) => Exit::Ok,
            Err(error) => failed(&error, error.exit()),
        },
        Command::Identity(command) => match identity::run(&command, &mut out) {
            Ok(()) => Exit::Ok,
            Err(error) => failed(&error, error.exit()),
        },
        Command::Peer(command) => match peer::run(&command, &mut io::stdin(), &mut out) {
            Ok(()) => Exit::Ok,
            Err(error) => failed(&error, error.exit()),
        },
        Command::Reload(args) => match reload::run(&args, &mut out) {
            Ok(()) => Exit::Ok,
            Err(error) => failed(&error, error.exit()),
        },
        Command::Invite(command) => match invite::run(&command, &mut out) {
            Ok(()) => Exit::Ok,
            Err(error) => failed(&error, error.exit()),
        },
        Command::Mailbox(command) => match mailbox::run(&command, &mut out) {
            Ok(()) => Exit::Ok,
            Err(error) => failed(&error, error.exit()),
        },
        Command::Queue(command) => match queue::run(&command, &mut out) {
            Ok(()) => Exit::Ok,
            Err(error) => failed(&error, error.exit()),
        },
        Command::Why(args) => match why::run(&args, &mut out) {
            Ok(()) => Exit::Ok,
            Err(error) => failed(&error, error.exit()),
        },
        Command::Store(command) => match store::run(&command, &mut io::stdin(), &mut out) {
            Ok(()) => Exit::Ok,
            Err(error) => failed(&error, error.exit()),
        },
        Command::Client(command) => match client::run_to_end(*command, &mut io::stdin(), &mut out) {
            Ok(()) => Exit::Ok,
            Err(error) => failed(&error, error.exit()),
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn understand(line: &str) -> (Result<Cli, Exit>, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let cli = Cli::understand(line.split(' ').map(OsString::from), &mut out, &mut err);
        (cli, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_are_understood() {
        let (cli, ..) = understand("postrider init --domain a.example --dir /srv/relay --listen [::1]:8443");
        let Command::Init(init) = cli.unwrap().command else { panic!("init") };
        assert_eq!((init.domain.as_str(), init.dir), ("a.example", PathBuf::from("/srv/relay")));
        assert_eq!(init.listen, Some("[::1]:8443".parse().unwrap()));
        let (cli, ..) = understand("postrider serve -c relay.toml");
        assert!(matches!(cli.unwrap().command, Command::Serve(args) if *args.config == *"relay.toml"));
        let (cli, ..) = understand("postrider check-config --config relay.toml");
        assert!(matches!(cli.unwrap().command, Command::CheckConfig(_)));
    }

    #[test]
    fn a_wrong_command_line_is_said_on_stderr_and_help_on_stdout() {
        for line in [
            "postrider",
            "postrider srve",
            "postrider serve",
            "postrider init --dir x --domain Example.org",
            "postrider init --dir x --domain a.example --listen localhost:443",
        ] {
            let (cli, out, err) = understand(line);
            assert_eq!((cli.unwrap_err(), out.as_str()), (Exit::Usage, ""), "{line}");
            assert!(!err.is_empty(), "{line}");
        }
        assert!(understand("postrider init --dir x --domain Example.org").2.contains("lower case"));
        for (line, expected) in [
            ("postrider --help", "Exit codes: 0 done, 64"),
            ("postrider help init", "Nothing that exists is overwritten"),
            ("postrider --version", env!("CARGO_PKG_VERSION")),
        ] {
            let (cli, out, err) = understand(line);
            assert_eq!((cli.unwrap_err(), err.as_str()), (Exit::Ok, ""), "{line}");
            assert!(out.replace('\n', " ").contains(expected), "{line}: {out}");
        }
    }
}
