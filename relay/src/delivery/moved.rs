//! A destination says that a mailbox has moved: its envelopes follow the binding.
//!
//! First an envelope is queued for the new relay, or deposited here, and once that is durable its item at the old one
//! ends, each in a batch of its own. A process that dies in between offers it to the old relay once more, is told the
//! same, and finds it queued.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_common::{Binding, Domain, FailureClass, MailboxId, Outcome, Timestamp};

use super::Delivery;
use crate::failpoint::{self, Step};
use crate::queue::{judge_answer, spare};
use crate::route::{Follow, MAX_MOVES, follow};
use crate::store::{Enqueued, ItemId, Leased, Onward, SentOn, Source, StoreError, Verdict};

/// For how long what was learnt of a mailbox is remembered without being told again.
const LEARNT_FOR: Duration = Duration::from_secs(30 * 86_400);
/// When a full queue is tried again.
const FULL_FOR: Duration = Duration::from_secs(60);

/// An envelope that its destination is not for any more.
struct Moving<'a> {
    item: &'a Leased,
    binding: Binding,
    /// How many destinations have said so, this one included.
    onward: Onward,
}

/// What a worker does about mailboxes that have moved.
pub(super) struct Moves<'a> {
    pub(super) delivery: &'a Delivery,
    /// The worker's.
    pub(super) destination: &'a Domain,
}

