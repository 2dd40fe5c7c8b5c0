//! A store that keeps everything in plain lists.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use postrider::store::TrackingEnd;
use postrider_common::{Envelope, FailureClass, Outcome, Timestamp, TrackingId};

use crate::model::{End, MINUTE};

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) mailboxes: BTreeMap<u8, Mailbox>,
    pub(crate) seen: HashSet<(u8, u8)>,
    pub(crate) queues: [Vec<Item>; 2],
    pub(crate) tracked: BTreeMap<(u8, u8), Tracked>,
}

#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    pub(crate) is_closed: bool,
    pub(crate) devices: Vec<u8>,
    pub(crate) entries: Vec<(Envelope, BTreeSet<u8>)>,
}

#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) id: u8,
    pub(crate) expires_at: Timestamp,
    pub(crate) attempts: u32,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Delayed(Timestamp),
    Returned,
    Fresh,
    Leased(Timestamp),
}

#[derive(Debug)]
pub(crate) struct Tracked {
    pub(crate) id: TrackingId,
    pub(crate) attempts: u32,
    pub(crate) end: Option<TrackingEnd>,
}

impl Mailbox {
    pub(crate) fn of_device(&self, by: u8, now: Timestamp) -> Vec<Envelope> {
        let waiting = self.entries.iter().filter(|(_, waiting)| waiting.contains(&by));
        waiting.map(|(envelope, _)| envelope.clone()).filter(|envelope| envelope.expires_at() > now).collect()
    }
}

impl Model {
    pub(crate) fn deposit(&mut self, id: u8, of: u8, device: Option<u8>, envelope: &Envelope) -> Outcome {
        let Some(mailbox) = self.mailboxes.get_mut(&of) else {
            return Outcome::reject(FailureClass::NoSuchMailbox);
        };
        if self.seen.contains(&(of, id)) {
            return Outcome::Duplicate;
        }
        if mailbox.is_closed {
            return Outcome::reject(FailureClass::MailboxRefused);
        }
        let devices: BTreeSet<u8> = match device {
            Some(device) if !mailbox.devices.contains(&device) => {
                return Outcome::reject(FailureClass::NoSuchDevice);
            }
            Some(device) => [device].into(),
            None => mailbox.devices.iter().copied().collect(),
        };
        if mailbox.entries.len() >= 4 {
            return Outcome::retry(FailureClass::MailboxFull, Duration::ZERO);
        }
        self.seen.insert((of, id));
        mailbox.entries.push((envelope.clone(), devices));
        Outcome::Stored
    }

    pub(crate) fn lease(&mut self, to: u8, count: usize, now: Timestamp, until: Timestamp) -> Vec<(u8, u32)> {
        let queue = &mut self.queues[usize::from(to)];
        for item in &mut *queue {
            if matches!(item.state, State::Leased(until) if until <= now) {
                item.state = State::Returned;
            }
        }
        let mut order: Vec<_> = (0..queue.len()).collect();
        order.sort_by_key(|index| (queue[*index].state, *index));
        order.retain(|index| match queue[*index].state {
            State::Delayed(at) => at <= now,
            State::Returned | State::Fresh => true,
            State::Leased(_) => false,
        });
        order.truncate(count);
        for index in &order {
            queue[*index].state = State::Leased(until);
        }
        order.iter().map(|index| (queue[*index].id, queue[*index].attempts)).collect()
    }

    /// Whether it counted.
    pub(crate) fn settle(&mut self, id: u8, to: u8, end: End, is_last: bool, now: Timestamp) -> bool {
        let queue = &mut self.queues[usize::from(to)];
        let Some(index) = queue.iter().position(|item| item.id == id) else {
            return false;
        };
        let item = &mut queue[index];
        let is_held = is_last && matches!(item.state, State::Leased(_));
        if !is_held && !matches!(end, End::Delivered) {
            return false;
        }
        match end {
            End::Released => {
                item.state = State::Returned;
                return true;
            }
            End::Retry { minutes } => {
                let at = now + MINUTE * minutes.into();
                item.attempts += 1;
                item.not_before = Some(at);
                item.state = State::Delayed(at);
            }
            End::Delivered | End::Failed => item.attempts += 1,
        }
        let tracked = self.tracked.get_mut(&(to, id)).unwrap();
        tracked.attempts = item.attempts;
        tracked.end = match end {
            End::Delivered => Some(TrackingEnd::Stored),
            End::Failed => Some(TrackingEnd::Failed(FailureClass::Malformed)),
            End::Retry { .. } | End::Released => return true,
        };
        queue.remove(index);
        true
    }

    pub(crate) fn expire(&mut self, now: Timestamp) -> (usize, usize) {
        let (mut entries, mut items) = (0, 0);
        for mailbox in self.mailboxes.values_mut() {
            let before = mailbox.entries.len();
            mailbox.entries.retain(|(envelope, _)| envelope.expires_at() > now);
            entries += before - mailbox.entries.len();
        }
        for (to, queue) in (0..).zip(&mut self.queues) {
            queue.retain(|item| {
                let is_leased = matches!(item.state, State::Leased(until) if until > now);
                let stays = item.expires_at > now || is_leased;
                if !stays {
                    items += 1;
                    self.tracked.get_mut(&(to, item.id)).unwrap().end = Some(TrackingEnd::Expired);
                }
                stays
            });
        }
        (entries, items)
    }

    pub(crate) fn reopen(&mut self) {
        for item in self.queues.iter_mut().flatten() {
            item.state = item.not_before.map_or(State::Fresh, State::Delayed);
        }
    }
}
