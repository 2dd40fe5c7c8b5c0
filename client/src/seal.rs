//! A reference for end-to-end encryption: HPKE to the recipient's card, signed by the sender, padded.
//!
//! Postrider carries ciphertext and does not care how it came about; an app with a protocol of its own (with
//! forward secrecy, groups, several devices) uses that and leaves this module alone. What is here is the least
//! that is right for one message to one person. It has no forward secrecy against the theft of the recipient's
//! key.
//!
//! # Bytes
//! The envelope's header is empty and it has no attachments. Its body has exactly the size of one of the
//! [`SIZE_CLASSES`]:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 1 |
//! | 1,120 | the HPKE encapsulated key (X-Wing; too large for an envelope's header) |
//! | the rest | ciphertext and its 16-byte tag |
//!
//! HPKE is RFC 9180 base mode, X-Wing (0x647a), HKDF-SHA256 (0x0001), ChaCha20-Poly1305 (0x0003), `info` being
//! `"postrider seal v1" 00`. The associated data is the envelope's outside: `id (16) || mailbox (32) || 00, or
//! 01 and the device (32) || expires_at (8, seconds, big-endian) || urgency (1: normal 0, urgent 1, ephemeral 2)`;
//! so nobody can change it, or send the same body again under another id. The plaintext:
//!
//! | bytes | what |
//! |---|---|
//! | 32 | the sender's mailbox |
//! | 1 + n | length of the sender's domain, the domain |
//! | 64 | the sender's signature |
//! | 4 + n | length of the message (big-endian), the message |
//! | the rest | zeros |
//!
//! The signature is Ed25519 with the sender's mailbox key over `"postrider sealed message v1" 00 || length of the
//! sender's domain (1) || domain || recipient's mailbox (32) || encapsulated key (1,120) || associated data ||
//! message`. It names the recipient and the key made for this message, so a recipient cannot pass the message on
//! to somebody else as if the sender had written to them.

use std::time::Duration;

use ed25519_dalek::{Signature, VerifyingKey};
use postrider_common::clock::{Clock, SystemClock};
use postrider_common::{
    Address, DeviceId, Domain, Draft, Envelope, EnvelopeId, MailboxId, Timestamp, Urgency,
};
use zeroize::Zeroizing;

use crate::suite::{self, ENCAPSULATED_BYTES, Sealer, TAG_BYTES};
use crate::{ContactCard, Identity};

/// The sizes that bodies are padded to, so that lengths say little. X-Wing's key alone fills the two smallest:
/// this module begins with the third.
pub const SIZE_CLASSES: [usize; 9] =
    [512, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10];

const LARGEST: usize = SIZE_CLASSES[SIZE_CLASSES.len() - 1];
const VERSION: u8 = 1;
const INFO: &[u8] = b"postrider seal v1\0";
const SIGNATURE_CONTEXT: &[u8] = b"postrider sealed message v1\0";
/// What the body has in front of and behind the plaintext.
const OUTSIDE: usize = 1 + ENCAPSULATED_BYTES + TAG_BYTES;
/// What the plaintext has besides the sender's domain and the message.
const INSIDE: usize = MailboxId::SIZE + 1 + 64 + 4;

/// The longest message that [`seal`] takes, whatever the sender's domain.
pub const fn max_message_bytes() -> usize {
    LARGEST - OUTSIDE - INSIDE - Domain::MAX_LENGTH
}

/// How a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealOptions {
    /// How long relays keep it for the recipient. Rounded up to a full hour, so that it says little about when
    /// the message was written.
    pub expires_in: Duration,
    /// How much the recipient's device should be bothered.
    pub urgency: Urgency,
    /// One device of the recipient's, or all.
    pub device: Option<DeviceId>,
}

/// Two weeks, normal urgency, every device.
impl Default for SealOptions {
    fn default() -> Self {
        Self { expires_in: Duration::from_secs(14 * 86_400), urgency: Urgency::Normal, device: None }
    }
}

/// Why a message was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// It belongs into an attachment.
    #[error("a message has at most {} bytes, this one has {length}", max_message_bytes())]
    TooLong {
        /// Its bytes.
        length: usize,
    },
    /// The card's key does not work.
    #[error("the message cannot be encrypted to this card")]
    Encryption,
}

/// What was in an envelope.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    /// Who wrote it, which the signature proves.
    pub sender: Address,
    /// What they wrote.
    pub message: Vec<u8>,
}

/// Why an envelope was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It is for another mailbox.
    #[error("the envelope is for another mailbox")]
    NotForUs,
    /// Not made by [`seal`], or by a newer version of it.
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
    if message.len() > max_message_bytes() {
        return Err(SealError::TooLong { length: message.len() });
    }
    let outside = Outside {
        id: EnvelopeId::random(),
        mailbox: *to.mailbox(),
        device: options.device,
        expires_at: (now + options.expires_in).round_up_to_hour(),
        urgency: options.urgency,
    };
    let associated = outside.associated_data();
    let sealer = Sealer::new(to.public_key(), INFO).map_err(|_| SealError::Encryption)?;
    let signed = signed_bytes(from.domain(), to.mailbox(), sealer.encapsulated(), &associated, message);
    let plaintext = plaintext(from.address(), &from.sign(&signed), message)?;

    let mut body = Vec::with_capacity(plaintext.len() + OUTSIDE);
    body.push(VERSION);
    body.extend_from_slice(sealer.encapsulated());
    let ciphertext = sealer.seal(&plaintext, &associated).map_err(|_| SealError::Encryption)?;
    body.extend_from_slice(&ciphertext);
    outside.with_body(body).map_err(|_| SealError::TooLong { length: message.len() })
}

