//! Many seeds, on several threads.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::script::{Script, Shape};
use super::{Counts, Fault, Run, run, shrink};

/// How many shorter scripts are tried for one that has failed.
const SHRINK_TRIES: usize = 3000;

/// Seeds to try.
#[derive(Debug, Clone, Copy)]
pub struct Campaign {
    /// The first one.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// What their scripts are like.
    pub shape: Shape,
    /// Which rule is broken on purpose, if any.
    pub fault: Option<Fault>,
    /// On how many threads.
    pub jobs: usize,
}

/// What a campaign came to.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was tried.
    pub campaign: Campaign,
    /// Seeds whose runs ended without a violation.
    pub passed: u64,
    /// Operations in their scripts.
    pub ops: u64,
    /// What happened in them.
    pub counts: Counts,
    /// The lowest seed whose run did not, if there is one. With it the campaign has ended.
    pub finding: Option<Finding>,
}

/// A seed that fails.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Which.
    pub seed: u64,
    /// The shortest script found that fails with it.
    pub script: Script,
    /// Its run, traced.
    pub run: Run,
}

#[derive(Debug, Default)]
struct Sums {
    passed: u64,
    ops: u64,
    counts: Counts,
}

impl Campaign {
    /// Tries the seeds in order; `progress` is told after each how many have passed.
    pub fn run(self, progress: impl Fn(u64) + Sync) -> Report {
        let next = AtomicU64::new(0);
        let failed = AtomicU64::new(u64::MAX);
        let sums = Mutex::new(Sums::default());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        // Lower seeds than the one that failed are tried to the end, so that it is the lowest.
                        if index >= self.seeds || index > failed.load(Ordering::Relaxed) {
                            return;
                        }
                        let seed = self.from.wrapping_add(index);
                        let script = Script::generate(seed, self.shape);
                        let run = run(seed, &script, self.fault, false);
                        if run.violations.is_empty() {
                            let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
                            sums.add(&script, &run);
                            progress(sums.passed);
                        } else {
                            failed.fetch_min(index, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let Sums { passed, ops, counts } = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
        let failed = failed.into_inner();
        let finding = (failed != u64::MAX).then(|| self.find(self.from.wrapping_add(failed)));
        Report { campaign: self, passed, ops, counts, finding }
    }

    fn find(&self, seed: u64) -> Finding {
        let fails = |script: &Script| !run(seed, script, self.fault, false).violations.is_empty();
        let script = shrink(&Script::generate(seed, self.shape), SHRINK_TRIES, fails);
        let run = run(seed, &script, self.fault, true);
        Finding { seed, script, run }
    }
}

impl Sums {
    fn add(&mut self, script: &Script, run: &Run) {
        self.passed += 1;
        self.ops += script.ops.len() as u64;
        let Counts { accepted, received, forwarded, crashes, moves, suspensions, attachments } = run.counts;
        self.counts.accepted += accepted;
        self.counts.received += received;
        self.counts.forwarded += forwarded;
        self.counts.crashes += crashes;
        self.counts.moves += moves;
        self.counts.suspensions += suspensions;
        self.counts.attachments += attachments;
    }
}

/// One line.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { campaign, passed, ops, counts, finding } = self;
        let Counts { accepted, received, forwarded, crashes, moves, suspensions, attachments } = counts;
        let violations = usize::from(finding.is_some());
        write!(
            f,
            "seeds={} from={} passed={passed} ops={ops} accepted={accepted} ",
            campaign.seeds, campaign.from
        )?;
        write!(f, "received={received} batches={forwarded} crashes={crashes} moves={moves} ")?;
        write!(f, "suspensions={suspensions} attachments={attachments} ")?;
        write!(f, "violations={violations}")?;
        match finding {
            Some(finding) => write!(f, " seed={}", finding.seed),
            None => Ok(()),
        }
    }
}

/// What was wrong, what happened, and the script as it goes among the reproductions.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.run.trace.iter().try_for_each(|event| writeln!(f, "{event}"))?;
        writeln!(f)?;
        self.run.violations.iter().try_for_each(|what| writeln!(f, "{what}"))?;
        writeln!(f, "\nseed {}\n{}", self.seed, self.script)
    }
}
