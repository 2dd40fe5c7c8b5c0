//! Load and faults together, for as long as one likes, with books of its own about what was promised.
//!
//! Relays run as processes. Senders at each of them submit batches to users at all of them, and submit again whatever
//! they got no answer for, under the same ids. Devices connect and disconnect, write down what they get, and
//! acknowledge it afterwards. Meanwhile relays are killed and started again, the ways between relays and to clients
//! are cut, slowed, or made to lose requests or answers, and DNS fails or falls silent for one relay or another. Keys
//! are changed too, if that is asked for, with the commands that administrators have: announced, imported by the peers,
//! which know one another by pins then, and used. Mailboxes are closed for a while and opened again, with the command for
//! that, while envelopes go on coming for them, and their owners move them to other relays. Then everything is mended, the queues drain, every device takes what
//! waits for it, every relay is killed once more, and the books are closed:
//!
//! * **Accepted**: a relay has answered `stored`, or `queued` with a tracking id, at least once.
//! * **Delivered**: accepted, and every device of the mailbox has recorded it, byte for byte.
//! * **Expired**: accepted, not delivered, and its time was over; if it was queued, its tracking says `expired`, or
//!   that it was stored at its destination, where it expired in the mailbox.
//! * **Lost**: accepted, neither delivered nor expired; or delivered with other content.
//! * **Duplicated**: a device got the same envelope under two entry ids; or an entry twice on one connection; or an
//!   entry again after the relay had shown that it was deleted. The relay shows that by its answer to
//!   `POST /v1/mailbox/acknowledgements`, and by beginning a later connection, where the oldest entry comes first, with
//!   a later entry. That an entry comes again on another connection before that, under the same entry id, is what
//!   "at least once until it is acknowledged" means, and no duplicate.
//!
//! A mailbox that its administrator closes takes nothing until it is opened, lets no device in, and refuses what comes for
//! good: that is no fault if the envelope was under way then. What was queued for it elsewhere and met that refusal, as
//! its tracking says, counts as not accepted. What was refused each time that it was submitted never arrives. What the
//! mailbox had taken before is delivered afterwards.
//!
//! A mailbox that its owner moves to another relay takes along what waits in it, and what is written to where it was goes
//! after it. What a device has got is compared for each relay by itself: when the mailbox moves, each envelope that some
//! device has not acknowledged goes along for all of them, so a device may get it once at each relay, and once more each
//! time that the mailbox comes back to it. More is a duplicate; and so is one that all devices had got and that the relay
//! had shown to be deleted before the mailbox moved, unless it was submitted again: relays know what came by marks of their
//! own. No relay says that a mailbox has moved that it keeps. An envelope may be refused as one that goes in circles when
//! its mailbox has moved more than three times, and counts as not accepted then, unless a mailbox had taken it.
//!
//! A change of keys that goes right is noticed by nobody: no relay refuses another for its key.
//!
//! Now and then an envelope has an attachment, which a device fetches and compares before it records the entry. It may be
//! gone only where the device has acknowledged the entry before, which the relay may carry out while it is fetched again,
//! or the mailbox moves.
//!
//! The seed decides when what breaks, and what is sent to whom; how it falls together is up to the machine.

mod chaos;
mod files;
mod ledger;
mod letter;
mod moving;
mod plan;
mod receiver;
mod report;
mod rotation;
mod sender;
mod suspension;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use postrider_client::{Identity, Relay};
use postrider_common::supervisor::Supervisor;
use postrider_common::{Address, Domain, Timestamp};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::cluster::{Cluster, ClusterError};
use crate::dice::Dice;
use ledger::{Holder, Ledger};
use receiver::Receiver;

pub use report::Report;

