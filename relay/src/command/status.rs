//! `postrider status`: how a running relay is, at a glance.

use std::io::Write;

use postrider_common::Domain;

use super::queue::{AdminCommandError, AskArgs, block_on, failing};
use super::show::{Style, Tone, facts, one_line, size, time};
use crate::admin::documents::{AcmeStatus, Certificate, Status, StoreStatus};

/// Fewer days than this are shown as a reason to look.
const FEW_DAYS: u64 = 30;

/// Asks and tells. A relay that takes no envelopes is an error, once it is told.
pub fn run(args: &AskArgs, out: &mut dyn Write) -> Result<(), AdminCommandError> {
    block_on(async {
        let status: Status = args.asked.client()?.get("/v1/status").await?;
        args.asked.tell(&status, || shown(Style::of_stdout(), &status), out)?;
        match status.obstacle {
            Some(obstacle) => Err(AdminCommandError::NotReady(obstacle)),
            None => Ok(()),
        }
    })
}

fn shown(style: Style, status: &Status) -> String {
    let Status { queue, store, connections, .. } = status;
    let state = match &status.obstacle {
        Some(obstacle) => style.paint(Tone::Bad, &format!("not ready: {}", one_line(obstacle))),
        None => style.paint(Tone::Good, "ready"),
    };
    let queue_line = queue.as_ref().map(|queue| {
        format!(
            "{}, {}, for {} (failing: {}, paused: {})",
            counted(queue.envelopes, "envelope"),
            size(queue.bytes),
            counted(queue.destinations as u64, "relay"),
            queue.failing,
            queue.paused
        )
    });
    let disk = store
        .disk_free
        .map(|free| format!("{} free, of which {} stay free", size(free), size(store.reserve)));
    let fault = "no other relay can be reached: the fault is likely here";
    let mut text = facts([
        ("relay", Some(format!("{}, version {}", status.domain, one_line(&status.version)))),
        ("state", Some(state)),
        (
            "running since",
            Some(format!(
                "{} ({})",
                time(status.started_at),
                duration(status.time - status.started_at.min(status.time))
            )),
        ),
        ("store", store.bytes.map(size)),
        ("disk", disk),
        ("attachments", attachments(style, store)),
        ("damage", (store.unreadable > 0).then(|| style.paint(Tone::Bad, &damage(store.unreadable)))),
        ("queue", queue_line.or(Some(style.paint(Tone::Bad, "cannot be read")))),
        ("network", status.local_fault.then(|| style.paint(Tone::Bad, fault))),
        (
            "connections",
            Some(format!(
                "{}, {}, {} in, {} out",
                counted(connections.clients, "client"),
                counted(connections.devices as u64, "device"),
                counted(connections.relays_in, "relay"),
                counted(connections.relays_out as u64, "relay"),
            )),
        ),
        (
            "DNSSEC",
            status.dnssec.map(|works| if works { "can be checked" } else { "cannot be checked" }.into()),
        ),
    ]);
    for certificate in &status.certificates {
        text.push_str(&line(style, certificate, status.time));
    }
    if let Some(acme) = &status.acme {
        text.push_str(&of_acme(style, acme));
    }
    if !status.failing.is_empty() {
        text.push_str("\nRelays that fail:\n");
        text.push_str(&failing(style, &status.failing));
    }
    text
}

/// How much of their room is taken; nothing where the relay that answers does not say.
fn attachments(style: Style, store: &StoreStatus) -> Option<String> {
    let StoreStatus { attachment_bytes: bytes, attachment_limit: limit, .. } = *store;
    let tone = if bytes > limit / 5 * 4 { Tone::Odd } else { Tone::Good };
    (limit > 0).then(|| style.paint(tone, &format!("{}, of at most {}", size(bytes), size(limit))))
}

fn damage(unreadable: usize) -> String {
    let envelopes = counted(unreadable as u64, "envelope");
    format!("not readable from the disk: {envelopes}; see the log, and `postrider store check`")
}

