//! The values. Each begins with the version of its record, one byte; what follows is bincode as on the wire, except
//! for pieces of envelopes, which are their bytes.
//!
//! Most records have version 1 only. A mailbox that has told where it is kept, and an item whose envelope has followed
//! a binding, have version 2: the fields of version 1, and what that adds. An entry whose envelope has attachments has
//! version 2 as well, and an item version 3, which has what version 2 has, if anything. A store in which a record has another version
//! is damaged: what a later release writes is told by the store's format number, which is checked when it is opened.

mod meaning;

use bytes::Bytes;
use postrider_common::wire::{decode_record, encode_record};
use postrider_common::{AttachmentId, DeviceId, Domain, Envelope, Timestamp, TrackingId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use super::{Onward, StoreError};
pub(crate) use meaning::class_of;

/// The format that this version writes and reads. No release had another one.
pub(crate) const FORMAT: u32 = 3;
/// The most bytes of an envelope under one key.
pub(crate) const PIECE_BYTES: usize = 16 << 10;
/// A piece with more bytes is no copy.
const SMALL_BYTES: usize = 512;
const VERSION: u8 = 1;
/// Of the records that say more than their version 1 has place for.
const WITH_MORE: u8 = 2;
/// Of an item with attachments.
const LADEN: u8 = 3;

/// A value with a version.
pub(crate) trait Record: Serialize + DeserializeOwned {
    /// The version and the fields.
    fn form(&self) -> (u8, Vec<u8>) {
        (VERSION, encode_record(self))
    }

    /// The counterpart.
    fn from_form(version: u8, fields: &[u8]) -> Result<Self, StoreError> {
        match version {
            VERSION => plain(fields),
            other => Err(unknown(other)),
        }
    }
}

/// Above every id that a deleted mailbox or destination has given to an entry or an item.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct FloorRecord(pub u64);

/// One mailbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MailboxRecord {
    pub devices: Vec<DeviceId>,
    pub entries: u64,
    pub bytes: u64,
    /// The id of the next entry.
    pub next_entry: u64,
    /// Since when an administrator has closed it.
    pub suspended: Option<Timestamp>,
    /// Where its owner has said that it is kept. In version 2 only.
    #[serde(skip)]
    pub binding: Option<OwnBindingRecord>,
}

/// A binding; its signature was checked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BindingRecord {
    domain: Domain,
    pub serial: u64,
    signature: ByteArray<64>,
}

/// A binding of a mailbox of this relay's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OwnBindingRecord {
    pub binding: BindingRecord,
    /// Whether it says that the mailbox is kept at this relay, and not that it has moved away.
    pub is_here: bool,
}

/// A binding that another relay has told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LearntRecord {
    pub binding: BindingRecord,
    /// Which relay: it counts for addresses at its domain.
    pub told_by: Domain,
    /// When it is forgotten.
    pub until: Timestamp,
}

/// One device of a mailbox, beside what the mailbox's record says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DeviceRecord {
    /// The beginning of the day.
    pub last_contact: Timestamp,
    /// What only its owner can read.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
}

/// What lets so many register.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct InviteRecord {
    pub uses: u32,
    pub used: u32,
    pub expires_at: Timestamp,
}

/// One entry, for one device.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct EntryRecord {
    pub expires_at: Timestamp,
    /// Of the encoded envelope.
    pub bytes: u32,
    /// Whether it was for several devices: then a [`RemainingRecord`] counts those that have yet to acknowledge, as
    /// long as that is more than one.
    pub shared: bool,
    /// Whether its envelope has attachments. That is what version 2 says.
    #[serde(skip)]
    pub laden: bool,
}

/// How many devices have yet to acknowledge an entry.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct RemainingRecord(pub u16);

/// One destination with items or a back-off.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DestinationRecord {
    pub items: u64,
    pub bytes: u64,
    /// The id of the next item.
    pub next_item: u64,
    pub backoff: Option<BackoffRecord>,
}

/// A back-off; its class as its slug.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BackoffRecord {
    failing_since: Timestamp,
    failures: u32,
    pub class: String,
    class_since: Timestamp,
    detail: String,
    next_attempt: Timestamp,
}

/// One queued envelope.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct ItemRecord {
    pub tracking: TrackingId,
    pub expires_at: Timestamp,
    /// Of the encoded envelope.
    pub bytes: u32,
    pub attempts: u32,
    pub not_before: Option<Timestamp>,
    /// Of an envelope that has followed a binding. In version 2 only.
    #[serde(skip)]
    pub onward: Option<Onward>,
    /// Whether its envelope has attachments. That is what version 3 says.
    #[serde(skip)]
    pub laden: bool,
}

