//! The words that every part of Postrider shares: domains, mailboxes, envelopes, outcomes, the wire form.
//!
//! Nothing here opens a socket or touches a disk. Values are parsed once, at the edge, and trusted from then on:
//! a [`Domain`] is a valid domain, an [`Envelope`] is a well-formed envelope.

pub mod backoff;
pub mod budget;
pub mod clock;
pub mod limits;
pub mod random;
pub mod secret;
pub mod supervisor;
pub mod wire;

mod address;
mod binding;
mod domain;
mod envelope;
mod failure;
mod id;
mod invite;
mod outcome;
mod time;

pub use address::{Address, AddressError};
pub use binding::{Binding, BindingError};
pub use domain::{Domain, DomainError};
pub use envelope::{Attachment, Draft, Envelope, Urgency};
pub use failure::{Failure, FailureClass, Persistence, WhoseEnd};
pub use id::{AttachmentId, DeviceId, EntryId, EnvelopeId, IdError, InviteId, MailboxId, TrackingId};
pub use invite::{Invite, InviteError, InviteRefusal, InviteSecret};
pub use outcome::Outcome;
pub use time::Timestamp;
