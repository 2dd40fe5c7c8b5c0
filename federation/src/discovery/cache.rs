//! The memory of a resolver: answers for as long as they may be used, failures for as long as nobody should ask again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use postrider_common::clock::SharedClock;

use super::answer::{Answer, Proof};
use super::upstream::{Data, Kind, Question, Reply, Trouble, Upstream};

/// The shortest and the longest time that records are used, whatever their TTL says.
const POSITIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3600));
/// The same for those that trust rests on: never longer than they say.
const TRUSTED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// The same for "there are none".
const NEGATIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// After a failure nobody asks for so long; the time doubles with every further one.
const FAILURE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// For how long after its end an answer stands in for one that cannot be had.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// The most questions of which anything is remembered.
const MOST: usize = 10_000;

type LookUp = Shared<BoxFuture<'static, Result<Reply, Trouble>>>;

/// Asks upstream what it does not know itself. Callers that ask the same at the same time share one look-up.
#[derive(Debug)]
pub(super) struct Cache {
    upstream: Arc<dyn Upstream>,
    clock: SharedClock,
    entries: Arc<Mutex<HashMap<Question, Entry>>>,
}

/// What is known about a question. Times are the clock's uptime, which nobody sets.
#[derive(Debug, Default)]
struct Entry {
    held: Option<Held>,
    failing: Option<Failing>,
    running: Option<LookUp>,
}

#[derive(Debug)]
struct Held {
    reply: Reply,
    until: Duration,
}

#[derive(Debug)]
struct Failing {
    trouble: Trouble,
    times: u32,
    retry_at: Duration,
}

impl Cache {
    pub(super) fn new(upstream: Arc<dyn Upstream>, clock: SharedClock) -> Self {
        Self { upstream, clock, entries: Arc::default() }
    }

    /// The answer: remembered, shared with whoever is asking, or new.
    pub(super) async fn ask(&self, question: &Question) -> Result<Answer<Data>, Trouble> {
        let running = {
            let mut entries = self.entries();
            let now = self.clock.uptime();
            if entries.len() >= MOST && !entries.contains_key(question) {
                make_room(&mut entries, now);
            }
            let entry = entries.entry(question.clone()).or_default();
            if let Some(known) = entry.known(question.kind, now) {
                return known;
            }
            entry.running.get_or_insert_with(|| self.begin(question)).clone()
        };
        let result = running.clone().await;
        let mut entries = self.entries();
        let now = self.clock.uptime();
        let entry = entries.entry(question.clone()).or_default();
        // It has noted its result itself, unless it did not come to its end.
        if entry.running.as_ref().is_some_and(|current| current.ptr_eq(&running)) {
            entry.running = None;
            entry.note(question.kind, result.clone(), now);
        }
        match entry.known(question.kind, now) {
            Some(known) => known,
            None => result.map(|reply| Answer::new(reply.records, reply.proof, Duration::ZERO)),
        }
    }

    /// Looks up, whether or not somebody goes on waiting for it: what is begun ends, and what it holds meanwhile is let go.
    fn begin(&self, question: &Question) -> LookUp {
        let (looked_up, question) = (self.upstream.look_up(question), question.clone());
        let (entries, clock) = (Arc::clone(&self.entries), Arc::clone(&self.clock));
        let noted = async move {
            let result = looked_up.await;
            let mut entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = entries.entry(question.clone()).or_default();
            entry.running = None;
            entry.note(question.kind, result.clone(), clock.uptime());
            result
        };
        #[expect(clippy::disallowed_methods, reason = "it ends by itself within the resolver's patience")]
        let task = tokio::spawn(noted);
        let ended = task.map(|ended| {
            ended.unwrap_or_else(|_| Err(Trouble::Failed("the look-up did not come to its end".into())))
        });
        ended.boxed().shared()
    }

    /// Asks again next time, while what is known may still stand in for an answer that cannot be had.
    pub(super) fn doubt(&self, question: &Question) {
        let now = self.clock.uptime();
        if let Some(held) = self.entries().get_mut(question).and_then(|entry| entry.held.as_mut()) {
            held.until = held.until.min(now);
        }
    }

