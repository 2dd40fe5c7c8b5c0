//! A mailbox's own statement of where it is kept.

use ed25519_dalek::{Signer, SigningKey};

use crate::{Domain, MailboxId};

/// What the signature covers begins with this, so that no other signature of the key can be taken for it.
const CONTEXT: &[u8] = b"postrider binding v1\0";

/// "I am kept at domain D, serial n", signed by the mailbox's key. The higher serial wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    mailbox: MailboxId,
    domain: Domain,
    serial: u64,
    signature: [u8; 64],
}

/// The signature does not belong to this mailbox, domain and serial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the binding is not signed by the mailbox's key")]
pub struct BindingError;

impl Binding {
    /// Makes the statement with the mailbox's key.
    pub fn sign(key: &SigningKey, domain: Domain, serial: u64) -> Self {
        let mailbox = MailboxId::from_bytes(key.verifying_key().to_bytes());
        let signature = key.sign(&signed_bytes(&mailbox, &domain, serial)).to_bytes();
        Self { mailbox, domain, serial, signature }
    }

    /// Takes a statement that somebody passed on, if its signature is right.
    pub fn verify(
        mailbox: MailboxId,
        domain: Domain,
        serial: u64,
        signature: [u8; 64],
    ) -> Result<Self, BindingError> {
        if mailbox.has_signed(&signed_bytes(&mailbox, &domain, serial), &signature) {
            Ok(Self { mailbox, domain, serial, signature })
        } else {
            Err(BindingError)
        }
    }

    /// A statement that was [verified](Self::verify) when it came, and kept since where nobody else writes. Checking it
    /// again would cost more than everything else about an envelope.
    pub const fn verified_before(
        mailbox: MailboxId,
        domain: Domain,
        serial: u64,
        signature: [u8; 64],
    ) -> Self {
        Self { mailbox, domain, serial, signature }
    }

    /// Whose mailbox.
    pub const fn mailbox(&self) -> &MailboxId {
        &self.mailbox
    }

    /// Where it is kept.
    pub const fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Which of the mailbox's statements this is; a later one has a higher serial.
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// The signature, to pass the statement on.
    pub const fn signature(&self) -> &[u8; 64] {
        &self.signature
    }
}

/// `context || mailbox (32) || serial (8, big-endian) || domain`.
fn signed_bytes(mailbox: &MailboxId, domain: &Domain, serial: u64) -> Vec<u8> {
    [CONTEXT, mailbox.as_bytes(), &serial.to_be_bytes(), domain.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_mailboxs_key_makes_one() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let domain: Domain = "beta.example".parse().unwrap();
        let binding = Binding::sign(&key, domain.clone(), 3);
        let again = Binding::verify(*binding.mailbox(), domain.clone(), 3, *binding.signature());
        assert_eq!(again.as_ref(), Ok(&binding));

        let other = Binding::verify(*binding.mailbox(), domain.clone(), 4, *binding.signature());
        assert_eq!(other, Err(BindingError));
        let elsewhere =
            Binding::verify(*binding.mailbox(), "gamma.example".parse().unwrap(), 3, *binding.signature());
        assert_eq!(elsewhere, Err(BindingError));
        let stranger = MailboxId::from_bytes([9; 32]);
        assert_eq!(Binding::verify(stranger, domain, 3, *binding.signature()), Err(BindingError));
    }
}
