//! The core that all edges share: what comes in is routed, kept, and answered for; what goes out is handed over.
//!
//! An edge translates and checks who is asking. Every rule about envelopes is here or below.

mod mailboxes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use postrider_common::clock::SharedClock;
use postrider_common::limits::EnvelopeLimits;
use postrider_common::wire::submit::{SubmitResult, Submitted};
use postrider_common::{
    Attachment, AttachmentId, Binding, Domain, Envelope, FailureClass, MailboxId, Outcome, Timestamp,
    TrackingId, Urgency,
};

use crate::config::RegistrationPolicy;
use crate::count::{ByClass, Counter};
use crate::delivery::Forward;
use crate::hub::Hub;
use crate::route::{Route, route};
use crate::store::{Enqueued, MailboxState, Store, StoreError, Tracking};

pub use mailboxes::MailboxError;

/// When a sender is asked back after the relay itself could not do something.
const RETRY_SOON: Duration = Duration::from_secs(5);
/// When a sender is asked back whose destination's queue is full.
const RETRY_LATER: Duration = Duration::from_secs(60);

/// How long a peer may take for ephemeral envelopes.
const AT_ONCE: Duration = Duration::from_secs(3);

/// One relay's core.
#[derive(Debug)]
pub struct Exchange {
    domain: Domain,
    limits: EnvelopeLimits,
    registration: RegistrationPolicy,
    store: Arc<dyn Store>,
    forward: Arc<dyn Forward>,
    hub: Hub,
    clock: SharedClock,
    counts: Counts,
}

/// What became of envelopes here, since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Of those that clients have brought.
    pub clients: EdgeCounts,
    /// Of those that other relays have brought.
    pub relays: EdgeCounts,
    /// Put into mailboxes.
    pub stored: Counter,
    /// Put into the queue.
    pub queued: Counter,
    /// Handed to devices.
    pub delivered: Counter,
    /// Acknowledged by devices.
    pub acknowledged: Counter,
    /// Over before they were fetched.
    pub expired_in_mailboxes: Counter,
    /// Over while they were in the queue and not under way.
    pub expired_in_queue: Counter,
}

/// What was answered at one edge.
#[derive(Debug, Default)]
pub struct EdgeCounts {
    /// Taken, or here already.
    pub accepted: Counter,
    /// Not taken, for now or for good.
    pub refused: ByClass,
}

impl Exchange {
    /// The core of the relay `domain`.
    pub fn new(
        domain: Domain,
        limits: EnvelopeLimits,
        registration: RegistrationPolicy,
        store: Arc<dyn Store>,
        forward: Arc<dyn Forward>,
        hub: Hub,
        clock: SharedClock,
    ) -> Self {
        Self { domain, limits, registration, store, forward, hub, clock, counts: Counts::default() }
    }

    /// What became of envelopes here.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How many devices are connected.
    pub fn connected(&self) -> usize {
        self.hub.connected()
    }

    /// The relay's name.
    pub const fn domain(&self) -> &Domain {
        &self.domain
    }

    /// What it takes as one envelope and as one batch.
    pub const fn limits(&self) -> &EnvelopeLimits {
        &self.limits
    }

    /// The relay's time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Takes a client's batch: one result each, in order, once everything that was taken is durable.
    pub async fn submit(&self, batch: Vec<Submitted>) -> Vec<SubmitResult> {
        let now = self.clock.now();
        let mut results: Vec<Option<SubmitResult>> = Vec::new();
        let mut local = Group::default();
        let mut remote = Remote::new();
        let learnt = self.learnt(&batch).await;
        let _pinned = shared_attachments(&batch).map(|ids| self.store.pin(ids));
        for (index, item) in batch.into_iter().enumerate() {
            let taken = item.and_then(|(domain, envelope)| {
                self.limits.check(&envelope, now)?;
                check_attachments(&envelope)?;
                let binding = learnt.get(&(*envelope.mailbox(), domain.clone()));
                match route(&self.domain, &domain, binding) {
                    Route::Local => local.push(index, envelope),
                    Route::Remote(destination) => {
                        self.add(&mut remote, index, (destination, &domain), envelope)?;
                    }
                }
                Ok(())
            });
            results.push(taken.err().map(refused));
        }
        let (local, remote) = join(self.submit_here(local, now), self.submit_elsewhere(remote, now)).await;
        for (index, result) in local.into_iter().chain(remote) {
            results[index] = Some(result);
        }
        // Every item was either refused or put into a group, and a group answers for all of its items.
        let unanswered = || refused_for_now(FailureClass::Unavailable, RETRY_SOON);
        let results: Vec<_> = results.into_iter().map(|result| result.unwrap_or_else(unanswered)).collect();
        self.counts.clients.count(results.iter().map(|result| match result {
            SubmitResult::Refused { reason, .. } => Some(*reason),
            _ => None,
        }));
        results
    }

