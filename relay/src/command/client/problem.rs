//! What goes wrong, and what the process exits with then.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use postrider_client::{AttachmentError, CardError, Error, IdentityError, SealError};
use postrider_common::FailureClass;

use super::show;
use crate::exit::Exit;

/// How many files a sentence names.
const NAMED: usize = 5;

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
    /// The relay takes no file of that size.
    #[error("{}: the relay takes attachments of {}, and with padding and encryption this one has {bytes} bytes",
        .path.display(), up_to(*.limit))]
    LargeFile {
        /// Which file.
        path: PathBuf,
        /// Its bytes, as the relay would have to keep them.
        bytes: u64,
        /// The most that it takes.
        limit: u64,
    },
    /// Nothing of a file that goes along got through for too long.
    #[error("{source}; nothing has got through for {patience}{}", goes_on(*.is_noted))]
    Stalled {
        /// What happened last.
        source: Box<AttachmentError>,
        /// How long that was.
        patience: String,
        /// Whether another command can go on.
        is_noted: bool,
    },
    /// Files that came along and were not saved.
    #[error(transparent)]
    Unsaved(#[from] Unsaved),
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
            Self::Identity(_) | Self::Card { .. } | Self::Seal(_) => Exit::Data,
            Self::LargeFile { .. } | Self::LongName => Exit::Data,
            Self::Input { .. } | Self::Output(_) => Exit::Io,
            Self::Attachment(AttachmentError::File { .. }) => Exit::Io,
            Self::Attachment(error) if error.is_retryable() => Exit::TemporaryFailure,
            Self::Attachment(AttachmentError::Relay(_)) => Exit::Unavailable,
            Self::Attachment(_) => Exit::Data,
            Self::Stalled { .. } => Exit::TemporaryFailure,
            // To repeat the command brings back none of those that are lost.
            Self::Unsaved(unsaved) if !unsaved.lost.is_empty() => Exit::Data,
            Self::Unsaved(_) => Exit::TemporaryFailure,
            Self::Relay(error) if error.is_retryable() => Exit::TemporaryFailure,
            Self::Refused { retry_after: Some(_), .. } => Exit::TemporaryFailure,
            Self::Relay(_) | Self::Refused { .. } | Self::NotDelivered { .. } => Exit::Unavailable,
        }
    }
}

fn up_to(limit: u64) -> String {
    if limit == 0 { "no size at all".into() } else { format!("up to {limit} bytes") }
}

fn goes_on(is_noted: bool) -> &'static str {
    if is_noted { ", and the same command goes on where this one ended" } else { "" }
}

/// The names of files that came along and were not saved.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Unsaved {
    /// Of those that nobody can have any more. Their messages are settled.
    pub(super) lost: Vec<String>,
    /// Of those that the relay does not give for now. Their messages come again.
    pub(super) refused: Vec<String>,
}

impl Unsaved {
    pub(super) const fn is_empty(&self) -> bool {
        self.lost.is_empty() && self.refused.is_empty()
    }
}

impl fmt::Display for Unsaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[String]| {
            let more = names.len().saturating_sub(NAMED);
            let named = names[..names.len() - more].join(", ");
            if more > 0 { format!("{named} and {more} more") } else { named }
        };
        if !self.lost.is_empty() {
            write!(f, "attachments that are lost: {}", list(&self.lost))?;
        }
        if !self.refused.is_empty() {
            let comma = if self.lost.is_empty() { "" } else { "; " };
            write!(f, "{comma}attachments that the relay does not give now: {}", list(&self.refused))?;
        }
        Ok(())
    }
}

impl std::error::Error for Unsaved {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_told_and_not_without_end() {
        let names = |count: usize| (1..=count).map(|n| n.to_string()).collect::<Vec<_>>();
        let told = |lost, refused| Unsaved { lost: names(lost), refused: names(refused) }.to_string();
        assert_eq!(told(2, 0), "attachments that are lost: 1, 2");
        assert_eq!(told(0, 1), "attachments that the relay does not give now: 1");
        let both = "attachments that are lost: 1, 2, 3, 4, 5 and 2 more; attachments that the relay does not give now: 1";
        assert_eq!(told(7, 1), both);
    }

    #[test]
    fn what_is_lost_is_not_worth_repeating_and_what_is_refused_is() {
        let exit = |lost, refused| ClientCommandError::from(Unsaved { lost, refused }).exit();
        let one = || vec!["a".to_owned()];
        assert_eq!(exit(one(), one()), Exit::Data);
        assert_eq!(exit(Vec::new(), one()), Exit::TemporaryFailure);
    }
}
