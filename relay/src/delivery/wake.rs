//! How a worker hears of what happens elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// How a worker is told that something has changed.
#[derive(Debug, Default)]
pub(super) struct Wake {
    notify: Notify,
    reset: AtomicBool,
    forget: AtomicBool,
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

    /// Completes when something has changed since this was last asked.
    pub(super) async fn woken(&self) {
        self.notify.notified().await;
    }

    /// Whether [`reset`](Self::reset) and whether [`forget`](Self::forget) was called since this was last asked.
    pub(super) fn take(&self) -> (bool, bool) {
        (self.reset.swap(false, Ordering::AcqRel), self.forget.swap(false, Ordering::AcqRel))
    }
}
