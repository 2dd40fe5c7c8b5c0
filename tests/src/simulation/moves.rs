//! A mailbox's owner moves it to another relay, as the SDK does: register all devices there, say there that it is kept
//! there, then say so at the old relay. Whatever does not answer interrupts that, and it is gone on with later.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use postrider::exchange::{Exchange, MailboxError};
use tokio::sync::oneshot;

use super::device::{binding, mailbox};
use super::ledger::{Departure, Ledger};
use super::node::{Node, is_failure};
use super::script::MAILBOXES;

/// Where each mailbox is, as its owner knows it.
#[derive(Debug, Default)]
pub(super) struct Homes(Mutex<BTreeMap<u8, Home>>);

#[derive(Debug, Clone, Copy)]
struct Home {
    at: u8,
    /// Of the last binding.
    serial: u64,
    /// Where it is on its way to.
    to: Option<u8>,
    /// Whether its owner is about it at this moment.
    is_under_way: bool,
}

/// One move.
#[derive(Debug, Clone, Copy)]
pub(super) struct Move {
    pub(super) mailbox: u8,
    pub(super) from: u8,
    pub(super) to: u8,
    serial: u64,
    is_new: bool,
}

/// Why a move did not come to its end.
enum Interrupted {
    /// A relay was not there, or died.
    ForNow,
    /// There is no mailbox to move.
    ForGood,
}

type Asked<T> = BoxFuture<'static, Result<T, MailboxError>>;

impl Homes {
    /// The relay that a mailbox is kept at.
    pub(super) fn of(&self, mailbox: u8) -> u8 {
        self.lock().get(&mailbox).map_or(mailbox / MAILBOXES, |home| home.at)
    }

    /// Whether a mailbox has moved or begun to.
    pub(super) fn has_moved(&self, mailbox: u8) -> bool {
        self.lock().contains_key(&mailbox)
    }

    /// Whether a mailbox is between two relays.
    pub(super) fn is_moving(&self, mailbox: u8) -> bool {
        self.lock().get(&mailbox).is_some_and(|home| home.to.is_some())
    }

    /// The mailboxes that are.
    pub(super) fn moving(&self) -> Vec<u8> {
        self.lock().iter().filter(|(_, home)| home.to.is_some()).map(|(mailbox, _)| *mailbox).collect()
    }

    /// Begins a move, or goes on with one; `None` if there is nothing to do.
    pub(super) fn begin(&self, mailbox: u8, to: u8) -> Option<Move> {
        let mut homes = self.lock();
        let new = Home { at: mailbox / MAILBOXES, serial: 0, to: None, is_under_way: false };
        let mut home = homes.get(&mailbox).copied().unwrap_or(new);
        let is_new = home.to.is_none();
        if home.is_under_way || (is_new && to == home.at) {
            return None;
        }
        home.serial += u64::from(is_new);
        let to = *home.to.get_or_insert(to);
        home.is_under_way = true;
        homes.insert(mailbox, home);
        Some(Move { mailbox, from: home.at, to, serial: home.serial, is_new })
    }

    fn end(&self, Move { mailbox, to, .. }: Move, result: &Result<(), Interrupted>) {
        if let Some(home) = self.lock().get_mut(&mailbox) {
            home.is_under_way = false;
            match result {
                Ok(()) => (home.at, home.to) = (to, None),
                Err(Interrupted::ForNow) => {}
                Err(Interrupted::ForGood) => home.to = None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u8, Home>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Move {
    /// Carries it out, as far as the relays let; whether that was to its end.
    pub(super) async fn carry_out(
        self,
        homes: &Homes,
        from: &Arc<Node>,
        to: &Arc<Node>,
        ledger: &Arc<Ledger>,
    ) -> bool {
        let result = self.step_by_step(from, to, ledger).await;
        let (number, ended) = (self.mailbox, result.is_ok());
        homes.end(self, &result);
        ledger.books().counts.moves += u64::from(ended);
        ledger.note(format_args!("mailbox {number} has moved from {} to {}: {ended}", self.from, self.to));
        ended
    }

    async fn step_by_step(
        self,
        from: &Arc<Node>,
        to: &Arc<Node>,
        ledger: &Arc<Ledger>,
    ) -> Result<(), Interrupted> {
        let Self { mailbox: number, serial, is_new, .. } = self;
        let (from_relay, to_relay) = (self.from, self.to);
        let began = ledger.note(format_args!("mailbox {number} moves from {from_relay} to {to_relay}"));
        if is_new {
            let departure = Departure { from: from_relay, to: to_relay, began };
            ledger.books().moves.entry(number).or_default().push(departure);
        }
        let state = ask(from, ledger, move |exchange| {
            Box::pin(async move {
                exchange.admissible(mailbox(number)).await?;
                exchange.mailbox(mailbox(number)).await
            })
        });
        let devices = state.await?.devices;
        for device in devices {
            let registered = ask(to, ledger, move |exchange| {
                Box::pin(async move { exchange.register(mailbox(number), device, None).await })
            });
            registered.await?;
        }
        for relay in [to, from] {
            let Some(binding) = binding(number, &to.domain, serial) else { return Ok(()) };
            let bound =
                ask(relay, ledger, move |exchange| Box::pin(async move { exchange.bind(binding).await }));
            bound.await?;
        }
        Ok(())
    }
}

/// Asks a relay something. It runs in the relay's tasks, as it does in the daemon, and ends with them.
async fn ask<T: Send + 'static>(
    node: &Arc<Node>,
    ledger: &Arc<Ledger>,
    question: impl FnOnce(Arc<Exchange>) -> Asked<T> + Send + 'static,
) -> Result<T, Interrupted> {
    let (answer, answered) = oneshot::channel();
    {
        let Some(life) = node.life() else { return Err(Interrupted::ForNow) };
        life.supervisor.clone().spawn("client request", async move {
            let result = question(Arc::clone(life.core.exchange())).await;
            let _ = answer.send(result);
        });
    }
    match answered.await {
        Err(_) => Err(Interrupted::ForNow),
        Ok(Ok(told)) => Ok(told),
        Ok(Err(MailboxError::NoSuchMailbox)) => Err(Interrupted::ForGood),
        // Until it is opened again.
        Ok(Err(MailboxError::Suspended)) => Err(Interrupted::ForNow),
        Ok(Err(MailboxError::Store(error))) => {
            if is_failure(&error) {
                ledger.store_failed(node.number, &error);
            }
            Err(Interrupted::ForNow)
        }
        Ok(Err(error)) => {
            ledger.violation(format!("relay {} does not let a mailbox move: {error}", node.number));
            Err(Interrupted::ForGood)
        }
    }
}
