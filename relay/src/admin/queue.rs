//! The queue, for an administrator: what waits, what fails, and what is to be done about it.

use bytes::Bytes;
use data_encoding::BASE64;
use http::Response;
use http_body_util::Full;
use postrider_common::{Domain, Envelope, Timestamp};

use super::Parts;
use super::documents::{
    Destination, DestinationDetails, Done, Envelopes, Failing, Item, Met, Quarantine, Quarantined, Queue,
    Selection,
};
use super::problem::Refusal;
use super::router::{Answer, json, malformed, queried};
use crate::store::{self, ItemId, Queued, Window};

/// How many items a page has unless fewer are asked for, and how many are dropped in one step.
const PAGE: usize = 256;
/// How much a page with envelopes has.
const ENVELOPES: Window = Window { count: PAGE, bytes: 4 << 20 };

pub(super) async fn list(parts: &Parts) -> Answer {
    let mut destinations = parts.store.destinations().await?;
    destinations.sort_by(|a, b| a.domain.cmp(&b.domain));
    Ok(json(&Queue { destinations: destinations.into_iter().map(shown).collect() }))
}

pub(super) async fn show(parts: &Parts, domain: Domain, query: &str) -> Answer {
    let after = queried(query, "after").map(item_id).transpose()?;
    let count = match queried(query, "count") {
        Some(count) => count.parse().map_err(|_| malformed("count", count))?,
        None => PAGE,
    };
    let history = parts.store.history(domain.clone()).await?;
    let quarantined = parts.store.quarantined(domain.clone()).await?.len();
    let destination = match parts.store.destination(domain.clone()).await? {
        Some(destination) => shown(destination),
        None if history.is_empty() && quarantined == 0 => return Err(nothing_waits(&domain)),
        None => Destination {
            domain: domain.clone(),
            envelopes: 0,
            bytes: 0,
            paused_since: None,
            failing: None,
            next_retry_at: None,
        },
    };
    let count = count.clamp(1, PAGE);
    let items = parts.store.queued(domain, after, count, parts.clock.now()).await?;
    let next = items.last().filter(|_| items.len() >= count).map(|last| last.item.0.to_string());
    Ok(json(&DestinationDetails {
        destination,
        history: history.into_iter().map(met).collect(),
        quarantined,
        items: items.iter().map(|queued| item(queued, None)).collect(),
        next,
    }))
}

pub(super) async fn envelopes(parts: &Parts, domain: Domain, query: &str) -> Answer {
    let after = queried(query, "after").map(item_id).transpose()?;
    let page = parts.store.queued_envelopes(domain, after, ENVELOPES, parts.clock.now()).await?;
    let next = page.last().map(|(last, _)| last.item.0.to_string());
    let items = page.iter().map(|(queued, envelope)| item(queued, Some(envelope))).collect();
    Ok(json(&Envelopes { items, next }))
}

pub(super) async fn retry(parts: &Parts, domain: Domain, selection: Selection) -> Answer {
    known(parts, &domain).await?;
    let items = item_ids(&selection.items)?;
    let done = if items.is_empty() {
        tracing::info!(peer = %domain, "an administrator has it tried again");
        parts.delivery.retry(&domain);
        Done::default()
    } else {
        let count = items.len();
        let done = parts.store.hasten(domain, items, parts.clock.now()).await?;
        Done { done, left: count - done, next: None }
    };
    Ok(json(&done))
}

pub(super) async fn pause(parts: &Parts, domain: Domain, is_paused: bool) -> Answer {
    if domain == parts.domain {
        return Err(Refusal::Conflict(format!("{domain} is this relay itself: nothing is queued for it")));
    }
    let word = if is_paused { "paused" } else { "resumed" };
    parts.delivery.pause(&domain, is_paused).await?;
    tracing::info!(peer = %domain, "an administrator has {word} deliveries");
    Ok(json(&Done::default()))
}

