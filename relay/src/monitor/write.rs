//! Every metric, from what was counted and what was found.

use postrider_common::Timestamp;

use super::Parts;
use super::catalogue::{
    ACCEPTED, ACKNOWLEDGED, ACME_FAILURES, ACME_ISSUED, ACME_NEXT, ATTACHMENT_BYTES, ATTACHMENT_LIMIT,
    BUILD_INFO, CERTIFICATE, CONNECTIONS, CONNECTIONS_REFUSED, DELIVERED, DELIVERY_FAILURES, DEVICES,
    DISK_FREE, DISK_RESERVE, DNSSEC, EXPIRED, FAILED, FAILING_SINCE, FAILURES, FLUSH, FORWARDED, GROUP,
    LOCAL_FAULT, Metric, NEXT_ATTEMPT, PAUSED, PEER_CERTIFICATE, QUEUE_BYTES, QUEUE_DESTINATIONS,
    QUEUE_ENVELOPES, QUEUE_FAILING, QUEUE_OLDEST, QUEUED, READY, REFUSED, RELOADS, START_TIME, STORE_BYTES,
    STORE_FAILED, STORED, UNREADABLE,
};
use super::overview::{Overview, QueueOverview};
use super::page::Page;
use crate::count::ByClass;

/// What can be told while the store is opened.
pub(super) fn beginning(started: Timestamp) -> String {
    let mut page = Page::default();
    head(&mut page, started, false);
    page.finish()
}

/// In the order of the catalogue.
pub(super) fn everything(parts: &Parts, overview: &Overview) -> String {
    let mut page = Page::default();
    head(&mut page, overview.started, overview.obstacle.is_none());
    envelopes(&mut page, parts);
    queue(&mut page, overview);
    page.metric(&DELIVERY_FAILURES).classes(&parts.delivery.counts().failures);
    page.single(&LOCAL_FAULT, u8::from(parts.delivery.fault_is_local()));
    connections(&mut page, parts, overview);
    store(&mut page, parts, overview);
    if let Some(works) = overview.dnssec {
        page.single(&DNSSEC, u8::from(works));
    } else {
        page.metric(&DNSSEC);
    }
    let mut own = page.metric(&CERTIFICATE);
    for (to, end) in &overview.own_certificates {
        own.add(&[*to], end.as_secs());
    }
    acme(&mut page, overview);
    let mut peers = page.metric(&PEER_CERTIFICATE);
    for (peer, end) in &overview.peers_certificates {
        peers.add(&[peer.as_str()], end.as_secs());
    }
    let reloads = parts.reload.counts();
    page.metric(&RELOADS).add(&["done"], reloads.done.total()).add(&["refused"], reloads.refused.total());
    page.finish()
}

fn acme(page: &mut Page, overview: &Overview) {
    let told = overview.acme.as_ref();
    let mut optional = |metric, value: Option<u64>| {
        let mut samples = page.metric(metric);
        if let Some(value) = value {
            samples.add(&[], value);
        }
    };
    optional(&ACME_ISSUED, told.and_then(|told| told.issued_at).map(Timestamp::as_secs));
    optional(&ACME_FAILURES, told.map(|told| told.failures.into()));
    optional(&ACME_NEXT, told.map(|told| told.next_attempt.as_secs()));
}

fn head(page: &mut Page, started: Timestamp, is_ready: bool) {
    page.metric(&BUILD_INFO).add(&[env!("CARGO_PKG_VERSION")], 1);
    page.single(&START_TIME, started.as_secs());
    page.single(&READY, u8::from(is_ready));
}

fn envelopes(page: &mut Page, parts: &Parts) {
    let (counts, delivery) = (parts.exchange.counts(), parts.delivery.counts());
    let edges = [("clients", &counts.clients), ("relays", &counts.relays)];
    let mut accepted = page.metric(&ACCEPTED);
    for (from, edge) in edges {
        accepted.add(&[from], edge.accepted.total());
    }
    let mut refused = page.metric(&REFUSED);
    for (from, edge) in edges {
        for (class, total) in edge.refused.totals() {
            refused.add(&[from, class.slug()], total);
        }
    }
    page.single(&STORED, counts.stored.total());
    page.single(&QUEUED, counts.queued.total());
    page.single(&FORWARDED, delivery.forwarded.total());
    page.metric(&FAILED).classes(&delivery.failed);
    page.single(&DELIVERED, counts.delivered.total());
    page.single(&ACKNOWLEDGED, counts.acknowledged.total());
    page.metric(&EXPIRED)
        .add(&["mailbox"], counts.expired_in_mailboxes.total())
        .add(&["queue"], counts.expired_in_queue.total() + delivery.expired.total());
}

