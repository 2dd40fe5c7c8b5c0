//! What goes wrong, and what the process exits with then.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use postrider_client::{AttachmentError, CardError, Error, IdentityError, SealError};
use postrider_common::FailureClass;

use super::show;
use crate::exit::Exit;

/// Why a command failed, as one sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientCommandError {
    /// The identity file.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A file or stream of ours could not be read.
    #[error("cannot read {what}: {source}")]
    Input {
        /// Which.
        what: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The output went nowhere. What was not printed was not acknowledged.
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
    /// The file given as a card is none.
    #[error("{}: {source}", .path.display())]
    Card {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: CardError,
    },
    /// The message cannot be sent.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A file that goes or comes along.
    #[error(transparent)]
    Attachment(#[from] AttachmentError),
    /// The relay, or the way there.
    #[error("{error}{retry}", error = .0, retry = show::retry(.0.retry_after()))]
    Relay(#[from] Error),
    /// The relay did not take the message.
    #[error("the relay did not take the message: {reason}{}", show::retry(*.retry_after))]
    Refused {
        /// Why not.
        reason: FailureClass,
        /// When trying again makes sense, if ever.
        retry_after: Option<Duration>,
    },
    /// The name of a device is too long.
    #[error("a device's name has at most 228 bytes")]
    LongName,
    /// The message never reached its destination.
    #[error("the message was not delivered: {reason}")]
    NotDelivered {
        /// Why not.
        reason: String,
    },
}

impl ClientCommandError {
    /// What the process exits with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Identity(_) | Self::Card { .. } | Self::Seal(_) | Self::LongName => Exit::Data,
            Self::Input { .. } | Self::Output(_) => Exit::Io,
            Self::Attachment(AttachmentError::File { .. }) => Exit::Io,
            Self::Attachment(error) if error.is_retryable() => Exit::TemporaryFailure,
            Self::Attachment(AttachmentError::Relay(_)) => Exit::Unavailable,
            Self::Attachment(_) => Exit::Data,
            Self::Relay(error) if error.is_retryable() => Exit::TemporaryFailure,
            Self::Refused { retry_after: Some(_), .. } => Exit::TemporaryFailure,
            Self::Relay(_) | Self::Refused { .. } | Self::NotDelivered { .. } => Exit::Unavailable,
        }
    }
}
