//! A peer that answers as it is told, and a delivery service with a clock that a test moves.

use std::collections::VecDeque;

use postrider_common::clock::{Clock, ManualClock};
use postrider_common::random::SystemRandom;
use postrider_common::{Attachment, AttachmentId, Draft, FailureClass, MailboxId, Timestamp, TrackingId};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::super::*;
use crate::queue::shows_in_greeting;
use crate::store::{Backoff, Chunk, Enqueued, StoreLimits, Tracking, TrackingEnd, in_memory};

/// Ends a test that waits in vain.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) const START: Timestamp = Timestamp::from_secs(1_800_000_000);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

pub(super) type Reply = Result<Outcome, FailureClass>;

/// Peers that answer every envelope of a batch as told, and remember the batches.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) replies: Mutex<VecDeque<Reply>>,
    /// What comes of bringing attachments, each time once, before it succeeds.
    pub(super) not_brought: Mutex<VecDeque<Result<Brought, Failure>>>,
    /// Moved on by a minute each time before they come further.
    pub(super) slow: Mutex<Option<ManualClock>>,
    /// Only this one is the peer of the replies and the gate; others store everything at once.
    pub(super) domain: Domain,
    pub(super) batches: watch::Sender<Vec<usize>>,
    pub(super) bodies: Mutex<Vec<Vec<u8>>>,
    pub(super) others: Mutex<Vec<Domain>>,
    pub(super) greeted: watch::Sender<Vec<Domain>>,
    pub(super) fingerprint: Mutex<Option<u64>>,
    /// Permits to answer: none, and attempts hang.
    pub(super) gate: Semaphore,
}

impl Peer {
    /// Answers with each of `replies` once, then stores everything.
    pub(super) fn new(replies: impl IntoIterator<Item = Reply>) -> Arc<Self> {
        Arc::new(Self {
            replies: Mutex::new(replies.into_iter().collect()),
            not_brought: Mutex::default(),
            slow: Mutex::default(),
            domain: beta(),
            batches: watch::Sender::default(),
            bodies: Mutex::default(),
            others: Mutex::default(),
            greeted: watch::Sender::default(),
            fingerprint: Mutex::new(Some(1)),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        })
    }

    /// One that cannot be reached, however often it is tried.
    pub(super) fn dead() -> Arc<Self> {
        Self::new(vec![Err(FailureClass::ConnectFailed); 1000])
    }

    pub(super) async fn batches(&self, wanted: usize) -> Vec<usize> {
        let mut batches = self.batches.subscribe();
        batches.wait_for(|batches| batches.len() >= wanted).await.unwrap().clone()
    }
}

pub(super) fn beta() -> Domain {
    "beta.example".parse().unwrap()
}

impl Forward for Peer {
    fn admit(&self, _destination: &Domain) -> Result<(), Failure> {
        Ok(())
    }

    fn forward<'a>(
        &'a self,
        destination: &'a Domain,
        envelopes: &'a [Envelope],
    ) -> BoxFuture<'a, Result<Vec<Outcome>, Failure>> {
        Box::pin(async move {
            if *destination != self.domain {
                return if self.others.lock().unwrap().contains(destination) {
                    Err(Failure::new(FailureClass::DiscoveryFailed, "as the test wants it"))
                } else {
                    Ok(vec![Outcome::Stored; envelopes.len()])
                };
            }
            self.bodies.lock().unwrap().extend(envelopes.iter().map(|envelope| envelope.body().to_vec()));
            self.batches.send_modify(|batches| batches.push(envelopes.len()));
            self.gate.acquire().await.unwrap().forget();
            let reply = self.replies.lock().unwrap().pop_front().unwrap_or(Ok(Outcome::Stored));
            reply
                .map(|outcome| vec![outcome; envelopes.len()])
                .map_err(|class| Failure::new(class, "as the test wants it"))
        })
    }

    fn bring<'a>(
        &'a self,
        _destination: &'a Domain,
        _envelope: &'a Envelope,
        progress: &'a (dyn Fn() + Send + Sync),
    ) -> BoxFuture<'a, Result<Brought, Failure>> {
        if let Some(clock) = &*self.slow.lock().unwrap() {
            clock.advance(Duration::from_secs(60));
            progress();
        }
        let brought = self.not_brought.lock().unwrap().pop_front().unwrap_or(Ok(Brought::Whole));
        Box::pin(async { brought })
    }

    fn greet<'a>(&'a self, peer: &'a Domain) -> BoxFuture<'a, Result<(), Failure>> {
        self.greeted.send_modify(|greeted| greeted.push(peer.clone()));
        let next = self.replies.lock().unwrap().front().cloned().filter(|_| *peer == self.domain);
        let failure = next.and_then(Result::err).filter(|class| shows_in_greeting(*class));
        let answer = failure.map_or(Ok(()), |class| Err(Failure::new(class, "as the test wants it")));
        Box::pin(async { answer })
    }

    fn fingerprint<'a>(&'a self, _destination: &'a Domain) -> BoxFuture<'a, Option<u64>> {
        Box::pin(async { *self.fingerprint.lock().unwrap() })
    }
}

/// A delivery service over a store in memory, on a clock that the test moves.
pub(super) struct Bench {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: ManualClock,
    pub(super) supervisor: Supervisor,
    pub(super) delivery: Delivery,
    pub(super) destination: Domain,
}

