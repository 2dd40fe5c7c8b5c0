//! Attachments whose content follows from their id, so that a changed byte is noticed.

use bytes::Bytes;
use postrider_client::{Error, Relay};
use postrider_common::{Attachment, Envelope};

use crate::dice::Dice;

/// Small enough for many, and large enough for several chunks.
const CHUNK_BYTES: u32 = 16 << 10;
const MOST_CHUNKS: usize = 6;

/// Brings an attachment to a relay, however often that takes.
pub(super) async fn bring(relay: &Relay, dice: &mut Dice) -> Attachment {
    let length = dice.between(1, MOST_CHUNKS * CHUNK_BYTES as usize) as u64;
    let mut reserved = None;
    loop {
        let brought = async {
            let status = match reserved {
                None => relay.reserve_attachment(length, CHUNK_BYTES).await?,
                Some(id) => relay.attachment(id).await?,
            };
            reserved = Some(status.id);
            let attachment = status.attachment();
            for number in status.missing.iter().flat_map(|(first, last)| *first..=*last) {
                relay.put_chunk(status.id, number, content(&attachment, number)).await?;
            }
            Ok::<_, Error>(attachment)
        };
        if let Ok(attachment) = brought.await {
            return attachment;
        }
        tokio::time::sleep(dice.millis(50, 300)).await;
    }
}

/// What came of fetching what an envelope has attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fetched {
    /// Byte for byte.
    AsSent,
    /// Something else.
    Changed,
    /// The relay says that it has none of that id.
    Gone,
}

/// Fetches what an envelope has attached. An error is one of the way there.
pub(super) async fn fetch(relay: &Relay, envelope: &Envelope) -> Result<Fetched, Error> {
    for attachment in envelope.attachments() {
        for number in 0..attachment.chunks() {
            match relay.chunk(attachment, number).await {
                Ok(chunk) if chunk == content(attachment, number) => {}
                Ok(_) => return Ok(Fetched::Changed),
                Err(error) if error.slug() == Some("unknown-attachment") => return Ok(Fetched::Gone),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Fetched::AsSent)
}

fn content(attachment: &Attachment, number: u32) -> Bytes {
    let (start, bytes) = attachment.chunk(number).unwrap_or_default();
    let id = attachment.id.as_bytes();
    let byte = |at: u64| id[usize::try_from(at).unwrap_or_default() % id.len()] ^ at.to_be_bytes()[6];
    (start..start + u64::from(bytes)).map(byte).collect()
}
