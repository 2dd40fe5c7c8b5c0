//! The client SDK of Postrider, a relay for end-to-end encrypted messages.
//!
//! **Apps bring their own end-to-end encryption.** The relay takes a recipient's mailbox and opaque bytes, and never
//! looks inside: how these bytes were made is between sender and recipient. Build an
//! [`Envelope`] around your own ciphertext with
//! [`Draft`]. For apps that have no protocol yet, [`seal`] and [`Identity::open`] are a
//! reference: HPKE with a hybrid post-quantum key exchange, signed by the sender, padded to a few sizes.
//!
//! # What to begin with
//! | for | begin with | its errors |
//! |---|---|---|
//! | a user's keys, and their card for others | [`Identity`], [`ContactCard`] | [`IdentityError`], [`CardError`] |
//! | a relay, and how it is trusted and reached | [`Relay::builder`] | [`Error`] |
//! | acting for a mailbox: registering, submitting, devices, moving | [`Relay::session`] | [`Error`] |
//! | receiving, over whatever the network allows | [`Session::receive`] | [`Error`] |
//! | encrypting and decrypting, if the app has nothing of its own | [`seal`], [`Identity::open`] | [`SealError`], [`OpenError`] |
//! | files | [`Upload`], [`SavedUpload`], [`AttachedFile::save`] | [`AttachmentError`] |
//!
//! [`Error::is_retryable`] and [`AttachmentError::is_retryable`] say whether to try again; all other errors stay what they
//! are however long one waits. Every call may be repeated: nothing is kept twice.
//!
//! # Messages
//! ```no_run
//! use postrider_client::{ContactCard, Delivery, Identity, Relay, SealOptions, seal};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // Once: keys, kept in a file that only its owner can read.
//! let me = Identity::generate("example.org".parse()?);
//! me.save("me.identity")?;
//! println!("give this to whoever wants to write to you: {}", me.card());
//!
//! // To send, the recipient's card is needed, and a session: most relays take envelopes from their members only. What is
//! // sent does not name the sender, and the recipient's relay does not learn it.
//! let relay = Relay::builder("https://relay.example.org").build()?;
//! let friend: ContactCard = std::fs::read_to_string("friend.card")?.parse()?;
//! let envelope = seal(&me, &friend, b"See you at eight.", &SealOptions::default())?;
//! let session = relay.session(&me).await?;
//! session.register().await?;
//! println!("{:?}", session.submit_one(friend.domain(), envelope).await?);
//!
//! // To receive. What is not acknowledged comes again.
//! let mut receiver = session.receive();
//! loop {
//!     if let Delivery::Entry(entry) = receiver.next().await? {
//!         let opened = me.open(&entry.envelope)?;
//!         println!("{}: {}", opened.sender, String::from_utf8_lossy(&opened.message));
//!         receiver.acknowledge(&[entry.id]).await?;
//!     }
//! }
//! # }
//! ```
//!
//! # Files
//! Files go beside a message: they are [uploaded](Upload) first, encrypted, and the message carries their keys.
//!
//! ```no_run
//! # use postrider_client::{ContactCard, Identity, SealOptions, Session, Upload, seal_with};
//! # use postrider_client::clock::{Clock, SystemClock};
//! # async fn example(me: Identity, friend: ContactCard, session: Session) -> Result<(), Box<dyn std::error::Error>> {
//! let mut upload = Upload::new("holiday.jpg")?;
//! // After an error this may be repeated, and goes on where it stopped; in another process too, by a `SavedUpload`.
//! let file = upload.run_as(&session, &mut |done, of| println!("{done} of {of} bytes")).await?;
//! let now = SystemClock.now();
//! let envelope = seal_with(now, &me, &friend, b"Look!", &[file], &SealOptions::default())?;
//! session.submit_one(friend.domain(), envelope).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Whoever [opens](Identity::open) it finds an [`AttachedFile`] in [`Opened::files`], and [saves](AttachedFile::save) it
//! before the entry is acknowledged: with the last device's acknowledgement the relay deletes it.

mod attachment;
mod card;
mod device_name;
mod error;
#[cfg(doctest)]
mod growing;
mod identity;
mod relay;
mod seal;
mod suite;

pub use attachment::{AttachedFile, AttachmentError, Progress, SavedUpload, Upload};
pub use card::{CardError, ContactCard};
pub use error::Error;
pub use identity::{Identity, IdentityError};
pub use relay::{
    Delivery, KeyPin, KeyPinError, MailboxStream, Proxy, ProxyError, Receiver, Relay, RelayBuilder, Session,
    Trust,
};
pub use seal::{
    MAX_FILES, OpenError, Opened, SIZE_CLASSES, SealError, SealOptions, check_message, max_message_bytes,
    seal, seal_at, seal_with,
};

pub use postrider_common::wire::attachments::AttachmentStatus;
pub use postrider_common::wire::control::{
    Device, DeviceName, Registered, RelayInfo, RelayLimits, RelayPolicies, TrackingState, TrackingStatus,
};
pub use postrider_common::wire::mailbox::Entry;
pub use postrider_common::wire::submit::SubmitResult;

// All that the calls above take and give: an app needs no other crate of ours.
pub use postrider_common::wire::control::Problem;
pub use postrider_common::{
    Address, Attachment, AttachmentId, Binding, DeviceId, Domain, Draft, EntryId, Envelope, EnvelopeId,
    FailureClass, Invite, InviteError, InviteSecret, MailboxId, Timestamp, TrackingId, Urgency, clock,
};
