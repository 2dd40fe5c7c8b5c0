//! A reference for end-to-end encryption: HPKE to the recipient's card, signed by the sender, padded.
//!
//! Postrider carries ciphertext and does not care how it came about; an app with a protocol of its own (with
//! forward secrecy, groups, several devices) uses that and leaves this module alone. What is here is the least
//! that is right for one message to one person. It has no forward secrecy against the theft of the recipient's
//! key.
//!
//! # Bytes
//! The envelope's header is empty. Its body has exactly the size of one of the [`SIZE_CLASSES`]:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version: 1, or 2 if the envelope has attachments |
//! | 1,120 | the HPKE encapsulated key (X-Wing; too large for an envelope's header) |
//! | the rest | ciphertext and its 16-byte tag |
//!
//! HPKE is RFC 9180 base mode, X-Wing (0x647a), HKDF-SHA256 (0x0001), ChaCha20-Poly1305 (0x0003), `info` being
//! `"postrider seal v1" 00` (`v2` in version 2). The associated data is the envelope's outside: `id (16) || mailbox (32) || 00, or
//! 01 and the device (32) || expires_at (8, seconds, big-endian) || urgency (1: normal 0, urgent 1, ephemeral 2)`;
//! so nobody can change it, or send the same body again under another id. In version 2 it goes on with the number of
//! attachments (1) and, for each, `id (32) || length (8, big-endian) || chunk length (4, big-endian)`. The plaintext:
//!
//! | bytes | what |
//! |---|---|
//! | 32 | the sender's mailbox |
//! | 1 + n | length of the sender's domain, the domain |
//! | 64 | the sender's signature |
//! | 4 + n | length of the message (big-endian), the message |
//! | 41 + n | in version 2, for each attachment: its key (32), the file's length (8, big-endian), length of its name (1), the name |
//! | the rest | zeros |
//!
//! The signature is Ed25519 with the sender's mailbox key over `"postrider sealed message v1" 00 || length of the
//! sender's domain (1) || domain || recipient's mailbox (32) || encapsulated key (1,120) || associated data ||
//! message`, and in version 2 what the plaintext has about the attachments. It names the recipient and the key made for this message, so a recipient cannot pass the message on
//! to somebody else as if the sender had written to them.

mod error;
mod options;

use ed25519_dalek::{Signature, VerifyingKey};
use postrider_common::clock::{Clock, SystemClock};
use postrider_common::limits::MAX_ATTACHMENTS;
use postrider_common::secret::Secret;
use postrider_common::{
    Address, Attachment, DeviceId, Domain, Draft, Envelope, EnvelopeId, MailboxId, Timestamp, Urgency,
};
use zeroize::Zeroizing;

use crate::attachment::{AttachedFile, short};
use crate::suite::{self, ENCAPSULATED_BYTES, Sealer, TAG_BYTES};
use crate::{ContactCard, Identity};
pub use error::{OpenError, SealError};
pub use options::SealOptions;

/// The sizes that bodies are padded to, so that lengths say little. X-Wing's key alone fills the two smallest:
/// this module begins with the third.
pub const SIZE_CLASSES: [usize; 9] =
    [512, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10];

const LARGEST: usize = SIZE_CLASSES[SIZE_CLASSES.len() - 1];
const VERSION: u8 = 1;
const INFO: &[u8] = b"postrider seal v1\0";
/// Of envelopes with attachments.
const LADEN_VERSION: u8 = 2;
const LADEN_INFO: &[u8] = b"postrider seal v2\0";
const SIGNATURE_CONTEXT: &[u8] = b"postrider sealed message v1\0";
/// What the body has in front of and behind the plaintext.
const OUTSIDE: usize = 1 + ENCAPSULATED_BYTES + TAG_BYTES;
/// What the plaintext has besides the sender's domain and the message.
const INSIDE: usize = MailboxId::SIZE + 1 + 64 + 4;
/// What it has about a file besides its name.
const FILE_BYTES: usize = 32 + 8 + 1;

/// The most files that go with one message.
pub const MAX_FILES: usize = MAX_ATTACHMENTS;

