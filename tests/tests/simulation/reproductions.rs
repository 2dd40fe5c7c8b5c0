//! Scripts that have failed once, as short as they got. Whatever they found is mended, in the relay or in what was
//! asked of it, or is a rule that is broken on purpose, and they must go on finding that.

use postrider_tests::simulation::{Fault, LONG, Letter, Op, Script, Step, run};

fn letter(number: u16, mailbox: u8) -> Letter {
    Letter { number, mailbox, device: None, expires: LONG, ephemeral: false, attachment: None }
}

fn for_device(number: u16, mailbox: u8) -> Letter {
    Letter { device: Some(1), ..letter(number, mailbox) }
}

fn laden(number: u16, mailbox: u8, at: u8) -> Letter {
    Letter { attachment: Some(at), ..letter(number, mailbox) }
}

fn finds(seed: u64, script: &Script, fault: Fault, what: &str) {
    let broken = run(seed, script, Some(fault), true);
    assert!(broken.violations.iter().any(|violation| violation.contains(what)), "{broken:#?}");
    let whole = run(seed, script, None, true);
    assert_eq!(whole.violations, [] as [&str; 0], "{:#?}", whole.trace);
}

fn holds(seed: u64, script: &Script) {
    let run = run(seed, script, None, true);
    assert_eq!(run.violations, [] as [&str; 0], "{:#?}", run.trace);
}

/// What has expired in the queue and is submitted again is queued behind what has come meanwhile.
#[test]
fn what_is_queued_again_has_a_new_place() {
    let soon = Letter { expires: 27, ..letter(1, 1) };
    let script = Script {
        relays: 2,
        ops: vec![
            Op::Crash { relay: 1, at: Some((Step::Written, 2)) },
            Op::Submit { at: 1, letters: vec![soon] },
            Op::Pass { millis: 32_694 },
            Op::Restart { relay: 1 },
            Op::Pass { millis: 29 },
            Op::SetClock { relay: 1, seconds: -6 },
            Op::Submit { at: 1, letters: vec![Letter { device: Some(1), ..letter(21, 0) }, soon] },
        ],
    };
    holds(91_214, &script);
}

/// An acknowledgement was durable when the relay died, and was not answered.
#[test]
fn an_acknowledgement_without_an_answer_may_have_been_carried_out() {
    let script = Script {
        relays: 2,
        ops: vec![
            Op::Register { mailbox: 2, device: 1 },
            Op::Pass { millis: 25 },
            Op::Connect { mailbox: 2, device: 1, polls: false, acknowledges: true },
            Op::Submit { at: 1, letters: vec![letter(11, 2)] },
            Op::Crash { relay: 1, at: Some((Step::Flushed, 2)) },
            Op::Pass { millis: 38 },
        ],
    };
    holds(163, &script);
}

/// The answer was there, the power went, the envelope was gone.
#[test]
fn an_answer_before_the_flush_loses_what_was_accepted() {
    let script = Script {
        relays: 1,
        ops: vec![
            Op::Register { mailbox: 1, device: 0 },
            Op::Pass { millis: 80_794 },
            Op::Submit { at: 0, letters: vec![letter(2, 1)] },
            Op::Crash { relay: 0, at: Some((Step::Written, 1)) },
            Op::Pass { millis: 100 },
        ],
    };
    finds(1, &script, Fault::AnswerBeforeFlush, "is lost");
}

/// Submitted twice, stored twice.
#[test]
fn a_forgotten_mark_lets_an_envelope_arrive_twice() {
    let script = Script {
        relays: 1,
        ops: vec![
            Op::Register { mailbox: 1, device: 1 },
            Op::Submit { at: 0, letters: vec![letter(3, 1)] },
            Op::Submit { at: 0, letters: vec![letter(3, 1)] },
        ],
    };
    finds(2, &script, Fault::ForgetMark, "has arrived twice");
}

/// The answer was lost, so the batch came again.
#[test]
fn a_forgotten_mark_lets_a_retried_batch_arrive_twice() {
    let script = Script {
        relays: 2,
        ops: vec![
            Op::Register { mailbox: 2, device: 0 },
            Op::Pass { millis: 500 },
            Op::LoseAnswer { from: 0, to: 1 },
            Op::Submit { at: 0, letters: vec![letter(0, 2)] },
            Op::Pass { millis: 120_000 },
        ],
    };
    finds(3, &script, Fault::ForgetMark, "has arrived twice");
}

/// Settled, while the request was lost.
#[test]
fn settling_before_the_answer_loses_what_did_not_arrive() {
    let script = Script {
        relays: 2,
        ops: vec![
            Op::Register { mailbox: 2, device: 0 },
            Op::Pass { millis: 500 },
            Op::LoseRequest { from: 0, to: 1 },
            Op::Submit { at: 0, letters: vec![letter(0, 2)] },
            Op::Pass { millis: 1000 },
        ],
    };
    finds(4, &script, Fault::SettleBeforeAnswer, "is lost");
}

/// The only device is removed, something comes, and the next device that comes does not get it.
#[test]
fn what_waits_for_a_first_device_is_missed() {
    let script = Script {
        relays: 1,
        ops: vec![
            Op::Register { mailbox: 0, device: 1 },
            Op::RemoveDevice { mailbox: 0, device: 1 },
            Op::Submit { at: 0, letters: vec![letter(7, 0)] },
        ],
    };
    finds(0, &script, Fault::LoseUnclaimed, "something is still on its way");
}