    /// What the relays of a batch's addresses have told of the mailboxes.
    async fn learnt(&self, batch: &[Submitted]) -> BTreeMap<(MailboxId, Domain), Binding> {
        let items = batch.iter().flatten().filter(|(domain, _)| *domain != self.domain);
        let addresses: Vec<_> =
            items.map(|(domain, envelope)| (*envelope.mailbox(), domain.clone())).collect();
        if addresses.is_empty() {
            return BTreeMap::new();
        }
        // Without an answer they go where they are addressed to, and are told there.
        let learnt = self.store.learnt(addresses.clone()).await.unwrap_or_default();
        addresses.into_iter().zip(learnt).filter_map(|(address, binding)| Some((address, binding?))).collect()
    }

    fn add(
        &self,
        remote: &mut Remote,
        index: usize,
        (destination, addressed): (&Domain, &Domain),
        envelope: Envelope,
    ) -> Result<(), FailureClass> {
        self.forward.admit(destination).map_err(|failure| failure.class)?;
        let way = Way {
            destination: destination.clone(),
            addressed: addressed.clone(),
            is_ephemeral: envelope.urgency() == Urgency::Ephemeral,
        };
        remote.entry(way).or_default().push(index, envelope);
        Ok(())
    }

    /// What is for our own mailboxes; what is for one that has moved goes there.
    async fn submit_here(&self, group: Group, now: Timestamp) -> Vec<(usize, SubmitResult)> {
        let outcomes = self.deposit(Edge::Clients, group.envelopes.clone(), now).await;
        let mut moved = Remote::new();
        let mut results = Vec::with_capacity(outcomes.len());
        let items = group.indices.into_iter().zip(group.envelopes);
        for ((index, envelope), outcome) in items.zip(outcomes) {
            match outcome {
                Outcome::Moved(binding) => {
                    // Nothing that was learnt of a mailbox counts once it is registered here, so that is its address.
                    let way = (binding.domain(), &self.domain);
                    if let Err(reason) = self.add(&mut moved, index, way, envelope) {
                        results.push((index, refused(reason)));
                    }
                }
                outcome => results.push((index, result_of(&outcome))),
            }
        }
        if !moved.is_empty() {
            results.extend(self.submit_elsewhere(moved, now).await);
        }
        results
    }

    async fn submit_elsewhere(&self, remote: Remote, now: Timestamp) -> Vec<(usize, SubmitResult)> {
        let results = remote.into_iter().map(|(way, group)| async move {
            let results = if way.is_ephemeral {
                self.forward_at_once(&way.destination, &group.envelopes).await
            } else {
                self.enqueue(way, group.envelopes, now).await
            };
            group.indices.into_iter().zip(results).collect::<Vec<_>>()
        });
        join_all(results).await.concat()
    }

    /// Takes a peer's batch: one outcome each, in order, once everything that was taken is durable.
    pub async fn receive(&self, batch: Vec<Result<Envelope, FailureClass>>) -> Vec<Outcome> {
        let now = self.clock.now();
        let mut taken = Vec::with_capacity(batch.len());
        let checked: Vec<Result<(), FailureClass>> = batch
            .into_iter()
            .map(|item| {
                let envelope = item?;
                self.limits.check(&envelope, now)?;
                check_attachments(&envelope)?;
                taken.push(envelope);
                Ok(())
            })
            .collect();
        let mut outcomes = self.deposit(Edge::Relays, taken, now).await.into_iter();
        let answer = |checked| match checked {
            Ok(()) => outcomes.next().unwrap_or(Outcome::retry(FailureClass::Unavailable, RETRY_SOON)),
            Err(reason) => Outcome::reject(reason),
        };
        let answers: Vec<_> = checked.into_iter().map(answer).collect();
        self.counts.relays.count(answers.iter().map(|outcome| match outcome {
            Outcome::Stored | Outcome::Duplicate => None,
            Outcome::Retry { reason, .. } | Outcome::Reject { reason } => Some(*reason),
            Outcome::Moved(_) => Some(FailureClass::Moved),
        }));
        answers
    }

