//! The control plane: small JSON documents. Unknown fields are ignored, so that both sides may add some; what an app is given
//! of them is `#[non_exhaustive]`, so that they may in a Rust program as well.

mod devices;
mod problem;
mod relay_info;
mod tracking;

use serde::{Deserialize, Serialize};

use crate::{Binding, BindingError, DeviceId, Domain, InviteSecret, MailboxId, Timestamp};

pub use devices::{Device, DeviceName, Devices, NamedDevice};
pub use problem::{PROBLEM_CONTENT_TYPE, PROBLEM_TYPE_PREFIX, Problem};
pub use relay_info::{RelayInfo, RelayLimits, RelayPolicies};
pub use tracking::{TrackingState, TrackingStatus};

/// What a session's signature covers begins with this.
const SESSION_CONTEXT: &[u8] = b"postrider session v1\0";

/// `POST /v1/challenges`: a nonce to sign once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// 32 bytes in lower-case hexadecimal.
    pub nonce: Nonce,
    /// For how many seconds it may be used.
    pub expires_in: u64,
}

/// A relay's 32 bytes that a device signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce(pub [u8; 32]);

/// `POST /v1/sessions`: proof that the device acts for the mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRequest {
    /// Whose mailbox.
    pub mailbox: MailboxId,
    /// Which of the owner's devices.
    pub device: DeviceId,
    /// From the challenge.
    pub nonce: Nonce,
    /// Ed25519 over [`session_proof`], in lower-case hexadecimal.
    pub signature: SignatureHex,
}

/// An Ed25519 signature, 64 bytes in lower-case hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignatureHex(pub [u8; 64]);

/// The answer: a bearer token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionGranted {
    /// Opaque. Sent as `Authorization: Bearer <token>`.
    pub token: String,
    /// Unix time in seconds after which the token is refused.
    pub expires_at: u64,
}

/// `PUT /v1/mailbox`: what there is to say, if there is something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// What lets its holder register where the policy is `invite`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<InviteSecret>,
}

/// `PUT /v1/mailbox`: the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Registered {
    /// Whether the mailbox is new.
    pub created: bool,
}

impl Registered {
    /// The answer for a mailbox that is new, or is not.
    pub const fn new(created: bool) -> Self {
        Self { created }
    }
}

/// `PUT` and `GET /v1/mailbox/binding`: where the session's mailbox is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingStatement {
    /// Where it is kept.
    pub domain: Domain,
    /// Higher than that of any earlier binding.
    pub serial: u64,
    /// The mailbox's, over the binding, in lower-case hexadecimal.
    pub signature: SignatureHex,
}

/// What a device signs to get a session:
/// `"postrider session v1" 00 || length of the domain (1 byte) || domain || nonce || mailbox || device`.
pub fn session_proof(domain: &Domain, nonce: &Nonce, mailbox: &MailboxId, device: &DeviceId) -> Vec<u8> {
    // A domain has at most 200 bytes.
    let length = u8::try_from(domain.as_str().len()).unwrap_or(u8::MAX);
    [SESSION_CONTEXT, &[length], domain.as_str().as_bytes(), &nonce.0, mailbox.as_bytes(), device.as_bytes()]
        .concat()
}

impl BindingStatement {
    /// The statement of `mailbox`, if its signature is right.
    pub fn of(&self, mailbox: MailboxId) -> Result<Binding, BindingError> {
        Binding::verify(mailbox, self.domain.clone(), self.serial, self.signature.0)
    }
}

impl From<&Binding> for BindingStatement {
    fn from(binding: &Binding) -> Self {
        Self {
            domain: binding.domain().clone(),
            serial: binding.serial(),
            signature: SignatureHex(*binding.signature()),
        }
    }
}

impl SessionGranted {
    /// When the token ends.
    pub const fn expires_at(&self) -> Timestamp {
        Timestamp::from_secs(self.expires_at)
    }
}

/// Without the token.
impl std::fmt::Debug for SessionGranted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionGranted").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

macro_rules! hexadecimal {
    ($name:ident, $size:literal) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok();
                bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(|| {
                    serde::de::Error::custom(concat!($size, " bytes in lower-case hexadecimal are expected"))
                })
            }
        }
    };
}

hexadecimal!(Nonce, 32);
hexadecimal!(SignatureHex, 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_reads_as_documented_and_ignores_what_it_does_not_know() {
        let mailbox = MailboxId::from_bytes([1; 32]);
        let json = format!(
            r#"{{"mailbox":"{mailbox}","device":"{}","nonce":"{}","signature":"{}","new":1}}"#,
            DeviceId::from_bytes([2; 32]),
            "03".repeat(32),
            "04".repeat(64)
        );
        let request: SessionRequest = serde_json::from_str(&json).unwrap();
        assert_eq!(request.mailbox, mailbox);
        assert_eq!((request.nonce, request.signature), (Nonce([3; 32]), SignatureHex([4; 64])));
        assert!(serde_json::from_str::<Nonce>("\"03\"").is_err());
    }

    #[test]
    fn a_token_is_not_shown() {
        let granted = SessionGranted { token: "hidden".into(), expires_at: 5 };
        assert!(!format!("{granted:?}").contains("hidden"));
    }
}