/// A second device is given what waits for the first one.
#[test]
fn a_further_device_that_does_not_begin_when_it_comes_is_noticed() {
    let script = Script {
        relays: 1,
        ops: vec![
            Op::Register { mailbox: 1, device: 0 },
            Op::Pass { millis: 1000 },
            Op::Submit { at: 0, letters: vec![letter(17, 1), letter(18, 1)] },
            Op::Pass { millis: 1000 },
            Op::Register { mailbox: 1, device: 1 },
            Op::Pass { millis: 1000 },
            Op::Look { mailbox: 1, device: 1 },
            Op::Pass { millis: 1000 },
        ],
    };
    finds(3, &script, Fault::GiveOld, "came before device 1 of 1 was there");
}

/// What waits for a device that is no more waits for ever.
#[test]
fn what_waits_for_a_removed_device_is_noticed() {
    let script = Script {
        relays: 1,
        ops: vec![
            Op::Register { mailbox: 0, device: 0 },
            Op::Submit { at: 0, letters: vec![letter(1, 0)] },
            Op::RemoveDevice { mailbox: 0, device: 0 },
        ],
    };
    finds(2, &script, Fault::KeepOfRemoved, "something is still on its way");
}

/// A closed mailbox takes what comes.
#[test]
fn a_mailbox_that_stays_open_is_noticed() {
    let script = Script {
        relays: 1,
        ops: vec![
            Op::Register { mailbox: 0, device: 0 },
            Op::Suspend { mailbox: 0 },
            Op::Pass { millis: 1000 },
            Op::Submit { at: 0, letters: vec![letter(5, 0)] },
        ],
    };
    finds(8, &script, Fault::StayOpen, "was stored while mailbox 0 was closed");
}

/// An envelope is taken with a third of its attachment.
#[test]
fn an_attachment_that_is_not_whole_is_noticed() {
    let script = Script {
        relays: 2,
        ops: vec![
            Op::Register { mailbox: 3, device: 1 },
            Op::Bring { number: 2, at: 1, chunks: [true, false, false] },
            Op::Pass { millis: 1000 },
            Op::Submit { at: 1, letters: vec![laden(2, 3, 1)] },
        ],
    };
    finds(9, &script, Fault::CountPartAsWhole, "was taken without chunk 1 of its attachment");
}

/// An attachment crosses to another relay, and stays there when its envelope is acknowledged.
#[test]
fn an_attachment_that_stays_behind_is_noticed() {
    let script = Script {
        relays: 2,
        ops: vec![
            Op::Register { mailbox: 3, device: 1 },
            Op::Bring { number: 7, at: 0, chunks: [true; 3] },
            Op::Pass { millis: 1000 },
            Op::Submit { at: 0, letters: vec![laden(7, 3, 0)] },
        ],
    };
    finds(3, &script, Fault::ForgetReference, "relay 1 never forgets");
}

/// The queue for the new relay is full when a mailbox moves: what it holds waits for room.
#[test]
fn what_a_mailbox_holds_waits_for_room_in_the_queue() {
    let script = Script {
        relays: 2,
        ops: vec![
            Op::Register { mailbox: 3, device: 1 },
            Op::Pass { millis: 1 },
            Op::Submit { at: 1, letters: vec![letter(0, 3), letter(1, 3), for_device(3, 3)] },
            Op::Submit { at: 0, letters: vec![for_device(9, 3), letter(10, 2), letter(11, 2)] },
            Op::Move { mailbox: 3, to: 0 },
        ],
    };
    holds(115, &script);
}

/// An envelope waits in a relay's queue for another, and in the mailbox that has moved from that other to this: the item
/// ended because of the entry, and the entry went because of the item.
#[test]
fn what_moves_relies_on_nothing_that_relies_on_it() {
    let script = Script {
        relays: 3,
        ops: vec![
            Op::Register { mailbox: 2, device: 1 },
            Op::Pass { millis: 2178 },
            Op::Move { mailbox: 2, to: 0 },
            Op::Pass { millis: 14 },
            Op::Submit { at: 1, letters: vec![letter(0, 1), letter(7, 2), letter(9, 2)] },
            Op::Pass { millis: 2 },
            Op::Move { mailbox: 2, to: 1 },
            Op::Submit { at: 0, letters: vec![letter(7, 2)] },
            Op::Pass { millis: 49 },
        ],
    };
    holds(5056, &script);
}

/// An envelope was over when its batch was made, by a clock that was set back while the batch failed.
#[test]
fn what_was_over_when_its_turn_came_may_be_overtaken() {
    let soon = Letter { expires: 835, ..for_device(12, 3) };
    let to_a_device = Letter { device: Some(0), ..letter(21, 2) };
    let script = Script {
        relays: 4,
        ops: vec![
            Op::Crash { relay: 1, at: None },
            Op::Submit { at: 3, letters: vec![for_device(11, 1), letter(10, 2), soon] },
            Op::SetClock { relay: 3, seconds: 843 },
            Op::Pass { millis: 4 },
            Op::SetClock { relay: 3, seconds: -18 },
            Op::Submit { at: 3, letters: vec![to_a_device] },
            Op::Pass { millis: 1285 },
        ],
    };
    holds(84_895, &script);
}

/// A mailbox that was closed when all others had been opened keeps its device until it is opened, too.
#[test]
fn a_mailbox_that_is_closed_last_is_opened_as_well() {
    let script =
        Script { relays: 2, ops: vec![Op::Register { mailbox: 2, device: 1 }, Op::Suspend { mailbox: 2 }] };
    holds(41, &script);
}