    /// What is known without asking, however old.
    pub(super) fn remembered(&self, question: &Question) -> Vec<Data> {
        let entries = self.entries();
        let held = entries.get(question).and_then(|entry| entry.held.as_ref());
        held.map_or_else(Vec::new, |held| held.reply.records.clone())
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Question, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// What can be said without asking.
    fn known(&self, kind: Kind, now: Duration) -> Option<Result<Answer<Data>, Trouble>> {
        if let Some(Held { reply, until }) = &self.held
            && now < *until
        {
            return Some(Ok(Answer::new(reply.records.clone(), reply.proof, *until - now)));
        }
        let failing = self.failing.as_ref().filter(|failing| now < failing.retry_at)?;
        let life = failing.retry_at - now;
        Some(match (&failing.trouble, &self.held) {
            // Trust does not rest on records whose time is over, and a forged answer is no reason to believe an old one.
            (Trouble::Failed(_), Some(held))
                if kind != Kind::Tlsa && !held.reply.records.is_empty() && now < held.until + STALE =>
            {
                // Nor was it proven for longer than its time that they are signed. That they are not takes nothing from anybody.
                let proof = match held.reply.proof {
                    Proof::Insecure => Proof::Insecure,
                    Proof::Secure | Proof::Unchecked => Proof::Unchecked,
                };
                let mut stale = Answer::new(held.reply.records.clone(), proof, life);
                stale.is_stale = true;
                Ok(stale)
            }
            (trouble, _) => Err(trouble.clone()),
        })
    }

    fn note(&mut self, kind: Kind, result: Result<Reply, Trouble>, now: Duration) {
        match result {
            Ok(reply) => {
                let (least, most) = match (reply.records.is_empty(), kind) {
                    (true, _) => NEGATIVE,
                    (false, Kind::Tlsa) => TRUSTED,
                    (false, _) => POSITIVE,
                };
                self.failing = None;
                let until = now + reply.ttl.clamp(least, most);
                self.held = Some(Held { reply, until });
            }
            Err(trouble) => {
                let times = self.failing.as_ref().map_or(0, |failing| failing.times).saturating_add(1);
                let pause = FAILURE.0.saturating_mul(1 << (times - 1).min(16)).min(FAILURE.1);
                self.failing = Some(Failing { trouble, times, retry_at: now + pause });
            }
        }
    }

    fn is_fresh(&self, now: Duration) -> bool {
        self.running.is_some()
            || self.held.as_ref().is_some_and(|held| now < held.until)
            || self.failing.as_ref().is_some_and(|failing| now < failing.retry_at)
    }
}

/// What nobody has to know any more goes first; then some of the rest, whichever it is.
fn make_room(entries: &mut HashMap<Question, Entry>, now: Duration) {
    entries.retain(|_, entry| entry.is_fresh(now));
    let too_many = entries.len().saturating_sub(MOST - MOST / 10);
    let some: Vec<_> = entries
        .iter()
        .filter(|(_, entry)| entry.running.is_none())
        .take(too_many)
        .map(|(question, _)| question.clone())
        .collect();
    for question in some {
        entries.remove(&question);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use postrider_common::Timestamp;
    use postrider_common::clock::ManualClock;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::discovery::SrvRecord;

    /// Answers what it was told to, once it has a permit.
    #[derive(Debug)]
    struct Script {
        reply: Mutex<Result<Reply, Trouble>>,
        asked: AtomicUsize,
        gate: Arc<Semaphore>,
    }

    impl Upstream for Script {
        fn look_up(&self, _question: &Question) -> BoxFuture<'static, Result<Reply, Trouble>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let (reply, gate) = (self.reply.lock().unwrap().clone(), Arc::clone(&self.gate));
            Box::pin(async move {
                let _permit = gate.acquire().await;
                reply
            })
        }
    }

    struct Bench {
        cache: Cache,
        script: Arc<Script>,
        clock: ManualClock,
    }

    fn bench() -> Bench {
        let script = Arc::new(Script {
            reply: Mutex::new(Err(Trouble::Bogus)),
            asked: AtomicUsize::new(0),
            gate: Arc::new(Semaphore::new(1000)),
        });
        let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
        let upstream: Arc<dyn Upstream> = Arc::<Script>::clone(&script);
        Bench { cache: Cache::new(upstream, Arc::new(clock.clone())), script, clock }
    }

    impl Bench {
        fn replies(&self, reply: Result<Reply, Trouble>) {
            *self.script.reply.lock().unwrap() = reply;
        }

        /// Whether it had to ask, and what came of it: how many records, the proof, whether they are stale.
        async fn ask(&self, question: &Question) -> (bool, Result<(usize, Proof, bool), Trouble>) {
            let before = self.script.asked.load(Ordering::SeqCst);
            let answer = self.cache.ask(question).await;
            let told = answer.map(|answer| (answer.records.len(), answer.proof, answer.is_stale));
            (self.script.asked.load(Ordering::SeqCst) > before, told)
        }

        fn pass(&self, seconds: u64) {
            self.clock.advance(Duration::from_secs(seconds));
        }
    }

    fn srv(ttl: u64) -> Result<Reply, Trouble> {
        let record = SrvRecord { priority: 0, weight: 0, port: 443, target: "relay.a.example".into() };
        let ttl = Duration::from_secs(ttl);
        Ok(Reply { records: vec![Data::Srv(record)], ttl, proof: Proof::Secure })
    }

    fn none(ttl: u64) -> Result<Reply, Trouble> {
        Ok(Reply { records: Vec::new(), ttl: Duration::from_secs(ttl), proof: Proof::Insecure })
    }

    fn down() -> Result<Reply, Trouble> {
        Err(Trouble::Failed("no answer".into()))
    }

    #[tokio::test]
    async fn answers_live_as_long_as_they_say_within_bounds() {
        let tlsa = Question { owner: "_443._tcp.a.example.".into(), kind: Kind::Tlsa };
        for (question, reply, lives) in [
            (Question::srv("a.example"), srv(0), 30),
            (Question::srv("a.example"), srv(120), 120),
            (Question::srv("a.example"), srv(86_400), 3600),
            (Question::srv("a.example"), none(0), 5),
            (Question::srv("a.example"), none(60), 60),
            (Question::srv("a.example"), none(86_400), 300),
            (tlsa.clone(), srv(10), 10),
            (tlsa, srv(0), 1),
        ] {
            let bench = bench();
            bench.replies(reply.clone());
            assert!(bench.ask(&question).await.0);
            bench.pass(lives - 1);
            let life = bench.cache.ask(&question).await.unwrap().life;
            assert_eq!(life, Duration::from_secs(1), "{reply:?}");
            bench.pass(1);
            assert!(bench.ask(&question).await.0, "{reply:?} is asked for again after {lives} s");
        }
    }

    #[tokio::test]
    async fn after_a_failure_nobody_asks_for_a_while_that_grows() {
        let (bench, question) = (bench(), Question::srv("a.example"));
        bench.replies(down());
        for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            assert_eq!(bench.ask(&question).await, (true, Err(Trouble::Failed("no answer".into()))));
            bench.pass(pause - 1);
            assert!(!bench.ask(&question).await.0, "not within {pause} s");
            bench.pass(1);
        }
        bench.replies(srv(60));
        assert!(bench.ask(&question).await.1.is_ok());
        bench.pass(60);
        bench.replies(down());
        let _ = bench.ask(&question).await;
        bench.pass(1);
        assert!(bench.ask(&question).await.0, "a success ends the series");
    }

