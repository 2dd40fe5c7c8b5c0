//! The HPKE suite, and the one file that names `hpke`.
//!
//! RFC 9180 base mode with X-Wing (ML-KEM-768 and X25519 together, KEM 0x647a), HKDF-SHA256 (0x0001) and
//! ChaCha20-Poly1305 (0x0003): what is recorded today stays closed to whoever breaks one of the two key exchanges.

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable, HpkeError, Kem, OpModeR, OpModeS, Serializable};
use postrider_common::secret::Secret;

/// Bytes of a public key.
pub(crate) const PUBLIC_KEY_BYTES: usize = 1216;
/// Bytes of the private key, which is a seed.
pub(crate) const SEED_BYTES: usize = 32;
/// Bytes of an encapsulated key.
pub(crate) const ENCAPSULATED_BYTES: usize = 1120;
/// What encryption adds to a plaintext.
pub(crate) const TAG_BYTES: usize = 16;

/// The public key that belongs to a seed.
pub(crate) fn public_key(seed: &Secret<SEED_BYTES>) -> Result<Box<[u8; PUBLIC_KEY_BYTES]>, HpkeError> {
    let private = <XWing as Kem>::PrivateKey::from_bytes(seed.expose())?;
    let mut bytes = Box::new([0; PUBLIC_KEY_BYTES]);
    XWing::sk_to_pk(&private).write_exact(bytes.as_mut_slice());
    Ok(bytes)
}

/// Whether bytes are a public key that can be encrypted to.
pub(crate) fn is_public_key(bytes: &[u8]) -> bool {
    <XWing as Kem>::PublicKey::from_bytes(bytes).is_ok()
}

/// A key made for one message: to encrypt with once, and to sign over before.
pub(crate) struct Sealer {
    encapsulated: [u8; ENCAPSULATED_BYTES],
    context: hpke::aead::AeadCtxS<ChaCha20Poly1305, HkdfSha256, XWing>,
}

impl Sealer {
    /// Makes a key that only the owner of `public_key` can recover.
    pub(crate) fn new(public_key: &[u8; PUBLIC_KEY_BYTES], info: &[u8]) -> Result<Self, HpkeError> {
        let public = <XWing as Kem>::PublicKey::from_bytes(public_key)?;
        let (encapped, context) =
            hpke::setup_sender::<ChaCha20Poly1305, HkdfSha256, XWing>(&OpModeS::Base, &public, info)?;
        let mut encapsulated = [0; ENCAPSULATED_BYTES];
        encapped.write_exact(&mut encapsulated);
        Ok(Self { encapsulated, context })
    }

    /// What the recipient needs to recover the key.
    pub(crate) const fn encapsulated(&self) -> &[u8; ENCAPSULATED_BYTES] {
        &self.encapsulated
    }

    /// Encrypts.
    pub(crate) fn seal(mut self, plaintext: &[u8], associated: &[u8]) -> Result<Vec<u8>, HpkeError> {
        self.context.seal(plaintext, associated)
    }
}

/// Decrypts what a [`Sealer`] encrypted.
pub(crate) fn open(
    seed: &Secret<SEED_BYTES>,
    encapsulated: &[u8],
    info: &[u8],
    ciphertext: &[u8],
    associated: &[u8],
) -> Result<Vec<u8>, HpkeError> {
    let private = <XWing as Kem>::PrivateKey::from_bytes(seed.expose())?;
    let encapped = <XWing as Kem>::EncappedKey::from_bytes(encapsulated)?;
    hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(
        &OpModeR::Base,
        &private,
        &encapped,
        info,
        ciphertext,
        associated,
    )
}