/// Users at each relay. Every other one has two devices.
const USERS: usize = 4;
/// How long envelopes live that are not meant to expire.
const LONG_LIFE: Duration = Duration::from_secs(86_400);
/// Draining ends when nothing has arrived for so long: longer than a back-off after some failures.
const DRAIN_PATIENCE: Duration = Duration::from_secs(300);
/// For how many seconds relays may remember what DNS said: little, so that they notice when it fails.
const DNS_TTL: u32 = 2;
/// How often a peer that others have given up for a while says a word.
const NUDGE: Duration = Duration::from_secs(2);

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Relays, at least one.
    pub relays: usize,
    /// Senders at each relay.
    pub senders: usize,
    /// How long the load lasts. Draining comes after that.
    pub duration: Duration,
    /// How often a relay is killed.
    pub kills: usize,
    /// How often a way is broken, or a relay's DNS.
    pub cuts: usize,
    /// How often a relay's key is changed.
    pub rotations: usize,
    /// How often a mailbox is closed for a while.
    pub suspensions: usize,
    /// How often a mailbox moves to another relay, if there is one.
    pub moves: usize,
    /// Decides everything that is left to chance.
    pub seed: u64,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Senders send, things break.
    Load,
    /// Everything is mended; what is under way arrives.
    Drain,
    /// Devices take what is left.
    Sweep,
}

/// What has happened, for a line about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Since the beginning.
    pub elapsed: Duration,
    /// Envelopes that relays have taken.
    pub accepted: usize,
    /// Of them, those that some device has not got.
    pub open: usize,
    /// Relays that were killed and started again.
    pub kills: usize,
    /// Ways that were broken and mended.
    pub cuts: usize,
    /// Keys that were changed.
    pub rotations: usize,
    /// Mailboxes that were closed and opened again.
    pub suspensions: usize,
    /// How often a mailbox has moved.
    pub moves: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    kills: usize,
    cuts: usize,
    rotations: usize,
    suspensions: usize,
    moves: usize,
}

/// What all tasks share.
struct World {
    cluster: Cluster,
    relays: Vec<String>,
    /// One after the other by relay, each with its devices.
    users: Vec<Vec<Identity>>,
    ledger: Ledger,
    phase: watch::Sender<Phase>,
    counts: watch::Sender<Counts>,
    /// Why it cannot go on.
    over: watch::Sender<Option<String>>,
    /// For each relay, the right to kill it.
    turns: Vec<tokio::sync::Mutex<()>>,
    /// And the right to change its key.
    rotations: Vec<tokio::sync::Mutex<()>>,
    /// For each user, the right to close the mailbox, or to move it.
    owners: Vec<tokio::sync::Mutex<()>>,
}

/// Runs a soak with the `postrider` binary, from time to time telling `progress` how far it is.
///
/// An error is one of the harness. What relays have done wrong is in the report.
pub async fn run(
    options: &Options,
    binary: PathBuf,
    progress: impl FnMut(Progress),
) -> Result<Report, ClusterError> {
    let mut dice = Dice::new(options.seed);
    let plan = plan::plan(options, &mut dice);
    let relays: Vec<String> = (1..=options.relays).map(|number| format!("relay{number}.example")).collect();
    let directory = TempDir::with_prefix("postrider-soak-")?;
    let mut builder = Cluster::builder(relays.clone()).processes(binary).directory(directory.path());
    if options.rotations > 0 {
        builder = builder.pinned();
    }
    let world = Arc::new(World::new(Box::pin(builder.start()).await?, relays)?);
    for relay in &world.relays {
        world.cluster.view(relay)?.records().set_ttl(DNS_TTL);
    }
    Box::pin(world.register()).await?;

    let (senders, receivers, chaos) = (Supervisor::new(), Supervisor::new(), Supervisor::new());
    for receiver in world.receivers(&mut dice)? {
        receivers.spawn("receiver", receiver.run());
    }
    for origin in 0..options.relays {
        for _ in 0..options.senders {
            let relay = world.client(origin)?;
            senders.spawn("sender", sender::run(Arc::clone(&world), origin, relay, dice.fork()));
        }
    }
    if options.suspensions + options.moves > 0 {
        senders.spawn("refusals", suspension::watch(Arc::clone(&world), dice.fork()));
    }
    let started = Instant::now();
    for event in plan {
        chaos.spawn("fault", chaos::happen(Arc::clone(&world), started, event));
    }
    let course = Box::pin(async {
        tokio::time::sleep(options.duration).await;
        chaos.finished().await;
        world.phase.send_replace(Phase::Drain);
        world.mend()?;
        in_time(senders.finished(), "that every batch was taken").await?;
        world.drain(&mut dice).await;
        world.phase.send_replace(Phase::Sweep);
        in_time(receivers.finished(), "that every mailbox was emptied").await?;
        world.kill_all_once_more().await?;
        for mut receiver in world.receivers(&mut dice)? {
            receiver.sweep().await?;
        }
        Ok(())
    });
    let ended = world.watched(course, started, progress).await;
    // A task of the soak that panics must not end in a report that all is well.
    let panicked = [&senders, &receivers, &chaos].into_iter().find_map(Supervisor::failure);
    let ended = ended.and(panicked.map_or(Ok(()), |failure| Err(failure.to_string())));
    Box::pin(report::close(world, directory, ended)).await
}

