//! Makes a script of a seed.

use postrider::store::simulated::Step;

use super::script::{CHUNKS, DEVICES, LONG, Letter, MAILBOXES, Op, RELAYS, Script, Shape};
use crate::dice::Dice;

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
        match self.dice.below(114) {
            0..=20 => self.bring_and_submit(),
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
            100..=103 => self.move_mailbox(mailbox, device, to),
            104..=108 => self.remove_device(mailbox, device),
            _ => self.suspend(mailbox, device),
        }
    }

    fn submit(&mut self) -> Op {
        let mailbox = self.mailbox();
        self.submit_to(mailbox)
    }

    /// Half of what is for a mailbox of which something else is told is submitted to its own relay.
    fn submit_to(&mut self, mailbox: u8) -> Op {
        let at = if self.dice.once_in(2) { self.relay() } else { mailbox / MAILBOXES };
        let mut letters: Vec<Letter> = Vec::new();
        for _ in 0..self.dice.between(1, 5) {
            // Many for one mailbox, some for others, and some once more.
            let mailbox = if self.dice.once_in(3) { self.mailbox() } else { mailbox };
            let letter = if !self.letters.is_empty() && self.dice.once_in(4) {
                self.letters[self.dice.below(self.letters.len())]
            } else {
                self.letter(mailbox, at)
            };
            if !letters.contains(&letter) {
                letters.push(letter);
            }
        }
        Op::Submit { at, letters }
    }

    /// What is laden is brought first: mostly all of it, and mostly at once.
    fn bring_and_submit(&mut self) -> Op {
        let submit = self.submit();
        let Op::Submit { at, letters } = &submit else { return submit };
        let at = *at;
        let laden = letters.iter().filter(|letter| letter.attachment == Some(at));
        let laden: Vec<_> = laden.map(|letter| letter.number).collect();
        if laden.is_empty() {
            return submit;
        }
        self.next = vec![submit, self.pass()];
        for number in laden {
            let mut chunks = [true; CHUNKS];
            if self.dice.once_in(4) {
                chunks = chunks.map(|_| self.dice.once_in(2));
                if !self.dice.once_in(3) {
                    let pause = self.pass();
                    self.next
                        .extend([Op::Bring { number, at, chunks: chunks.map(|is_first| !is_first) }, pause]);
                }
            }
            self.next.push(Op::Bring { number, at, chunks });
        }
        self.next.pop().unwrap_or(Op::Pass { millis: 0 })
    }

    fn letter(&mut self, mailbox: u8, at: u8) -> Letter {
        let lives = match self.dice.below(10) {
            0 => self.number(2, 90),
            1 => self.number(120, 3600),
            _ => LONG,
        };
        let ephemeral = self.dice.once_in(12);
        let letter = Letter {
            number: u16::try_from(self.letters.len()).unwrap_or(u16::MAX),
            mailbox,
            device: self.dice.once_in(6).then(|| self.device()),
            expires: if lives == LONG { LONG } else { self.seconds + lives },
            ephemeral,
            attachment: (!ephemeral && self.dice.once_in(8)).then_some(at),
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

    /// Most that are removed come back, or another one does, and something comes meanwhile.
    fn remove_device(&mut self, mailbox: u8, device: u8) -> Op {
        if !self.dice.once_in(3) {
            let next = self.device();
            self.next =
                vec![self.connect(mailbox, next), self.pass(), Op::Register { mailbox, device: next }];
            let (later, letters, soon) = (self.pass(), self.submit_to(mailbox), self.pass());
            self.next.extend([later, letters, soon]);
        }
        Op::RemoveDevice { mailbox, device }
    }

    /// Most mailboxes that are closed are opened again, and something comes meanwhile.
    fn suspend(&mut self, mailbox: u8, device: u8) -> Op {
        if !self.dice.once_in(3) {
            self.next = vec![self.connect(mailbox, device), self.pass(), Op::Resume { mailbox }];
            let (later, letters, soon) = (self.pass(), self.submit_to(mailbox), self.pass());
            self.next.extend([later, letters, soon]);
        }
        Op::Suspend { mailbox }
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
