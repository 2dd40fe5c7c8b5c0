//! Who the user of this app is: the mailbox's key, the key that others encrypt to, and the device.

mod file;

use std::fmt;
use std::sync::Arc;

use ed25519_dalek::{Signer, SigningKey};
use postrider_common::secret::Secret;
use postrider_common::wire::control::{Nonce, SessionRequest, SignatureHex, session_proof};
use postrider_common::{Address, Binding, DeviceId, Domain};

pub use file::IdentityError;

use crate::ContactCard;
use crate::suite::{self, SEED_BYTES};

/// A user's keys on this device, and the relay that keeps their mailbox.
///
/// Clones share the keys, which are zeroed with the last clone. [`save`](Self::save) writes them to a file that
/// only its owner can read.
#[derive(Clone)]
pub struct Identity(Arc<Keys>);

struct Keys {
    signing: SigningKey,
    seed: Secret<SEED_BYTES>,
    device: DeviceId,
    card: ContactCard,
}

impl Identity {
    /// New keys and a new device for a mailbox at `domain`.
    ///
    /// ```
    /// use postrider_client::{ContactCard, Identity};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let me = Identity::generate("example.org".parse()?);
    /// // What others get: one line, signed, with nothing secret in it.
    /// let card: ContactCard = me.card().to_string().parse()?;
    /// assert_eq!(card.address(), me.address());
    /// # Ok(())
    /// # }
    /// ```
    pub fn generate(domain: Domain) -> Self {
        Self::from_parts(domain, &Secret::random(), Secret::random(), DeviceId::random())
    }

    pub(crate) fn from_parts(
        domain: Domain,
        signing: &Secret<32>,
        seed: Secret<SEED_BYTES>,
        device: DeviceId,
    ) -> Self {
        let signing = SigningKey::from_bytes(signing.expose());
        #[expect(
            clippy::expect_used,
            reason = "the only check on a seed is its length, which is in its type"
        )]
        let public_key = suite::public_key(&seed).expect("every 32 bytes are a seed");
        let card = ContactCard::sign(&signing, domain, public_key);
        Self(Arc::new(Keys { signing, seed, device, card }))
    }

    /// The same user on one more device, a new one.
    ///
    /// Both devices get every envelope that is not addressed to one of them, and each acknowledges for itself. How
    /// the keys come to the other device safely is the app's affair.
    #[must_use]
    pub fn with_new_device(&self) -> Self {
        self.with_device(DeviceId::random())
    }

    /// The same user and device at another relay, for a mailbox that [moves](crate::Session::move_to) there.
    #[must_use]
    pub fn at(&self, domain: Domain) -> Self {
        self.with(domain, *self.device())
    }

    pub(crate) fn with_device(&self, device: DeviceId) -> Self {
        self.with(self.domain().clone(), device)
    }

    fn with(&self, domain: Domain, device: DeviceId) -> Self {
        let signing = Secret::new(self.0.signing.to_bytes());
        let seed = Secret::new(*self.0.seed.expose());
        Self::from_parts(domain, &signing, seed, device)
    }

    /// The statement that the mailbox is kept at the identity's relay. Of several the one with the highest serial counts.
    pub fn binding(&self, serial: u64) -> Binding {
        Binding::sign(&self.0.signing, self.domain().clone(), serial)
    }

    /// Where others write to.
    pub fn address(&self) -> &Address {
        self.0.card.address()
    }

    /// The relay that keeps the mailbox.
    pub fn domain(&self) -> &Domain {
        self.0.card.domain()
    }

    /// This device.
    pub fn device(&self) -> &DeviceId {
        &self.0.device
    }

    /// What to give to others, so that they can write.
    pub fn card(&self) -> &ContactCard {
        &self.0.card
    }

    /// Signs with the mailbox's key. What is signed must begin with a context of its own.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.signing.sign(message).to_bytes()
    }

    pub(crate) fn seed(&self) -> &Secret<SEED_BYTES> {
        &self.0.seed
    }

    /// The proof that this device acts for the mailbox.
    pub(crate) fn session_request(&self, nonce: Nonce) -> SessionRequest {
        let Address { mailbox, domain } = self.address();
        let proof = session_proof(domain, &nonce, mailbox, self.device());
        SessionRequest {
            mailbox: *mailbox,
            device: *self.device(),
            nonce,
            signature: SignatureHex(self.sign(&proof)),
        }
    }
}

/// Without the keys.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("address", self.address())
            .field("device", self.device())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signature, VerifyingKey};

    #[test]
    fn debug_shows_no_key() {
        let domain = "example.org".parse().unwrap();
        let identity = Identity::from_parts(
            domain,
            &Secret::new([0xab; 32]),
            Secret::new([0xcd; 32]),
            DeviceId::random(),
        );
        let shown = format!("{identity:?}").to_lowercase();
        for key in ["abab", "cdcd", "171, 171", "205, 205"] {
            assert!(!shown.contains(key), "{shown}");
        }
    }

    #[test]
    fn another_device_is_the_same_user() {
        let phone = Identity::generate("example.org".parse().unwrap());
        let laptop = phone.with_new_device();
        assert_eq!(laptop.card(), phone.card());
        assert_ne!(laptop.device(), phone.device());
    }

    #[test]
    fn proves_that_it_acts_for_the_mailbox() {
        let identity = Identity::generate("example.org".parse().unwrap());
        let request = identity.session_request(Nonce([9; 32]));
        let Address { mailbox, domain } = identity.address();
        let proof = session_proof(domain, &Nonce([9; 32]), mailbox, identity.device());
        let key = VerifyingKey::from_bytes(request.mailbox.as_bytes()).unwrap();
        key.verify_strict(&proof, &Signature::from_bytes(&request.signature.0)).unwrap();
    }
}
