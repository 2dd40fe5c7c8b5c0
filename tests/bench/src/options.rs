//! What is to be measured.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use postrider_tests::abuse::Kind;

/// What is done to the relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// One relay: submit, store, push, acknowledge, as fast as it goes
    Local,
    /// The same from one relay to another
    Federated,
    /// Recipients are offline while envelopes are stored; then they connect and take them
    Backlog,
    /// The relay is killed while recipients are offline, starts again, and the recipients take what it has
    Reopen,
    /// One destination is down while envelopes for it queue up, then it comes back; another one is healthy
    Outage,
    /// From one relay to another, one envelope at a time
    Latency,
    /// Devices that are connected and get nothing
    Idle,
    /// A good client beside abusive connections, kind by kind
    Abuse,
    /// One large attachment, from a client to one relay, to another, and to the recipient
    Attachments,
}

impl Scenario {
    /// As on the command line and in a report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Federated => "federated",
            Self::Backlog => "backlog",
            Self::Reopen => "reopen",
            Self::Outage => "outage",
            Self::Latency => "latency",
            Self::Idle => "idle",
            Self::Attachments => "attachments",
            Self::Abuse => "abuse",
        }
    }
}

/// How a scenario is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Which one.
    pub scenario: Scenario,
    /// The `postrider` binary that is measured.
    pub binary: PathBuf,
    /// Where the relays keep their data: a new directory in this one, which is removed at the end.
    pub directory: PathBuf,
    /// How long is measured, in the scenarios that go by time.
    pub duration: Duration,
    /// How long the load runs before that.
    pub warm_up: Duration,
    /// Ends the load after so many envelopes, if they come before the time is over. They are counted from the
    /// beginning, so that there is no warm-up. In `backlog`, `reopen` and `outage`, how many are
    /// stored or queued.
    pub envelopes: Option<u64>,
    /// Bytes of an envelope's body.
    pub size: usize,
    /// Clients that submit, each over one connection.
    pub senders: usize,
    /// Mailboxes, each with one device.
    pub recipients: usize,
    /// Envelopes in one submission.
    pub batch: usize,
    /// How many envelopes of one sender may be under way, from the submission until the recipient has acknowledged.
    pub window: usize,
    /// How large the attachment is.
    pub attachment_mib: u64,
    /// Which kind of abuse: all of them, if none is said.
    pub kind: Option<Kind>,
    /// How many abusive connections there are at a time.
    pub connections: usize,
    /// How long `backlog` waits before it looks at the disk for the second time.
    pub settle: Duration,
}