    #[tokio::test]
    async fn an_old_answer_stands_in_for_a_failing_server_but_never_for_a_forged_answer() {
        let (bench, question) = (bench(), Question::srv("a.example"));
        let stale = Ok((1, Proof::Unchecked, true));
        bench.replies(srv(60));
        assert_eq!(bench.ask(&question).await, (true, Ok((1, Proof::Secure, false))));
        bench.pass(60);
        bench.replies(down());
        assert_eq!(bench.ask(&question).await, (true, stale.clone()));
        bench.pass(3600);
        bench.replies(Err(Trouble::Bogus));
        assert_eq!(bench.ask(&question).await, (true, Err(Trouble::Bogus)));
        bench.pass(300);
        bench.replies(down());
        assert_eq!(bench.ask(&question).await.1, stale);
        bench.pass(24 * 3600);
        assert_eq!(bench.ask(&question).await, (true, Err(Trouble::Failed("no answer".into()))));

        // Of whom it was known that nobody signs what he says, that much is still known.
        let unsigned = Question::srv("u.example");
        bench.replies(srv(60).map(|reply| Reply { proof: Proof::Insecure, ..reply }));
        let _ = bench.ask(&unsigned).await;
        bench.pass(60);
        bench.replies(down());
        assert_eq!(bench.ask(&unsigned).await, (true, Ok((1, Proof::Insecure, true))));

        // That there is none is not stretched: somebody may be waiting for the opposite. Nor is what trust rests on.
        let tlsa = Question { owner: "_443._tcp.b.example.".into(), kind: Kind::Tlsa };
        for (question, reply) in [(Question::srv("b.example"), none(60)), (tlsa, srv(60))] {
            bench.replies(reply);
            let _ = bench.ask(&question).await;
            bench.pass(60);
            bench.replies(down());
            assert_eq!(bench.ask(&question).await, (true, Err(Trouble::Failed("no answer".into()))));
        }
    }