async fn in_time(end: impl Future<Output = ()>, what: &'static str) -> Result<(), ClusterError> {
    timeout(DRAIN_PATIENCE, end).await.map_err(|_| ClusterError::Patience(what))
}

impl World {
    fn new(cluster: Cluster, relays: Vec<String>) -> Result<Self, ClusterError> {
        let mut users = Vec::new();
        for relay in &relays {
            for user in 0..USERS {
                let first = Identity::generate(relay.parse()?);
                let second = first.with_new_device();
                users.push(if user % 2 == 0 { vec![first] } else { vec![first, second] });
            }
        }
        Ok(Self {
            cluster,
            ledger: Ledger::new(
                users.iter().enumerate().map(|(user, devices)| (Self::relay_of(user), devices.len())),
            ),
            phase: watch::Sender::new(Phase::Load),
            counts: watch::Sender::new(Counts::default()),
            over: watch::Sender::new(None),
            turns: relays.iter().map(|_| tokio::sync::Mutex::default()).collect(),
            rotations: relays.iter().map(|_| tokio::sync::Mutex::default()).collect(),
            owners: users.iter().map(|_| tokio::sync::Mutex::default()).collect(),
            relays,
            users,
        })
    }

    /// Registers every device of every user.
    async fn register(&self) -> Result<(), ClusterError> {
        for (user, devices) in self.users.iter().enumerate() {
            let relay = self.client(Self::relay_of(user))?;
            for identity in devices {
                relay.session(identity).await?.register().await?;
            }
        }
        Ok(())
    }

    /// One for each device.
    fn receivers(self: &Arc<Self>, dice: &mut Dice) -> Result<Vec<Receiver>, ClusterError> {
        let mut receivers = Vec::new();
        for (user, devices) in self.users.iter().enumerate() {
            for (device, identity) in devices.iter().enumerate() {
                let relays = 0..self.relays.len();
                receivers.push(Receiver {
                    world: Arc::clone(self),
                    holder: Holder { user, device, relay: Self::relay_of(user) },
                    relays: relays.clone().map(|relay| self.client(relay)).collect::<Result<_, _>>()?,
                    identities: relays.map(|relay| identity.at(self.domain(relay))).collect(),
                    dice: dice.fork(),
                });
            }
        }
        Ok(receivers)
    }

    /// Where a user was in the beginning, which everybody may write to for ever.
    fn address(&self, user: usize) -> &Address {
        self.users[user][0].address()
    }

    fn client(&self, relay: usize) -> Result<Relay, ClusterError> {
        self.cluster.client(&self.relays[relay])
    }

    fn domain(&self, relay: usize) -> Domain {
        self.users[relay * USERS][0].domain().clone()
    }