/// What became of a queued envelope; its reason as a slug.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TrackingRecord {
    pub destination: Domain,
    pub queued_at: Timestamp,
    pub attempts: u32,
    pub reason: Option<String>,
    pub not_before: Option<Timestamp>,
    pub end: Option<(EndRecord, Timestamp)>,
}

/// How it ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum EndRecord {
    Stored,
    Failed(String),
    Expired,
    /// It goes on to where its mailbox has moved, and what becomes of it there is told under that id.
    Moved(TrackingId),
}

/// An envelope that its destination could not read or take; the class as its slug.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct QuarantineRecord {
    pub class: String,
    pub at: Timestamp,
    /// When it is deleted.
    pub until: Timestamp,
    /// Of the encoded envelope.
    pub bytes: u32,
}

/// An administrator holds a destination back.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct PauseRecord {
    pub since: Timestamp,
}

/// What was met, in the order in which each was met first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HistoryRecord {
    pub met: Vec<MetRecord>,
    /// When it is forgotten. What is told of an envelope goes with its tracking record, and has no end of its own.
    pub until: Option<Timestamp>,
}

/// One thing that was met, once or several times in a row; its class as its slug.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MetRecord {
    pub class: String,
    pub detail: String,
    pub first: Timestamp,
    pub last: Timestamp,
    pub times: u32,
}

/// An envelope has been here. A queued one's mark knows its tracking id.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct MarkRecord {
    pub tracking: Option<TrackingId>,
}

/// One attachment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AttachmentRecord {
    /// The name of its file.
    pub file: [u8; 16],
    pub length: u64,
    pub chunk_length: u32,
    /// Chunks that are there,
    pub present: u32,
    /// and their bytes.
    pub bytes: u64,
    /// How many envelopes here need it.
    pub references: u32,
    /// Which relay brings it; none: a client.
    pub origin: Option<Domain>,
    /// When it ends if no envelope needs it.
    pub until: Timestamp,
}

/// What the envelope of an entry or an item has attached.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AttachedRecord {
    pub ids: Vec<AttachmentId>,
    /// Of all of them.
    pub bytes: u64,
}

/// How many bytes the attachments of a mailbox have.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct MailboxAttachedRecord(pub u64);

/// A file to be deleted, with so many bytes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct DoomedRecord(pub u64);

impl Record for () {}
impl Record for AttachmentRecord {}
impl Record for AttachedRecord {}
impl Record for MailboxAttachedRecord {}
impl Record for DoomedRecord {}
impl Record for [u8; 32] {}
impl Record for FloorRecord {}
impl Record for RemainingRecord {}
impl Record for LearntRecord {}
impl Record for DeviceRecord {}
impl Record for InviteRecord {}
impl Record for DestinationRecord {}
impl Record for TrackingRecord {}
impl Record for QuarantineRecord {}
impl Record for MarkRecord {}
impl Record for PauseRecord {}
impl Record for HistoryRecord {}

impl Record for MailboxRecord {
    fn form(&self) -> (u8, Vec<u8>) {
        match &self.binding {
            None => (VERSION, encode_record(self)),
            Some(binding) => (WITH_MORE, encode_record(&(self, binding))),
        }
    }

    fn from_form(version: u8, fields: &[u8]) -> Result<Self, StoreError> {
        match version {
            VERSION => plain(fields),
            WITH_MORE => {
                let (record, binding) = plain::<(Self, _)>(fields)?;
                Ok(Self { binding: Some(binding), ..record })
            }
            other => Err(unknown(other)),
        }
    }
}

impl Record for EntryRecord {
    fn form(&self) -> (u8, Vec<u8>) {
        (if self.laden { WITH_MORE } else { VERSION }, encode_record(self))
    }

    fn from_form(version: u8, fields: &[u8]) -> Result<Self, StoreError> {
        match version {
            VERSION => plain(fields),
            WITH_MORE => Ok(Self { laden: true, ..plain(fields)? }),
            other => Err(unknown(other)),
        }
    }
}

impl Record for ItemRecord {
    fn form(&self) -> (u8, Vec<u8>) {
        match &self.onward {
            onward if self.laden => (LADEN, encode_record(&(self, onward))),
            None => (VERSION, encode_record(self)),
            Some(onward) => (WITH_MORE, encode_record(&(self, onward))),
        }
    }

