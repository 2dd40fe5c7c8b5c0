//! A device that comes and goes, writes down what it gets, and acknowledges it then, or not.

use std::sync::Arc;
use std::time::Duration;

use postrider_client::{Delivery, Entry, Error, Identity, Relay, Session};
use postrider_common::EntryId;
use tokio::time::{Instant, timeout_at};

use super::ledger::{Closure, Holder, Visit};
use super::{Phase, World, files};
use crate::dice::Dice;

/// One device.
pub(super) struct Receiver {
    pub(super) world: Arc<World>,
    pub(super) holder: Holder,
    /// All.
    pub(super) relays: Vec<Relay>,
    /// At each.
    pub(super) identities: Vec<Identity>,
    pub(super) dice: Dice,
}

impl Receiver {
    /// Runs until the last sweep is over, which leaves nothing waiting for this device.
    pub(super) async fn run(mut self) {
        let phase = self.world.phase();
        loop {
            let now = *phase.borrow();
            if now == Phase::Sweep && self.sweep().await.is_ok() {
                return;
            }
            let closure = self.world.ledger.closure(self.holder.user);
            let mut visit = self.begin();
            // Errors are what a soak is full of: the connection is made anew.
            if let Err(error) = self.visit(now, closure, &mut visit).await
                && let Some(domain) = error.moved_to()
            {
                let to = self.world.relays.iter().position(|relay| relay == domain.as_str());
                self.world.ledger.sent_away(self.holder, &visit, to);
            }
            let pause = if now == Phase::Load && self.dice.once_in(3) { 2_000 } else { 50 };
            tokio::time::sleep(self.dice.millis(0, pause)).await;
        }
    }

    /// To where the mailbox is kept.
    fn begin(&mut self) -> Visit {
        let (relay, visit) = self.world.ledger.visit(self.holder.user);
        self.holder.relay = relay;
        visit
    }

    fn relay(&self) -> &Relay {
        &self.relays[self.holder.relay]
    }

    async fn session(&self) -> Result<Session, Error> {
        self.relay().session(&self.identities[self.holder.relay]).await
    }

    /// One connection, with a session of its own: the SDK's memory of what it has handed out must not hide anything.
    /// `closure` is from before it was looked up where to go.
    async fn visit(
        &mut self,
        phase: Phase,
        closure: Option<Closure>,
        visit: &mut Visit,
    ) -> Result<(), Error> {
        let session = self.session().await?;
        self.world.ledger.let_in(self.holder, closure);
        if self.dice.once_in(4) {
            self.poll(&session, visit).await
        } else {
            self.stream(&session, phase, visit).await
        }
    }

    /// By long poll, where the answer says that what was acknowledged is deleted.
    async fn poll(&mut self, session: &Session, visit: &mut Visit) -> Result<(), Error> {
        let entries = session.entries(None, Duration::from_secs(1)).await?;
        self.fetch(visit, &entries).await?;
        self.record(visit, &entries);
        if self.dice.once_in(8) {
            // It went away before it could acknowledge.
            return Ok(());
        }
        self.acknowledge(session, &entries).await
    }

    async fn stream(&mut self, session: &Session, phase: Phase, visit: &mut Visit) -> Result<(), Error> {
        let mut stream = session.stream().await?;
        let longest = if phase == Phase::Load { 5_000 } else { 1_000 };
        let until = Instant::now() + self.dice.millis(100, longest);
        let most = self.dice.between(1, 32);
        let mut recorded: Vec<EntryId> = Vec::new();
        loop {
            let next = match timeout_at(until, stream.next()).await {
                Ok(Some(Ok(Delivery::Entry(entry)))) => Some(entry),
                Ok(Some(Ok(_))) => continue,
                Ok(Some(Err(error))) => return Err(error),
                Ok(None) | Err(_) => None,
            };
            if let Some(entry) = &next {
                self.fetch(visit, std::slice::from_ref(entry)).await?;
                self.record(visit, std::slice::from_ref(entry));
                recorded.push(entry.id);
            }
            if next.is_none() && self.dice.once_in(3) {
                // Gone without a word, with entries that were recorded and not acknowledged.
                return Ok(());
            }
            if next.is_none() || recorded.len() >= most {
                self.world.ledger.acknowledging(self.holder, &recorded);
                stream.acknowledge(&recorded).await?;
                recorded.clear();
            }
            if next.is_none() {
                return stream.close().await;
            }
        }
    }

    /// Takes and acknowledges everything that waits.
    pub(super) async fn sweep(&mut self) -> Result<(), Error> {
        self.begin();
        let session = self.session().await?;
        loop {
            let mut visit = self.begin();
            let entries = session.entries(None, Duration::ZERO).await?;
            self.fetch(&visit, &entries).await?;
            self.record(&mut visit, &entries);
            if entries.is_empty() {
                return Ok(());
            }
            self.acknowledge(&session, &entries).await?;
        }
    }

    /// What entries have attached, before they are recorded.
    async fn fetch(&self, visit: &Visit, entries: &[Entry]) -> Result<(), Error> {
        for entry in entries {
            let fetched = files::fetch(self.relay(), &entry.envelope).await?;
            self.world.ledger.fetched(self.holder, visit, entry, fetched);
        }
        Ok(())
    }

    fn record(&self, visit: &mut Visit, entries: &[Entry]) {
        for entry in entries {
            self.world.ledger.arrived(self.holder, visit, entry);
        }
        if entries.is_empty() {
            self.world.ledger.empty(self.holder);
        }
    }

    async fn acknowledge(&self, session: &Session, entries: &[Entry]) -> Result<(), Error> {
        let ids: Vec<EntryId> = entries.iter().map(|entry| entry.id).collect();
        self.world.ledger.acknowledging(self.holder, &ids);
        session.acknowledge(&ids).await?;
        self.world.ledger.deleted(self.holder, &ids);
        Ok(())
    }
}
