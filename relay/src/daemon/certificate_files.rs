//! Notices by itself that a certificate was renewed in its files.
//!
//! Whoever renews one replaces two files, one after the other, and may write them in pieces. So a change is taken up when
//! two looks in a row have found the same; and when certificate and key do not belong together even then, what was in
//! force stays, which is said once, until the files change again.

use std::sync::Arc;
use std::time::Duration;

use postrider_common::clock::SharedClock;
use postrider_common::supervisor::Supervisor;

use super::Reload;
use crate::config::{Fingerprint, Pair};

/// How often the files are looked at. What is in them is compared, not their dates, since a symbolic link may be led to
/// another file.
const ROUND: Duration = Duration::from_secs(30);

/// Looks at the files of both pairs until the process stops.
pub(super) fn watch(reload: Reload, clock: &SharedClock, supervisor: &Supervisor) {
    let (clock, owner) = (Arc::clone(clock), supervisor.clone());
    supervisor.spawn_service("certificate files", async move {
        let mut pairs = [Pair::Clients, Pair::Relays].map(|pair| Watched { pair, seen: None, tried: false });
        loop {
            let next = clock.sleep(ROUND);
            for watched in &mut pairs {
                watched.look(&reload);
            }
            tracing::debug!("the certificate files were looked at");
            tokio::select! {
                () = owner.stopping() => return,
                () = next => {}
            }
        }
    });
}

/// A pair of files.
struct Watched {
    pair: Pair,
    /// What was found last that is not in force.
    seen: Option<Fingerprint>,
    /// Whether that was tried already, and refused.
    tried: bool,
}

impl Watched {
    fn look(&mut self, reload: &Reload) {
        let in_force = reload.credentials(self.pair);
        let changed = in_force.and_then(|in_force| {
            let now = in_force.fingerprint_now();
            (now != in_force.fingerprint()).then_some(now)
        });
        if changed != self.seen {
            (self.seen, self.tried) = (changed, false);
            return;
        }
        if let Some(seen) = self.seen.as_ref().filter(|_| !self.tried) {
            self.tried = take_up(reload, self.pair, seen);
        }
    }
}

/// Whether there is nothing to try again before the files change.
fn take_up(reload: &Reload, pair: Pair, seen: &Fingerprint) -> bool {
    match reload.renew(pair, seen) {
        Ok(Some(renewed)) => {
            for warning in &renewed.warnings {
                tracing::warn!("{}", warning);
            }
            for change in &renewed.changes {
                tracing::info!("certificate files have changed: {change}");
            }
            true
        }
        Ok(None) => false,
        Err(error) => {
            for problem in error.to_string().lines() {
                tracing::error!(
                    "certificate files have changed, and what was shown before is shown still: {problem}"
                );
            }
            true
        }
    }
}
