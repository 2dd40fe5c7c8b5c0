//! A run: relays, their network and their clients, and what the script does to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postrider::store::simulated::Broken;
use postrider_common::supervisor::Supervisor;
use postrider_common::{Domain, Draft, Envelope, Urgency};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::device::{Session, device, mailbox};
use super::files::attachment_of;
use super::invariants;
use super::ledger::{Holder, Ledger, Request, Tick, id_of};
use super::moves::Homes;
use super::network::Network;
use super::node::Node;
use super::script::{DEVICES, Letter, MAILBOXES, Op, Script};
use super::source::{START, SharedDice, SimulatedClock};
use super::{Fault, Run};
use crate::dice::Dice;

/// Everything comes to rest within this: the longest wait between two tries is an hour.
const PATIENCE: Duration = Duration::from_secs(12 * 3600);
/// After so long nothing is remembered of what has ended.
const MEMORY: i32 = 40 * 86_400;

/// Everything that there is in a run.
pub(super) struct World {
    pub(super) nodes: Vec<Arc<Node>>,
    pub(super) ledger: Arc<Ledger>,
    network: Arc<Network>,
    domains: Vec<Domain>,
    /// Of the network and of clients.
    supervisor: Supervisor,
    dice: Arc<SharedDice>,
    sessions: Arc<Mutex<BTreeMap<Holder, Session>>>,
    /// Where the mailboxes are.
    pub(super) homes: Arc<Homes>,
    /// Tell the clients of a relay that wait for an answer to go away.
    clients: Vec<Mutex<CancellationToken>>,
}

/// Carries a script out, and says what came of it.
pub(super) async fn run(seed: u64, script: &Script, fault: Option<Fault>, traced: bool) -> Run {
    let ledger = Arc::new(Ledger::new(traced));
    if let Some(world) = World::new(seed, script.relays, fault, &ledger) {
        world.carry_out(script).await;
        world.come_to_rest().await;
        invariants::check(&world).await;
        world.forget_all().await;
        for node in &world.nodes {
            node.die();
        }
    } else {
        ledger.violation("the relays have no names".into());
    }
    let (hash, trace) = ledger.trace();
    let books = ledger.books();
    Run { violations: books.violations.clone(), counts: books.counts, hash, trace }
}

impl World {
    fn new(seed: u64, relays: u8, fault: Option<Fault>, ledger: &Arc<Ledger>) -> Option<Self> {
        // Another stream than the one that has made the script.
        let mut dice = Dice::new(seed ^ 0x0070_6f73_7472_6964);
        let broken = match fault {
            Some(Fault::AnswerBeforeFlush) => Some(Broken::AnswersBeforeFlush),
            Some(Fault::ForgetMark) => Some(Broken::ForgetsMarks),
            Some(Fault::LoseUnclaimed) => Some(Broken::LosesUnclaimed),
            Some(Fault::GiveOld) => Some(Broken::GivesOld),
            Some(Fault::KeepOfRemoved) => Some(Broken::KeepsOfRemoved),
            Some(Fault::StayOpen) => Some(Broken::StaysOpen),
            Some(Fault::CountPartAsWhole) => Some(Broken::CountsPartAsWhole),
            Some(Fault::ForgetReference) => Some(Broken::ForgetsReferences),
            Some(Fault::SettleBeforeAnswer) | None => None,
        };
        let began = Instant::now();
        let nodes = (0..relays).map(|number| {
            let dice = SharedDice::new(dice.fork());
            Node::new(number, SimulatedClock::new(began), dice, broken, Arc::clone(ledger)).map(Arc::new)
        });
        let nodes: Vec<_> = nodes.collect::<Option<_>>()?;
        let supervisor = Supervisor::new();
        let network = Network::new(
            nodes.clone(),
            SharedDice::new(dice.fork()),
            Arc::clone(ledger),
            supervisor.clone(),
            fault == Some(Fault::SettleBeforeAnswer),
        );
        let domains: Vec<_> = nodes.iter().map(|node| node.domain.clone()).collect();
        for node in &nodes {
            node.start(&network, &domains);
        }
        Some(Self {
            clients: nodes.iter().map(|_| Mutex::default()).collect(),
            nodes,
            ledger: Arc::clone(ledger),
            network,
            domains,
            supervisor,
            dice: Arc::new(SharedDice::new(dice)),
            sessions: Arc::default(),
            homes: Arc::default(),
        })
    }

    async fn carry_out(&self, script: &Script) {
        for op in &script.ops {
            self.ledger.note(format_args!("{op:?}"));
            self.perform(op).await;
            tokio::task::yield_now().await;
        }
    }

