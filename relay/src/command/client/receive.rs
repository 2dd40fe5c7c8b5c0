//! What waits in a mailbox, printed and acknowledged.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use postrider_client::{AttachedFile, AttachmentError, Delivery, Entry, Identity, Opened, Relay, Session};
use postrider_common::EntryId;
use postrider_common::backoff::spread;
use postrider_common::clock::{Clock, SystemClock};
use postrider_common::random::{SystemRandom, fraction_of};

use super::problem::Unsaved;
use super::{ClientCommandError, FIRST_PAUSE, LONGEST_PAUSE, files, print, show};

/// Where files are saved.
#[derive(Clone, Copy)]
struct Saving<'a> {
    directory: &'a Path,
    /// Whether a relay that is away is waited for.
    waits: bool,
}

/// Prints everything that waits. What does not open stays where it is: another app of the user's may know how.
pub(super) async fn fetch(
    session: &Session,
    save: Option<&Path>,
    out: &mut (dyn Write + Send),
) -> Result<(), ClientCommandError> {
    let saving = save.map(|directory| Saving { directory, waits: false });
    let mut unsaved = Unsaved::default();
    let mut after = None;
    loop {
        let entries = session.entries(after, Duration::ZERO).await?;
        // A relay that answered with what was there before would keep us here for ever.
        let Some(last) = entries.last().map(|entry| entry.id).filter(|last| Some(*last) > after) else {
            return if unsaved.is_empty() { Ok(()) } else { Err(unsaved.into()) };
        };
        let mut settled = Vec::new();
        let mut taken = Ok(());
        for entry in &entries {
            match take_entry(session, entry, saving, &mut unsaved, out).await {
                Ok(id) => settled.extend(id),
                Err(error) => {
                    taken = Err(error);
                    break;
                }
            }
        }
        // Whatever stops us: what was printed and saved before that need not come again.
        let told = session.acknowledge(&settled).await;
        taken?;
        told?;
        after = Some(last);
    }
}

pub(super) async fn follow(
    session: &Session,
    save: Option<&Path>,
    out: &mut (dyn Write + Send),
) -> Result<(), ClientCommandError> {
    let saving = save.map(|directory| Saving { directory, waits: true });
    let mut receiver = session.receive();
    loop {
        match receiver.next().await? {
            Delivery::Entry(entry) => {
                let mut unsaved = Unsaved::default();
                if let Some(id) = take_entry(session, &entry, saving, &mut unsaved, out).await? {
                    receiver.acknowledge(&[id]).await?;
                }
                if !unsaved.is_empty() {
                    // There is no end at which it would be said.
                    let _ = writeln!(io::stderr(), "postrider: {unsaved}");
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
/// files that are to be had and were not saved.
async fn take_entry(
    session: &Session,
    entry: &Entry,
    saving: Option<Saving<'_>>,
    unsaved: &mut Unsaved,
    out: &mut (dyn Write + Send),
) -> Result<Option<EntryId>, ClientCommandError> {
    let Some(opened) = print_entry(session.identity(), entry, out)? else { return Ok(None) };
    let mut is_settled = true;
    for file in &opened.files {
        let saved = match saving {
            Some(saving) => saving.save(session.relay(), file).await,
            None => {
                is_settled = false;
                Ok(files::left(file))
            }
        };
        let line = match saved {
            Ok(line) => line,
            Err(error) => match Fate::of(&error, session.relay()).await {
                Fate::Lost => {
                    unsaved.lost.push(show::one_line(&file.name));
                    files::lost(file, &error)
                }
                Fate::Refused => {
                    is_settled = false;
                    unsaved.refused.push(show::one_line(&file.name));
                    files::refused(file, &error)
                }
                Fate::Ours => return Err(error.into()),
            },
        };
        print(out, &line)?;
    }
    Ok(is_settled.then_some(entry.id))
}

impl Saving<'_> {
    async fn save(self, relay: &Relay, file: &AttachedFile) -> Result<String, AttachmentError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match files::save(relay, file, self.directory).await {
                Err(error)
                    if self.waits && error.is_retryable() && Fate::of(&error, relay).await == Fate::Ours =>
                {
                    let wait = spread(pause, error.retry_after(), fraction_of(&SystemRandom));
                    SystemClock.sleep(wait).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                saved => return saved,
            }
        }
    }
}

/// What an error means for the message that a file came with, and for those behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nobody will ever have the file. To keep its message would only have it come again.
    Lost,
    /// The relay is there, and does not give this file. Others have no part in that.
    Refused,
    /// It is our disk, or our way to the relay: no file could be saved.
    Ours,
}

impl Fate {
    async fn of(error: &AttachmentError, relay: &Relay) -> Self {
        match error {
            error if error.is_lost() => Self::Lost,
            AttachmentError::Relay(error) if error.status().is_some() => Self::Refused,
            // A file that is cut off on the relay's disk looks like a connection that breaks, each time.
            AttachmentError::Relay(_) if relay.info().await.is_ok() => Self::Refused,
            _ => Self::Ours,
        }
    }
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