/// The longest message that [`seal`] takes, whatever the sender's domain.
pub const fn max_message_bytes() -> usize {
    LARGEST - OUTSIDE - INSIDE - Domain::MAX_LENGTH
}

/// Whether [`seal_with`] takes a message of so many bytes beside files of these names: to be asked before they are uploaded.
///
/// ```
/// use postrider_client::{SealError, check_message, max_message_bytes};
///
/// assert_eq!(check_message(1000, ["holiday.jpg", "plan.pdf"]), Ok(()));
/// assert_eq!(check_message(0, ["x"; 17]), Err(SealError::TooManyFiles { count: 17 }));
/// // The names and keys of files travel in the message.
/// assert_eq!(check_message(max_message_bytes(), []), Ok(()));
/// assert!(check_message(max_message_bytes(), ["holiday.jpg"]).is_err());
/// ```
pub fn check_message<'a>(length: usize, names: impl IntoIterator<Item = &'a str>) -> Result<(), SealError> {
    let (mut count, mut taken) = (0, 0);
    for name in names {
        count += 1;
        taken += FILE_BYTES + short(name).len();
    }
    if count > MAX_FILES {
        return Err(SealError::TooManyFiles { count });
    }
    let limit = max_message_bytes() - taken;
    if length > limit { Err(SealError::TooLong { length, limit }) } else { Ok(()) }
}

/// What was in an envelope.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opened {
    /// Who wrote it, which the signature proves.
    pub sender: Address,
    /// What they wrote.
    pub message: Vec<u8>,
    /// What they have attached.
    pub files: Vec<AttachedFile>,
}

/// Encrypts and signs a message for the owner of a card.
///
/// ```
/// use postrider_client::{Identity, SealOptions, seal};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (alice, bob) = (Identity::generate("alpha.example".parse()?), Identity::generate("beta.example".parse()?));
/// let envelope = seal(&alice, bob.card(), b"See you at eight.", &SealOptions::default())?;
/// let opened = bob.open(&envelope)?;
/// assert_eq!((opened.message, opened.sender), (b"See you at eight.".to_vec(), alice.address().clone()));
/// assert!(alice.open(&envelope).is_err(), "it is for bob");
/// # Ok(())
/// # }
/// ```
pub fn seal(
    from: &Identity,
    to: &ContactCard,
    message: &[u8],
    options: &SealOptions,
) -> Result<Envelope, SealError> {
    seal_at(SystemClock.now(), from, to, message, options)
}

/// As [`seal`], for those who have a clock of their own.
pub fn seal_at(
    now: Timestamp,
    from: &Identity,
    to: &ContactCard,
    message: &[u8],
    options: &SealOptions,
) -> Result<Envelope, SealError> {
    seal_with(now, from, to, message, &[], options)
}

/// As [`seal_at`], with files that were [uploaded](crate::Upload) before. Each envelope has its own uploads, or all that
/// share one are submitted in one batch.
pub fn seal_with(
    now: Timestamp,
    from: &Identity,
    to: &ContactCard,
    message: &[u8],
    files: &[AttachedFile],
    options: &SealOptions,
) -> Result<Envelope, SealError> {
    check_message(message.len(), files.iter().map(|file| file.name.as_str()))?;
    let outside = Outside {
        id: EnvelopeId::random(),
        mailbox: *to.mailbox(),
        device: options.device,
        expires_at: (now + options.expires_in).round_up_to_hour(),
        urgency: options.urgency,
        attachments: files.iter().map(|file| file.attachment.clone()).collect(),
    };
    let associated = outside.associated_data();
    let (version, info) = outside.form();
    let sealer = Sealer::new(to.public_key(), info).map_err(|_| SealError::Encryption)?;
    let content = content(message, files);
    let signed = signed_bytes(from.domain(), to.mailbox(), sealer.encapsulated(), &associated, &content);
    let plaintext = plaintext(from.address(), &from.sign(&signed), message.len(), &content)?;

    let mut body = Vec::with_capacity(plaintext.len() + OUTSIDE);
    body.push(version);
    body.extend_from_slice(sealer.encapsulated());
    let ciphertext = sealer.seal(&plaintext, &associated).map_err(|_| SealError::Encryption)?;
    body.extend_from_slice(&ciphertext);
    let limit = max_message_bytes();
    outside.with_body(body).map_err(|_| SealError::TooLong { length: message.len(), limit })
}