impl Identity {
    /// Decrypts an envelope that [`seal`] made for this identity, and verifies who wrote it.
    pub fn open(&self, envelope: &Envelope) -> Result<Opened, OpenError> {
        if envelope.mailbox() != &self.address().mailbox {
            return Err(OpenError::NotForUs);
        }
        let (encapsulated, ciphertext) = parts(envelope).ok_or(OpenError::UnknownFormat)?;
        let associated = Outside::of(envelope).associated_data();
        let plaintext = suite::open(self.seed(), encapsulated, INFO, ciphertext, &associated)
            .map_err(|_| OpenError::Decryption)?;
        let plaintext = Zeroizing::new(plaintext);
        let Inside { sender, signature, message } = Inside::read(&plaintext).ok_or(OpenError::Malformed)?;
        let signed = signed_bytes(&sender.domain, envelope.mailbox(), encapsulated, &associated, message);
        VerifyingKey::from_bytes(sender.mailbox.as_bytes())
            .and_then(|key| key.verify_strict(&signed, &Signature::from_bytes(signature)))
            .map_err(|_| OpenError::Signature)?;
        Ok(Opened { message: message.to_vec(), sender })
    }
}

/// The fields of the envelope that the relays see.
struct Outside {
    id: EnvelopeId,
    mailbox: MailboxId,
    device: Option<DeviceId>,
    expires_at: Timestamp,
    urgency: Urgency,
}

impl Outside {
    fn of(envelope: &Envelope) -> Self {
        Self {
            id: *envelope.id(),
            mailbox: *envelope.mailbox(),
            device: envelope.device().copied(),
            expires_at: envelope.expires_at(),
            urgency: envelope.urgency(),
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
        [
            self.id.as_bytes().as_slice(),
            self.mailbox.as_bytes(),
            device,
            &self.expires_at.as_secs().to_be_bytes(),
            &[urgency],
        ]
        .concat()
    }

    fn with_body(self, body: Vec<u8>) -> Result<Envelope, postrider_common::wire::WireError> {
        Draft {
            id: self.id,
            device: self.device,
            urgency: self.urgency,
            ..Draft::new(self.mailbox, self.expires_at, body)
        }
        .finish()
    }
}

/// What is read from a plaintext.
struct Inside<'a> {
    sender: Address,
    signature: &'a [u8; 64],
    message: &'a [u8],
}

impl<'a> Inside<'a> {
    fn read(plaintext: &'a [u8]) -> Option<Self> {
        let (mailbox, rest) = plaintext.split_first_chunk()?;
        let (length, rest) = rest.split_first()?;
        let (domain, rest) = rest.split_at_checked(usize::from(*length))?;
        let (signature, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (message, padding) = rest.split_at_checked(length)?;
        if padding.iter().any(|byte| *byte != 0) {
            return None;
        }
        let domain = std::str::from_utf8(domain).ok()?.parse().ok()?;
        let mailbox = MailboxId::from_bytes(*mailbox);
        Some(Self { sender: Address { mailbox, domain }, signature, message })
    }
}

/// The plaintext, padded so that the body fills its size class.
fn plaintext(
    sender: &Address,
    signature: &[u8; 64],
    message: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let too_long = SealError::TooLong { length: message.len() };
    let domain = sender.domain.as_str().as_bytes();
    let needed = OUTSIDE + INSIDE + domain.len() + message.len();
    let class = SIZE_CLASSES.into_iter().find(|class| needed <= *class).ok_or(too_long)?;
    let mut plaintext = Zeroizing::new(Vec::with_capacity(class - OUTSIDE));
    plaintext.extend_from_slice(sender.mailbox.as_bytes());
    plaintext.push(u8::try_from(domain.len()).map_err(|_| too_long)?);
    plaintext.extend_from_slice(domain);
    plaintext.extend_from_slice(signature);
    plaintext.extend_from_slice(&u32::try_from(message.len()).map_err(|_| too_long)?.to_be_bytes());
    plaintext.extend_from_slice(message);
    plaintext.resize(class - OUTSIDE, 0);
    Ok(plaintext)
}

/// Encapsulated key and ciphertext of an envelope that has the outer form.
fn parts(envelope: &Envelope) -> Option<(&[u8; ENCAPSULATED_BYTES], &[u8])> {
    let plain = envelope.header().is_empty() && envelope.attachments().is_empty();
    let (version, rest) = envelope.body().split_first()?;
    if !plain || *version != VERSION || !SIZE_CLASSES.contains(&envelope.body().len()) {
        return None;
    }
    rest.split_first_chunk()
}

fn signed_bytes(
    sender: &Domain,
    recipient: &MailboxId,
    encapsulated: &[u8; ENCAPSULATED_BYTES],
    associated: &[u8],
    message: &[u8],
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
        message,
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
