//! Which devices are connected at this moment.
//!
//! The hub moves no stored envelope: it wakes a connected device's stream, which fetches from the store. Only
//! ephemeral envelopes, which are stored nowhere, pass through it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use postrider_common::{DeviceId, Envelope, MailboxId};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// Ephemeral envelopes that wait for one slow device; beyond that they are dropped, as the device might as well
/// not be connected.
const EPHEMERAL_BACKLOG: usize = 16;

/// The connected devices. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Hub {
    mailboxes: Arc<Mutex<HashMap<MailboxId, Vec<Arc<Slot>>>>>,
}

#[derive(Debug)]
struct Slot {
    device: DeviceId,
    wake: Notify,
    attendance: Attendance,
    /// Until it is known that the device may be here, it is handed nothing.
    is_admitted: AtomicBool,
    /// Boxed, since the channel has room for some of them from the start, and a connection of most devices is idle.
    ephemeral: mpsc::Sender<Box<Envelope>>,
    /// Why the connection is to close, once it is.
    ending: OnceLock<Ending>,
    ended: CancellationToken,
}

/// How a device is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attendance {
    /// By a stream, of which it has one: it gets ephemeral envelopes too.
    Stream,
    /// By one long poll, which only waits for stored entries.
    Poll,
}

/// One device's connection. Dropping it disconnects the device.
#[derive(Debug)]
pub struct Connection {
    hub: Hub,
    mailbox: MailboxId,
    slot: Arc<Slot>,
    ephemeral: mpsc::Receiver<Box<Envelope>>,
}

/// What happened to a connected device.
#[derive(Debug)]
pub enum Event {
    /// There may be new entries in the mailbox.
    Wake,
    /// An ephemeral envelope, for this moment only.
    Ephemeral(Box<Envelope>),
    /// This connection is to close.
    Ended(Ending),
}

/// Why a connection is to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The device has connected again.
    Replaced,
    /// The mailbox was deleted.
    Deleted,
    /// The mailbox is kept at another relay.
    Moved,
    /// An administrator has closed the mailbox.
    Suspended,
    /// The device was removed from the mailbox.
    DeviceRemoved,
}

impl Hub {
    /// Connects a device. An earlier stream of the same device is told to close when a new one comes, and an earlier
    /// poll to end: it is usually one whose network died without a word. So a device has one of each at the most.
    ///
    /// The connection is woken and ended from now on, and handed nothing before it is [admitted](Connection::admit).
    pub fn connect(&self, mailbox: MailboxId, device: DeviceId, attendance: Attendance) -> Connection {
        let (sender, ephemeral) = mpsc::channel(EPHEMERAL_BACKLOG);
        let slot = Arc::new(Slot {
            device,
            attendance,
            is_admitted: AtomicBool::new(false),
            wake: Notify::new(),
            ephemeral: sender,
            ending: OnceLock::new(),
            ended: CancellationToken::new(),
        });
        let mut mailboxes = self.lock();
        let slots = mailboxes.entry(mailbox).or_default();
        slots.retain(|other| {
            let stays = other.device != device || other.attendance != attendance;
            if !stays {
                other.end(Ending::Replaced);
            }
            stays
        });
        slots.push(Arc::clone(&slot));
        drop(mailboxes);
        Connection { hub: self.clone(), mailbox, slot, ephemeral }
    }

