//! The devices of a mailbox.

use serde::{Deserialize, Serialize};

use crate::DeviceId;

/// `GET /v1/mailbox/devices`: the mailbox's devices, in the order in which they were registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    /// What is known of each.
    pub devices: Vec<Device>,
}

/// One device of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Device {
    /// Which one.
    pub device: DeviceId,
    /// What its owner calls it, encrypted so that only they can read it. Absent if they have not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<DeviceName>,
    /// The day on which it was last connected, by its first second in Unix time.
    pub last_contact: u64,
    /// When it is removed if it stays away, in Unix seconds.
    pub removed_at: u64,
}

impl Device {
    /// One without a name.
    pub const fn new(device: DeviceId, last_contact: u64, removed_at: u64) -> Self {
        Self { device, name: None, last_contact, removed_at }
    }
}

/// `PUT /v1/mailbox/devices/{id}/name`: what a device is called from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedDevice {
    /// Encrypted by the owner's app. Empty: it has no name any more.
    pub name: DeviceName,
}

/// Up to 256 bytes that mean nothing to the relay, in lower-case hexadecimal.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceName(Vec<u8>);

impl DeviceName {
    /// The most bytes that one has.
    pub const MAX_LENGTH: usize = 256;

    /// Takes the bytes, unless they are too many.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() <= Self::MAX_LENGTH).then_some(Self(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, given away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// It may be a name that was not encrypted.
impl std::fmt::Debug for DeviceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceName({} bytes)", self.0.len())
    }
}

impl Serialize for DeviceName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for DeviceName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok();
        bytes
            .and_then(Self::new)
            .ok_or_else(|| serde::de::Error::custom("a name is up to 256 bytes in lower-case hexadecimal"))
    }
}
