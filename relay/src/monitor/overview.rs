//! How a relay is at one moment, as far as that is not counted but looked up.

use std::cmp::Reverse;
use std::fs;
use std::io;
use std::path::Path;

use postrider_common::clock::SharedClock;
use postrider_common::{Domain, Timestamp};

use super::Parts;
use crate::acme::Told;
use crate::store::{Destination, Store, StoreError};

/// How many destinations are told by name,
const NAMED: usize = 50;
/// and of how many peers it is told when their certificates end.
const CERTIFICATES: usize = 100;

/// What was found.
#[derive(Debug)]
pub(crate) struct Overview {
    pub(crate) started: Timestamp,
    pub(crate) now: Timestamp,
    /// Why the relay is not ready.
    pub(crate) obstacle: Option<String>,
    /// Absent if it cannot be read.
    pub(crate) queue: Result<QueueOverview, StoreError>,
    pub(crate) store_bytes: io::Result<u64>,
    pub(crate) disk_free: io::Result<u64>,
    pub(crate) reserve: u64,
    /// Bytes of attachments, and how many there may be.
    pub(crate) attachments: (u64, u64),
    /// Envelopes that could not be read.
    pub(crate) unreadable: usize,
    /// Who is shown it, and when it ends.
    pub(crate) own_certificates: Vec<(&'static str, Timestamp)>,
    /// Those that end first.
    pub(crate) peers_certificates: Vec<(Domain, Timestamp)>,
    pub(crate) dnssec: Option<bool>,
    /// How it stands with automatic certificates, if there are any.
    pub(crate) acme: Option<Told>,
    pub(crate) connections: Connections,
}

/// What waits for other relays.
#[derive(Debug, Default)]
pub(crate) struct QueueOverview {
    pub(crate) destinations: usize,
    pub(crate) failing: usize,
    pub(crate) paused: usize,
    pub(crate) envelopes: u64,
    pub(crate) bytes: u64,
    /// Those that fail, and then those with most, each with the time since which its oldest envelope waits.
    pub(crate) named: Vec<(Destination, Option<Timestamp>)>,
    /// Envelopes of the others, and their bytes; absent if all are named.
    pub(crate) others: Option<(u64, u64)>,
}

/// What is connected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connections {
    pub(crate) clients: u64,
    pub(crate) devices: usize,
    /// Other relays that have called.
    pub(crate) relays_in: u64,
    /// Those that were called.
    pub(crate) relays_out: usize,
    /// Not known yet what they are.
    pub(crate) beginning: u64,
}

impl Overview {
    pub(super) async fn gather(
        parts: &Parts,
        clock: &SharedClock,
        started: Timestamp,
        obstacle: Option<String>,
    ) -> Self {
        let now = clock.now();
        let store_dir = parts.data_dir.join("store");
        let store_bytes = tokio::task::spawn_blocking(move || size_of(&store_dir)).await;
        let mut peers_certificates = parts.peers_certificates.after(now);
        peers_certificates.sort_by_key(|(_, end)| *end);
        peers_certificates.truncate(CERTIFICATES);
        let door = parts.door.counts();
        let (relays_in, beginning) = (door.relays.now(), door.beginning.now());
        Self {
            started,
            now,
            obstacle,
            queue: queue(&*parts.store, now).await,
            store_bytes: store_bytes.unwrap_or_else(|error| Err(io::Error::other(error))),
            disk_free: disk_free(&parts.data_dir),
            reserve: parts.reserve,
            attachments: (parts.attachments.used_bytes(), parts.attachments.most_bytes()),
            unreadable: parts.store.statistics().unreadable.count(),
            own_certificates: parts
                .own_certificates
                .iter()
                .filter_map(|own| Some((own.to, own.end()?)))
                .collect(),
            peers_certificates,
            dnssec: parts.resolver.known_validation(),
            acme: parts.acme.told(),
            connections: Connections {
                // A stream of a device's is one of them to its end.
                clients: (parts.door.connections() as u64).saturating_sub(relays_in + beginning),
                devices: parts.exchange.connected(),
                relays_in,
                relays_out: parts.client.connections(),
                beginning,
            },
        }
    }
}

async fn queue(store: &dyn Store, now: Timestamp) -> Result<QueueOverview, StoreError> {
    let mut destinations = store.destinations().await?;
    let mut queue = QueueOverview { destinations: destinations.len(), ..QueueOverview::default() };
    for destination in &destinations {
        queue.envelopes += destination.items;
        queue.bytes += destination.bytes;
        queue.failing += usize::from(destination.backoff.is_some());
        queue.paused += usize::from(destination.paused.is_some());
    }
    destinations
        .sort_by_key(|destination| (Reverse(destination.backoff.is_some()), Reverse(destination.items)));
    let others = destinations.split_off(destinations.len().min(NAMED));
    if !others.is_empty() {
        let sum = |of: fn(&Destination) -> u64| -> u64 { others.iter().map(of).sum() };
        queue.others = Some((sum(|destination| destination.items), sum(|destination| destination.bytes)));
    }
    for destination in destinations {
        let oldest = match destination.items {
            0 => None,
            _ => oldest(store, &destination.domain, now).await?,
        };
        queue.named.push((destination, oldest));
    }
    Ok(queue)
}

/// Since when the first in a queue waits. It may have gone since its destination was looked at.
async fn oldest(store: &dyn Store, domain: &Domain, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
    let Some(first) = store.queued(domain.clone(), None, 1, now).await?.pop() else { return Ok(None) };
    Ok(store.tracking(first.tracking).await?.map(|tracking| tracking.queued_at))
}

/// Bytes of the disk that the relay may use.
pub(super) fn disk_free(path: &Path) -> io::Result<u64> {
    let state = rustix::fs::statvfs(path)?;
    Ok(state.f_bavail.saturating_mul(state.f_frsize))
}

/// Bytes of the files in a directory. One that goes meanwhile has none.
fn size_of(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes += size_of(&entry.path())?,
            Ok(metadata) => bytes += metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}
