//! What is printed. Text from others is shown so that it can neither steer the terminal nor pass for ours.

use std::fmt::Write;
use std::time::Duration;

use postrider_client::{OpenError, Opened, TrackingState, TrackingStatus};
use postrider_common::Timestamp;

pub(super) use crate::command::show::one_line;

/// A message: the sender's address, and the text indented under it where it has several lines.
pub(super) fn opened(opened: &Result<Opened, OpenError>) -> String {
    let Opened { sender, message, .. } = match opened {
        Ok(opened) => opened,
        Err(error) => return format!("({error})\n"),
    };
    let text = match std::str::from_utf8(message) {
        Ok(text) => text,
        Err(_) => return format!("{sender}: ({} bytes that are not text)\n", message.len()),
    };
    let mut shown = format!("{sender}:");
    let mut lines = text.trim_end_matches('\n').split('\n');
    if let Some(first) = lines.next() {
        shown.push(' ');
        shown.push_str(&one_line(first));
    }
    for line in lines {
        shown.push_str("\n    ");
        shown.push_str(&one_line(line));
    }
    shown.push('\n');
    shown
}

/// Where a queued message stands.
pub(super) fn status(status: &TrackingStatus) -> String {
    let state = match status.state {
        TrackingState::Queued => "queued",
        TrackingState::Stored => "stored",
        TrackingState::Failed => "failed",
        TrackingState::Expired => "expired",
        _ => "unknown to this version",
    };
    let time = |secs| Timestamp::from_secs(secs).to_string();
    let rows = [
        ("state", Some(state.to_owned())),
        ("destination", Some(status.destination.to_string())),
        ("queued at", Some(time(status.queued_at))),
        ("attempts", Some(status.attempts.to_string())),
        ("reason", status.reason.as_deref().map(one_line)),
        ("next attempt", status.next_attempt_at.map(time)),
        ("ended at", status.ended_at.map(time)),
    ];
    let mut shown = String::new();
    for (name, value) in rows {
        if let Some(value) = value {
            // Writing to a string does not fail.
            let _ = writeln!(shown, "{:<14}{value}", format!("{name}:"));
        }
    }
    shown
}

/// `, try again in …`, where that makes sense.
pub(super) fn retry(after: Option<Duration>) -> String {
    match after {
        Some(after) => format!(", try again in {} seconds", after.as_secs().max(1)),
        None => String::new(),
    }
}