    /// Puts checked envelopes into our own mailboxes, or hands ephemeral ones to connected devices.
    async fn deposit(&self, from: Edge, envelopes: Vec<Envelope>, now: Timestamp) -> Vec<Outcome> {
        let is_ephemeral = |envelope: &Envelope| envelope.urgency() == Urgency::Ephemeral;
        if !envelopes.iter().any(is_ephemeral) {
            return self.keep(from, envelopes, now).await;
        }
        let mut handed_over: Vec<Option<Outcome>> = Vec::with_capacity(envelopes.len());
        for envelope in &envelopes {
            handed_over.push(match is_ephemeral(envelope) {
                true => Some(self.hand_over(envelope).await),
                false => None,
            });
        }
        let kept = envelopes.into_iter().filter(|envelope| !is_ephemeral(envelope)).collect();
        let mut kept = self.keep(from, kept, now).await.into_iter();
        handed_over.into_iter().filter_map(|outcome| outcome.or_else(|| kept.next())).collect()
    }

    /// One outcome for each envelope, in order.
    async fn keep(&self, from: Edge, envelopes: Vec<Envelope>, now: Timestamp) -> Vec<Outcome> {
        let count = envelopes.len();
        if count == 0 {
            return Vec::new();
        }
        let deposited = match from {
            Edge::Clients => self.store.deposit_submitted(self.domain.clone(), envelopes, now),
            Edge::Relays => self.store.deposit(envelopes, now),
        };
        match deposited.await {
            Ok(outcomes) => {
                tracing::debug!(count, "stored");
                let stored = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Stored)).count();
                self.counts.stored.add(stored);
                outcomes
            }
            Err(error) => vec![Outcome::retry(error.class(), RETRY_SOON); count],
        }
    }

    async fn hand_over(&self, envelope: &Envelope) -> Outcome {
        if self.hub.hand_over(envelope) {
            return Outcome::Stored;
        }
        match self.store.mailbox(*envelope.mailbox()).await {
            Ok(Some(MailboxState { binding: Some(binding), has_moved: true, .. })) => {
                Outcome::Moved(Box::new(binding))
            }
            Ok(Some(MailboxState { suspended: Some(_), .. })) => {
                Outcome::reject(FailureClass::MailboxRefused)
            }
            _ => Outcome::reject(FailureClass::NotConnected),
        }
    }

    async fn enqueue(&self, way: Way, envelopes: Vec<Envelope>, now: Timestamp) -> Vec<SubmitResult> {
        let (count, destination) = (envelopes.len(), way.destination.clone());
        match self.store.enqueue(way.destination, way.addressed, envelopes, now).await {
            Ok(answers) => {
                tracing::debug!(peer = %destination, count, "queued");
                let queued = answers.iter().filter(|answer| matches!(answer, Enqueued::Queued(_))).count();
                self.counts.queued.add(queued);
                let result = |answer| match answer {
                    Enqueued::Queued(tracking) | Enqueued::Duplicate(tracking) => {
                        SubmitResult::Queued { tracking }
                    }
                    Enqueued::QueueFull => refused_for_now(FailureClass::QueueFull, RETRY_LATER),
                    Enqueued::AttachmentMissing => refused(FailureClass::AttachmentMissing),
                };
                answers.into_iter().map(result).collect()
            }
            Err(error) => vec![refused_for_now(error.class(), RETRY_SOON); count],
        }
    }

    /// Ephemeral envelopes are offered to their relay now or never. A peer that does not answer does not keep the
    /// other envelopes of the batch waiting for long.
    async fn forward_at_once(&self, destination: &Domain, envelopes: &[Envelope]) -> Vec<SubmitResult> {
        let forwarded = self.forward.forward(destination, envelopes);
        match tokio::time::timeout(AT_ONCE, forwarded).await {
            Ok(Ok(outcomes)) => outcomes.iter().map(result_of).collect(),
            Ok(Err(failure)) => vec![refused(failure.class); envelopes.len()],
            Err(_) => vec![refused(FailureClass::RemoteFailed); envelopes.len()],
        }
    }

    /// What became of a queued envelope, and its destination's next attempt if that is being waited for.
    pub async fn tracking(&self, id: TrackingId) -> Result<Option<(Tracking, Option<Waiting>)>, StoreError> {
        let Some(tracking) = self.store.tracking(id).await? else {
            return Ok(None);
        };
        if tracking.end.is_some() {
            return Ok(Some((tracking, None)));
        }
        let destination = self.store.destination(tracking.destination.clone()).await?;
        let backoff = destination.and_then(|destination| destination.backoff);
        let waiting = backoff.map(|backoff| Waiting {
            failures: backoff.failures,
            class: backoff.class,
            next_attempt: backoff.next_attempt,
        });
        Ok(Some((tracking, waiting)))
    }
}

