//! Known seeds and new ones, and seeds with a rule broken on purpose.

use postrider_common::secret::random_bytes;
use postrider_tests::simulation::{Campaign, Fault, Report, Script, Shape, run};

const JOBS: usize = 2;

fn campaign(from: u64, seeds: u64, fault: Option<Fault>) -> Report {
    Campaign { from, seeds, shape: Shape::default(), fault, jobs: JOBS }.run(|_| {})
}

#[test]
fn no_promise_is_broken() {
    let new = u64::from_be_bytes(random_bytes());
    println!("new seeds from {new}");
    for (from, seeds) in [(0, 150), (new, 50)] {
        let report = campaign(from, seeds, None);
        if let Some(finding) = &report.finding {
            panic!("{finding}\n{report}");
        }
        println!("{report}");
        // Whoever sees nothing finds nothing.
        let each = report.counts;
        let rarer = [each.moves, each.suspensions, each.attachments].map(|count| 4 * count);
        for happened in [each.accepted, each.received, each.forwarded, each.crashes].into_iter().chain(rarer)
        {
            assert!(happened > seeds, "{report}");
        }
    }
}

#[test]
fn each_rule_that_is_broken_on_purpose_is_found() {
    for fault in Fault::ALL {
        let report = campaign(0, 100, Some(fault));
        let finding = report.finding.unwrap_or_else(|| panic!("{fault} was not found"));
        println!("{fault}: after {} seeds, {} operations", report.passed, finding.script.ops.len());
        assert!(!finding.run.violations.is_empty() && finding.script.ops.len() < 16, "{finding}");
        // It is the fault that was found, and nothing else.
        let without = run(finding.seed, &finding.script, None, false);
        assert_eq!(without.violations, [] as [&str; 0], "{finding}");
    }
}

#[test]
fn a_seed_decides_everything() {
    let once = |seed| run(seed, &Script::generate(seed, Shape::default()), None, true);
    for seed in 1000..1020 {
        // On another thread, at another time, beside another run.
        let (first, again) = std::thread::scope(|scope| {
            let again = scope.spawn(move || once(seed));
            (once(seed), again.join().unwrap())
        });
        assert!(first.trace.len() > 20, "{:?}", first.trace);
        let differs = first.trace.iter().zip(&again.trace).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first, again, "seed {seed}");
    }
    assert_ne!(once(1).hash, once(2).hash);
}

/// What is found by one who asks for it in words is found without them.
#[test]
fn a_trace_changes_nothing() {
    let script = Script::generate(7, Shape::default());
    assert_eq!(run(7, &script, None, false).hash, run(7, &script, None, true).hash);
}