    /// How many streams and polls of devices there are.
    pub fn connected(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    /// Wakes the mailbox's connected devices.
    pub fn wake(&self, mailbox: &MailboxId) {
        for slot in self.lock().get(mailbox).into_iter().flatten() {
            slot.wake.notify_one();
        }
    }

    /// Wakes every connected device, after notifications were missed.
    pub fn wake_all(&self) {
        for slot in self.lock().values().flatten() {
            slot.wake.notify_one();
        }
    }

    /// Hands an ephemeral envelope to the connected devices that it is for; whether there was one.
    pub fn hand_over(&self, envelope: &Envelope) -> bool {
        let mailboxes = self.lock();
        let slots = mailboxes.get(envelope.mailbox()).into_iter().flatten();
        // One that has been ended is still there until its task has seen that, and takes nothing any more.
        let open =
            slots.filter(|slot| slot.is_admitted.load(Ordering::Acquire) && !slot.ended.is_cancelled());
        let streams = open.filter(|slot| slot.attendance == Attendance::Stream);
        let meant = streams.filter(|slot| envelope.device().is_none_or(|device| *device == slot.device));
        // Detached: a waiting envelope must not keep the whole batch that it came in.
        meant.filter(|slot| slot.ephemeral.try_send(Box::new(envelope.detached())).is_ok()).count() > 0
    }

    /// Closes the connections of a mailbox.
    pub fn disconnect(&self, mailbox: &MailboxId, why: Ending) {
        for slot in self.lock().get(mailbox).into_iter().flatten() {
            slot.end(why);
        }
    }

    /// Closes the connections of a device that was removed.
    pub fn disconnect_device(&self, mailbox: &MailboxId, device: &DeviceId) {
        for slot in self.lock().get(mailbox).into_iter().flatten().filter(|slot| slot.device == *device) {
            slot.end(Ending::DeviceRemoved);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MailboxId, Vec<Arc<Slot>>>> {
        // No code that can panic runs under this lock half way through a change.
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The first reason is the one that is told.
    fn end(&self, why: Ending) {
        let _ = self.ending.set(why);
        self.ended.cancel();
    }
}

impl Connection {
    /// The device may be here.
    pub fn admit(&self) {
        self.slot.is_admitted.store(true, Ordering::Release);
    }

    /// Waits for what happens next. A wake that came since the last call is not lost.
    pub async fn event(&mut self) -> Event {
        tokio::select! {
            biased;
            () = self.slot.ended.cancelled() => {
                Event::Ended(self.slot.ending.get().copied().unwrap_or(Ending::Replaced))
            }
            () = self.slot.wake.notified() => Event::Wake,
            // The slot holds the sender, so the channel does not close before this connection is dropped.
            Some(envelope) = self.ephemeral.recv() => Event::Ephemeral(envelope),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut mailboxes = self.hub.lock();
        if let Some(slots) = mailboxes.get_mut(&self.mailbox) {
            slots.retain(|slot| !Arc::ptr_eq(slot, &self.slot));
            if slots.is_empty() {
                mailboxes.remove(&self.mailbox);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use postrider_common::{Draft, Timestamp, Urgency};

    use super::*;

    const MAILBOX: MailboxId = MailboxId::from_bytes([1; 32]);
    const PHONE: DeviceId = DeviceId::from_bytes([2; 32]);
    const LAPTOP: DeviceId = DeviceId::from_bytes([3; 32]);

    fn admitted(hub: &Hub, device: DeviceId, attendance: Attendance) -> Connection {
        let connection = hub.connect(MAILBOX, device, attendance);
        connection.admit();
        connection
    }

    fn ephemeral(device: Option<DeviceId>) -> Envelope {
        let draft = Draft::new(MAILBOX, Timestamp::from_secs(9), &b"typing"[..]);
        Draft { urgency: Urgency::Ephemeral, device, ..draft }.finish().unwrap()
    }

    #[tokio::test]
    async fn a_wake_before_the_wait_is_not_lost() {
        let hub = Hub::default();
        let mut connection = admitted(&hub, PHONE, Attendance::Stream);
        hub.wake(&MAILBOX);
        hub.wake(&MailboxId::from_bytes([9; 32]));
        assert!(matches!(connection.event().await, Event::Wake));
        assert!(connection.event().now_or_never().is_none());
    }

    #[tokio::test]
    async fn an_ephemeral_envelope_reaches_those_it_is_for() {
        let hub = Hub::default();
        assert!(!hub.hand_over(&ephemeral(None)));
        let (mut phone, mut laptop) =
            (admitted(&hub, PHONE, Attendance::Stream), admitted(&hub, LAPTOP, Attendance::Stream));
        assert!(hub.hand_over(&ephemeral(Some(LAPTOP))));
        assert!(matches!(laptop.event().await, Event::Ephemeral(_)));
        assert!(phone.event().now_or_never().is_none());
        assert!(!hub.hand_over(&ephemeral(Some(DeviceId::from_bytes([9; 32])))));
    }

    #[tokio::test]
    async fn a_connection_that_was_ended_takes_nothing_although_it_is_still_there() {
        for end in [
            |hub: &Hub| hub.disconnect(&MAILBOX, Ending::Suspended),
            |hub: &Hub| hub.disconnect_device(&MAILBOX, &PHONE),
        ] {
            let hub = Hub::default();
            let _phone = admitted(&hub, PHONE, Attendance::Stream);
            assert!(hub.hand_over(&ephemeral(None)));
            end(&hub);
            assert!(!hub.hand_over(&ephemeral(None)));
        }
    }

    #[tokio::test]
    async fn a_device_of_which_it_is_not_known_whether_it_may_be_here_is_handed_nothing() {
        let hub = Hub::default();
        let mut phone = hub.connect(MAILBOX, PHONE, Attendance::Stream);
        assert!(!hub.hand_over(&ephemeral(None)));
        hub.wake(&MAILBOX);
        assert!(matches!(phone.event().await, Event::Wake), "what comes meanwhile is not missed");
        phone.admit();
        assert!(hub.hand_over(&ephemeral(None)));
    }

    #[tokio::test]
    async fn a_slow_device_holds_a_bounded_backlog() {
        let hub = Hub::default();
        let _phone = admitted(&hub, PHONE, Attendance::Stream);
        let taken = (0..100).filter(|_| hub.hand_over(&ephemeral(None))).count();
        assert_eq!(taken, EPHEMERAL_BACKLOG);
    }

    #[tokio::test]
    async fn a_poll_is_woken_but_takes_no_ephemeral_envelope_and_replaces_no_stream() {
        let hub = Hub::default();
        let mut poll = admitted(&hub, PHONE, Attendance::Poll);
        assert!(!hub.hand_over(&ephemeral(None)));
        let mut stream = admitted(&hub, PHONE, Attendance::Stream);
        hub.wake(&MAILBOX);
        assert!(matches!(poll.event().await, Event::Wake));
        assert!(matches!(stream.event().await, Event::Wake));
        let _another = admitted(&hub, PHONE, Attendance::Poll);
        assert!(matches!(poll.event().await, Event::Ended(Ending::Replaced)), "one poll at a time");
        assert!(stream.event().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_connection_is_told_why_it_ends() {
        let hub = Hub::default();
        let (mut phone, mut laptop) =
            (admitted(&hub, PHONE, Attendance::Stream), admitted(&hub, LAPTOP, Attendance::Poll));
        hub.disconnect_device(&MAILBOX, &LAPTOP);
        assert!(matches!(laptop.event().await, Event::Ended(Ending::DeviceRemoved)));
        assert!(phone.event().now_or_never().is_none(), "the others stay");
        hub.disconnect(&MAILBOX, Ending::Suspended);
        hub.disconnect(&MAILBOX, Ending::Deleted);
        assert!(matches!(phone.event().await, Event::Ended(Ending::Suspended)), "the first reason");
    }

    #[tokio::test]
    async fn the_same_device_again_replaces_the_first_connection() {
        let hub = Hub::default();
        let mut first = admitted(&hub, PHONE, Attendance::Stream);
        let second = admitted(&hub, PHONE, Attendance::Stream);
        assert!(matches!(first.event().await, Event::Ended(Ending::Replaced)));
        drop(first);
        assert_eq!(hub.connected(), 1);
        drop(second);
        assert_eq!(hub.connected(), 0);
        assert!(hub.lock().is_empty());
    }
}