    fn from_form(version: u8, fields: &[u8]) -> Result<Self, StoreError> {
        match version {
            VERSION => plain(fields),
            WITH_MORE => {
                let (record, onward) = plain::<(Self, _)>(fields)?;
                Ok(Self { onward: Some(onward), ..record })
            }
            LADEN => {
                let (record, onward) = plain::<(Self, _)>(fields)?;
                Ok(Self { onward, laden: true, ..record })
            }
            other => Err(unknown(other)),
        }
    }
}

/// The bytes of a record.
pub(crate) fn encode<T: Record>(record: &T) -> Bytes {
    let (version, fields) = record.form();
    let mut bytes = Vec::with_capacity(1 + fields.len());
    bytes.push(version);
    bytes.extend_from_slice(&fields);
    bytes.into()
}

/// The format number that this version writes. It is no record: its shape is the one thing that never changes.
pub(crate) fn encode_format() -> Bytes {
    Bytes::copy_from_slice(&FORMAT.to_be_bytes())
}

/// The format number of a store of any version.
pub(crate) fn decode_format(bytes: &[u8]) -> Result<u32, StoreError> {
    let bytes = bytes.try_into().map_err(|_| StoreError::Damaged("the format is no number".into()))?;
    Ok(u32::from_be_bytes(bytes))
}

/// The record in `bytes`.
pub(crate) fn decode<T: Record>(bytes: &[u8]) -> Result<T, StoreError> {
    let (version, fields) =
        bytes.split_first().ok_or_else(|| StoreError::Damaged("a record is empty".into()))?;
    T::from_form(*version, fields)
}

fn plain<T: DeserializeOwned>(fields: &[u8]) -> Result<T, StoreError> {
    decode_record(fields).map_err(|error| StoreError::Damaged(error.to_string()))
}

/// What an index puts under its keys.
pub(crate) const fn nothing() -> Bytes {
    Bytes::from_static(&[VERSION])
}

/// How many pieces an envelope of `bytes` bytes has.
pub(crate) fn pieces(bytes: u32) -> Result<u16, StoreError> {
    u16::try_from((bytes as usize).div_ceil(PIECE_BYTES))
        .map_err(|_| StoreError::Damaged("an envelope is larger than any may be".into()))
}

/// The values under which an envelope is kept, in order: parts of its wire form, which says its version itself.
pub(crate) fn split(envelope: &Envelope) -> impl Iterator<Item = Bytes> + '_ {
    let encoded = envelope.encoded();
    (0..encoded.len()).step_by(PIECE_BYTES).map(|start| {
        let piece = encoded.slice(start..encoded.len().min(start + PIECE_BYTES));
        // An engine may keep what is small in memory, and with it all of the batch that it came in.
        if piece.len() <= SMALL_BYTES { Bytes::copy_from_slice(&piece) } else { piece }
    })
}

/// The envelope in its pieces.
pub(crate) fn assemble(pieces: &[Bytes]) -> Result<Envelope, StoreError> {
    let encoded = match pieces {
        [only] => only.clone(),
        several => several.concat().into(),
    };
    Envelope::decode(encoded).map_err(|error| StoreError::Damaged(error.to_string()))
}

fn unknown(version: u8) -> StoreError {
    StoreError::Damaged(format!("a record has the unknown version {version}"))
}

#[cfg(test)]
mod tests {
    use postrider_common::{Draft, MailboxId};

    use super::*;

    #[test]
    fn an_envelope_comes_back_from_its_pieces() {
        for (size, count) in [(1, 1), (PIECE_BYTES, 2), (4 * PIECE_BYTES + 1, 5)] {
            let draft = Draft::new(MailboxId::from_bytes([1; 32]), Timestamp::from_secs(1), vec![7; size]);
            let envelope = draft.finish().unwrap();
            let bytes = u32::try_from(envelope.encoded().len()).unwrap();
            let kept: Vec<_> = split(&envelope).collect();
            assert_eq!((kept.len(), pieces(bytes).unwrap()), (count.into(), count));
            assert_eq!(assemble(&kept), Ok(envelope));
        }
    }

    #[test]
    fn another_version_is_damage() {
        let record = encode(&RemainingRecord(3));
        assert_eq!(decode::<RemainingRecord>(&record).unwrap().0, 3);
        let mut later = record.to_vec();
        later[0] = 2;
        assert!(matches!(decode::<RemainingRecord>(&later), Err(StoreError::Damaged(_))));
        assert!(matches!(decode::<RemainingRecord>(&[]), Err(StoreError::Damaged(_))));
    }
}
