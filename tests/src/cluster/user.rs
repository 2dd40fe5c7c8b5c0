//! A user of a cluster's relay, as short to use as a test wants it.

use std::time::Duration;

use postrider_client::{
    ContactCard, Delivery, Entry, Identity, Receiver, Relay, SealOptions, Session, seal_at,
};
use postrider_common::clock::SharedClock;
use postrider_common::wire::control::{TrackingState, TrackingStatus};
use postrider_common::wire::submit::SubmitResult;
use postrider_common::{Address, EntryId, Envelope, TrackingId};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

use super::{ClusterError, PATIENCE};

/// How long to wait between two questions about an envelope.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// A user's app.
#[derive(Debug)]
pub struct User {
    identity: Identity,
    relay: Relay,
    clock: SharedClock,
    session: Mutex<Option<Session>>,
    receiver: Mutex<Option<Receiver>>,
}

/// A message that has arrived, been opened and been acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Who sent it, proven inside the ciphertext.
    pub sender: Address,
    /// What.
    pub message: Vec<u8>,
}

impl User {
    /// Somebody with these keys, at a relay that need not be of a cluster.
    pub fn new(identity: Identity, relay: Relay, clock: SharedClock) -> Self {
        Self { identity, relay, clock, session: Mutex::default(), receiver: Mutex::default() }
    }

    /// The user's keys.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What others need to write to the user.
    pub fn card(&self) -> &ContactCard {
        self.identity.card()
    }

    /// The user's relay.
    pub const fn relay(&self) -> &Relay {
        &self.relay
    }

    /// A session with the relay, the same one each time.
    pub async fn session(&self) -> Result<Session, ClusterError> {
        let mut session = self.session.lock().await;
        if let Some(session) = &*session {
            return Ok(session.clone());
        }
        let opened = self.relay.session(&self.identity).await?;
        *session = Some(opened.clone());
        Ok(opened)
    }

    /// Seals a message as this user, to be submitted.
    pub fn seal(&self, to: &User, message: &[u8]) -> Result<Envelope, ClusterError> {
        self.seal_with(to, message, &SealOptions::default())
    }

    /// The same with choices.
    pub fn seal_with(
        &self,
        to: &User,
        message: &[u8],
        options: &SealOptions,
    ) -> Result<Envelope, ClusterError> {
        Ok(seal_at(self.clock.now(), &self.identity, to.card(), message, options)?)
    }

    /// Seals and submits a message through this user's relay.
    pub async fn send(&self, to: &User, message: &[u8]) -> Result<SubmitResult, ClusterError> {
        self.submit(to, self.seal(to, message)?).await
    }

    /// Submits an envelope through this user's relay. A refusal is an error.
    pub async fn submit(&self, to: &User, envelope: Envelope) -> Result<SubmitResult, ClusterError> {
        match self.relay.submit_one(to.identity.domain(), envelope).await? {
            SubmitResult::Refused { reason, .. } => Err(ClusterError::Refused(reason)),
            taken => Ok(taken),
        }
    }

    /// Waits for the next message, opens it and acknowledges it.
    pub async fn receive(&self) -> Result<Received, ClusterError> {
        let (envelope, id) = loop {
            match self.next().await? {
                Delivery::Entry(entry) => break (entry.envelope, Some(entry.id)),
                Delivery::Ephemeral(envelope) => break (envelope, None),
                // Anything else is no message.
                _ => {}
            }
        };
        let opened = self.identity.open(&envelope)?;
        if let Some(id) = id {
            self.acknowledge(id).await?;
        }
        Ok(Received { sender: opened.sender, message: opened.message })
    }

    /// Waits for what the relay pushes next, without opening or acknowledging it.
    pub async fn next(&self) -> Result<Delivery, ClusterError> {
        let next = async {
            match &mut *self.receiver().await? {
                Some(receiver) => Ok(receiver.next().await?),
                None => Err(ClusterError::Patience("a connection")),
            }
        };
        timeout(PATIENCE, next).await.map_err(|_| ClusterError::Patience("a delivery"))?
    }

    /// Tells the relay that this device has an entry.
    pub async fn acknowledge(&self, entry: EntryId) -> Result<(), ClusterError> {
        match &mut *self.receiver().await? {
            Some(receiver) => Ok(receiver.acknowledge(&[entry]).await?),
            None => Ok(()),
        }
    }

    /// Everything that waits for this device now, oldest first. Nothing of it is acknowledged.
    pub async fn waiting(&self) -> Result<Vec<Entry>, ClusterError> {
        let session = self.session().await?;
        let mut all: Vec<Entry> = Vec::new();
        loop {
            let page = session.entries(all.last().map(|entry| entry.id), Duration::ZERO).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// Connects without receiving yet.
    pub async fn go_online(&self) -> Result<(), ClusterError> {
        let mut receiver = self.receiver().await?;
        if let Some(receiver) = &mut *receiver {
            receiver.connect().await?;
        }
        Ok(())
    }

    /// Closes the connection; [`receive`](Self::receive) opens another.
    pub async fn go_offline(&self) -> Result<(), ClusterError> {
        if let Some(receiver) = self.receiver.lock().await.take() {
            receiver.close().await?;
        }
        Ok(())
    }

    /// Asks until an envelope is in a final state.
    pub async fn outcome(&self, tracking: TrackingId) -> Result<TrackingStatus, ClusterError> {
        self.tracked(tracking, |status| status.state != TrackingState::Queued).await
    }

    /// Asks until what is known of an envelope is as wanted.
    pub async fn tracked(
        &self,
        tracking: TrackingId,
        mut wanted: impl FnMut(&TrackingStatus) -> bool,
    ) -> Result<TrackingStatus, ClusterError> {
        let asking = async {
            loop {
                let status = self.relay.track(tracking).await?;
                if wanted(&status) {
                    return Ok(status);
                }
                // Tracking has no notification; this is a pause between questions, not a wait for the answer.
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        timeout(PATIENCE, asking).await.map_err(|_| ClusterError::Patience("what was tracked"))?
    }

    async fn receiver(&self) -> Result<MutexGuard<'_, Option<Receiver>>, ClusterError> {
        let session = self.session().await?;
        let mut receiver = self.receiver.lock().await;
        receiver.get_or_insert_with(|| session.receive());
        Ok(receiver)
    }
}
