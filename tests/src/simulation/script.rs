//! What happens in a run, as data: a list of operations that a seed makes, that can be shortened, and that can be
//! written down as Rust.

use std::fmt;

use postrider::store::simulated::Step;

/// The most relays in a script.
pub const RELAYS: u8 = 5;
/// Mailboxes at each relay: number `m` is kept at relay `m / MAILBOXES`.
pub const MAILBOXES: u8 = 2;
/// Devices that a mailbox may get.
pub const DEVICES: u8 = 2;
/// Chunks of an attachment.
pub const CHUNKS: usize = 3;
/// For how many seconds an envelope lives that is not meant to expire: longer than any run.
pub const LONG: u32 = 5 * 86_400;

/// Relays, and what is done to them, one after the other. Where time is to pass, an operation says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// How many relays there are.
    pub relays: u8,
    /// What happens.
    pub ops: Vec<Op>,
}

/// One thing that happens. Relays, mailboxes and devices are numbers; what names one that there is not, or a relay that
/// is down, or one that is up and would be started, does nothing, so that a script stays one when parts of it are
/// taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A client submits a batch at a relay. It does not wait for the answer before the next operation.
    Submit {
        /// The relay.
        at: u8,
        /// The batch.
        letters: Vec<Letter>,
    },
    /// The clients that wait for an answer of a relay's go away.
    HangUp {
        /// The relay.
        at: u8,
    },
    /// A device registers, and with it its mailbox.
    Register {
        /// The mailbox.
        mailbox: u8,
        /// The device.
        device: u8,
    },
    /// A device is removed from its mailbox, which stays where there is none any more.
    RemoveDevice {
        /// The mailbox.
        mailbox: u8,
        /// The device.
        device: u8,
    },
    /// The administrator of its relay closes a mailbox.
    Suspend {
        /// The mailbox.
        mailbox: u8,
    },
    /// And opens it again.
    Resume {
        /// The mailbox.
        mailbox: u8,
    },
    /// A client makes room for a letter's attachment at a relay, and brings some of its chunks. Nothing happens once the
    /// letter may have been taken.
    Bring {
        /// The letter's number.
        number: u16,
        /// The relay.
        at: u8,
        /// Which chunks.
        chunks: [bool; CHUNKS],
    },
    /// The mailbox is deleted.
    Unregister {
        /// The mailbox.
        mailbox: u8,
    },
    /// The mailbox's owner moves it to another relay, with all its devices, or goes on with a move that was interrupted. It
    /// is not begun while a registration or a deletion of the mailbox may be under way, nor after a deletion.
    Move {
        /// The mailbox.
        mailbox: u8,
        /// The relay.
        to: u8,
    },
    /// A device connects, and comes back by itself after its relay was down.
    Connect {
        /// The mailbox.
        mailbox: u8,
        /// The device.
        device: u8,
        /// By long polls, and not by a stream.
        polls: bool,
        /// Whether it acknowledges what it gets; otherwise it dies before it does.
        acknowledges: bool,
    },
    /// A device goes away.
    Disconnect {
        /// The mailbox.
        mailbox: u8,
        /// The device.
        device: u8,
    },
    /// A device asks once for what there is, and no more.
    Look {
        /// The mailbox.
        mailbox: u8,
        /// The device.
        device: u8,
    },
    /// A device acknowledges all that it has.
    Acknowledge {
        /// The mailbox.
        mailbox: u8,
        /// The device.
        device: u8,
    },
    /// A relay's process dies and its disk loses what was not flushed: at once, or when its store's writer reaches a
    /// step for the given time.
    Crash {
        /// The relay.
        relay: u8,
        /// The step and the time, if not at once.
        at: Option<(Step, u8)>,
    },
    /// A relay is told to stop, and drains.
    Stop {
        /// The relay.
        relay: u8,
    },
    /// A relay that is down is started.
    Restart {
        /// The relay.
        relay: u8,
    },
    /// Nothing gets from one relay to another, nor back.
    Cut {
        /// Who calls.
        from: u8,
        /// Who is called.
        to: u8,
    },
    /// What one relay sends to another gets there again, and in the usual time.
    Heal {
        /// Who calls.
        from: u8,
        /// Who is called.
        to: u8,
    },
    /// Requests and answers take so much longer.
    Delay {
        /// Who calls.
        from: u8,
        /// Who is called.
        to: u8,
        /// For each way.
        millis: u32,
    },
    /// The next request is lost.
    LoseRequest {
        /// Who calls.
        from: u8,
        /// Who is called.
        to: u8,
    },
    /// The answer to the next request is lost.
    LoseAnswer {
        /// Who calls.
        from: u8,
        /// Who is called.
        to: u8,
    },
    /// The next request arrives a second time, some time later.
    Repeat {
        /// Who calls.
        from: u8,
        /// Who is called.
        to: u8,
    },
    /// Time passes, everywhere.
    Pass {
        /// How much.
        millis: u32,
    },
    /// Somebody sets a relay's clock.
    SetClock {
        /// The relay.
        relay: u8,
        /// Forward, or back.
        seconds: i32,
    },
}

/// An envelope to be submitted. The same number always comes with the same fields: then it is the same envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Letter {
    /// Its number in the script.
    pub number: u16,
    /// The mailbox that it is for,
    pub mailbox: u8,
    /// and the device, if it is for one only.
    pub device: Option<u8>,
    /// When its time is over, in seconds since the beginning.
    pub expires: u32,
    /// For devices that are connected at that moment only.
    pub ephemeral: bool,
    /// The relay that its attachment is brought to, if it has one. It is submitted to no other.
    pub attachment: Option<u8>,
}

/// How large scripts are.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// The most relays.
    pub relays: u8,
    /// The most operations after the mailboxes are registered.
    pub ops: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { relays: RELAYS, ops: 60 }
    }
}

/// As it stands in `tests/tests/simulation/reproductions.rs`.
impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Script {{")?;
        writeln!(f, "    relays: {},", self.relays)?;
        writeln!(f, "    ops: vec![")?;
        for op in &self.ops {
            match op {
                Op::Submit { at, letters } => {
                    writeln!(f, "        Op::Submit {{ at: {at}, letters: vec!{letters:?} }},")?;
                }
                Op::Crash { relay, at: Some((step, time)) } => {
                    writeln!(
                        f,
                        "        Op::Crash {{ relay: {relay}, at: Some((Step::{step:?}, {time})) }},"
                    )?;
                }
                other => writeln!(f, "        Op::{other:?},")?,
            }
        }
        writeln!(f, "    ],")?;
        write!(f, "}}")
    }
}