    #[tokio::test]
    async fn those_who_ask_at_the_same_time_share_one_look_up() {
        let (bench, question) = (bench(), Question::srv("a.example"));
        bench.replies(srv(60));
        let gate = Arc::clone(&bench.script.gate);
        let all = gate.clone().acquire_many_owned(1000).await.unwrap();
        let asking: Vec<_> = (0..50).map(|_| bench.cache.ask(&question)).collect();
        let asking = futures_util::future::join_all(asking);
        let release = async {
            while bench.script.asked.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
            drop(all);
        };
        let (answers, ()) = tokio::join!(asking, release);
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap().records.len() == 1));
        assert_eq!(bench.script.asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_look_up_that_was_given_up_is_taken_over() {
        let (bench, question) = (bench(), Question::srv("a.example"));
        bench.replies(srv(60));
        let all = bench.script.gate.clone().acquire_many_owned(1000).await.unwrap();
        let mut given_up = Box::pin(bench.cache.ask(&question));
        assert!((&mut given_up).now_or_never().is_none());
        drop((given_up, all));
        assert_eq!(bench.ask(&question).await, (false, Ok((1, Proof::Secure, false))));
    }

    #[tokio::test]
    async fn a_look_up_ends_also_when_nobody_waits_for_it() {
        let (bench, question) = (bench(), Question::srv("a.example"));
        bench.replies(srv(60));
        let all = bench.script.gate.clone().acquire_many_owned(1000).await.unwrap();
        assert!(bench.cache.ask(&question).now_or_never().is_none());
        drop(all);
        while bench.cache.remembered(&question).is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(bench.cache.entries().values().all(|entry| entry.running.is_none()));
    }

    #[tokio::test]
    async fn what_is_doubted_is_asked_for_again_and_kept_in_case() {
        let (bench, question) = (bench(), Question::srv("a.example"));
        bench.replies(srv(3600));
        let _ = bench.ask(&question).await;
        bench.cache.doubt(&question);
        bench.replies(down());
        assert_eq!(bench.ask(&question).await, (true, Ok((1, Proof::Unchecked, true))));
    }

    #[tokio::test]
    async fn there_is_an_end_to_what_is_remembered() {
        let bench = bench();
        bench.replies(none(300));
        for n in 0..MOST + 100 {
            bench.ask(&Question::srv(&format!("d{n}.example"))).await.1.unwrap();
        }
        let count = bench.cache.entries().len();
        assert!(count <= MOST, "{count}");
        bench.pass(300);
        bench.ask(&Question::srv("one-more.example")).await.1.unwrap();
        let mut n = 0;
        while bench.cache.entries().len() < MOST && n < MOST {
            bench.ask(&Question::srv(&format!("e{n}.example"))).await.1.unwrap();
            n += 1;
        }
        bench.ask(&Question::srv("last.example")).await.1.unwrap();
        assert!(bench.cache.entries().len() <= MOST);
    }
}
