//! Random operations on both engines and on a model that keeps everything in plain lists.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use postrider::store::{
    AttachmentLimits, Enqueued, Leased, Registration, Store, StoreLimits, TrackingEnd, Verdict, Window,
};
use postrider_common::{Domain, Draft, Envelope, EnvelopeId, FailureClass, Outcome, Timestamp};
use postrider_tests::conformance::{ALL, NOW, Subject, device, mailbox};
use proptest::prelude::*;

use super::reference::{Item, Mailbox, Model, State, Tracked};
use super::{Embedded, Memory};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
const LIMITS: StoreLimits = StoreLimits {
    mailbox_entries: 4,
    mailbox_bytes: 1 << 20,
    devices: 2,
    queue_items: 3,
    queue_bytes: 1 << 20,
    mark_retention: Duration::from_secs(30 * 86_400),
    tracking_retention: Duration::from_secs(30 * 86_400),
    device_idle: Duration::from_secs(90 * 86_400),
    learnt_bindings: 10,
    attachments: AttachmentLimits::DEFAULT,
};

#[derive(Debug, Clone)]
enum Op {
    Register { of: u8, by: u8 },
    Unregister { of: u8 },
    Suspend { of: u8, is_closed: bool },
    RemoveDevice { of: u8, by: u8 },
    Deposit { id: u8, of: u8, device: Option<u8>, minutes: u8 },
    Fetch { of: u8, by: u8, skip: usize, count: usize },
    Acknowledge { of: u8, by: u8, index: usize },
    Enqueue { id: u8, to: u8, minutes: u8 },
    Lease { to: u8, count: usize, minutes: u8 },
    Settle { id: u8, to: u8, end: End, is_late: bool },
    Expire,
    Pass { minutes: u8 },
    Reopen,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Delivered,
    Failed,
    Released,
    Retry { minutes: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    let (of, by, to, id, minutes) = (0..2_u8, 0..3_u8, 0..2_u8, 0..12_u8, 1..90_u8);
    let end = prop_oneof![
        Just(End::Delivered),
        Just(End::Failed),
        Just(End::Released),
        (0..60_u8).prop_map(|minutes| End::Retry { minutes }),
    ];
    prop_oneof![
        3 => (of.clone(), by.clone()).prop_map(|(of, by)| Op::Register { of, by }),
        1 => of.clone().prop_map(|of| Op::Unregister { of }),
        1 => (of.clone(), proptest::bool::ANY).prop_map(|(of, is_closed)| Op::Suspend { of, is_closed }),
        1 => (of.clone(), by.clone()).prop_map(|(of, by)| Op::RemoveDevice { of, by }),
        6 => (id.clone(), of.clone(), proptest::option::of(by.clone()), minutes.clone())
            .prop_map(|(id, of, device, minutes)| Op::Deposit { id, of, device, minutes }),
        3 => (of.clone(), by.clone(), 0..3_usize, 1..4_usize)
            .prop_map(|(of, by, skip, count)| Op::Fetch { of, by, skip, count }),
        4 => (of, by, 0..3_usize).prop_map(|(of, by, index)| Op::Acknowledge { of, by, index }),
        6 => (id.clone(), to.clone(), minutes.clone())
            .prop_map(|(id, to, minutes)| Op::Enqueue { id, to, minutes }),
        5 => (to.clone(), 1..4_usize, minutes.clone())
            .prop_map(|(to, count, minutes)| Op::Lease { to, count, minutes }),
        8 => (id, to, end, proptest::bool::weighted(0.2))
            .prop_map(|(id, to, end, is_late)| Op::Settle { id, to, end, is_late }),
        1 => Just(Op::Expire),
        3 => minutes.prop_map(|minutes| Op::Pass { minutes }),
        1 => Just(Op::Reopen),
    ]
}

fn destination(number: u8) -> Domain {
    ["b.example", "b.example.org"][usize::from(number)].parse().unwrap()
}

fn envelope(id: u8, of: u8, by: Option<u8>, expires_at: Timestamp) -> Envelope {
    let draft = Draft {
        id: EnvelopeId::from_bytes([id; 16]),
        device: by.map(device),
        ..Draft::new(mailbox(of), expires_at, vec![id; 1 + usize::from(id) * 4000])
    };
    draft.finish().unwrap()
}

/// A store beside the model.
struct Pair<'a, S> {
    subject: &'a S,
    store: Arc<dyn Store>,
    model: Model,
    now: Timestamp,
    /// By destination and envelope: first to last.
    leases: HashMap<(u8, u8), Vec<Leased>>,
}

