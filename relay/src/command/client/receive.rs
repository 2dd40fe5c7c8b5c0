//! What waits in a mailbox, printed and acknowledged.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use postrider_client::{Delivery, Entry, Identity, Opened, Session};
use postrider_common::EntryId;

use super::{ClientCommandError, files, print, show};

/// Prints everything that waits. What does not open stays where it is: another app of the user's may know how.
pub(super) async fn fetch(
    session: &Session,
    save: Option<&Path>,
    out: &mut (dyn Write + Send),
) -> Result<(), ClientCommandError> {
    let mut after = None;
    loop {
        let entries = session.entries(after, Duration::ZERO).await?;
        // A relay that answered with what was there before would keep us here for ever.
        let Some(last) = entries.last().map(|entry| entry.id).filter(|last| Some(*last) > after) else {
            return Ok(());
        };
        let mut printed = Vec::new();
        for entry in &entries {
            printed.extend(take_entry(session, entry, save, out).await?);
        }
        session.acknowledge(&printed).await?;
        after = Some(last);
    }
}

pub(super) async fn follow(
    session: &Session,
    save: Option<&Path>,
    out: &mut (dyn Write + Send),
) -> Result<(), ClientCommandError> {
    let mut receiver = session.receive();
    loop {
        match receiver.next().await? {
            Delivery::Entry(entry) => {
                if let Some(id) = take_entry(session, &entry, save, out).await? {
                    receiver.acknowledge(&[id]).await?;
                }
            }
            Delivery::Ephemeral(envelope) => {
                print(out, &show::opened(&session.identity().open(&envelope)))?;
            }
            // Of a kind that this command has nothing to say about.
            _ => {}
        }
    }
}

/// Prints an entry, and saves what comes along. The answer is what to acknowledge: nothing, if it did not open, or has
/// files that are not saved.
async fn take_entry(
    session: &Session,
    entry: &Entry,
    save: Option<&Path>,
    out: &mut (dyn Write + Send),
) -> Result<Option<EntryId>, ClientCommandError> {
    let Some(opened) = print_entry(session.identity(), entry, out)? else { return Ok(None) };
    for file in &opened.files {
        let line = match save {
            Some(directory) => files::save(session.relay(), file, directory).await?,
            None => files::left(file),
        };
        print(out, &line)?;
    }
    let is_taken = opened.files.is_empty() || save.is_some();
    Ok(is_taken.then_some(entry.id))
}

/// Prints an entry, and hands out what was in it, if it opens.
pub(super) fn print_entry(
    identity: &Identity,
    entry: &Entry,
    out: &mut (dyn Write + Send),
) -> Result<Option<Opened>, ClientCommandError> {
    let opened = identity.open(&entry.envelope);
    print(out, &show::opened(&opened))?;
    Ok(opened.ok())
}
