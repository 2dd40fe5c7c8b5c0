//! How the queue is shown to people.

use crate::admin::documents::{
    Destination, DestinationDetails, Done, Item, Met, Quarantine, Quarantined, Queue,
};
use crate::command::show::{Cell, Style, Tone, facts, one_line, size, table, time};

pub(super) fn queue(style: Style, queue: &Queue) -> String {
    if queue.destinations.is_empty() {
        return "nothing waits for another relay\n".into();
    }
    destinations(style, &queue.destinations)
}

pub(in crate::command) fn destinations(style: Style, destinations: &[Destination]) -> String {
    let rows: Vec<_> = destinations.iter().map(row).collect();
    table(style, &["DESTINATION", "WAITING", "SIZE", "STATE", "NEXT ATTEMPT", "WHY"], &rows)
}

fn row(destination: &Destination) -> Vec<Cell> {
    let (state, tone) = state(destination);
    vec![
        Cell::new(destination.domain.as_str()),
        Cell::number(destination.envelopes),
        Cell::number(size(destination.bytes)),
        Cell::new(state).toned(tone),
        Cell::new(next_attempt(destination).unwrap_or_else(|| "-".into())),
        Cell::new(why(destination).unwrap_or_default()),
    ]
}

fn state(destination: &Destination) -> (&'static str, Tone) {
    match destination {
        Destination { paused_since: Some(_), .. } => ("paused", Tone::Odd),
        Destination { failing: Some(_), .. } => ("failing", Tone::Bad),
        Destination { envelopes: 0, .. } => ("empty", Tone::Faint),
        Destination { .. } => ("waiting", Tone::Good),
    }
}

fn next_attempt(destination: &Destination) -> Option<String> {
    if destination.paused_since.is_some() {
        return None;
    }
    let failing = destination.failing.as_ref().map(|failing| failing.next_attempt_at);
    failing.or(destination.next_retry_at).map(time)
}

fn why(destination: &Destination) -> Option<String> {
    let failing = destination.failing.as_ref()?;
    Some(format!("{} ({}): {}", failing.class, failing.whose_end, failing.detail))
}

pub(super) fn details(style: Style, details: &DestinationDetails) -> String {
    let destination = &details.destination;
    let failing = destination.failing.as_ref();
    let (state, tone) = state(destination);
    let mut shown = facts([
        ("destination", Some(destination.domain.to_string())),
        ("state", Some(style.paint(tone, state))),
        ("waiting", Some(format!("{} envelopes, {}", destination.envelopes, size(destination.bytes)))),
        ("paused since", destination.paused_since.map(time)),
        ("failing since", failing.map(|failing| time(failing.since))),
        ("failures", failing.map(|failing| failing.failures.to_string())),
        ("next attempt", next_attempt(destination)),
        ("why", why(destination).map(|why| one_line(&why))),
        ("quarantine", (details.quarantined > 0).then(|| format!("{} envelopes", details.quarantined))),
    ]);
    if !details.history.is_empty() {
        shown.push_str("\nHow it has failed lately:\n");
        shown.push_str(&met(style, &details.history));
    }
    if !details.items.is_empty() {
        shown.push_str("\nWhat waits, the oldest first:\n");
        let rows: Vec<_> = details.items.iter().map(item).collect();
        shown.push_str(&table(style, &["ITEM", "SIZE", "STATE", "ANSWERS", "EXPIRES", "TRACKING ID"], &rows));
        if let Some(next) = &details.next {
            shown.push_str(&format!("There may be more: --after {next}\n"));
        }
    }
    shown
}

fn item(item: &Item) -> Vec<Cell> {
    let state = match item.due_at {
        _ if item.unreadable => Cell::new("unreadable").toned(Tone::Bad),
        _ if item.under_way => Cell::new("under way").toned(Tone::Good),
        Some(due) => Cell::new(format!("due {}", time(due))).toned(Tone::Odd),
        None => Cell::new("waiting"),
    };
    vec![
        Cell::new(item.item.as_str()),
        Cell::number(size(item.bytes.into())),
        state,
        Cell::number(item.attempts),
        Cell::new(time(item.expires_at)),
        Cell::new(item.tracking.to_string()),
    ]
}

/// What was met, the oldest first.
pub(in crate::command) fn met(style: Style, met: &[Met]) -> String {
    let row = |met: &Met| {
        vec![
            Cell::new(time(met.first_at)),
            Cell::new(time(met.last_at)),
            Cell::number(met.times),
            Cell::new(met.class.as_str()).toned(Tone::Bad),
            Cell::new(met.whose_end.as_str()),
            Cell::new(met.detail.as_str()),
        ]
    };
    let rows: Vec<_> = met.iter().map(row).collect();
    table(style, &["FIRST", "LAST", "TIMES", "CLASS", "WHOSE END", "WHAT"], &rows)
}

pub(super) fn done(done: &Done, what: &str, left: &str) -> String {
    let mut shown =
        format!("{} {} {what}\n", done.done, if done.done == 1 { "envelope" } else { "envelopes" });
    if done.left > 0 {
        shown.push_str(&format!("{} {left}\n", done.left));
    }
    shown
}

pub(super) fn quarantine(style: Style, kept: &Quarantine) -> String {
    if kept.items.is_empty() {
        return "nothing is in quarantine for this destination\n".into();
    }
    let row = |kept: &Quarantined| {
        vec![
            Cell::new(kept.item.as_str()),
            Cell::new(time(kept.at)),
            Cell::number(size(kept.bytes as u64)),
            Cell::new(kept.class.as_str()).toned(Tone::Bad),
        ]
    };
    let rows: Vec<_> = kept.items.iter().map(row).collect();
    table(style, &["ITEM", "SINCE", "SIZE", "CLASS"], &rows)
}

pub(super) fn quarantined(kept: &Quarantined) -> String {
    facts([
        ("item", Some(kept.item.clone())),
        ("since", Some(time(kept.at))),
        ("class", Some(kept.class.clone())),
        ("expires", Some(time(kept.expires_at))),
        ("header", Some(format!("{} bytes", kept.header_bytes))),
        ("body", Some(format!("{} bytes", kept.body_bytes))),
        ("envelope", Some(kept.envelope.clone())),
    ])
}
