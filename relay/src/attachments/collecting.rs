//! Files that nobody needs any more are deleted.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;

use super::receiving::on_disk;
use super::{AttachmentError, Attachments};
use crate::failpoint::{self, Step};
use crate::store::{Change, Doomed};
use crate::telemetry::Seldom;

/// How many files are looked up at a time.
const PAGE: usize = 64;
/// When what could not be deleted is tried again.
const AGAIN: Duration = Duration::from_secs(60);

impl Attachments {
    /// At the start, and whenever something is doomed: what is found in the store is deleted, and nothing else is looked at.
    pub(super) async fn collect(self) {
        let said = Seldom::new();
        let stopping = self.0.supervisor.stopping();
        tokio::pin!(stopping);
        // Subscribed before the first look, so that nothing falls between the two.
        let mut changes = self.0.store.watch();
        loop {
            let done = self.delete_doomed().await;
            if let Err(error) = &done
                && said.is_due(&error.to_string())
            {
                tracing::error!("files of attachments cannot be deleted: {error}");
            }
            let again = self.0.clock.sleep(if done.is_ok() { Duration::MAX } else { AGAIN });
            tokio::pin!(again);
            loop {
                tokio::select! {
                    biased;
                    () = &mut stopping => return,
                    () = self.0.written.notified() => break,
                    change = changes.recv() => match change {
                        Ok(Change::Doomed) | Err(RecvError::Lagged(_)) => break,
                        Ok(_) => {}
                        Err(RecvError::Closed) => return,
                    },
                    () = &mut again => break,
                }
            }
        }
    }

    async fn delete_doomed(&self) -> Result<(), AttachmentError> {
        let mut after = None;
        loop {
            let page = self.0.store.doomed(after, PAGE).await?;
            after = page.last().map(|doomed| doomed.file);
            let is_last = page.len() < PAGE;
            let free = {
                // Who begins to write from now on finds no attachment with this file.
                let writers = self.0.writers();
                let is_free = |doomed: &Doomed| !writers.files.contains_key(&doomed.file);
                page.into_iter().filter(is_free).collect::<Vec<_>>()
            };
            if !free.is_empty() {
                let files = self.0.files.clone();
                let free = on_disk(move || {
                    free.iter().try_for_each(|doomed| files.delete(doomed.file))?;
                    Ok(free)
                });
                let free = free.await?;
                failpoint::reach(Step::FileDeleted);
                let bytes = free.iter().map(|doomed| doomed.bytes).sum();
                self.0.store.forget_doomed(free.iter().map(|doomed| doomed.file).collect()).await?;
                self.0.used.fetch_sub(bytes, Ordering::Relaxed);
                tracing::debug!(count = free.len(), bytes, "attachments deleted");
            }
            if is_last {
                return Ok(());
            }
        }
    }
}