fn queue(page: &mut Page, overview: &Overview) {
    let nothing = QueueOverview::default();
    // One that cannot be read has no samples that could be taken for zeros.
    let (queue, is_known) = overview.queue.as_ref().map_or((&nothing, false), |queue| (queue, true));
    let named =
        |page: &mut Page, metric: &'static Metric, of: &dyn Fn(usize) -> Option<u64>, others: Option<u64>| {
            let mut samples = page.metric(metric);
            for (index, (destination, _)) in queue.named.iter().enumerate() {
                if let Some(value) = of(index) {
                    samples.add(&[destination.domain.as_str()], value);
                }
            }
            if let Some(value) = others {
                samples.add(&["(others)"], value);
            }
        };
    let destination = |index: usize| &queue.named[index].0;
    let backoff = |index: usize| destination(index).backoff.as_ref();
    named(page, &QUEUE_ENVELOPES, &|at| Some(destination(at).items), queue.others.map(|(items, _)| items));
    named(page, &QUEUE_BYTES, &|at| Some(destination(at).bytes), queue.others.map(|(_, bytes)| bytes));
    let waited = |at: usize| Some(overview.now.since(queue.named[at].1?).as_secs());
    named(page, &QUEUE_OLDEST, &waited, None);
    for (metric, value) in [(&QUEUE_DESTINATIONS, queue.destinations), (&QUEUE_FAILING, queue.failing)] {
        let mut samples = page.metric(metric);
        if is_known {
            samples.add(&[], value);
        }
    }
    named(page, &PAUSED, &|at| destination(at).paused.map(|_| 1), None);
    let mut failures = page.metric(&FAILURES);
    for (destination, _) in &queue.named {
        if let Some(backoff) = &destination.backoff {
            failures.add(&[destination.domain.as_str(), backoff.class.slug()], backoff.failures);
        }
    }
    named(page, &FAILING_SINCE, &|at| Some(backoff(at)?.failing_since.as_secs()), None);
    named(page, &NEXT_ATTEMPT, &|at| Some(backoff(at)?.next_attempt.as_secs()), None);
}

fn connections(page: &mut Page, parts: &Parts, overview: &Overview) {
    let found = &overview.connections;
    page.metric(&CONNECTIONS)
        .add(&["clients"], found.clients)
        .add(&["relays-in"], found.relays_in)
        .add(&["relays-out"], found.relays_out)
        .add(&["beginning"], found.beginning);
    let door = parts.door.counts();
    page.metric(&CONNECTIONS_REFUSED)
        .add(&["limit"], door.over_limit.total())
        .add(&["proxy"], door.without_header.total())
        .add(&["tls"], door.without_tls.total())
        .add(&["time"], door.too_slow.total());
    page.single(&DEVICES, found.devices);
}

fn store(page: &mut Page, parts: &Parts, overview: &Overview) {
    const NANOSECONDS: f64 = 1e9;
    let statistics = parts.store.statistics();
    page.metric(&FLUSH).histogram(&statistics.flushes, NANOSECONDS);
    page.metric(&GROUP).histogram(&statistics.groups, 1.0);
    for (metric, bytes) in [(&STORE_BYTES, &overview.store_bytes), (&DISK_FREE, &overview.disk_free)] {
        let mut samples = page.metric(metric);
        if let Ok(bytes) = bytes {
            samples.add(&[], bytes);
        }
    }
    page.single(&DISK_RESERVE, overview.reserve);
    page.single(&ATTACHMENT_BYTES, overview.attachments.0);
    page.single(&ATTACHMENT_LIMIT, overview.attachments.1);
    page.single(&STORE_FAILED, u8::from(statistics.failure().is_some()));
    page.single(&UNREADABLE, overview.unreadable);
}

impl super::page::Samples<'_> {
    fn classes(&mut self, classes: &ByClass) {
        for (class, total) in classes.totals() {
            self.add(&[class.slug()], total);
        }
    }
}
