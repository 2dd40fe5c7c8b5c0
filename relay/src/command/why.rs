//! `postrider why`: what was met on an envelope's way.

use std::io::Write;

use clap::Args;
use postrider_common::TrackingId;

use super::queue::{AdminCommandError, Asked, block_on, met};
use super::show::{Style, Tone, facts, time};
use crate::admin::documents::Why;

const DAMAGE: &str = "this relay's disk does not give it back; it stays in the queue until its time is over";

/// For `why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    #[command(flatten)]
    asked: Asked,
    /// Which envelope.
    #[arg(value_name = "TRACKING-ID")]
    tracking: TrackingId,
}

/// Asks and tells.
pub fn run(args: &WhyArgs, out: &mut dyn Write) -> Result<(), AdminCommandError> {
    block_on(async {
        let why: Why = args.asked.client()?.get(&format!("/v1/tracking/{}", args.tracking)).await?;
        args.asked.tell(&why, || shown(Style::of_stdout(), &why), out)
    })
}

fn shown(style: Style, why: &Why) -> String {
    let tone = match why.state.as_str() {
        "stored" => Tone::Good,
        "queued" => Tone::Odd,
        _ => Tone::Bad,
    };
    let end = why.whose_end.as_deref().unwrap_or_default();
    let mut shown = facts([
        ("tracking id", Some(why.tracking.to_string())),
        ("destination", Some(why.destination.to_string())),
        ("state", Some(style.paint(tone, &why.state))),
        ("queued at", Some(time(why.queued_at))),
        ("ended at", why.ended_at.map(time)),
        ("reason", why.reason.as_ref().map(|reason| format!("{reason} (to be mended: {end})"))),
        ("paused since", why.paused_since.map(time)),
        ("next attempt", why.next_attempt_at.map(time)),
        ("damage", why.unreadable.then(|| style.paint(Tone::Bad, DAMAGE))),
    ]);
    shown.push('\n');
    match why.attempts.as_slice() {
        [] if why.unreadable => {}
        [] => shown.push_str("Nothing went wrong on its way so far.\n"),
        attempts => shown.push_str(&met(style, attempts)),
    }
    shown
}
