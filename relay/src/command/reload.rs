//! `postrider reload`: a running relay reads its configuration again.

use std::io::Write;

use super::queue::{AdminCommandError, AskArgs, block_on};
use super::show::{Style, Tone, one_line};
use crate::admin::documents::Reloaded;

/// Asks for it and tells what has changed.
pub fn run(args: &AskArgs, out: &mut dyn Write) -> Result<(), AdminCommandError> {
    block_on(async {
        let done: Reloaded = args.asked.client()?.post("/v1/reload", &()).await?;
        args.asked.tell(&done, || shown(Style::of_stdout(), &done), out)
    })
}

fn shown(style: Style, done: &Reloaded) -> String {
    let mut shown = String::new();
    for warning in &done.warnings {
        shown.push_str(&format!("{} {}\n", style.paint(Tone::Odd, "warning:"), one_line(warning)));
    }
    for change in &done.changes {
        shown.push_str(&one_line(change));
        shown.push('\n');
    }
    if done.changes.is_empty() {
        shown.push_str("nothing that can change while the relay runs has changed\n");
    }
    for section in &done.after_restart {
        let note = format!("{section} has changed: it counts from the next start");
        shown.push_str(&format!("{}\n", style.paint(Tone::Odd, &note)));
    }
    shown
}
