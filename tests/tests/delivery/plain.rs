//! Envelopes whose bodies are plain text, and what the tests ask about them.

use std::time::Duration;

use postrider_client::Entry;
use postrider_common::wire::submit::SubmitResult;
use postrider_common::{Domain, Draft, Envelope, FailureClass, TrackingId};
use postrider_tests::cluster::{Cluster, User};

pub(crate) const ALPHA: &str = "alpha.example";
pub(crate) const BETA: &str = "beta.example";
pub(crate) const GAMMA: &str = "gamma.example";
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn draft(cluster: &Cluster, to: &User, text: impl Into<String>) -> Draft {
    Draft::new(to.identity().address().mailbox, cluster.clock().now() + DAY, text.into().into_bytes())
}

pub(crate) fn envelope(cluster: &Cluster, to: &User, text: impl Into<String>) -> Envelope {
    draft(cluster, to, text).finish().unwrap()
}

pub(crate) fn text(envelope: &Envelope) -> String {
    String::from_utf8_lossy(envelope.body()).into_owned()
}

/// The texts that wait for a device.
pub(crate) async fn waiting(user: &User) -> Vec<String> {
    user.waiting().await.unwrap().iter().map(|entry| text(&entry.envelope)).collect()
}

/// `0` to `count - 1` as texts, in the order of texts.
pub(crate) fn numbers(count: usize) -> Vec<String> {
    sorted((0..count).map(|number| number.to_string()).collect())
}

pub(crate) fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

/// Submits [`numbers`] as envelopes, in batches, and returns their tracking ids.
pub(crate) async fn queue_numbers(
    cluster: &Cluster,
    from: &User,
    to: &User,
    count: usize,
) -> Vec<TrackingId> {
    let domain = to.identity().domain();
    let items: Vec<(Domain, Envelope)> =
        (0..count).map(|number| (domain.clone(), envelope(cluster, to, number.to_string()))).collect();
    let mut ids = Vec::new();
    for batch in items.chunks(256) {
        ids.extend(from.relay().submit(batch).await.unwrap().into_iter().map(tracking));
    }
    ids
}

/// The tracking id of an envelope that was queued.
pub(crate) fn tracking(result: SubmitResult) -> TrackingId {
    match result {
        SubmitResult::Queued { tracking } => tracking,
        other => panic!("queued was expected: {other:?}"),
    }
}

/// A refusal for good.
pub(crate) fn refused(reason: FailureClass) -> SubmitResult {
    SubmitResult::Refused { reason, retry_after: None }
}

pub(crate) fn ids(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.id.0).collect()
}
