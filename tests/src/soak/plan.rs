//! What breaks when: decided by the seed before anything starts.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{Options, USERS};
use crate::dice::Dice;
use crate::dns::Trouble;
use crate::link::Condition;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Since the beginning.
    pub(super) at: Duration,
    /// How long it stays broken.
    pub(super) lasts: Duration,
    pub(super) fault: Fault,
}

/// What is broken. Relays are numbered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// A relay is killed, and started again at the end.
    Kill(usize),
    /// The way from one relay to another is not as it should be.
    Link { from: usize, to: usize, condition: Condition },
    /// The way from clients to a relay is not.
    Door { relay: usize, condition: Condition },
    /// A relay's DNS says so to every question.
    Dns { relay: usize, trouble: Trouble },
    /// A user's mailbox is closed, and opened again at the end.
    Suspension(usize),
    /// A user's mailbox moves so many relays further. Nothing should break.
    Move { user: usize, by: usize },
    /// A relay's key is changed: announced at the beginning, used from the end on. Nothing should break.
    Rotation(usize),
}

/// All faults, in the order of their beginnings.
pub(super) fn plan(options: &Options, dice: &mut Dice) -> Vec<Event> {
    // The beginning shows that everything works, and faults end before the load does.
    let margin = options.duration.mul_f64(0.05);
    let span = options.duration.mul_f64(0.8);
    let longest = span.div_f64(4.0).min(Duration::from_secs(4));
    let longest = usize::try_from(longest.as_millis()).unwrap_or(usize::MAX).max(100);
    let mut events: Vec<Event> = Vec::new();
    let (kills, cuts) = (options.kills, options.kills + options.cuts);
    let rotations = cuts + options.rotations;
    let suspensions = rotations + options.suspensions;
    // A relay that is alone has no other that a mailbox could move to.
    let moves = if options.relays > 1 { options.moves } else { 0 };
    for number in 0..suspensions + moves {
        let (at, lasts) = (margin + dice.part_of(span), dice.millis(50, longest));
        let fault = match number {
            _ if number < kills => Fault::Kill(dice.below(options.relays)),
            _ if number < cuts => cut(options.relays, dice),
            _ if number < rotations => Fault::Rotation(dice.below(options.relays)),
            _ if number < suspensions => Fault::Suspension(dice.below(options.relays * USERS)),
            _ => moving(options.relays, dice),
        };
        events.push(Event { at, lasts, fault });
    }
    events.sort_by_key(|event| event.at);
    events
}

/// The first user of each relay stays, so that there is somebody whom any relay can write to there.
fn moving(relays: usize, dice: &mut Dice) -> Fault {
    let user = dice.below(relays) * USERS + dice.between(1, USERS - 1);
    Fault::Move { user, by: dice.between(1, relays - 1) }
}

fn cut(relays: usize, dice: &mut Dice) -> Fault {
    let relay = dice.below(relays);
    if dice.once_in(6) {
        let trouble = if dice.once_in(2) { Trouble::ServFail } else { Trouble::Silence };
        return Fault::Dns { relay, trouble };
    }
    let condition = condition(dice);
    // A relay that is alone has only a door.
    if relays < 2 || dice.once_in(3) {
        return Fault::Door { relay, condition };
    }
    let to = (relay + dice.between(1, relays - 1)) % relays;
    Fault::Link { from: relay, to, condition }
}

fn condition(dice: &mut Dice) -> Condition {
    match dice.below(6) {
        0 | 1 => Condition::Cut,
        2 => Condition::DropRequests,
        3 => Condition::DropResponses,
        4 => Condition::DropAll,
        _ => {
            let rate = u32::try_from(dice.between(10_000, 200_000)).unwrap_or(u32::MAX);
            Condition::Slow { delay: dice.millis(5, 200), bytes_per_second: NonZeroU32::new(rate) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(seed: u64) -> Options {
        let duration = Duration::from_secs(100);
        let (kills, cuts, rotations, suspensions, moves) = (40, 60, 20, 10, 15);
        Options { relays: 3, senders: 1, duration, kills, cuts, rotations, suspensions, moves, seed }
    }

    #[test]
    fn the_seed_decides_what_breaks() {
        let planned = |seed| plan(&options(seed), &mut Dice::new(seed));
        assert_eq!(planned(1), planned(1));
        assert_ne!(planned(1), planned(2));
    }

    #[test]
    fn there_is_as_much_of_everything_as_was_asked_for() {
        let events = plan(&options(1), &mut Dice::new(1));
        let kills = events.iter().filter(|event| matches!(event.fault, Fault::Kill(0..3))).count();
        let rotations = events.iter().filter(|event| matches!(event.fault, Fault::Rotation(0..3))).count();
        let is_suspension = |event: &&Event| matches!(event.fault, Fault::Suspension(0..12));
        let suspensions = events.iter().filter(is_suspension).count();
        let moves: Vec<_> = events.iter().filter(|event| matches!(event.fault, Fault::Move { .. })).collect();
        assert_eq!((kills, rotations, suspensions, moves.len(), events.len()), (40, 20, 10, 15, 145));
        for event in moves {
            let Fault::Move { user, by } = event.fault else { continue };
            assert!(user < 12 && user % USERS != 0 && (1..3).contains(&by), "{event:?}");
        }
        let alone = Options { relays: 1, ..options(1) };
        let moves = plan(&alone, &mut Dice::new(1));
        assert!(!moves.iter().any(|event| matches!(event.fault, Fault::Move { .. })));
        for event in &events {
            let Fault::Link { from, to, .. } = event.fault else { continue };
            assert!(from != to && from < 3 && to < 3, "{event:?}");
        }
        let is_dns = |event: &&Event| matches!(event.fault, Fault::Dns { relay: 0..3, .. });
        assert!((3..20).contains(&events.iter().filter(is_dns).count()), "{events:?}");
        let within = |event: &Event| event.at + event.lasts < options(1).duration;
        assert!(events.iter().all(within));
        assert!(events.is_sorted_by_key(|event| event.at));
    }
}
