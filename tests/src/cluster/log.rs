//! What a relay logs, kept in memory, and waited for.

use std::io::{self, Write};
use std::sync::Arc;

use tokio::sync::watch;
use tracing::Dispatch;

/// A log in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<watch::Sender<Vec<u8>>>);

impl Log {
    /// What has code in this process log here, from level `debug` up.
    pub fn dispatch(&self) -> Dispatch {
        let log = self.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || log.clone())
            .finish()
            .into()
    }

    pub(super) fn append(&self, bytes: &[u8]) {
        self.0.send_modify(|log| log.extend_from_slice(bytes));
    }

    /// What has been logged.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.borrow()).into_owned()
    }

    /// Waits until `text` has been logged `times` times since the beginning.
    pub async fn wait_for(&self, text: &str, times: usize) {
        let (mut seen, mut from) = (0, 0);
        let mut log = self.0.subscribe();
        let counted = log.wait_for(|log| {
            while let Some(at) = find(&log[from..], text.as_bytes()) {
                seen += 1;
                from += at + text.len();
            }
            // What has been looked through is not looked through again; the text may have begun at its end.
            from = from.max(log.len().saturating_sub(text.len()));
            seen >= times
        });
        // The sender is gone only when `self` is.
        let _ = counted.await;
    }
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len().max(1)).position(|window| window == text)
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn counts_what_it_is_asked_to_wait_for() {
        let log = Log::default();
        log.append(b"one stop");
        log.append(b"ped, one stopped");
        log.wait_for("stopped", 2).await;
        assert!(log.wait_for("stopped", 3).now_or_never().is_none());
        assert_eq!(log.text(), "one stopped, one stopped");
    }
}