    async fn perform(&self, op: &Op) {
        match *op {
            Op::Submit { at, ref letters } => self.submit(at, letters),
            Op::HangUp { at } => {
                if let Some(clients) = self.clients.get(usize::from(at)) {
                    std::mem::take(&mut *lock(clients)).cancel();
                }
            }
            Op::Register { mailbox, device } => self.register((mailbox, device)),
            Op::RemoveDevice { mailbox, device } => self.remove_device((mailbox, device)),
            Op::Suspend { mailbox } => self.suspend(mailbox, true),
            Op::Resume { mailbox } => self.suspend(mailbox, false),
            Op::Bring { number, at, chunks } => self.bring(number, at, chunks),
            Op::Unregister { mailbox } => self.unregister(mailbox),
            Op::Move { mailbox, to } => self.move_mailbox(mailbox, to),
            Op::Connect { mailbox, device, polls, acknowledges } => {
                self.connect(Session::new((mailbox, device), polls, acknowledges));
            }
            Op::Disconnect { mailbox, device } => {
                if let Some(session) = self.sessions().remove(&(mailbox, device)) {
                    session.gone.cancel();
                }
            }
            Op::Look { mailbox, device } => self.look((mailbox, device)),
            Op::Acknowledge { mailbox, device } => self.acknowledge((mailbox, device)),
            Op::Crash { relay, at } => match (self.node(relay), at) {
                (Some(node), None) => node.die(),
                (Some(node), Some((step, time))) => node.die_at(step, time),
                (None, _) => {}
            },
            Op::Stop { relay } => {
                if let Some(node) = self.node(relay) {
                    node.stop().await;
                }
            }
            Op::Restart { relay } => self.restart(relay).await,
            Op::Cut { from, to } => self.network.change(from, to, |way| way.cut = true),
            Op::Heal { from, to } => self.network.change(from, to, |way| {
                (way.cut, way.delay) = (false, Duration::ZERO);
            }),
            Op::Delay { from, to, millis } => {
                let delay = Duration::from_millis(millis.into());
                self.network.change(from, to, |way| way.delay = delay);
            }
            Op::LoseRequest { from, to } => self.network.change(from, to, |way| way.lost_requests += 1),
            Op::LoseAnswer { from, to } => self.network.change(from, to, |way| way.lost_answers += 1),
            Op::Repeat { from, to } => self.network.change(from, to, |way| way.repeated += 1),
            Op::Pass { millis } => sleep(Duration::from_millis(millis.into())).await,
            Op::SetClock { relay, seconds } => {
                if let Some(node) = self.node(relay) {
                    node.clock.set(seconds);
                }
            }
        }
    }

    /// A client's request runs in the relay's tasks, as it does in the daemon, and ends with them.
    fn submit(&self, at: u8, letters: &[Letter]) {
        let known = letters.iter().filter(|letter| self.keeper(letter.mailbox).is_some());
        let known = known.filter(|letter| letter.attachment.is_none_or(|relay| relay == at));
        let batch: Vec<_> = known.filter_map(|letter| Some((*letter, envelope(letter)?))).collect();
        let Some(life) = self.node(at).and_then(|node| node.life()).filter(|_| !batch.is_empty()) else {
            return;
        };
        let began = self.ledger.submitting(at, &batch);
        let items = batch.iter().filter_map(|(letter, envelope)| {
            let domain = self.domains.get(usize::from(letter.mailbox / MAILBOXES))?;
            Some(Ok((domain.clone(), envelope.clone())))
        });
        let items: Vec<_> = items.collect();
        let Some(hung_up) = self.clients.get(usize::from(at)).map(|clients| lock(clients).clone()) else {
            return;
        };
        let ledger = Arc::clone(&self.ledger);
        life.supervisor.clone().spawn("client request", async move {
            tokio::select! {
                biased;
                () = hung_up.cancelled() => {}
                results = life.core.exchange().submit(items) => ledger.submitted(began, &batch, &results),
            }
        });
    }

    /// What may be changing which devices there are would make it a matter of chance which of them come along.
    fn move_mailbox(&self, number: u8, to: u8) {
        let is_settled = {
            let books = self.ledger.books();
            let of_devices = books.registrations.iter().chain(&books.removals);
            let of_devices = of_devices.filter(|(holder, _)| holder.0 == number);
            let gates = [&books.suspensions, &books.resumptions].map(|requests| requests.get(&number));
            let requests = of_devices.map(|(_, requests)| requests).chain(gates.into_iter().flatten());
            requests.flatten().all(|request| request.answer.is_some())
                && !books.deletions.contains_key(&number)
        };
        let exist = self.keeper(number).is_some() && self.node(to).is_some();
        let Some(wanted) = (is_settled && exist).then(|| self.homes.begin(number, to)).flatten() else {
            return;
        };
        let (Some(from), Some(to)) = (self.node(wanted.from).cloned(), self.node(wanted.to).cloned()) else {
            return;
        };
        let (homes, sessions) = (Arc::clone(&self.homes), Arc::clone(&self.sessions));
        let ledger = Arc::clone(&self.ledger);
        self.supervisor.spawn("owner", async move {
            if wanted.carry_out(&homes, &from, &to, &ledger).await {
                // Its devices find the new relay when they next connect.
                let mut sessions = lock(&sessions);
                for index in 0..DEVICES {
                    if let Some(session) = sessions.remove(&(number, index)) {
                        session.gone.cancel();
                    }
                }
            }
        });
    }