pub(super) async fn discard(parts: &Parts, domain: Domain, selection: Selection) -> Answer {
    let (items, next) = if selection.all {
        let after = selection.after.as_deref().map(item_id).transpose()?;
        let page = parts.store.queued(domain.clone(), after, PAGE, parts.clock.now()).await?;
        let next = page.last().filter(|_| page.len() >= PAGE).map(|last| last.item.0.to_string());
        (page.into_iter().map(|queued| queued.item).collect(), next)
    } else if selection.items.is_empty() {
        return Err(Refusal::Malformed("nothing says which envelopes are to be dropped".into()));
    } else {
        (item_ids(&selection.items)?, None)
    };
    let count = items.len();
    let done = parts.store.discard(domain.clone(), items, parts.clock.now()).await?;
    if done > 0 {
        tracing::info!(peer = %domain, count = done, "an administrator has dropped queued envelopes");
    }
    Ok(json(&Done { done, left: count - done, next }))
}

pub(super) async fn quarantine(parts: &Parts, domain: Domain) -> Answer {
    let kept = parts.store.quarantined(domain).await?;
    let shown = |kept: store::Quarantined| {
        let store::Quarantined { item, envelope, class, at } = kept;
        Quarantined {
            item: item.0.to_string(),
            class: class.slug().into(),
            at: at.as_secs(),
            bytes: envelope.encoded().len(),
            header_bytes: envelope.header().len(),
            body_bytes: envelope.body().len(),
            expires_at: envelope.expires_at().as_secs(),
            envelope: BASE64.encode(envelope.encoded()),
        }
    };
    Ok(json(&Quarantine { items: kept.into_iter().map(shown).collect() }))
}

pub(super) async fn drop_quarantined(parts: &Parts, domain: Domain, item: &str) -> Answer {
    if parts.store.discard_quarantined(domain.clone(), item_id(item)?).await? {
        return Ok::<Response<Full<Bytes>>, _>(json(&Done { done: 1, left: 0, next: None }));
    }
    Err(Refusal::NotFound(format!("{item} is not in quarantine for {domain}")))
}

async fn known(parts: &Parts, domain: &Domain) -> Result<store::Destination, Refusal> {
    parts.store.destination(domain.clone()).await?.ok_or_else(|| nothing_waits(domain))
}

fn nothing_waits(domain: &Domain) -> Refusal {
    Refusal::NotFound(format!("nothing waits for {domain}"))
}

fn item_id(text: &str) -> Result<ItemId, Refusal> {
    text.parse().map(ItemId).map_err(|_| malformed("an item", text))
}

fn item_ids(texts: &[String]) -> Result<Vec<ItemId>, Refusal> {
    texts.iter().map(|text| item_id(text)).collect()
}

pub(super) fn shown(destination: store::Destination) -> Destination {
    let store::Destination { domain, items, bytes, backoff, next_retry, paused } = destination;
    Destination {
        domain,
        envelopes: items,
        bytes,
        paused_since: paused.map(Timestamp::as_secs),
        failing: backoff.map(|backoff| Failing {
            since: backoff.failing_since.as_secs(),
            failures: backoff.failures,
            class: backoff.class.slug().into(),
            whose_end: backoff.class.whose_end().word().into(),
            detail: backoff.detail,
            next_attempt_at: backoff.next_attempt.as_secs(),
        }),
        next_retry_at: next_retry.map(Timestamp::as_secs),
    }
}

fn item(queued: &Queued, envelope: Option<&Envelope>) -> Item {
    Item {
        item: queued.item.0.to_string(),
        tracking: queued.tracking,
        bytes: queued.bytes,
        expires_at: queued.expires_at.as_secs(),
        attempts: queued.attempts,
        due_at: queued.not_before.map(Timestamp::as_secs),
        under_way: queued.leased,
        unreadable: queued.unreadable,
        envelope: envelope.map(|envelope| BASE64.encode(envelope.encoded())),
    }
}

pub(super) fn met(met: store::Met) -> Met {
    Met {
        class: met.class.slug().into(),
        whose_end: met.class.whose_end().word().into(),
        detail: met.detail,
        first_at: met.first.as_secs(),
        last_at: met.last.as_secs(),
        times: met.times,
    }
}
