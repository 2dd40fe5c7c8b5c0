//! Identifiers: fixed-size byte strings, each a type of its own so that one is never taken for another.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, Encoding, Specification};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} is written as {length} characters of lower-case base32 (RFC 4648, no padding)")]
pub struct IdError {
    what: &'static str,
    length: usize,
}

/// Lower-case base32 without padding, RFC 4648 section 6. Capitals are refused: an identifier has one spelling.
pub(crate) fn base32() -> &'static Encoding {
    static ENCODING: std::sync::LazyLock<Encoding> = std::sync::LazyLock::new(|| {
        let mut specification = Specification::new();
        specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
        // The specification is a constant: thirty-two distinct ASCII symbols are always a valid encoding.
        specification.encoding().unwrap_or(BASE32_NOPAD)
    });
    &ENCODING
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $size:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $size]);

        impl $name {
            /// How many bytes it has.
            pub const SIZE: usize = $size;

            /// Takes the bytes as they are.
            pub const fn from_bytes(bytes: [u8; $size]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $size] {
                &self.0
            }

            /// A new one from the operating system's random source.
            pub fn random() -> Self {
                Self(crate::secret::random_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&base32().encode(&self.0))
            }
        }

        /// Shortened: enough to tell two apart in a test, not enough to find a person by in a log.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text = base32().encode(&self.0);
                write!(f, "{}({}…)", stringify!($name), &text[..6])
            }
        }

        /// Text in JSON, the bare bytes on the wire.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    // Owned: a JSON string with an escape in it cannot be borrowed.
                    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
                } else {
                    <[u8; $size]>::deserialize(deserializer).map(Self)
                }
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                const LENGTH: usize = usize::div_ceil($size * 8, 5);
                let error = IdError { what: $what, length: LENGTH };
                let bytes = base32().decode(text.as_bytes()).map_err(|_| error)?;
                bytes.try_into().map(Self).map_err(|_| error)
            }
        }
    };
}

identifier! {
    /// The name of a mailbox. For native users it is their Ed25519 public key.
    MailboxId, 32, "a mailbox"
}
impl MailboxId {
    /// Whether the mailbox's key has signed `message` (Ed25519, RFC 8032, with the strict checks that leave one
    /// valid signature and no weak keys). A name that is no key has signed nothing.
    pub fn has_signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        ed25519_dalek::VerifyingKey::from_bytes(&self.0).is_ok_and(|key| {
            key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
        })
    }
}

identifier! {
    /// One app of a user, chosen by the app at random.
    DeviceId, 32, "a device"
}
identifier! {
    /// One envelope, chosen at random by the client that submits it. Together with the mailbox it is the
    /// idempotency key: the same pair is kept once.
    EnvelopeId, 16, "an envelope id"
}
identifier! {
    /// What a client asks by what became of an envelope that was queued for another relay.
    /// Whoever holds it may ask; it is not tied to a user.
    TrackingId, 16, "a tracking id"
}
identifier! {
    /// The name of an invite, made from its secret: whoever has it can revoke the invite, not use it.
    InviteId, 16, "an invite's name"
}
identifier! {
    /// One attachment.
    AttachmentId, 32, "an attachment"
}

/// An envelope's place in one mailbox: later entries have higher ids. What a device acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryId(pub u64);

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_in_lower_case() {
        let id = MailboxId::from_bytes([0xa5; 32]);
        let text = id.to_string();
        assert_eq!(text.len(), 52);
        assert_eq!(text, text.to_lowercase());
        assert_eq!(text.parse::<MailboxId>().unwrap(), id);
        assert_eq!(TrackingId::from_bytes([7; 16]).to_string().len(), 26);
    }

    #[test]
    fn there_is_one_spelling() {
        let text = MailboxId::from_bytes([0xa5; 32]).to_string();
        assert!(text.to_uppercase().parse::<MailboxId>().is_err());
        assert!(text[1..].parse::<MailboxId>().is_err());
        // The last symbol carries four unused bits, which must be zero.
        let trailing = format!("{}b", &text[..51]);
        assert!(trailing.parse::<MailboxId>().is_err());
        assert_eq!(
            "x".parse::<TrackingId>().unwrap_err().to_string(),
            "a tracking id is written as 26 characters of lower-case base32 (RFC 4648, no padding)"
        );
    }

    #[test]
    fn debug_shows_the_beginning_only() {
        let id = MailboxId::from_bytes([0; 32]);
        assert_eq!(format!("{id:?}"), "MailboxId(aaaaaa…)");
    }
}