impl Identity {
    /// Decrypts an envelope that [`seal`] made for this identity, and verifies who wrote it.
    pub fn open(&self, envelope: &Envelope) -> Result<Opened, OpenError> {
        if envelope.mailbox() != &self.address().mailbox {
            return Err(OpenError::NotForUs);
        }
        let (encapsulated, ciphertext) = parts(envelope).ok_or(OpenError::UnknownFormat)?;
        let outside = Outside::of(envelope);
        let associated = outside.associated_data();
        let plaintext = suite::open(self.seed(), encapsulated, outside.form().1, ciphertext, &associated)
            .map_err(|_| OpenError::Decryption)?;
        let plaintext = Zeroizing::new(plaintext);
        let inside = Inside::read(&plaintext, &outside.attachments).ok_or(OpenError::Malformed)?;
        let Inside { sender, signature, content, message, files } = inside;
        let signed = signed_bytes(&sender.domain, envelope.mailbox(), encapsulated, &associated, content);
        VerifyingKey::from_bytes(sender.mailbox.as_bytes())
            .and_then(|key| key.verify_strict(&signed, &Signature::from_bytes(signature)))
            .map_err(|_| OpenError::Signature)?;
        Ok(Opened { message: message.to_vec(), sender, files })
    }
}

/// The fields of the envelope that the relays see.
struct Outside {
    id: EnvelopeId,
    mailbox: MailboxId,
    device: Option<DeviceId>,
    expires_at: Timestamp,
    urgency: Urgency,
    attachments: Vec<Attachment>,
}

impl Outside {
    /// The version of the body, and what HPKE is told.
    const fn form(&self) -> (u8, &'static [u8]) {
        if self.attachments.is_empty() { (VERSION, INFO) } else { (LADEN_VERSION, LADEN_INFO) }
    }

    fn of(envelope: &Envelope) -> Self {
        Self {
            id: *envelope.id(),
            mailbox: *envelope.mailbox(),
            device: envelope.device().copied(),
            expires_at: envelope.expires_at(),
            urgency: envelope.urgency(),
            attachments: envelope.attachments().to_vec(),
        }
    }

    fn associated_data(&self) -> Vec<u8> {
        let device: &[u8] = match &self.device {
            Some(device) => &[&[1], device.as_bytes().as_slice()].concat(),
            None => &[0],
        };
        let urgency = match self.urgency {
            Urgency::Normal => 0,
            Urgency::Urgent => 1,
            Urgency::Ephemeral => 2,
        };
        let mut data = [
            self.id.as_bytes().as_slice(),
            self.mailbox.as_bytes(),
            device,
            &self.expires_at.as_secs().to_be_bytes(),
            &[urgency],
        ]
        .concat();
        if !self.attachments.is_empty() {
            // An envelope has at most 16.
            data.push(u8::try_from(self.attachments.len()).unwrap_or(u8::MAX));
            for Attachment { id, length, chunk_length } in &self.attachments {
                data.extend_from_slice(id.as_bytes());
                data.extend_from_slice(&length.to_be_bytes());
                data.extend_from_slice(&chunk_length.to_be_bytes());
            }
        }
        data
    }

    fn with_body(self, body: Vec<u8>) -> Result<Envelope, postrider_common::wire::WireError> {
        Draft {
            id: self.id,
            device: self.device,
            urgency: self.urgency,
            attachments: self.attachments,
            ..Draft::new(self.mailbox, self.expires_at, body)
        }
        .finish()
    }
}

/// What is read from a plaintext.
struct Inside<'a> {
    sender: Address,
    signature: &'a [u8; 64],
    /// What is signed: the message, and what is said about the files.
    content: &'a [u8],
    message: &'a [u8],
    files: Vec<AttachedFile>,
}