    /// The relay of a user's address.
    const fn relay_of(user: usize) -> usize {
        user / USERS
    }

    fn users_of(&self, relay: usize) -> Range<usize> {
        relay * USERS..(relay + 1) * USERS
    }

    fn now(&self) -> Timestamp {
        self.cluster.clock().now()
    }

    fn long_life(&self) -> Timestamp {
        self.now() + LONG_LIFE
    }

    fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }

    fn progress(&self, started: Instant) -> Progress {
        let Counts { kills, cuts, rotations, suspensions, moves } = *self.counts.borrow();
        let (accepted, open) = (self.ledger.count_accepted(), *self.ledger.open().borrow());
        Progress { elapsed: started.elapsed(), accepted, open, kills, cuts, rotations, suspensions, moves }
    }

    /// It cannot go on: a relay does not come back.
    fn give_up(&self, why: String) {
        self.over.send_modify(|over| {
            over.get_or_insert(why);
        });
    }

    /// Runs the course to its end, or until it cannot go on, which is the error.
    async fn watched(
        &self,
        course: impl Future<Output = Result<(), ClusterError>>,
        started: Instant,
        mut progress: impl FnMut(Progress),
    ) -> Result<(), String> {
        let mut over = self.over.subscribe();
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        tokio::pin!(course);
        loop {
            tokio::select! {
                result = &mut course => return result.map_err(|error| error.to_string()),
                Ok(why) = over.wait_for(Option::is_some) => return Err(why.clone().unwrap_or_default()),
                _ = tick.tick() => progress(self.progress(started)),
            }
        }
    }

    fn mend(&self) -> Result<(), ClusterError> {
        for from in &self.relays {
            self.cluster.door(from)?.heal();
            self.cluster.view(from)?.set_trouble(None);
            for to in self.relays.iter().filter(|to| *to != from) {
                self.cluster.link(from, to)?.heal();
            }
        }
        Ok(())
    }

    /// Until everything that is not over has arrived, or nothing moves any more.
    async fn drain(&self, dice: &mut Dice) {
        let mut open = self.ledger.open();
        let mut moved = Instant::now();
        let mut before = usize::MAX;
        loop {
            suspension::look_for_refusals(self, usize::MAX, dice).await;
            let (left, ways) = self.under_way();
            if left == 0 {
                return;
            }
            if left < before {
                (before, moved) = (left, Instant::now());
            } else if moved.elapsed() > DRAIN_PATIENCE {
                return;
            }
            // A relay that is in another's back-off comes out of it by saying a word.
            for (origin, destination) in ways {
                sender::submit_one_each(self, destination, origin, dice).await;
            }
            let _ = timeout(NUDGE, open.wait_for(|open| *open == 0)).await;
        }
    }

    /// How many are under way whose time is not over, and from which relays to which others they may be.
    fn under_way(&self) -> (usize, BTreeSet<(usize, usize)>) {
        let (mut count, mut ways) = (0, BTreeSet::new());
        let now = self.now();
        for (_, letter) in self.ledger.undelivered() {
            if letter.expires_at > now {
                count += 1;
                let stays = self.ledger.stays(letter.user);
                // What a mailbox held goes on from where it was.
                let mut from = stays.clone();
                from.push(letter.origin);
                let pairs = from.iter().flat_map(|from| stays.iter().map(|to| (*from, *to)));
                ways.extend(pairs.filter(|(from, to)| from != to));
            }
        }
        (count, ways)
    }

    /// What was deleted must not come back.
    async fn kill_all_once_more(&self) -> Result<(), ClusterError> {
        for relay in &self.relays {
            if let Some(how) = self.cluster.has_ended(relay).await? {
                return Err(ClusterError::Start(format!("{relay} has ended by itself: {how}")));
            }
            self.cluster.kill(relay).await?;
        }
        join_all(self.relays.iter().map(|relay| self.cluster.restart(relay))).await.into_iter().collect()
    }
}
