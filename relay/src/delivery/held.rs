//! What is in a mailbox when it moves to another relay is sent on to there.
//!
//! Piece by piece an envelope is queued for the new relay, and once that is durable its entry is deleted. A process that
//! dies in between does both once more, and the queue has the envelope once. The new relay's answer is waited for as with
//! any other; what it refuses stays in the queue until its time is over, for nobody else could be told.

use std::collections::BTreeSet;
use std::time::Duration;

use postrider_common::wire::mailbox::Entry;
use postrider_common::{Domain, MailboxId};
use tokio::sync::broadcast::error::RecvError;

use super::Delivery;
use crate::failpoint::{self, Step};
use crate::store::{Change, Enqueued, Onward, SentOn, Source, StoreError, Window};
use crate::telemetry::Seldom;

/// How much is queued at a time: other writes come in between.
const PIECE: Window = Window { count: 64, bytes: 1 << 20 };
/// How many mailboxes are looked up at a time.
const PAGE: usize = 64;
/// When what could not be queued is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// A store that fails does so again and again.
static SAID: Seldom = Seldom::new();

impl Delivery {
    /// Sends on what mailboxes that have moved hold: at the start, and whenever one moves.
    pub(super) async fn send_held(self) {
        let stopping = self.0.supervisor.stopping();
        tokio::pin!(stopping);
        // Subscribed before the first look, so that nothing falls between the two.
        let mut changes = self.0.store.watch();
        let mut waiting = BTreeSet::new();
        let mut looks = true;
        loop {
            if looks {
                looks = false;
                if let Err(error) = self.look_for_held(&mut waiting).await {
                    self.complain(&error);
                    looks = true;
                }
            }
            self.send_some_held(&mut waiting).await;
            let again = self.0.clock.sleep(if looks || !waiting.is_empty() { AGAIN } else { Duration::MAX });
            tokio::pin!(again);
            loop {
                tokio::select! {
                    biased;
                    () = &mut stopping => return,
                    change = changes.recv() => match change {
                        Ok(Change::Moved(mailbox)) => {
                            waiting.insert(mailbox);
                            break;
                        }
                        Ok(_) => {}
                        Err(RecvError::Lagged(_)) => {
                            looks = true;
                            break;
                        }
                        Err(RecvError::Closed) => return,
                    },
                    () = &mut again => break,
                }
            }
        }
    }

    async fn look_for_held(&self, waiting: &mut BTreeSet<MailboxId>) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = self.0.store.holding(after, PAGE).await?;
            after = page.last().copied();
            waiting.extend(&page);
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// Goes through all once. What is left could not be sent on now, and delays none of the others.
    async fn send_some_held(&self, waiting: &mut BTreeSet<MailboxId>) {
        for mailbox in std::mem::take(waiting) {
            if self.0.supervisor.is_stopping() {
                return;
            }
            match self.send_held_of(mailbox).await {
                Ok(true) => {}
                Ok(false) => drop(waiting.insert(mailbox)),
                Err(error) => {
                    self.complain(&error);
                    waiting.insert(mailbox);
                }
            }
        }
    }

    /// Queues what a mailbox holds; whether that was all.
    async fn send_held_of(&self, mailbox: MailboxId) -> Result<bool, StoreError> {
        let store = &self.0.store;
        while !self.0.supervisor.is_stopping() {
            let state = store.mailbox(mailbox).await?.filter(|state| state.has_moved);
            let Some(binding) = state.and_then(|state| state.binding) else { return Ok(true) };
            let (to, serial) = (binding.domain(), binding.serial());
            let held = store.held(mailbox, PIECE).await?;
            let is_last = held.is_empty();
            let onward = Onward { moves: 0, held: Some(serial) };
            let sent_on = held.iter().map(|Entry { id, envelope, .. }| {
                let source = Source::Held { entry: *id, serial };
                let addressed = Some(self.0.domain.clone());
                SentOn { envelope: envelope.clone(), addressed, onward, source }
            });
            let answers = self.queue_held(to, sent_on.collect()).await?;
            failpoint::reach(Step::Onward);
            let is_queued =
                |answer: &Enqueued| !matches!(answer, Enqueued::QueueFull | Enqueued::AttachmentMissing);
            let (count, queued) = (held.len(), answers.iter().filter(|answer| is_queued(answer)).count());
            let done = held.into_iter().zip(&answers).filter(|(_, answer)| is_queued(answer));
            store.release_held(mailbox, serial, done.map(|(entry, _)| entry).collect()).await?;
            tracing::debug!(peer = %to, queued, "sent on");
            if is_last {
                return Ok(true);
            }
            if queued < count {
                return Ok(false);
            }
        }
        Ok(false)
    }

    async fn queue_held(&self, to: &Domain, envelopes: Vec<SentOn>) -> Result<Vec<Enqueued>, StoreError> {
        if envelopes.is_empty() {
            return Ok(Vec::new());
        }
        self.0.store.enqueue_onward(to.clone(), envelopes, self.0.clock.now()).await
    }

    /// A relay that is full of envelopes says so elsewhere.
    fn complain(&self, error: &StoreError) {
        if !matches!(error, StoreError::Full | StoreError::Closed) && SAID.is_due(&error.to_string()) {
            tracing::error!("what a mailbox that has moved holds cannot be sent on: {error}");
        }
    }
}
