//! What owners, administrators and devices ask a relay for. Each request runs in the relay's tasks, as it does in the
//! daemon, and ends with them.

use std::sync::Arc;

use postrider::exchange::MailboxError;

use super::device::{device, look, mailbox};
use super::ledger::{Holder, Request};
use super::node::{Node, is_failure};
use super::script::MAILBOXES;
use super::terms;
use super::world::{World, answered};

impl World {
    pub(super) fn register(&self, holder: Holder) {
        if self.homes.is_moving(holder.0) {
            return;
        }
        let Some(life) = self.keeper(holder.0).and_then(|node| node.life()) else { return };
        let began = self.ledger.note(format_args!("{holder:?} registers"));
        let request = Request { began, answer: None };
        self.ledger.books().registrations.entry(holder).or_default().push(request);
        let ledger = Arc::clone(&self.ledger);
        life.supervisor.clone().spawn("client request", async move {
            let answer = life.core.exchange().register(mailbox(holder.0), device(holder), None).await;
            let tick = ledger.note(format_args!("{holder:?} is registered: {answer:?}"));
            let is_refused = match &answer {
                Ok(_) => false,
                Err(MailboxError::Store(error)) => is_failure(error),
                Err(MailboxError::Suspended) => !terms::may_be_closed(&ledger.books(), holder.0, began, tick),
                Err(_) => true,
            };
            if is_refused {
                ledger.violation(format!("{holder:?} cannot register: {answer:?}"));
            }
            let mut books = ledger.books();
            answered(books.registrations.entry(holder).or_default(), began, tick, answer.is_ok());
        });
    }

    pub(super) fn unregister(&self, number: u8) {
        if self.homes.has_moved(number) {
            return;
        }
        let Some(life) = self.keeper(number).and_then(|node| node.life()) else { return };
        let began = self.ledger.note(format_args!("mailbox {number} is to be deleted"));
        let request = Request { began, answer: None };
        self.ledger.books().deletions.entry(number).or_default().push(request);
        let ledger = Arc::clone(&self.ledger);
        life.supervisor.clone().spawn("client request", async move {
            let answer = life.core.exchange().unregister(mailbox(number)).await;
            let tick = ledger.note(format_args!("mailbox {number} is deleted: {answer:?}"));
            let is_gone = matches!(answer, Ok(()) | Err(MailboxError::NoSuchMailbox));
            answered(ledger.books().deletions.entry(number).or_default(), began, tick, is_gone);
        });
    }

    pub(super) fn remove_device(&self, holder: Holder) {
        // What was held for the device where the mailbox was before is offered for as long as it lives: nobody there could
        // be told that it has failed. So such a script does not come to rest for days (seed 11985).
        if self.homes.has_moved(holder.0) {
            return;
        }
        let Some(life) = self.keeper(holder.0).and_then(|node| node.life()) else { return };
        let began = self.ledger.note(format_args!("{holder:?} is to be removed"));
        let request = Request { began, answer: None };
        self.ledger.books().removals.entry(holder).or_default().push(request);
        let ledger = Arc::clone(&self.ledger);
        life.supervisor.clone().spawn("client request", async move {
            let answer = life.core.exchange().remove_device(mailbox(holder.0), device(holder)).await;
            let tick = ledger.note(format_args!("{holder:?} is removed: {answer:?}"));
            answered(ledger.books().removals.entry(holder).or_default(), began, tick, answer.is_ok());
        });
    }

    /// The administrator of the relay where it is closes a mailbox, or opens it.
    pub(super) fn suspend(&self, number: u8, is_closed: bool) {
        if self.homes.is_moving(number) {
            return;
        }
        if let Some(node) = self.keeper(number) {
            self.suspend_at(node, number, is_closed);
        }
    }

    /// Opens every mailbox that is closed somewhere.
    pub(super) async fn resume_everybody(&self) {
        for node in &self.nodes {
            for number in self.closed_at(node).await {
                self.suspend_at(node, number, false);
            }
        }
    }

    /// The mailboxes that are closed at a relay.
    pub(super) async fn closed_at(&self, node: &Node) -> Vec<u8> {
        let mut closed = Vec::new();
        let Some(life) = node.life() else { return closed };
        for number in 0..MAILBOXES * u8::try_from(self.nodes.len()).unwrap_or_default() {
            let state = life.store.mailbox(mailbox(number)).await;
            if matches!(state, Ok(Some(state)) if state.suspended.is_some()) {
                closed.push(number);
            }
        }
        closed
    }

    fn suspend_at(&self, node: &Arc<Node>, number: u8, is_closed: bool) {
        let Some(life) = node.life() else { return };
        let began = self.ledger.note(format_args!("mailbox {number} is to be closed: {is_closed}"));
        let request = Request { began, answer: None };
        self.ledger.books().gate(is_closed).entry(number).or_default().push(request);
        let ledger = Arc::clone(&self.ledger);
        life.supervisor.clone().spawn("administrator's request", async move {
            let answer = life.core.exchange().suspend(mailbox(number), is_closed).await;
            let tick = ledger.note(format_args!("mailbox {number} is closed: {is_closed}, {answer:?}"));
            let mut books = ledger.books();
            books.counts.suspensions += u64::from(is_closed && answer.is_ok());
            answered(books.gate(is_closed).entry(number).or_default(), began, tick, answer.is_ok());
        });
    }

    pub(super) fn look(&self, holder: Holder) {
        let Some(node) = self.keeper(holder.0) else { return };
        let Some(life) = node.life() else { return };
        let (ledger, relay) = (Arc::clone(&self.ledger), node.number);
        life.supervisor.clone().spawn("client request", async move {
            if let Err(error) = look(holder, relay, &life, &ledger, None).await
                && is_failure(&error)
            {
                ledger.store_failed(relay, &error);
            }
        });
    }

    pub(super) fn acknowledge(&self, holder: Holder) {
        let Some(node) = self.keeper(holder.0) else { return };
        let Some(life) = node.life() else { return };
        let entries: Vec<_> = match self.ledger.books().shelves.get(&holder) {
            Some(shelf) => {
                let here = shelf.unacknowledged.iter().filter(|(at, _)| *at == node.number);
                here.map(|(_, entry)| *entry).collect()
            }
            None => return,
        };
        let (ledger, relay) = (Arc::clone(&self.ledger), node.number);
        life.supervisor.clone().spawn("client request", async move {
            let exchange = life.core.exchange();
            ledger.acknowledging(holder, relay, &entries);
            match exchange.acknowledge(mailbox(holder.0), device(holder), entries.clone()).await {
                Ok(()) => ledger.acknowledged(holder, relay, &entries),
                Err(error) if is_failure(&error) => ledger.store_failed(relay, &error),
                Err(_) => {}
            }
        });
    }
}