impl Bench {
    pub(super) fn new(peer: &Arc<Peer>) -> Self {
        Self::with(peer, Settings::default())
    }

    pub(super) fn with(peer: &Arc<Peer>, settings: Settings) -> Self {
        Unstarted::new().start(peer, settings)
    }

    pub(super) async fn enqueue(&self, count: usize) -> Vec<TrackingId> {
        self.enqueue_for(&self.destination, (0..count).map(|_| vec![b'x'])).await
    }

    pub(super) async fn enqueue_for(
        &self,
        destination: &Domain,
        bodies: impl IntoIterator<Item = Vec<u8>>,
    ) -> Vec<TrackingId> {
        let draft = |body| Draft::new(MailboxId::from_bytes([1; 32]), START + 30 * DAY, body);
        self.enqueue_drafts(destination, bodies.into_iter().map(draft)).await
    }

    /// Each with an attachment.
    pub(super) async fn enqueue_laden(&self, count: usize) -> Vec<TrackingId> {
        let now = self.clock.now();
        let mut drafts = Vec::new();
        for _ in 0..count {
            let attachment = Attachment { id: AttachmentId::random(), length: 1, chunk_length: 1 };
            let state = self.store.reserve_attachment(attachment.clone(), now).await.unwrap().unwrap();
            let chunk = Chunk { number: 0, digest: [0; 32] };
            assert!(self.store.put_chunk(attachment.id, state.file, chunk, now).await.unwrap());
            let draft = Draft::new(MailboxId::from_bytes([1; 32]), START + 30 * DAY, &b"x"[..]);
            drafts.push(Draft { attachments: vec![attachment], ..draft });
        }
        self.enqueue_drafts(&self.destination, drafts).await
    }

    async fn enqueue_drafts(
        &self,
        destination: &Domain,
        drafts: impl IntoIterator<Item = Draft>,
    ) -> Vec<TrackingId> {
        let now = self.clock.now();
        let envelopes = drafts.into_iter().map(|draft| draft.finish().unwrap()).collect();
        let answers =
            self.store.enqueue(destination.clone(), destination.clone(), envelopes, now).await.unwrap();
        let id = |answer| match answer {
            Enqueued::Queued(id) => id,
            other => panic!("{other:?}"),
        };
        answers.into_iter().map(id).collect()
    }

    /// Waits until the store has what is wanted. It says nothing of settled items, so it is asked again.
    pub(super) async fn tracked(&self, id: TrackingId, wanted: impl Fn(&Tracking) -> bool) -> Tracking {
        let asking = async {
            loop {
                let tracking = self.store.tracking(id).await.unwrap().unwrap();
                if wanted(&tracking) {
                    return tracking;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, asking).await.expect("it comes to that")
    }

    /// Waits until nothing waits for a destination.
    pub(super) async fn delivered(&self, destination: &Domain) {
        self.delivered_but(destination, 0).await;
    }

    /// Waits until so few wait for a destination.
    pub(super) async fn delivered_but(&self, destination: &Domain, left: u64) {
        while self.store.destination(destination.clone()).await.unwrap().is_some_and(|it| it.items > left) {
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn end(&self, id: TrackingId) -> TrackingEnd {
        self.tracked(id, |tracking| tracking.end.is_some()).await.end.unwrap().0
    }

    pub(super) async fn backoff(&self, wanted: impl Fn(&Option<Backoff>) -> bool) -> Option<Backoff> {
        loop {
            let state = self.store.destination(self.destination.clone()).await.unwrap();
            let backoff = state.and_then(|state| state.backoff);
            if wanted(&backoff) {
                return backoff;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Lets time pass until something is sent: whatever the jitter made of the wait.
    pub(super) async fn advance_until(&self, peer: &Peer, batches: usize) {
        loop {
            tokio::select! {
                biased;
                _ = peer.batches(batches) => return,
                () = self.pass(Duration::from_millis(100)) => {}
            }
        }
    }

    /// Lets a little time pass, once the store has answered what it was asked before: else a lease could lapse while
    /// its taker still waits for it.
    pub(super) async fn pass(&self, time: Duration) {
        // That comes after everything else, but nobody waits for it; the other is answered at once, and takes it along.
        let nobody = MailboxId::from_bytes([0; 32]);
        let last = self.store.expire(Timestamp::default(), 0);
        let (last, _) = tokio::join!(last, self.store.unregister(nobody));
        last.unwrap();
        tokio::task::yield_now().await;
        self.clock.advance(time);
    }
}

/// A store and a clock, before there is a service over them.
pub(super) struct Unstarted {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: ManualClock,
    supervisor: Supervisor,
}

impl Unstarted {
    pub(super) fn new() -> Self {
        let supervisor = Supervisor::new();
        let store = in_memory(StoreLimits::default(), &supervisor).unwrap();
        Self { store, clock: ManualClock::new(START), supervisor }
    }

    pub(super) fn start(self, peer: &Arc<Peer>, settings: Settings) -> Bench {
        let Self { store, clock, supervisor } = self;
        let delivery = Delivery::start(
            "alpha.example".parse().unwrap(),
            Arc::clone(&store),
            Arc::clone(peer) as Arc<dyn Forward>,
            Arc::new(clock.clone()),
            Arc::new(SystemRandom),
            &supervisor,
            settings,
        );
        Bench { store, clock, supervisor, delivery, destination: beta() }
    }
}
