//! What a user calls their devices, so that only they can read it.
//!
//! The key is HMAC-SHA256 of the identity's seed over a context; the name is encrypted with ChaCha20-Poly1305 under a random
//! nonce, which stands in front, for that mailbox and device and no other.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use postrider_common::DeviceId;
use postrider_common::secret::random_bytes;
use postrider_common::wire::control::DeviceName;
use zeroize::Zeroizing;

use crate::Identity;

const CONTEXT: &[u8] = b"postrider device name v1\0";

impl Identity {
    /// Encrypts what a device of this user's is to be called, for [`Session::name_device`](crate::Session::name_device).
    /// `None` if it is longer than there is room for: 228 bytes.
    pub fn seal_device_name(&self, device: &DeviceId, name: &str) -> Option<DeviceName> {
        let nonce: [u8; NONCE_LEN] = random_bytes();
        let mut sealed = name.as_bytes().to_vec();
        let aad = self.aad(device);
        let key = self.name_key()?;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
        DeviceName::new([&nonce[..], &sealed].concat())
    }

    /// Decrypts it. `None` if it was not encrypted by this user for this device.
    pub fn open_device_name(&self, device: &DeviceId, name: &DeviceName) -> Option<String> {
        let (nonce, sealed) = name.as_bytes().split_first_chunk::<NONCE_LEN>()?;
        let mut sealed = sealed.to_vec();
        let aad = self.aad(device);
        let key = self.name_key()?;
        let opened = key.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut sealed).ok()?;
        String::from_utf8(opened.to_vec()).ok()
    }

    fn aad(&self, device: &DeviceId) -> Aad<Vec<u8>> {
        Aad::from([&self.address().mailbox.as_bytes()[..], device.as_bytes()].concat())
    }

    fn name_key(&self) -> Option<LessSafeKey> {
        let seed = hmac::Key::new(hmac::HMAC_SHA256, self.seed().expose());
        let key = Zeroizing::new(hmac::sign(&seed, CONTEXT).as_ref().to_vec());
        UnboundKey::new(&CHACHA20_POLY1305, &key).ok().map(LessSafeKey::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_by_its_owner_and_for_its_device_only() {
        let me = Identity::generate("example.org".parse().unwrap());
        let laptop = me.with_new_device();
        let name = me.seal_device_name(laptop.device(), "Laptop in the kitchen").unwrap();
        assert_eq!(laptop.open_device_name(laptop.device(), &name).as_deref(), Some("Laptop in the kitchen"));
        assert_eq!(me.open_device_name(me.device(), &name), None, "another device");
        let other = Identity::generate("example.org".parse().unwrap());
        assert_eq!(other.open_device_name(laptop.device(), &name), None);
        assert!(me.seal_device_name(me.device(), &"x".repeat(228)).is_some());
        assert!(me.seal_device_name(me.device(), &"x".repeat(229)).is_none());
        let short = DeviceName::new(vec![1; 5]).unwrap();
        assert_eq!(me.open_device_name(me.device(), &short), None);
    }
}
