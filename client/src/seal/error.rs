//! Why a message was not sealed, or an envelope not opened.

use super::{MAX_FILES, max_message_bytes};

/// Why a message was not sealed. None of it changes by waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// It belongs into an attachment.
    #[error("a message has at most {limit} bytes{}, this one has {length}", beside(*.limit))]
    TooLong {
        /// Its bytes.
        length: usize,
        /// The most that it could have. What is said about files beside it takes some.
        limit: usize,
    },
    /// They belong into several messages.
    #[error("a message has at most {MAX_FILES} files, this one has {count}")]
    TooManyFiles {
        /// How many there are.
        count: usize,
    },
    /// The card's key does not work.
    #[error("the message cannot be encrypted to this card")]
    Encryption,
}

/// Why an envelope was not opened. None of it changes by waiting: acknowledge such an entry, or it comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It is for another mailbox.
    #[error("the envelope is for another mailbox")]
    NotForUs,
    /// Not made by [`seal`](crate::seal()), or by a newer version of it.
    #[error("the envelope was not sealed in a way that this version knows")]
    UnknownFormat,
    /// Made for another key, or changed on its way.
    #[error("the envelope does not open: it was made for another key, or changed on its way")]
    Decryption,
    /// It opens, but what is inside makes no sense.
    #[error("the envelope opens, but its contents are malformed")]
    Malformed,
    /// The sender is not who the message says.
    #[error("the message is not signed by the sender that it names")]
    Signature,
}

const fn beside(limit: usize) -> &'static str {
    if limit < max_message_bytes() { " beside its files" } else { "" }
}