impl EdgeCounts {
    /// The answers to a batch: each the reason why it was refused, if it was.
    fn count(&self, answers: impl Iterator<Item = Option<FailureClass>>) {
        let mut accepted = 0;
        for answer in answers {
            match answer {
                None => accepted += 1,
                Some(reason) => self.refused.add(reason, 1),
            }
        }
        self.accepted.add(accepted);
    }
}

/// A failing destination's state, as far as a sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Consecutive failures.
    pub failures: u32,
    /// The last one's class.
    pub class: FailureClass,
    /// When it is tried next.
    pub next_attempt: Timestamp,
}

/// Who brings envelopes.
#[derive(Debug, Clone, Copy)]
enum Edge {
    Clients,
    Relays,
}

/// What goes to other relays.
type Remote = BTreeMap<Way, Group>;

/// How an envelope goes to another relay.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    destination: Domain,
    /// Where its sender takes the mailbox to be, and will again if this is repeated.
    addressed: Domain,
    is_ephemeral: bool,
}

/// Envelopes of a batch that go the same way, with their places in it.
#[derive(Default)]
struct Group {
    indices: Vec<usize>,
    envelopes: Vec<Envelope>,
}

impl Group {
    fn push(&mut self, index: usize, envelope: Envelope) {
        self.indices.push(index);
        self.envelopes.push(envelope);
    }
}

/// Attachments that several envelopes of a batch have.
fn shared_attachments(batch: &[Submitted]) -> Option<Vec<AttachmentId>> {
    let mut seen = BTreeMap::<AttachmentId, usize>::new();
    for (_, envelope) in batch.iter().flatten() {
        for attachment in envelope.attachments() {
            *seen.entry(attachment.id).or_default() += 1;
        }
    }
    let shared: Vec<_> = seen.into_iter().filter(|(_, count)| *count > 1).map(|(id, _)| id).collect();
    (!shared.is_empty()).then_some(shared)
}

/// What is stored nowhere has nothing beside it that is. And what is named twice is there once, and would count twice.
fn check_attachments(envelope: &Envelope) -> Result<(), FailureClass> {
    let attachments = envelope.attachments();
    let is_ephemeral = envelope.urgency() == Urgency::Ephemeral;
    let is_repeated =
        |(place, one): (usize, &Attachment)| attachments[..place].iter().any(|before| before.id == one.id);
    let is_possible = attachments.is_empty() || !is_ephemeral;
    if is_possible && !attachments.iter().enumerate().any(is_repeated) {
        Ok(())
    } else {
        Err(FailureClass::Malformed)
    }
}

fn result_of(outcome: &Outcome) -> SubmitResult {
    match outcome {
        Outcome::Stored | Outcome::Duplicate => SubmitResult::Stored,
        // A peer brings its envelopes' attachments again; a client has to know that it must.
        Outcome::Retry { reason: FailureClass::AttachmentMissing, .. } => {
            refused(FailureClass::AttachmentMissing)
        }
        Outcome::Retry { reason, after } => refused_for_now(*reason, *after),
        Outcome::Reject { reason } => refused(*reason),
        Outcome::Moved(_) => refused(FailureClass::Moved),
    }
}

fn refused(reason: FailureClass) -> SubmitResult {
    SubmitResult::Refused { reason, retry_after: None }
}

fn refused_for_now(reason: FailureClass, after: Duration) -> SubmitResult {
    SubmitResult::Refused { reason, retry_after: Some(after) }
}
