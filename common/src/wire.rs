//! The wire form, version 1: what clients, relays and the store write as bytes.
//!
//! Every message begins with its version, a big-endian `u32`. What follows is bincode 2 in one fixed configuration:
//! big-endian, integers of fixed width, `u64` lengths, `u32` enum variants, one byte for an option. A decoder reads
//! from bytes that are already in memory, refuses more than [`limits::MAX_MESSAGE_BYTES`](crate::limits), borrows
//! instead of copying, and wants every byte used. `docs/protocol.md` has it field by field.
//!
//! A batch frames each envelope by its length, so that a malformed one is refused alone.

pub mod attachments;
mod codec;
pub mod control;
pub mod forward;
pub mod mailbox;
pub mod submit;

use codec::decode_batch;
pub use codec::{WireError, decode_record, encode_record};
pub(crate) use codec::{decode, encode};

use crate::{Envelope, FailureClass};
use bytes::Bytes;

/// The version that this build writes, and the only one that it reads.
pub const VERSION: u32 = 1;
/// The media type of these messages over HTTP.
pub const CONTENT_TYPE: &str = "application/vnd.postrider.v1+bincode";
/// The most bytes that the slug of a failure class has.
pub const MAX_REASON: usize = 40;

/// One framed envelope out of `message`, which it goes on sharing the memory of.
fn envelope_in(message: &Bytes, framed: &[u8]) -> Result<Envelope, FailureClass> {
    Envelope::decode(message.slice_ref(framed)).map_err(|error| match error {
        WireError::TooLarge => FailureClass::TooLarge,
        WireError::UnsupportedVersion(_) => FailureClass::VersionUnsupported,
        WireError::Malformed(_) => FailureClass::Malformed,
    })
}

/// A class as text for the wire, and back. A peer may be newer than we are and know classes that we do not:
/// `unknown` says what to take those for.
fn class_of(slug: &str, unknown: FailureClass) -> FailureClass {
    slug.parse().unwrap_or(unknown)
}
