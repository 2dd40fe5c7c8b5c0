//! What happens in a run, as data: a list of operations that a seed makes, that can be shortened, and that can be
//! written down as Rust.

use std::fmt;

use postrider::store::simulated::Step;

use crate::dice::Dice;

/// The most relays in a script.
pub const RELAYS: u8 = 5;
/// Mailboxes at each relay: number `m` is kept at relay `m / MAILBOXES`.
pub const MAILBOXES: u8 = 2;
/// Devices that a mailbox may get.
pub const DEVICES: u8 = 2;
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

impl Script {
    /// The script of a seed.
    pub fn generate(seed: u64, shape: Shape) -> Self {
        let mut dice = Dice::new(seed);
        let relays = small(&mut dice, 1, usize::from(shape.relays.clamp(1, RELAYS)));
        let mut writer = Writer { dice, relays, seconds: 0, letters: Vec::new(), next: Vec::new() };
        let mut ops = writer.beginning();
        for _ in 0..writer.dice.between(shape.ops / 4, shape.ops) {
            ops.push(writer.op());
        }
        Self { relays, ops }
    }
}

struct Writer {
    dice: Dice,
    relays: u8,
    /// How much time has passed so far.
    seconds: u32,
    letters: Vec<Letter>,
    /// What has been decided already, the last one first.
    next: Vec<Op>,
}

impl Writer {
    /// Most mailboxes are registered, and some of their devices connected.
    fn beginning(&mut self) -> Vec<Op> {
        let mut ops = Vec::new();
        for mailbox in 0..self.relays * MAILBOXES {
            for device in 0..DEVICES {
                if !self.dice.once_in(4) {
                    ops.push(Op::Register { mailbox, device });
                    if self.dice.once_in(2) {
                        ops.push(self.connect(mailbox, device));
                    }
                }
            }
        }
        ops.push(Op::Pass { millis: 500 });
        ops
    }

    fn op(&mut self) -> Op {
        if let Some(next) = self.next.pop() {
            return next;
        }
        let (from, to) = self.way();
        let (mailbox, device) = (self.mailbox(), self.device());
        let relay = self.relay();
        match self.dice.below(104) {
            0..=20 => self.submit(),
            21 => Op::HangUp { at: relay },
            22..=42 => self.pass(),
            43..=46 => Op::Look { mailbox, device },
            47..=51 => self.connect(mailbox, device),
            52..=54 => Op::Disconnect { mailbox, device },
            55..=58 => Op::Acknowledge { mailbox, device },
            59..=65 => Op::Crash { relay, at: self.moment() },
            66 => Op::Stop { relay },
            67..=72 => Op::Restart { relay },
            73..=75 => Op::Cut { from, to },
            76..=79 => Op::Heal { from, to },
            80..=82 => self.delay(from, to),
            83..=86 => Op::LoseRequest { from, to },
            87..=90 => Op::LoseAnswer { from, to },
            91..=94 => Op::Repeat { from, to },
            95..=96 => self.set_clock(relay),
            97 => Op::Register { mailbox, device },
            98..=99 => self.unregister(mailbox, device),
            _ => self.move_mailbox(mailbox, device, to),
        }
    }

    fn submit(&mut self) -> Op {
        let at = self.relay();
        let mailbox = self.mailbox();
        let mut letters: Vec<Letter> = Vec::new();
        for _ in 0..self.dice.between(1, 5) {
            // Many for one mailbox, some for others, and some once more.
            let mailbox = if self.dice.once_in(3) { self.mailbox() } else { mailbox };
            let letter = if !self.letters.is_empty() && self.dice.once_in(4) {
                self.letters[self.dice.below(self.letters.len())]
            } else {
                self.letter(mailbox)
            };
            if !letters.contains(&letter) {
                letters.push(letter);
            }
        }
        Op::Submit { at, letters }
    }

    fn letter(&mut self, mailbox: u8) -> Letter {
        let lives = match self.dice.below(10) {
            0 => self.number(2, 90),
            1 => self.number(120, 3600),
            _ => LONG,
        };
        let letter = Letter {
            number: u16::try_from(self.letters.len()).unwrap_or(u16::MAX),
            mailbox,
            device: self.dice.once_in(6).then(|| self.device()),
            expires: if lives == LONG { LONG } else { self.seconds + lives },
            ephemeral: self.dice.once_in(12),
        };
        self.letters.push(letter);
        letter
    }

    fn pass(&mut self) -> Op {
        let millis = match self.dice.below(40) {
            0..=19 => self.number(0, 60),
            20..=29 => self.number(60, 5_000),
            30..=37 => self.number(5_000, 300_000),
            _ => self.number(300_000, 5_400_000),
        };
        self.seconds += millis / 1000;
        Op::Pass { millis }
    }

    fn connect(&mut self, mailbox: u8, device: u8) -> Op {
        let (polls, acknowledges) = (self.dice.once_in(4), !self.dice.once_in(4));
        Op::Connect { mailbox, device, polls, acknowledges }
    }

    /// Most mailboxes that are deleted come back some time.
    fn unregister(&mut self, mailbox: u8, device: u8) -> Op {
        if !self.dice.once_in(3) {
            self.next = vec![self.connect(mailbox, device), self.pass(), Op::Register { mailbox, device }];
            if self.dice.once_in(2) {
                let pause = self.pass();
                self.next.push(pause);
            }
        }
        Op::Unregister { mailbox }
    }

    /// Most devices follow their mailbox soon, and some mailboxes move again at once.
    fn move_mailbox(&mut self, mailbox: u8, device: u8, to: u8) -> Op {
        self.next = vec![self.connect(mailbox, device), self.pass()];
        if self.dice.once_in(3) {
            let again = Op::Move { mailbox, to: self.relay() };
            let (pause, letters) = (self.pass(), self.submit());
            self.next.extend([again, pause, letters]);
        }
        Op::Move { mailbox, to }
    }

    fn moment(&mut self) -> Option<(Step, u8)> {
        let step = match self.dice.below(4) {
            0 => return None,
            1 => Step::Taken,
            2 => Step::Written,
            _ => Step::Flushed,
        };
        Some((step, small(&mut self.dice, 1, 4)))
    }

    fn delay(&mut self, from: u8, to: u8) -> Op {
        let millis = if self.dice.once_in(3) { self.number(5_000, 60_000) } else { self.number(10, 3_000) };
        Op::Delay { from, to, millis }
    }

    fn set_clock(&mut self, relay: u8) -> Op {
        let range = if self.dice.once_in(3) { 7200 } else { 60 };
        let seconds = i32::try_from(self.dice.below(2 * range)).unwrap_or_default();
        Op::SetClock { relay, seconds: seconds - i32::try_from(range).unwrap_or_default() }
    }

    fn way(&mut self) -> (u8, u8) {
        (self.relay(), self.relay())
    }

    fn relay(&mut self) -> u8 {
        small(&mut self.dice, 0, usize::from(self.relays) - 1)
    }

    fn mailbox(&mut self) -> u8 {
        small(&mut self.dice, 0, usize::from(self.relays * MAILBOXES) - 1)
    }

    fn device(&mut self) -> u8 {
        small(&mut self.dice, 0, usize::from(DEVICES) - 1)
    }

    fn number(&mut self, low: usize, high: usize) -> u32 {
        u32::try_from(self.dice.between(low, high)).unwrap_or(u32::MAX)
    }
}

fn small(dice: &mut Dice, low: usize, high: usize) -> u8 {
    u8::try_from(dice.between(low, high)).unwrap_or(u8::MAX)
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