impl<'a> Inside<'a> {
    fn read(plaintext: &'a [u8], attachments: &[Attachment]) -> Option<Self> {
        let (mailbox, rest) = plaintext.split_first_chunk()?;
        let (length, rest) = rest.split_first()?;
        let (domain, rest) = rest.split_at_checked(usize::from(*length))?;
        let (signature, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (message, mut padding) = rest.split_at_checked(length)?;
        let mut files = Vec::with_capacity(attachments.len());
        for attachment in attachments {
            let file;
            (file, padding) = read_file(attachment, padding)?;
            files.push(file);
        }
        let content = &rest[..rest.len() - padding.len()];
        if padding.iter().any(|byte| *byte != 0) {
            return None;
        }
        let domain = std::str::from_utf8(domain).ok()?.parse().ok()?;
        let mailbox = MailboxId::from_bytes(*mailbox);
        Some(Self { sender: Address { mailbox, domain }, signature, content, message, files })
    }
}

/// What a plaintext says about a file, and what follows.
fn read_file<'a>(attachment: &Attachment, bytes: &'a [u8]) -> Option<(AttachedFile, &'a [u8])> {
    let (key, rest) = bytes.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (name_length, rest) = rest.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*name_length))?;
    let file = AttachedFile {
        name: std::str::from_utf8(name).ok()?.to_owned(),
        length: u64::from_be_bytes(*length),
        attachment: attachment.clone(),
        key: Secret::new(*key),
    };
    Some((file, rest))
}

/// The message, and what is said about the files.
fn content(message: &[u8], files: &[AttachedFile]) -> Zeroizing<Vec<u8>> {
    let mut content = Zeroizing::new(message.to_vec());
    for file in files {
        let name = short(&file.name).as_bytes();
        content.extend_from_slice(file.key.expose());
        content.extend_from_slice(&file.length.to_be_bytes());
        content.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        content.extend_from_slice(name);
    }
    content
}

/// The plaintext, padded so that the body fills its size class.
fn plaintext(
    sender: &Address,
    signature: &[u8; 64],
    length: usize,
    content: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let too_long = SealError::TooLong { length, limit: max_message_bytes() };
    let domain = sender.domain.as_str().as_bytes();
    let needed = OUTSIDE + INSIDE + domain.len() + content.len();
    let class = SIZE_CLASSES.into_iter().find(|class| needed <= *class).ok_or(too_long)?;
    let mut plaintext = Zeroizing::new(Vec::with_capacity(class - OUTSIDE));
    plaintext.extend_from_slice(sender.mailbox.as_bytes());
    plaintext.push(u8::try_from(domain.len()).map_err(|_| too_long)?);
    plaintext.extend_from_slice(domain);
    plaintext.extend_from_slice(signature);
    plaintext.extend_from_slice(&u32::try_from(length).map_err(|_| too_long)?.to_be_bytes());
    plaintext.extend_from_slice(content);
    plaintext.resize(class - OUTSIDE, 0);
    Ok(plaintext)
}

/// Encapsulated key and ciphertext of an envelope that has the outer form.
fn parts(envelope: &Envelope) -> Option<(&[u8; ENCAPSULATED_BYTES], &[u8])> {
    let expected = if envelope.attachments().is_empty() { VERSION } else { LADEN_VERSION };
    let (version, rest) = envelope.body().split_first()?;
    if !envelope.header().is_empty() || *version != expected || !SIZE_CLASSES.contains(&envelope.body().len())
    {
        return None;
    }
    rest.split_first_chunk()
}

fn signed_bytes(
    sender: &Domain,
    recipient: &MailboxId,
    encapsulated: &[u8; ENCAPSULATED_BYTES],
    associated: &[u8],
    content: &[u8],
) -> Zeroizing<Vec<u8>> {
    // A domain has at most 200 bytes.
    let length = u8::try_from(sender.as_str().len()).unwrap_or(u8::MAX);
    let parts = [
        SIGNATURE_CONTEXT,
        &[length],
        sender.as_str().as_bytes(),
        recipient.as_bytes(),
        encapsulated,
        associated,
        content,
    ];
    Zeroizing::new(parts.concat())
}

/// Without the message.
impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("sender", &self.sender).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
