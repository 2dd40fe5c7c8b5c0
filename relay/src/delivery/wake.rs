//! How a worker hears of what happens elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// How a worker is told that something has changed.
#[derive(Debug, Default)]
pub(super) struct Wake {
    notify: Notify,
    reset: AtomicBool,
    forget: AtomicBool,
    greeted: AtomicBool,
    recertified: AtomicBool,
    steered: AtomicBool,
}

/// What a worker was told since it last asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signs {
    /// The destination has called.
    pub(super) is_up: bool,
    /// Nothing is held against it any more.
    pub(super) is_forgiven: bool,
    /// It has answered a greeting.
    pub(super) has_answered: bool,
    /// What we are known by is another certificate.
    pub(super) is_recertified: bool,
    /// An operator has paused it, or resumed it.
    pub(super) is_steered: bool,
}

impl Wake {
    /// There may be something to send.
    pub(super) fn nudge(&self) {
        self.notify.notify_one();
    }

    /// The destination is up, and to be tried at once.
    pub(super) fn reset(&self) {
        self.reset.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    /// The same, and nothing is held against it any more.
    pub(super) fn forget(&self) {
        self.forget.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    /// The destination has answered a greeting.
    pub(super) fn greeted(&self) {
        self.greeted.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    /// Other relays are shown another certificate of ours.
    pub(super) fn recertified(&self) {
        self.recertified.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    /// Whether the destination is paused may have changed.
    pub(super) fn steer(&self) {
        self.steered.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    /// Completes when something has changed since this was last asked.
    pub(super) async fn woken(&self) {
        self.notify.notified().await;
    }

    /// What was called of these since this was last asked.
    pub(super) fn take(&self) -> Signs {
        Signs {
            is_up: self.reset.swap(false, Ordering::AcqRel),
            is_forgiven: self.forget.swap(false, Ordering::AcqRel),
            has_answered: self.greeted.swap(false, Ordering::AcqRel),
            is_recertified: self.recertified.swap(false, Ordering::AcqRel),
            is_steered: self.steered.swap(false, Ordering::AcqRel),
        }
    }
}
