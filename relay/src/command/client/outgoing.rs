//! A file on its way to the relay: tried for as long as that makes sense, and gone on with by the next command.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use postrider_client::{AttachedFile, AttachmentError, Progress, Relay, Upload};
use postrider_common::backoff::spread;
use postrider_common::clock::{Clock, SystemClock};
use postrider_common::random::{SystemRandom, fraction_of};
use tokio::time::Instant;

use super::files::{at, bar};
use super::notes::Note;
use super::send::Way;
use super::{ClientCommandError, FIRST_PAUSE, LONGEST_PAUSE, show};
use crate::config::show_duration;

/// A file that is to go along.
pub(super) struct Outgoing {
    path: PathBuf,
    upload: Upload,
    /// Where it is kept for the next command. None, if that cannot be, or another command has it.
    note: Option<Note>,
}

impl Outgoing {
    /// Looks at the file; nobody is called yet.
    pub(super) fn new(path: &Path) -> Result<Self, AttachmentError> {
        Ok(Self { path: path.into(), upload: Upload::new(path)?, note: None })
    }

    /// What it is called in the message.
    pub(super) fn name(&self) -> String {
        self.upload.name()
    }

    /// Whether the relay takes one that is so large.
    pub(super) fn check(&self, limit: u64) -> Result<(), ClientCommandError> {
        let bytes = self.upload.attachment_bytes();
        if bytes <= limit {
            return Ok(());
        }
        Err(ClientCommandError::LargeFile { path: self.path.clone(), bytes, limit })
    }

    /// Brings it to the relay, or what is missing of it there. Ends without it where trying again does not help, or nothing
    /// has got through for too long.
    pub(super) async fn bring(&mut self, way: &Way<'_>) -> Result<AttachedFile, ClientCommandError> {
        self.note = Note::open(way.identity, way.url, way.to, &self.path);
        let kept = self.note.as_ref().and_then(Note::read);
        // Of a file that is another one by now it is of no use.
        if let Some(Ok(upload)) = kept.map(|kept| Upload::resume(&self.path, kept)) {
            self.upload = upload;
        }
        let bar = bar(&self.path.file_name().unwrap_or_default().to_string_lossy());
        let (mut pause, mut is_told, mut moved) = (FIRST_PAUSE, false, Instant::now());
        loop {
            let mut calls = 0;
            let mut progress = |done, of| {
                at(&bar, done, of);
                calls += 1;
                // The first one says what is there already.
                if calls > 1 {
                    moved = Instant::now();
                }
            };
            let error = match self.run(way, &mut progress).await {
                Err(error) if error.is_retryable() => error,
                brought => {
                    bar.finish_and_clear();
                    return Ok(brought?);
                }
            };
            if calls > 1 {
                (pause, is_told) = (FIRST_PAUSE, false);
            }
            let wait = spread(pause, error.retry_after(), fraction_of(&SystemRandom));
            if moved.elapsed() + wait > way.patience {
                bar.finish_and_clear();
                let (patience, is_noted) = (show_duration(way.patience), self.note.is_some());
                return Err(ClientCommandError::Stalled { source: error.into(), patience, is_noted });
            }
            if !std::mem::replace(&mut is_told, true) {
                let name = show::one_line(&self.path.to_string_lossy());
                let patience = show_duration(way.patience);
                let tell =
                    || writeln!(io::stderr(), "postrider: {name}: {error}; trying for up to {patience}");
                // Where nobody reads, there is nobody to tell about it either.
                let _ = bar.suspend(tell);
            }
            SystemClock.sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The next command begins anew with this file.
    pub(super) fn forget(self) {
        if let Some(note) = self.note {
            note.remove();
        }
    }

    /// There will be no message that it goes with.
    pub(super) async fn give_up(mut self, relay: &Relay) {
        // The relay lets go of it after a day in any case.
        if let Err(error) = self.upload.abandon(relay).await {
            tracing::debug!("the relay keeps an attachment for a day: {error}");
        }
        self.forget();
    }

    async fn run(&mut self, way: &Way<'_>, progress: Progress<'_>) -> Result<AttachedFile, AttachmentError> {
        match &way.session {
            None => self.upload.reserve(way.relay).await?,
            Some(session) => self.upload.reserve_as(session).await?,
        }
        self.keep();
        let brought = match &way.session {
            None => self.upload.run(way.relay, progress).await,
            Some(session) => self.upload.run_as(session, progress).await,
        };
        // It may have had to begin anew.
        self.keep();
        brought
    }

    fn keep(&mut self) {
        if let (Some(note), Some(saved)) = (&mut self.note, self.upload.saved()) {
            note.write(&saved);
        }
    }
}
