//! A device that is connected: it asks for what there is, writes it down, and acknowledges it, or dies first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use ed25519_dalek::SigningKey;
use postrider::exchange::MailboxError;
use postrider::hub::{Attendance, Connection, Event};
use postrider::store::{Fetched, StoreError, Window};
use postrider_common::{Binding, DeviceId, Domain, EntryId, MailboxId};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::ledger::{Holder, Ledger};
use super::node::{Life, Node, is_failure};
use super::script::{MAILBOXES, RELAYS};
use super::source::SharedDice;

/// Small, so that several are needed.
const PAGE: Window = Window { count: 3, bytes: 1 << 20 };

/// How a device is connected.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) holder: Holder,
    pub(super) polls: bool,
    pub(super) acknowledges: bool,
    /// The device goes away.
    pub(super) gone: CancellationToken,
    /// The relay has ended it, as it does when the device is not registered, or no longer.
    over: Arc<AtomicBool>,
}

/// The keys of the mailboxes, and the mailboxes.
static OWNERS: LazyLock<Vec<(SigningKey, MailboxId)>> = LazyLock::new(|| {
    let owner = |number| {
        let key = SigningKey::from_bytes(&[number; 32]);
        let mailbox = MailboxId::from_bytes(key.verifying_key().to_bytes());
        (key, mailbox)
    };
    (0..RELAYS * MAILBOXES).map(owner).collect()
});

/// The mailbox of a number.
pub(super) fn mailbox(number: u8) -> MailboxId {
    OWNERS.get(usize::from(number)).map_or(MailboxId::from_bytes([number; 32]), |(_, mailbox)| *mailbox)
}

/// Its owner says that it is kept there.
pub(super) fn binding(number: u8, domain: &Domain, serial: u64) -> Option<Binding> {
    let (key, _) = OWNERS.get(usize::from(number))?;
    Some(Binding::sign(key, domain.clone(), serial))
}

/// The device of a number, which is another's for each mailbox.
pub(super) fn device((mailbox, number): Holder) -> DeviceId {
    DeviceId::from_bytes([0x80 | mailbox << 2 | number; 32])
}

/// A device asks for a page, and writes down what it gets.
pub(super) async fn look(
    holder: Holder,
    relay: u8,
    life: &Life,
    ledger: &Ledger,
    after: Option<EntryId>,
) -> Result<Fetched, StoreError> {
    let asked = ledger.note(format_args!("{holder:?} asks"));
    let page = life.core.exchange().fetch(mailbox(holder.0), device(holder), after, PAGE).await?;
    ledger.received(holder, relay, asked, &page.entries);
    for entry in &page.entries {
        for attachment in entry.envelope.attachments() {
            let kept = life.store.attachment(attachment.id).await?;
            ledger.asked_for_attachment(holder, (relay, entry.id), kept.is_some_and(|kept| kept.is_whole()));
        }
    }
    Ok(page)
}

impl Session {
    pub(super) fn new(holder: Holder, polls: bool, acknowledges: bool) -> Self {
        Self { holder, polls, acknowledges, gone: CancellationToken::new(), over: Arc::default() }
    }

    /// Whether the device is connected, or would be if its relay were up, and acknowledges what it gets.
    pub(super) fn serves(&self) -> bool {
        self.acknowledges && !self.over.load(Ordering::Relaxed)
    }

    /// Serves the device until it goes away or its relay ends; in the relay's tasks, as it is in the daemon.
    pub(super) fn start(self, node: &Node, ledger: &Arc<Ledger>, dice: &Arc<SharedDice>) {
        let Some(life) = node.life() else { return };
        let (ledger, dice, relay) = (Arc::clone(ledger), Arc::clone(dice), node.number);
        self.over.store(false, Ordering::Relaxed);
        let supervisor = life.supervisor.clone();
        supervisor.spawn("device stream", async move {
            let stopping = life.supervisor.stopping();
            tokio::select! {
                biased;
                () = stopping => {}
                () = self.gone.cancelled() => {}
                ended = self.run(relay, &life, &ledger, &dice) => match ended {
                    Err(error) if is_failure(&error) => ledger.store_failed(relay, &error),
                    Err(_) => {}
                    Ok(()) => self.over.store(true, Ordering::Relaxed),
                },
            }
        });
    }

    async fn run(
        &self,
        relay: u8,
        life: &Life,
        ledger: &Ledger,
        dice: &SharedDice,
    ) -> Result<(), StoreError> {
        let exchange = life.core.exchange();
        let attendance = if self.polls { Attendance::Poll } else { Attendance::Stream };
        let (mailbox, device) = (mailbox(self.holder.0), device(self.holder));
        let mut connection = match exchange.connect(mailbox, device, attendance).await {
            Ok(connection) => connection,
            Err(MailboxError::Store(error)) => return Err(error),
            Err(_) => return Ok(()),
        };
        let mut cursor = None;
        loop {
            // Each poll begins at the beginning, a stream goes on.
            if self.polls {
                cursor = None;
            }
            self.take(relay, life, ledger, dice, &mut cursor).await?;
            if !self.wait(&mut connection, ledger).await {
                return Ok(());
            }
        }
    }

    /// Takes what there is.
    async fn take(
        &self,
        relay: u8,
        life: &Life,
        ledger: &Ledger,
        dice: &SharedDice,
        cursor: &mut Option<EntryId>,
    ) -> Result<(), StoreError> {
        let (mailbox, device) = (mailbox(self.holder.0), device(self.holder));
        loop {
            let page = look(self.holder, relay, life, ledger, *cursor).await?;
            let entries: Vec<_> = page.entries.iter().map(|entry| entry.id).collect();
            *cursor = entries.last().copied().or(*cursor);
            if self.acknowledges && !entries.is_empty() {
                sleep(dice.with(|dice| dice.millis(0, 30))).await;
                ledger.acknowledging(self.holder, relay, &entries);
                life.core.exchange().acknowledge(mailbox, device, entries.clone()).await?;
                ledger.acknowledged(self.holder, relay, &entries);
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Waits until there may be something; whether it is still connected.
    async fn wait(&self, connection: &mut Connection, ledger: &Ledger) -> bool {
        loop {
            match connection.event().await {
                Event::Wake => return true,
                Event::Ephemeral(envelope) => ledger.handed_over(self.holder, &envelope),
                Event::Ended(_) => return false,
            }
        }
    }
}
