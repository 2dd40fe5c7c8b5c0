//! Submits batches through one relay until the load is over, and each until the relay has taken it.

use std::sync::Arc;
use std::time::Duration;

use postrider_client::{Relay, SubmitResult};
use postrider_common::{Attachment, Domain, Envelope, FailureClass, Timestamp};

use super::{Phase, World, files, letter};
use crate::dice::Dice;

/// More are not under way at once: relays that are down should not fill mailboxes when they come back.
const MAX_OPEN: usize = 8_000;
/// Envelopes in a batch.
const BATCH: usize = 48;
/// One in so many envelopes lives for a few seconds only.
const SHORT_LIVED: usize = 50;
/// One in so many batches has an envelope with an attachment.
const LADEN: usize = 10;
/// One in so many batches is submitted again although it was accepted.
const AGAIN: usize = 20;

/// Runs until the load is over.
pub(super) async fn run(world: Arc<World>, origin: usize, relay: Relay, mut dice: Dice) {
    let sender = Sender { world: &world, origin, relay };
    let mut phase = world.phase();
    let mut open = world.ledger.open();
    let mut earlier = Vec::new();
    loop {
        tokio::select! {
            _ = phase.wait_for(|phase| *phase > Phase::Load) => break,
            _ = open.wait_for(|open| *open < MAX_OPEN) => {}
        }
        let mut batch = sender.write(&mut dice);
        if dice.once_in(LADEN) {
            let user = dice.below(world.users.len());
            let attachment = files::bring(&sender.relay, &mut dice).await;
            batch.push(sender.write_to(user, world.long_life(), vec![attachment], &mut dice));
        }
        sender.submit(batch.clone(), &mut dice).await;
        if dice.once_in(AGAIN) {
            let again = std::mem::replace(&mut earlier, batch);
            sender.submit(again, &mut dice).await;
        }
    }
}

/// Submits one envelope for each of the users of `destination`, until its relay has them.
pub(super) async fn submit_one_each(world: &World, origin: usize, destination: usize, dice: &mut Dice) {
    let Ok(relay) = world.client(origin) else { return };
    let sender = Sender { world, origin, relay };
    let mut batch = Vec::new();
    for user in world.users_of(destination) {
        batch.push(sender.write_to(user, world.long_life(), Vec::new(), dice));
    }
    sender.submit(batch, dice).await;
}

struct Sender<'a> {
    world: &'a World,
    origin: usize,
    relay: Relay,
}

impl Sender<'_> {
    fn write(&self, dice: &mut Dice) -> Vec<(Domain, Envelope)> {
        let mut batch = Vec::new();
        for _ in 0..dice.between(1, BATCH) {
            let user = dice.below(self.world.users.len());
            let expires_at = if dice.once_in(SHORT_LIVED) {
                self.world.now() + dice.millis(2_000, 6_000)
            } else {
                self.world.long_life()
            };
            batch.push(self.write_to(user, expires_at, Vec::new(), dice));
        }
        batch
    }

    fn write_to(
        &self,
        user: usize,
        expires_at: Timestamp,
        attachments: Vec<Attachment>,
        dice: &mut Dice,
    ) -> (Domain, Envelope) {
        let address = self.world.address(user);
        let home = self.world.ledger.home(user);
        // Some know already where a mailbox has moved.
        let is_told = home != World::relay_of(user) && dice.once_in(2);
        let domain = if is_told { self.world.domain(home) } else { address.domain.clone() };
        let envelope = letter::write(dice, address.mailbox, expires_at, attachments);
        self.world.ledger.written(&envelope, self.origin, user);
        (domain, envelope)
    }

    /// Until each was taken, or its time is over. What has no answer is submitted again under the same id.
    async fn submit(&self, mut batch: Vec<(Domain, Envelope)>, dice: &mut Dice) {
        let mut patience = Duration::from_millis(50);
        while !batch.is_empty() {
            self.world.ledger.submitting(batch.iter().map(|(_, envelope)| envelope.id()));
            match self.relay.submit(&batch).await {
                Ok(results) => batch = self.left(batch, results),
                Err(_) => self.world.ledger.unanswered(batch.iter().map(|(_, envelope)| envelope.id())),
            }
            if batch.is_empty() {
                return;
            }
            // The back-off of an impatient client.
            tokio::time::sleep(patience + dice.millis(0, 50)).await;
            patience = (patience * 2).min(Duration::from_secs(1));
        }
    }
    /// What is to be submitted again after an answer.
    fn left(&self, batch: Vec<(Domain, Envelope)>, results: Vec<SubmitResult>) -> Vec<(Domain, Envelope)> {
        let ledger = &self.world.ledger;
        let mut left = Vec::new();
        for ((domain, envelope), result) in batch.into_iter().zip(results) {
            let id = envelope.id();
            match result {
                SubmitResult::Stored => ledger.accepted(id, None),
                SubmitResult::Queued { tracking } => ledger.accepted(id, Some(tracking)),
                SubmitResult::Refused { reason, retry_after: None } => {
                    ledger.refused(id, reason, self.world.now());
                }
                SubmitResult::Refused { reason, retry_after: Some(_) } => {
                    match reason {
                        // It is not said whether it was taken.
                        FailureClass::Unavailable => ledger.unanswered([id]),
                        _ => ledger.put_off(id),
                    }
                    left.push((domain, envelope));
                }
                // Of a kind that there is not yet.
                _ => {
                    ledger.unanswered([id]);
                    left.push((domain, envelope));
                }
            }
        }
        left
    }
}
