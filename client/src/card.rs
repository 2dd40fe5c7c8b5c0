//! What one needs to know of somebody to write to them.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use postrider_common::{Address, Domain, MailboxId};

use crate::suite::{self, PUBLIC_KEY_BYTES};

/// What the signature covers begins with this, so that no other signature of the key can be taken for it.
const CONTEXT: &[u8] = b"postrider contact card v1\0";
const PREFIX: &str = "postrider-card:";
const VERSION: &str = "1";
const SIGNATURE_BYTES: usize = 64;

/// A user's address and the key to encrypt to, signed with the mailbox's key.
///
/// As text it is one line, `postrider-card:1:` and base64url (RFC 4648, no padding) of
/// `mailbox (32) || length of the domain (1) || domain || public key (1216) || signature (64)`. The signature is
/// Ed25519 over `"postrider contact card v1" 00` and everything in front of it. A card that parses is signed
/// rightly; that it belongs to the person one thinks of is for people to make sure of.
///
/// ```
/// use postrider_client::{CardError, ContactCard, Identity};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let line = Identity::generate("example.org".parse()?).card().to_string();
/// let card: ContactCard = line.parse()?;
/// println!("write to {}", card.address());
/// assert_eq!(line[..line.len() - 4].parse::<ContactCard>(), Err(CardError::Damaged), "a part is missing");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ContactCard {
    address: Address,
    public_key: Box<[u8; PUBLIC_KEY_BYTES]>,
    signature: [u8; SIGNATURE_BYTES],
}

/// Why a text is not a contact card. None of it changes by waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// It does not begin as one.
    #[error("a contact card begins with `{PREFIX}{VERSION}:`")]
    Prefix,
    /// It is a card of another version.
    #[error("this is a contact card of a version that is not supported; version {VERSION} is")]
    Version,
    /// What follows is not base64url or has the wrong length: a part of the line may be missing.
    #[error("the contact card is damaged or not complete")]
    Damaged,
    /// The domain in it is none.
    #[error("the contact card names no valid domain")]
    Domain,
    /// The key in it cannot be encrypted to.
    #[error("the contact card's key is not valid")]
    Key,
    /// Somebody changed it.
    #[error("the contact card is not signed by its mailbox's key")]
    Signature,
}

impl ContactCard {
    /// Signs a card.
    pub(crate) fn sign(key: &SigningKey, domain: Domain, public_key: Box<[u8; PUBLIC_KEY_BYTES]>) -> Self {
        let mailbox = MailboxId::from_bytes(key.verifying_key().to_bytes());
        let address = Address { mailbox, domain };
        let signature = key.sign(&signed_bytes(&address, &public_key)).to_bytes();
        Self { address, public_key, signature }
    }

    /// Where to write to.
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Whose card it is.
    pub const fn mailbox(&self) -> &MailboxId {
        &self.address.mailbox
    }

    /// The relay that keeps the mailbox.
    pub const fn domain(&self) -> &Domain {
        &self.address.domain
    }

    /// The HPKE key to encrypt to.
    pub const fn public_key(&self) -> &[u8; PUBLIC_KEY_BYTES] {
        &self.public_key
    }

    fn from_bytes(bytes: &[u8]) -> Option<Result<Self, CardError>> {
        let (mailbox, rest) = bytes.split_first_chunk()?;
        let (length, rest) = rest.split_first()?;
        let (domain, rest) = rest.split_at_checked(usize::from(*length))?;
        let (public_key, signature) = rest.split_first_chunk::<PUBLIC_KEY_BYTES>()?;
        let signature = *signature.as_array()?;
        let Some(domain) = std::str::from_utf8(domain).ok().and_then(|text| text.parse().ok()) else {
            return Some(Err(CardError::Domain));
        };
        let card = Self {
            address: Address { mailbox: MailboxId::from_bytes(*mailbox), domain },
            public_key: Box::new(*public_key),
            signature,
        };
        Some(card.verified())
    }

    fn verified(self) -> Result<Self, CardError> {
        let signed = signed_bytes(&self.address, &self.public_key);
        VerifyingKey::from_bytes(self.mailbox().as_bytes())
            .and_then(|key| key.verify_strict(&signed, &Signature::from_bytes(&self.signature)))
            .map_err(|_| CardError::Signature)?;
        if suite::is_public_key(self.public_key.as_slice()) { Ok(self) } else { Err(CardError::Key) }
    }
}

fn signed_bytes(address: &Address, public_key: &[u8; PUBLIC_KEY_BYTES]) -> Vec<u8> {
    let domain = address.domain.as_str().as_bytes();
    // A domain has at most 200 bytes.
    let length = u8::try_from(domain.len()).unwrap_or(u8::MAX);
    let mailbox = address.mailbox.as_bytes();
    [CONTEXT, mailbox, &[length], domain, public_key].concat()
}

impl fmt::Display for ContactCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = signed_bytes(&self.address, &self.public_key).split_off(CONTEXT.len());
        bytes.extend_from_slice(&self.signature);
        write!(f, "{PREFIX}{VERSION}:{}", BASE64URL_NOPAD.encode(&bytes))
    }
}

impl FromStr for ContactCard {
    type Err = CardError;

    /// White space around the line is ignored, since cards are pasted and read from files.
    fn from_str(text: &str) -> Result<Self, CardError> {
        let rest = text.trim().strip_prefix(PREFIX).ok_or(CardError::Prefix)?;
        let (version, encoded) = rest.split_once(':').ok_or(CardError::Prefix)?;
        if version != VERSION {
            return Err(CardError::Version);
        }
        let bytes = BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| CardError::Damaged)?;
        Self::from_bytes(&bytes).unwrap_or(Err(CardError::Damaged))
    }
}

/// The address only, shortened as in every log.
impl fmt::Debug for ContactCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContactCard").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    fn card() -> ContactCard {
        Identity::generate("example.org".parse().unwrap()).card().clone()
    }

    #[test]
    fn is_one_printable_line_that_round_trips() {
        let card = card();
        let text = card.to_string();
        assert!(text.starts_with("postrider-card:1:"));
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
        assert_eq!(text.parse(), Ok(card.clone()));
        assert_eq!(format!("\n {text}\n").parse(), Ok(card));
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let text = card().to_string();
        let bytes = BASE64URL_NOPAD.decode(&text.as_bytes()[17..]).unwrap();
        for at in (0..bytes.len()).step_by(7).chain([32, bytes.len() - 1]) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let changed = format!("postrider-card:1:{}", BASE64URL_NOPAD.encode(&changed));
            assert!(changed.parse::<ContactCard>().is_err(), "byte {at}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let text = card().to_string();
        for (text, error) in [
            ("example.org", CardError::Prefix),
            ("postrider-card:2:AA", CardError::Version),
            ("postrider-card:1:!", CardError::Damaged),
            (&text[..text.len() - 4], CardError::Damaged),
            (&format!("{text}AAAA"), CardError::Damaged),
        ] {
            assert_eq!(text.parse::<ContactCard>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_key_that_cannot_be_used_is_refused_although_it_is_signed() {
        let key = SigningKey::from_bytes(&[7; 32]);
        // An ML-KEM public key consists of numbers below 3329; these bits are all ones.
        let card = ContactCard::sign(&key, "example.org".parse().unwrap(), Box::new([255; 1216]));
        assert_eq!(card.to_string().parse::<ContactCard>(), Err(CardError::Key));
    }
}
