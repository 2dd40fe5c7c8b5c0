//! The door for those who watch the relay: it opens before the store does, and closes last.

use std::net::SocketAddr;

use postrider_common::supervisor::Supervisor;
use tokio::net::TcpListener;

use super::StartError;
use crate::monitor::Monitor;

/// It is open until this is dropped.
#[derive(Debug)]
pub(super) struct Monitoring {
    address: SocketAddr,
    own: Supervisor,
}

impl Monitoring {
    /// Opens it. If it dies, so does the relay.
    pub(super) async fn open(
        address: SocketAddr,
        monitor: &Monitor,
        relay: &Supervisor,
    ) -> Result<Self, StartError> {
        let failed = |error| StartError::Bind { address, error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let own = Supervisor::new();
        monitor.serve(listener, &own);
        let (watched, owner) = (own.clone(), relay.clone());
        relay.spawn("watch over monitoring", async move {
            tokio::select! {
                () = owner.stopping() => {}
                () = watched.stopping() => if let Some(failure) = watched.failure() {
                    owner.fail(failure.task, failure.how);
                },
            }
        });
        tracing::info!(%address, "metrics and health are told");
        Ok(Self { address, own })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes it, and waits until it is.
    pub(super) async fn close(&self) {
        self.own.stop();
        self.own.finished().await;
    }
}

impl Drop for Monitoring {
    fn drop(&mut self) {
        self.own.stop();
    }
}
