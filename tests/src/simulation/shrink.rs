//! Makes a script that fails as short as it gets: what is not needed goes, then what is left becomes simpler.

use super::script::{Op, Script};

/// The shortest script found for which `fails` still holds, as it does for `script`. At most `tries` are tried.
pub fn shrink(script: &Script, mut tries: usize, mut fails: impl FnMut(&Script) -> bool) -> Script {
    let mut best = script.clone();
    loop {
        let before = best.clone();
        without_parts(&mut best, &mut tries, &mut fails);
        simpler(&mut best, &mut tries, &mut fails);
        fewer_relays(&mut best, &mut tries, &mut fails);
        if best == before || tries == 0 {
            return best;
        }
    }
}

/// Takes a half out, then quarters, and so on down to single operations.
fn without_parts(best: &mut Script, tries: &mut usize, fails: &mut impl FnMut(&Script) -> bool) {
    let mut part = (best.ops.len() / 2).max(1);
    loop {
        let mut start = 0;
        while start < best.ops.len() {
            let mut shorter = best.clone();
            let end = (start + part).min(shorter.ops.len());
            shorter.ops.drain(start..end);
            if !take_if(best, shorter, tries, fails) {
                start += part;
            }
        }
        if part == 1 {
            return;
        }
        part /= 2;
    }
}

/// Replaces each operation with simpler ones.
fn simpler(best: &mut Script, tries: &mut usize, fails: &mut impl FnMut(&Script) -> bool) {
    for index in 0..best.ops.len() {
        let mut candidates = simpler_than(&best.ops[index]);
        while let Some(op) = candidates.pop() {
            let mut other = best.clone();
            other.ops[index] = op;
            if take_if(best, other, tries, fails) {
                candidates = simpler_than(&best.ops[index]);
            }
        }
    }
}

/// Ends without the relays that nothing is said of.
fn fewer_relays(best: &mut Script, tries: &mut usize, fails: &mut impl FnMut(&Script) -> bool) {
    while best.relays > 1 {
        let fewer = Script { relays: best.relays - 1, ops: best.ops.clone() };
        if !take_if(best, fewer, tries, fails) {
            return;
        }
    }
}

fn take_if(
    best: &mut Script,
    other: Script,
    tries: &mut usize,
    fails: &mut impl FnMut(&Script) -> bool,
) -> bool {
    if *tries == 0 {
        return false;
    }
    *tries -= 1;
    let still_fails = fails(&other);
    if still_fails {
        *best = other;
    }
    still_fails
}

/// The simplest one last. Any operation gives the others a turn; if that is all that it is needed for, a pause says so.
fn simpler_than(op: &Op) -> Vec<Op> {
    let mut simpler = kept_but_simpler(op);
    if !matches!(op, Op::Pass { .. }) {
        simpler.push(Op::Pass { millis: 0 });
    }
    simpler
}

fn kept_but_simpler(op: &Op) -> Vec<Op> {
    match op {
        Op::Submit { at, letters } => {
            let without = (0..letters.len()).filter(|_| letters.len() > 1).map(|index| {
                let mut letters = letters.clone();
                letters.remove(index);
                Op::Submit { at: *at, letters }
            });
            without.collect()
        }
        Op::Pass { millis } => [millis / 2, millis / 10, 0]
            .into_iter()
            .filter(|fewer| fewer < millis)
            .map(|millis| Op::Pass { millis })
            .collect(),
        Op::Delay { from, to, millis } if *millis > 1 => {
            vec![Op::Delay { from: *from, to: *to, millis: millis / 2 }]
        }
        Op::SetClock { relay, seconds } if seconds.abs() > 1 => {
            vec![Op::SetClock { relay: *relay, seconds: seconds / 2 }]
        }
        Op::Connect { mailbox, device, polls: true, acknowledges } => {
            vec![Op::Connect {
                mailbox: *mailbox,
                device: *device,
                polls: false,
                acknowledges: *acknowledges,
            }]
        }
        Op::Bring { number, at, chunks } => {
            let with = chunks.iter().enumerate().filter(|(_, is_brought)| **is_brought);
            let without = with.map(|(index, _)| {
                let mut chunks = *chunks;
                chunks[index] = false;
                Op::Bring { number: *number, at: *at, chunks }
            });
            without.collect()
        }
        Op::Crash { relay, at: Some(_) } => vec![Op::Crash { relay: *relay, at: None }],
        Op::Stop { relay } => vec![Op::Crash { relay: *relay, at: None }],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::script::Shape;

    #[test]
    fn what_is_not_needed_goes() {
        let crashes = |script: &Script| script.ops.iter().filter(|op| matches!(op, Op::Crash { .. })).count();
        let long =
            |script: &Script| script.ops.iter().any(|op| matches!(op, Op::Pass { millis } if *millis >= 60));
        let mut scripts = (0..100).map(|seed| Script::generate(seed, Shape { relays: 5, ops: 200 }));
        let script = scripts.find(|script| crashes(script) > 2 && long(script)).unwrap();
        let shrunk = shrink(&script, usize::MAX, |script| crashes(script) >= 2 && long(script));
        assert_eq!((shrunk.ops.len(), shrunk.relays), (3, 1), "{shrunk}");
        assert!(shrunk.ops.iter().all(|op| !matches!(op, Op::Pass { millis } if *millis > 119)), "{shrunk}");
    }
}
