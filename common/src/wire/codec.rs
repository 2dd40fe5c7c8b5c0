//! The one file that names bincode.

use serde::{Deserialize, Serialize};

use super::VERSION;
use crate::limits::{MAX_BATCH_ENVELOPES, MAX_MESSAGE_BYTES};

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// More bytes or more envelopes than any message may have.
    #[error("the message is larger than {MAX_MESSAGE_BYTES} bytes or {MAX_BATCH_ENVELOPES} envelopes")]
    TooLarge,
    /// A version that this build does not read.
    #[error("wire version {0} is not supported, version {VERSION} is")]
    UnsupportedVersion(u32),
    /// Not the bytes of such a message.
    #[error("the message is malformed: {0}")]
    Malformed(&'static str),
}

type Config = bincode::config::Configuration<
    bincode::config::BigEndian,
    bincode::config::Fixint,
    bincode::config::Limit<MAX_MESSAGE_BYTES>,
>;

const CONFIG: Config =
    bincode::config::standard().with_big_endian().with_fixed_int_encoding().with_limit::<MAX_MESSAGE_BYTES>();

/// The version, then `message`.
pub(crate) fn encode<T: Serialize>(message: &T, capacity: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(capacity + 4);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    write(message, &mut bytes);
    bytes
}

/// The counterpart of [`encode`]. Slices in the result borrow from `bytes`.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireError> {
    decode_record(after_version(bytes)?)
}

/// [`decode`] for a message that is one list with an element for each envelope of a batch.
///
/// The count is looked at before any memory is taken: an outcome has 4 bytes on the wire and over a hundred in memory.
pub(crate) fn decode_batch<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<Vec<T>, WireError> {
    let list = after_version(bytes)?;
    match list.first_chunk().map(|count| u64::from_be_bytes(*count)) {
        Some(count) if count > MAX_BATCH_ENVELOPES as u64 => Err(WireError::TooLarge),
        _ => decode_record(list),
    }
}

fn after_version(bytes: &[u8]) -> Result<&[u8], WireError> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(WireError::TooLarge);
    }
    let (version, rest) =
        bytes.split_first_chunk().ok_or(WireError::Malformed("it ends inside its version"))?;
    match u32::from_be_bytes(*version) {
        VERSION => Ok(rest),
        other => Err(WireError::UnsupportedVersion(other)),
    }
}

/// The bytes of a record that carries its version in another way, such as the store's.
pub fn encode_record<T: Serialize>(record: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(record, &mut bytes);
    bytes
}

/// The counterpart of [`encode_record`].
pub fn decode_record<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireError> {
    let (record, used) = bincode::serde::borrow_decode_from_slice(bytes, CONFIG)
        .map_err(|_| WireError::Malformed("its fields do not decode"))?;
    if used == bytes.len() { Ok(record) } else { Err(WireError::Malformed("bytes follow its end")) }
}

#[expect(clippy::expect_used, reason = "the argument is in the message")]
fn write<T: Serialize>(message: &T, bytes: &mut Vec<u8>) {
    bincode::serde::encode_into_std_write(message, bytes, CONFIG).expect(
        "writing to memory does not fail, and our types are structs, enums and sequences of known length",
    );
}
