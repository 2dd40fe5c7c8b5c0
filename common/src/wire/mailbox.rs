//! A relay hands entries to a device, and the device acknowledges them: the same two messages over the WebSocket
//! and by long poll.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{WireError, decode, encode, envelope_in};
use crate::limits::MAX_BATCH_ENVELOPES;
use crate::{EntryId, Envelope};

/// An envelope in a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// What the device acknowledges.
    pub id: EntryId,
    /// What it is given.
    pub envelope: Envelope,
}

impl Entry {
    /// An envelope under its number.
    pub const fn new(id: EntryId, envelope: Envelope) -> Self {
        Self { id, envelope }
    }
}

/// From the relay to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerMessage {
    /// Entries of the mailbox, oldest first. They come again on the next connection until acknowledged.
    Entries(Vec<Entry>),
    /// An envelope that is stored nowhere and not acknowledged.
    Ephemeral(Envelope),
}

/// From a device to the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceMessage {
    /// The device has these, durably; the relay may delete them.
    Acknowledge(Vec<EntryId>),
}

#[derive(Serialize, Deserialize)]
struct EntryForm<'a> {
    id: EntryId,
    #[serde(borrow, with = "serde_bytes")]
    envelope: &'a [u8],
}

#[derive(Serialize, Deserialize)]
enum ServerForm<'a> {
    Entries(#[serde(borrow)] Vec<EntryForm<'a>>),
    Ephemeral(#[serde(borrow, with = "serde_bytes")] &'a [u8]),
}

#[derive(Serialize, Deserialize)]
enum DeviceForm {
    Acknowledge(Vec<EntryId>),
}

impl ServerMessage {
    /// As bytes.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Entries(entries) => {
                let size =
                    entries.iter().map(|entry| entry.envelope.encoded().len() + 16).sum::<usize>() + 12;
                let forms = entries
                    .iter()
                    .map(|entry| EntryForm { id: entry.id, envelope: entry.envelope.encoded() });
                encode(&ServerForm::Entries(forms.collect()), size)
            }
            Self::Ephemeral(envelope) => {
                encode(&ServerForm::Ephemeral(envelope.encoded()), envelope.encoded().len() + 12)
            }
        }
        .into()
    }

    /// From bytes. The relay has checked the envelopes, so one that is wrong makes the message wrong.
    pub fn decode(message: &Bytes) -> Result<Self, WireError> {
        let envelope = |framed| {
            envelope_in(message, framed).map_err(|_| WireError::Malformed("an envelope in it is malformed"))
        };
        match decode(message)? {
            ServerForm::Entries(entries) if entries.len() > MAX_BATCH_ENVELOPES => Err(WireError::TooLarge),
            ServerForm::Entries(entries) => entries
                .iter()
                .map(|form| Ok(Entry { id: form.id, envelope: envelope(form.envelope)? }))
                .collect::<Result<_, _>>()
                .map(Self::Entries),
            ServerForm::Ephemeral(framed) => envelope(framed).map(Self::Ephemeral),
        }
    }
}

impl DeviceMessage {
    /// As bytes.
    pub fn encode(&self) -> Bytes {
        let Self::Acknowledge(entries) = self;
        encode(&DeviceForm::Acknowledge(entries.clone()), 12 + entries.len() * 8).into()
    }

    /// From bytes.
    pub fn decode(message: &[u8]) -> Result<Self, WireError> {
        let DeviceForm::Acknowledge(entries) = decode(message)?;
        if entries.len() > MAX_BATCH_ENVELOPES {
            return Err(WireError::TooLarge);
        }
        Ok(Self::Acknowledge(entries))
    }
}
