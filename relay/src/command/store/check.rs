//! `postrider store check`: what was looked at, and what is wrong.

use std::io::{self, Write};
use std::path::Path;

use super::bar::Bar;
use super::{CheckArgs, StoreCommandError};
use crate::store::{self, Flaw, Report, Totals};

pub(super) fn run(args: &CheckArgs, out: &mut dyn Write) -> Result<(), StoreCommandError> {
    let path = args.place.existing_store()?;
    let bar = Bar::default();
    let failed = |error| StoreCommandError::Store { path: path.clone(), error };
    let report = store::check(&path, &args.scratch.directory(), &bar).map_err(failed)?;
    drop(bar);
    if args.json {
        writeln!(out, "{}", json(&path, &report, args.verbose))?;
    } else {
        text(&path, &report, args.verbose, out)?;
    }
    match report.flaws().count() {
        0 => Ok(()),
        kinds => Err(StoreCommandError::Problems { path, kinds }),
    }
}

fn text(path: &Path, report: &Report, in_full: bool, out: &mut dyn Write) -> io::Result<()> {
    let totals = &report.totals;
    let result = if report.is_clean() { "clean" } else { "not clean" };
    writeln!(out, "{}: {result}", path.display())?;
    writeln!(out, "  journal       {} files, {} frames", totals.segments, totals.frames)?;
    writeln!(out, "  base          {} blocks", totals.blocks)?;
    // Zeros would look as if nothing was left.
    if report.flaws().all(|(flaw, _)| flaw != Flaw::Opening) {
        records(totals, out)?;
    }
    for note in &report.notes {
        writeln!(out, "note: {note}")?;
    }
    for (flaw, found) in report.flaws() {
        write!(out, "problem: {}: {}", flaw.text(), found.count)?;
        let places: Vec<_> = found.places.iter().map(|place| place.show(in_full)).collect();
        match places.len() {
            0 => writeln!(out)?,
            shown if shown as u64 == found.count => writeln!(out, " ({})", places.join("; "))?,
            _ => writeln!(out, " (first {})", places.join("; "))?,
        }
    }
    Ok(())
}

fn records(totals: &Totals, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "  records       {}, {} bytes", totals.records, totals.bytes)?;
    writeln!(out, "  mailboxes     {}, in which {} envelopes wait", totals.mailboxes, totals.entries)?;
    writeln!(out, "  destinations  {}, for which {} envelopes wait", totals.destinations, totals.items)?;
    writeln!(out, "  tracking      {}", totals.tracking)?;
    writeln!(out, "  quarantined   {}", totals.quarantined)?;
    writeln!(out, "  marks         {}", totals.marks)?;
    writeln!(out, "  attachments   {}, {} bytes", totals.attachments, totals.attachment_bytes)
}

fn json(path: &Path, report: &Report, in_full: bool) -> serde_json::Value {
    let problems: Vec<_> = report
        .flaws()
        .map(|(flaw, found)| {
            let places: Vec<_> = found.places.iter().map(|place| place.show(in_full)).collect();
            serde_json::json!({
                "problem": flaw.slug(),
                "text": flaw.text(),
                "count": found.count,
                "places": places,
            })
        })
        .collect();
    serde_json::json!({
        "store": path.display().to_string(),
        "clean": report.is_clean(),
        "totals": report.totals,
        "notes": report.notes,
        "problems": problems,
    })
}