impl Moves<'_> {
    /// What follows from the answers that say that a mailbox has moved. Those that stay where they are are left out.
    pub(super) async fn follow_answers(
        &self,
        items: &[Leased],
        outcomes: &[Option<Outcome>],
        now: Timestamp,
    ) -> Result<BTreeMap<ItemId, Verdict>, StoreError> {
        let mut verdicts = BTreeMap::new();
        let mut newest: BTreeMap<MailboxId, Binding> = BTreeMap::new();
        let mut moving = Vec::new();
        for (item, outcome) in items.iter().zip(outcomes) {
            let Some(Outcome::Moved(answered)) = outcome else { continue };
            if answered.mailbox() != item.envelope.mailbox() {
                continue;
            }
            if newest.get(answered.mailbox()).is_none_or(|known| known.serial() < answered.serial()) {
                let (told, told_by) = ((**answered).clone(), self.destination.clone());
                let binding = self.delivery.0.store.learn(told, told_by, now + LEARNT_FOR).await?;
                newest.insert(*answered.mailbox(), binding);
            }
            let Some(newest) = newest.get(answered.mailbox()) else { continue };
            let Onward { moves, held } = item.onward.unwrap_or(Onward { moves: 0, held: None });
            match follow(&self.delivery.0.domain, self.destination, answered, newest, moves) {
                Follow::Again => {}
                Follow::Loop => {
                    verdicts.insert(item.item, Verdict::Failed(FailureClass::Loop));
                }
                Follow::Local | Follow::Remote(_) => moving.push(Moving {
                    item,
                    binding: newest.clone(),
                    onward: Onward { moves: moves + 1, held },
                }),
            }
        }
        self.send_on(moving, now, &mut verdicts).await?;
        Ok(verdicts)
    }

    /// What was held for a mailbox of ours goes elsewhere if its owner has said so since: also if the relay that it was
    /// sent on to is never reached.
    async fn follow_owners<'a>(
        &self,
        items: impl Iterator<Item = &'a Leased>,
        now: Timestamp,
    ) -> Result<BTreeMap<ItemId, Verdict>, StoreError> {
        let mut moving = Vec::new();
        for item in items {
            let Some(Onward { moves, held: Some(followed) }) = item.onward else { continue };
            let state = self.delivery.0.store.mailbox(*item.envelope.mailbox()).await?;
            let binding = state.and_then(|state| state.binding);
            let Some(binding) = binding.filter(|binding| binding.domain() != self.destination) else {
                continue;
            };
            // What its owner has said since it was sent on begins it all anew. But where it was sent may know better than
            // its owner has told here: it is not sent round and round.
            let moves = match binding.serial() > followed {
                true => 0,
                false if moves < MAX_MOVES => moves + 1,
                false => continue,
            };
            let held = Some(followed.max(binding.serial()));
            moving.push(Moving { item, binding, onward: Onward { moves, held } });
        }
        let mut verdicts = BTreeMap::new();
        self.send_on(moving, now, &mut verdicts).await?;
        Ok(verdicts)
    }

    /// What becomes of envelopes that have followed a binding, and that are not there after all that has been tried.
    pub(super) async fn spare_moved(
        &self,
        items: &[Leased],
        verdicts: Vec<Verdict>,
        now: Timestamp,
    ) -> Result<Vec<Verdict>, StoreError> {
        if items.iter().all(|item| item.onward.is_none()) {
            return Ok(verdicts);
        }
        let is_left =
            |verdict: &Verdict| !matches!(verdict, Verdict::Delivered | Verdict::Expired | Verdict::Moved(_));
        let left = items.iter().zip(&verdicts).filter(|(_, verdict)| is_left(verdict));
        let followed = self.follow_owners(left.map(|(item, _)| item), now).await?;
        let spared = items.iter().zip(verdicts).map(|(item, verdict)| {
            let verdict = followed.get(&item.item).copied().unwrap_or(verdict);
            let Leased { onward, attempts, ref envelope, .. } = *item;
            spare(verdict, onward, envelope, attempts, now, self.delivery.jitter())
        });
        Ok(spared.collect())
    }

    async fn send_on(
        &self,
        moving: Vec<Moving<'_>>,
        now: Timestamp,
        verdicts: &mut BTreeMap<ItemId, Verdict>,
    ) -> Result<(), StoreError> {
        let (mut here, mut there) = (Vec::new(), BTreeMap::<Domain, Vec<Moving<'_>>>::new());
        for moving in moving {
            if *moving.binding.domain() == self.delivery.0.domain {
                here.push(moving);
            } else {
                there.entry(moving.binding.domain().clone()).or_default().push(moving);
            }
        }
        if !here.is_empty() {
            let envelopes: Vec<_> = here.iter().map(|moving| moving.item.envelope.clone()).collect();
            // By their own marks they would be duplicates of themselves: these are not asked for.
            let outcomes = match self.delivery.0.store.deposit(envelopes, now).await {
                Ok(outcomes) => outcomes,
                Err(StoreError::Full) => vec![full(); here.len()],
                Err(error) => return Err(error),
            };
            for (moving, outcome) in here.into_iter().zip(outcomes) {
                match outcome {
                    // It has gone on from here meanwhile, perhaps back.
                    Outcome::Moved(binding) if binding.domain() != self.destination => {
                        let moving = Moving { binding: *binding, ..moving };
                        there.entry(moving.binding.domain().clone()).or_default().push(moving);
                    }
                    outcome => {
                        verdicts.insert(moving.item.item, self.judge(moving.item, &outcome, now));
                    }
                }
            }
        }
        for (domain, moving) in there {
            self.send_on_to(domain, moving, now, verdicts).await?;
        }
        failpoint::reach(Step::Onward);
        Ok(())
    }

    async fn send_on_to(
        &self,
        domain: Domain,
        moving: Vec<Moving<'_>>,
        now: Timestamp,
        verdicts: &mut BTreeMap<ItemId, Verdict>,
    ) -> Result<(), StoreError> {
        if let Err(failure) = self.delivery.0.forward.admit(&domain) {
            verdicts.extend(moving.iter().map(|moving| (moving.item.item, Verdict::Failed(failure.class))));
            return Ok(());
        }
        let sent_on = moving.iter().map(|Moving { item, onward, .. }| SentOn {
            envelope: item.envelope.clone(),
            addressed: None,
            onward: *onward,
            source: Source::Item(item.tracking),
        });
        let envelopes = sent_on.collect();
        let answers = match self.delivery.0.store.enqueue_onward(domain, envelopes, now).await {
            Ok(answers) => answers,
            Err(StoreError::Full) => {
                verdicts.extend(
                    moving.iter().map(|moving| (moving.item.item, self.judge(moving.item, &full(), now))),
                );
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for (moving, answer) in moving.iter().zip(answers) {
            let verdict = match answer {
                Enqueued::Queued(id) | Enqueued::Duplicate(id) => Verdict::Moved(id),
                Enqueued::QueueFull => {
                    self.judge(moving.item, &Outcome::retry(FailureClass::QueueFull, FULL_FOR), now)
                }
                // The item that goes on needs them, so they are here.
                Enqueued::AttachmentMissing => Verdict::Failed(FailureClass::AttachmentMissing),
            };
            verdicts.insert(moving.item.item, verdict);
        }
        Ok(())
    }

    fn judge(&self, item: &Leased, outcome: &Outcome, now: Timestamp) -> Verdict {
        judge_answer(outcome, &item.envelope, item.attempts, now, self.delivery.jitter())
    }
}

fn full() -> Outcome {
    Outcome::retry(FailureClass::StorageFull, FULL_FOR)
}