fn line(style: Style, certificate: &Certificate, now: u64) -> String {
    let Certificate { of, expires_at, days_left } = certificate;
    let end = match days_left {
        0 if *expires_at <= now => format!("over since {}", time(*expires_at)),
        left => format!("{} left, until {}", counted(*left, "day"), time(*expires_at)),
    };
    let tone = if *days_left < FEW_DAYS { Tone::Odd } else { Tone::Good };
    format!("certificate of {}: {}\n", one_line(of), style.paint(tone, &end))
}

fn of_acme(style: Style, acme: &AcmeStatus) -> String {
    let names: Vec<_> = acme.names.iter().map(Domain::as_str).collect();
    let next = time(acme.next_attempt);
    let issued =
        acme.issued_at.map_or_else(|| "none was issued yet".into(), |at| format!("issued {}", time(at)));
    let state = match &acme.failure {
        None => style.paint(Tone::Good, &format!("{issued}, next attempt {next}")),
        Some(failure) => {
            let count = counted(acme.failures.into(), "failure");
            let failure = one_line(failure);
            style.paint(Tone::Bad, &format!("{issued}, then {count}, next attempt {next}: {failure}"))
        }
    };
    format!("certificate from {} for {}: {state}\n", one_line(&acme.server), names.join(", "))
}

fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// In the two largest units that there are.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, hours) => format!("{hours} h {minutes} min"),
        (days, hours) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::documents::{ConnectionsStatus, QueueStatus};

    #[test]
    fn a_relay_is_shown_at_a_glance() {
        let certificate = |of: &str, days: u64| Certificate {
            of: of.into(),
            expires_at: 1_800_000_000 + days * 86_400,
            days_left: days,
        };
        let status = Status {
            domain: "alpha.example".parse().unwrap(),
            version: "0.1.0".into(),
            time: 1_800_000_000,
            started_at: 1_800_000_000 - 90_000,
            obstacle: None,
            store: StoreStatus {
                bytes: Some(1536),
                disk_free: Some(5 << 30),
                reserve: 256 << 20,
                unreadable: 0,
                attachment_bytes: 3 << 20,
                attachment_limit: 16 << 30,
            },
            queue: Some(QueueStatus { destinations: 2, failing: 1, paused: 0, envelopes: 7, bytes: 2048 }),
            failing: Vec::new(),
            local_fault: false,
            connections: ConnectionsStatus { clients: 5, devices: 4, relays_in: 1, relays_out: 2 },
            certificates: vec![
                certificate("this relay, as other relays see it", 3650),
                certificate("beta.example", 9),
            ],
            acme: Some(AcmeStatus {
                names: vec!["relay.alpha.example".parse().unwrap()],
                server: "acme.example".into(),
                issued_at: Some(1_800_000_000 - 86_400),
                next_attempt: 1_800_000_000 + 600,
                failures: 2,
                failure: Some("the order at the ACME server: not now".into()),
            }),
            dnssec: None,
        };
        let expected = "\
relay:         alpha.example, version 0.1.0
state:         ready
running since: 2027-01-14T07:00:00Z (1 d 1 h)
store:         1.5 KiB
disk:          5.0 GiB free, of which 256.0 MiB stay free
attachments:   3.0 MiB, of at most 16.0 GiB
queue:         7 envelopes, 2.0 KiB, for 2 relays (failing: 1, paused: 0)
connections:   5 clients, 4 devices, 1 relay in, 2 relays out
certificate of this relay, as other relays see it: 3650 days left, until 2037-01-12T08:00:00Z
certificate of beta.example: 9 days left, until 2027-01-24T08:00:00Z
certificate from acme.example for relay.alpha.example: issued 2027-01-14T08:00:00Z, then 2 failures, next attempt 2027-01-15T08:10:00Z: the order at the ACME server: not now
";
        assert_eq!(shown(Style::of_stdout(), &status), expected);
    }

    #[test]
    fn a_duration_has_two_units() {
        assert_eq!([59, 3599, 3600, 90_000].map(duration), ["0 min", "59 min", "1 h 0 min", "1 d 1 h"]);
    }
}