    fn connect(&self, session: Session) {
        if let Some(node) = self.keeper(session.holder.0) {
            session.clone().start(node, &self.ledger, &self.dice);
            if let Some(before) = self.sessions().insert(session.holder, session) {
                before.gone.cancel();
            }
        }
    }

    async fn restart(&self, relay: u8) {
        let Some(node) = self.node(relay).filter(|node| node.is_down()) else { return };
        node.bury().await;
        node.start(&self.network, &self.domains);
        let connected = self.sessions().clone();
        let theirs = connected.into_iter().filter(|((mailbox, _), _)| self.homes.of(*mailbox) == relay);
        theirs.for_each(|(_, session)| session.start(node, &self.ledger, &self.dice));
    }

    /// Everything is mended, every device comes and takes what there is, until nothing is left to do.
    async fn come_to_rest(&self) {
        self.ledger.note(format_args!("everything is mended"));
        self.network.heal();
        for node in &self.nodes {
            node.spare();
            self.restart(node.number).await;
        }
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_secs(1);
        loop {
            self.resume_everybody().await;
            self.homes.moving().into_iter().for_each(|mailbox| self.move_mailbox(mailbox, 0));
            self.connect_everybody().await;
            sleep(pause).await;
            if self.is_at_rest().await {
                return;
            }
            if Instant::now() > deadline {
                return self.ledger.violation("something is still on its way, with nothing in it".into());
            }
            pause = (pause * 2).min(Duration::from_secs(300));
        }
    }

    /// Those that there are, and that are not connected as they should be.
    async fn connect_everybody(&self) {
        for number in 0..MAILBOXES * u8::try_from(self.nodes.len()).unwrap_or_default() {
            let Some(life) = self.keeper(number).and_then(|node| node.life()) else { continue };
            let Ok(Some(state)) = life.store.mailbox(mailbox(number)).await else { continue };
            if state.devices.is_empty() {
                self.register((number, 0));
            }
            for holder in (0..DEVICES).map(|index| (number, index)) {
                let is_there = state.devices.contains(&device(holder));
                let is_served = self.sessions().get(&holder).is_some_and(Session::serves);
                if is_there && !is_served {
                    self.connect(Session::new(holder, false, true));
                }
            }
        }
    }

    async fn is_at_rest(&self) -> bool {
        if !self.homes.moving().is_empty() {
            return false;
        }
        for node in &self.nodes {
            let Some(life) = node.life() else { return false };
            let Ok(destinations) = life.store.destinations().await else { return false };
            let kept = node.disk.census();
            let is_empty = !['E', 'U', 'B', 'W', 'Q', 'P'].iter().any(|kind| kept.contains_key(kind));
            if !is_empty || destinations.iter().any(|destination| destination.items > 0) {
                return false;
            }
            // One may have been closed since all were opened, and its devices would be kept for ever.
            if !self.closed_at(node).await.is_empty() {
                return false;
            }
        }
        true
    }

    /// So much later what has ended is not remembered any more, by anybody. Twice, for an attempt that was under way can
    /// still fail the first time, and that is remembered too.
    async fn forget_all(&self) {
        for times in [1, 2] {
            for node in &self.nodes {
                node.clock.set(times * MEMORY);
            }
            sleep(Duration::from_secs(130)).await;
        }
        for node in &self.nodes {
            let mut kept = node.disk.census();
            for kind in ['!', 'M', 'N'] {
                kept.remove(&kind);
            }
            if !kept.is_empty() {
                self.ledger.violation(format!("relay {} never forgets: {kept:?}", node.number));
            }
            if let Some(life) = node.life() {
                node.check(&life);
            }
        }
        if let Some(failure) = self.supervisor.failure() {
            self.ledger.violation(format!("the simulation itself: {failure}"));
        }
    }

    pub(super) fn node(&self, relay: u8) -> Option<&Arc<Node>> {
        self.nodes.get(usize::from(relay))
    }

    /// The relay of a mailbox, if there are that one and the one that it is addressed to.
    pub(super) fn keeper(&self, mailbox: u8) -> Option<&Arc<Node>> {
        self.node(mailbox / MAILBOXES).and(self.node(self.homes.of(mailbox)))
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<Holder, Session>> {
        lock(&self.sessions)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn answered(requests: &mut [Request], began: Tick, tick: Tick, is_done: bool) {
    for request in requests.iter_mut().filter(|request| request.began == began) {
        request.answer = Some((tick, is_done));
    }
}

/// Always the same for the same letter.
fn envelope(letter: &Letter) -> Option<Envelope> {
    let expires_at = START + Duration::from_secs(letter.expires.into());
    let body = format!("letter {} for mailbox {}", letter.number, letter.mailbox).into_bytes();
    let draft = Draft {
        id: id_of(letter.number),
        device: letter.device.map(|number| device((letter.mailbox, number))),
        urgency: if letter.ephemeral { Urgency::Ephemeral } else { Urgency::Normal },
        attachments: attachment_of(letter).into_iter().collect(),
        ..Draft::new(mailbox(letter.mailbox), expires_at, body)
    };
    draft.finish().ok()
}