impl<S: Subject> Pair<'_, S> {
    async fn run(&mut self, op: &Op) {
        let (store, model, now) = (&self.store, &mut self.model, self.now);
        match *op {
            Op::Register { of, by } => {
                let answer = store.register(mailbox(of), device(by), now).await.unwrap();
                let expected = match model.mailboxes.get_mut(&of) {
                    None => {
                        let devices = vec![by];
                        model.mailboxes.insert(of, Mailbox { devices, ..Mailbox::default() });
                        Registration::Created
                    }
                    Some(mailbox) if mailbox.is_closed => Registration::Suspended,
                    Some(mailbox) if mailbox.devices.contains(&by) => Registration::Unchanged,
                    Some(mailbox) if mailbox.devices.len() == 2 => Registration::TooManyDevices,
                    Some(mailbox) => {
                        if mailbox.devices.is_empty() {
                            // What has come since the last one left.
                            for (_, waiting) in &mut mailbox.entries {
                                waiting.insert(by);
                            }
                        }
                        mailbox.devices.push(by);
                        Registration::DeviceAdded
                    }
                };
                assert_eq!(answer, expected);
            }
            Op::Unregister { of } => {
                let existed = store.unregister(mailbox(of)).await.unwrap();
                assert_eq!(existed, model.mailboxes.remove(&of).is_some());
            }
            Op::Suspend { of, is_closed } => {
                let existed = store.suspend(mailbox(of), is_closed, now).await.unwrap();
                let found = model.mailboxes.get_mut(&of).map(|mailbox| mailbox.is_closed = is_closed);
                assert_eq!(existed, found.is_some());
            }
            Op::RemoveDevice { of, by } => {
                let existed = store.remove_device(mailbox(of), device(by)).await.unwrap();
                let mailbox = model.mailboxes.get_mut(&of).filter(|mailbox| mailbox.devices.contains(&by));
                assert_eq!(existed, mailbox.is_some());
                if let Some(mailbox) = mailbox {
                    mailbox.devices.retain(|other| *other != by);
                    mailbox.entries.retain_mut(|(_, waiting)| {
                        let was_waiting = waiting.remove(&by);
                        !(was_waiting && waiting.is_empty())
                    });
                }
            }
            Op::Deposit { id, of, device, minutes } => {
                let envelope = envelope(id, of, device, now + MINUTE * minutes.into());
                let expected = model.deposit(id, of, device, &envelope);
                let mut outcome = store.deposit(vec![envelope], now).await.unwrap().remove(0);
                if let Outcome::Retry { after, .. } = &mut outcome {
                    *after = Duration::ZERO;
                }
                assert_eq!(outcome, expected);
            }
            Op::Fetch { of, by, skip, count } => {
                let expected = self.expected(of, by);
                let all = self.fetched(of, by, ALL, None).await.0;
                assert_eq!(all.iter().map(|(_, envelope)| envelope.clone()).collect::<Vec<_>>(), expected);
                let after = skip.checked_sub(1).and_then(|index| all.get(index)).map(|(id, _)| *id);
                let skip = if after.is_some() { skip } else { 0 };
                let (some, more) = self.fetched(of, by, Window { count, ..ALL }, after).await;
                let end = all.len().min(skip + count);
                assert_eq!((&some[..], more), (&all[skip..end], end < all.len()));
            }
            Op::Acknowledge { of, by, index } => {
                let all = self.fetched(of, by, ALL, None).await.0;
                let Some((entry, envelope)) = all.get(index) else {
                    return;
                };
                let known = self.store.acknowledge(mailbox(of), device(by), vec![*entry, *entry]);
                assert_eq!(known.await, Ok(1));
                let mailbox = self.model.mailboxes.get_mut(&of).unwrap();
                for (kept, waiting) in &mut mailbox.entries {
                    if kept == envelope {
                        waiting.remove(&by);
                    }
                }
                mailbox.entries.retain(|(_, waiting)| !waiting.is_empty());
            }
            Op::Enqueue { id, to, minutes } => {
                let expires_at = now + MINUTE * minutes.into();
                let batch = vec![envelope(id, 0, None, expires_at)];
                let answer = store.enqueue(destination(to), destination(to), batch, now).await.unwrap()[0];
                // What has ended without having arrived may be enqueued again.
                let arrives = |tracked: &&Tracked| matches!(tracked.end, None | Some(TrackingEnd::Stored));
                match (answer, model.tracked.get(&(to, id)).filter(arrives)) {
                    (Enqueued::Duplicate(answered), Some(tracked)) => assert_eq!(answered, tracked.id),
                    (Enqueued::QueueFull, None) => assert_eq!(model.queues[usize::from(to)].len(), 3),
                    (Enqueued::Queued(tracking), None) => {
                        assert!(model.queues[usize::from(to)].len() < 3);
                        let (attempts, not_before) = (0, None);
                        let state = State::Fresh;
                        model.queues[usize::from(to)].push(Item {
                            id,
                            expires_at,
                            attempts,
                            not_before,
                            state,
                        });
                        let tracked = Tracked { id: tracking, attempts, end: None };
                        model.tracked.insert((to, id), tracked);
                        // It has yet to be leased under its new number.
                        self.leases.remove(&(to, id));
                    }
                    (answer, tracked) => unreachable!("{answer:?} where there was {tracked:?}"),
                }
            }
            Op::Lease { to, count, minutes } => {
                let until = now + MINUTE * minutes.into();
                let window = Window { count, ..ALL };
                let leased = store.lease(destination(to), window, now, until).await.unwrap();
                let mut answered = Vec::new();
                for leased in leased {
                    let id = leased.envelope.id().as_bytes()[0];
                    answered.push((id, leased.attempts));
                    self.leases.entry((to, id)).or_default().push(leased);
                }
                assert_eq!(answered, model.lease(to, count, now, until));
            }
            Op::Settle { id, to, end, is_late } => {
                let Some(leases) = self.leases.get(&(to, id)) else {
                    return;
                };
                let last = &leases[leases.len() - 1];
                let leased = if is_late { &leases[0] } else { last };
                let verdict = match end {
                    End::Delivered => Verdict::Delivered,
                    End::Failed => Verdict::Failed(FailureClass::Malformed),
                    End::Released => Verdict::Released,
                    End::Retry { minutes } => Verdict::Retry {
                        reason: FailureClass::RemoteBusy,
                        not_before: now + MINUTE * minutes.into(),
                    },
                };
                let counts = model.settle(id, to, end, leased.lease == last.lease, now);
                let counted = store.settle(destination(to), vec![leased.end(verdict)], now).await;
                assert_eq!(counted, Ok(vec![counts]));
            }
            Op::Expire => {
                let (entries, items) = model.expire(now);
                let expired = store.expire(now, 1000).await.unwrap();
                assert_eq!((expired.entries, expired.items, expired.more), (entries, items, false));
            }
            Op::Pass { minutes } => self.now = now + MINUTE * minutes.into(),
            Op::Reopen => {
                store.close().await.unwrap();
                self.store = self.subject.open(LIMITS).unwrap();
                self.model.reopen();
                // Whoever had them has gone with the process.
                self.leases.clear();
            }
        }
    }

    fn expected(&self, of: u8, by: u8) -> Vec<Envelope> {
        let mailbox = self.model.mailboxes.get(&of);
        mailbox.map_or(Vec::new(), |mailbox| mailbox.of_device(by, self.now))
    }

    async fn fetched(
        &self,
        of: u8,
        by: u8,
        window: Window,
        after: Option<postrider_common::EntryId>,
    ) -> (Vec<(postrider_common::EntryId, Envelope)>, bool) {
        let fetched = self.store.fetch(mailbox(of), device(by), after, window, self.now).await.unwrap();
        let entries = fetched.entries.into_iter().map(|entry| (entry.id, entry.envelope));
        (entries.collect(), fetched.more)
    }

    /// Everything that can be asked without changing anything.
    async fn compare(&self) {
        for of in 0..2 {
            let state = self.store.mailbox(mailbox(of)).await.unwrap();
            let found = state.map(|state| (state.devices, state.entries, state.bytes));
            let expected = self.model.mailboxes.get(&of).map(|mailbox| {
                let devices = mailbox.devices.iter().map(|number| device(*number)).collect();
                let sizes = mailbox.entries.iter().map(|(envelope, _)| envelope.encoded().len() as u64);
                (devices, mailbox.entries.len() as u64, sizes.sum())
            });
            assert_eq!(found, expected);
            for by in 0..3 {
                let (all, _) = self.fetched(of, by, ALL, None).await;
                let envelopes: Vec<_> = all.into_iter().map(|(_, envelope)| envelope).collect();
                assert_eq!(envelopes, self.expected(of, by));
            }
        }
        for ((to, _), expected) in &self.model.tracked {
            let tracking = self.store.tracking(expected.id).await.unwrap().unwrap();
            assert_eq!(tracking.destination, destination(*to));
            let end = tracking.end.map(|(end, _)| end);
            assert_eq!((tracking.attempts, end), (expected.attempts, expected.end));
        }
        for (to, queue) in (0..).zip(&self.model.queues) {
            let found = self.store.destination(destination(to)).await.unwrap();
            let items = found.map(|destination| (destination.items, destination.next_retry));
            let leased = |item: &&Item| matches!(item.state, State::Leased(_));
            let waiting = queue.iter().filter(|item| !leased(item));
            let next_retry = waiting.filter_map(|item| item.not_before).min();
            let expected = (!queue.is_empty()).then_some((queue.len() as u64, next_retry));
            assert_eq!(items, expected);
        }
    }
}

fn check(subject: &impl Subject, ops: &[Op]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut pair = Pair {
            subject,
            store: subject.open(LIMITS).unwrap(),
            model: Model::default(),
            now: NOW,
            leases: HashMap::new(),
        };
        for op in ops {
            pair.run(op).await;
            pair.compare().await;
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_does_as_the_model(ops in proptest::collection::vec(op(), 1..120)) {
        check(&Memory::new(), &ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_engine_does_as_the_model(ops in proptest::collection::vec(op(), 1..80)) {
        check(&Embedded::new(), &ops);
    }

    #[test]
    fn the_embedded_engine_in_small_parts_does_as_the_model(ops in proptest::collection::vec(op(), 1..80)) {
        check(&Embedded::tiny(), &ops);
    }
}
