//! How the relay is, for an administrator.

use postrider_common::Timestamp;

use super::Parts;
use super::documents::{AcmeStatus, Certificate, ConnectionsStatus, QueueStatus, Status, StoreStatus};
use super::queue::shown;

const DAY: u64 = 86_400;

/// Everything at a glance. It is asked for over a socket that is opened when the relay is complete.
pub(super) async fn status(parts: &Parts) -> Status {
    let overview = parts.monitor.overview().await;
    let now = parts.clock.now();
    let mut status = Status {
        domain: parts.domain.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        time: now.as_secs(),
        started_at: now.as_secs(),
        obstacle: Some("the relay is starting".into()),
        store: StoreStatus::default(),
        queue: None,
        failing: Vec::new(),
        local_fault: parts.delivery.fault_is_local(),
        connections: ConnectionsStatus::default(),
        certificates: Vec::new(),
        acme: None,
        dnssec: None,
    };
    let Some(overview) = overview else { return status };
    status.started_at = overview.started.as_secs();
    status.obstacle = overview.obstacle;
    status.store = StoreStatus {
        bytes: overview.store_bytes.ok(),
        disk_free: overview.disk_free.ok(),
        reserve: overview.reserve,
        unreadable: overview.unreadable,
        attachment_bytes: overview.attachments.0,
        attachment_limit: overview.attachments.1,
    };
    if let Ok(queue) = overview.queue {
        status.queue = Some(QueueStatus {
            destinations: queue.destinations,
            failing: queue.failing,
            paused: queue.paused,
            envelopes: queue.envelopes,
            bytes: queue.bytes,
        });
        let failing = queue.named.into_iter().map(|(destination, _)| shown(destination));
        status.failing = failing.filter(|destination| destination.failing.is_some()).collect();
    }
    let found = overview.connections;
    status.connections = ConnectionsStatus {
        clients: found.clients,
        devices: found.devices,
        relays_in: found.relays_in,
        relays_out: found.relays_out,
    };
    let certificate = |of: String, end: Timestamp| Certificate {
        of,
        expires_at: end.as_secs(),
        days_left: end.since(now).as_secs() / DAY,
    };
    let own = overview.own_certificates.into_iter();
    let own = own.map(|(to, end)| certificate(format!("this relay, for {to}"), end));
    let peers = overview.peers_certificates.into_iter();
    let peers = peers.map(|(peer, end)| certificate(peer.to_string(), end));
    status.certificates = own.chain(peers).collect();
    status.acme = overview.acme.map(|told| AcmeStatus {
        names: told.names,
        server: told.server,
        issued_at: told.issued_at.map(Timestamp::as_secs),
        next_attempt: told.next_attempt.as_secs(),
        failures: told.failures,
        failure: told.failure,
    });
    status.dnssec = overview.dnssec;
    status
}
