//! The control plane: small JSON documents. Unknown fields are ignored, so that both sides may add some.

use serde::{Deserialize, Serialize};

use crate::{Binding, BindingError, DeviceId, Domain, FailureClass, InviteSecret, MailboxId, Timestamp};

/// The media type of an error: RFC 9457.
pub const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";
/// What the `type` of a problem begins with; the rest is its slug.
pub const PROBLEM_TYPE_PREFIX: &str = "urn:postrider:problem:";
/// What a session's signature covers begins with this.
const SESSION_CONTEXT: &[u8] = b"postrider session v1\0";

/// `GET /.well-known/postrider`: what a relay is and takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayInfo {
    /// Its name.
    pub domain: Domain,
    /// The versions of the client protocol that it speaks.
    pub client_protocol: Vec<u32>,
    /// The versions of the federation protocol that it speaks.
    pub federation_protocol: Vec<u32>,
    /// Its software, for instance `postrider/0.1.0`.
    pub software: String,
    /// How much of anything it takes.
    pub limits: RelayLimits,
    /// Who may do what.
    pub policies: RelayPolicies,
}

/// How much of anything a relay takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayLimits {
    /// Bytes of an envelope's body.
    pub body_bytes: u64,
    /// Bytes of an envelope's header.
    pub header_bytes: u64,
    /// Seconds that `expires_at` may lie ahead.
    pub lifetime_seconds: u64,
    /// Envelopes in a batch.
    pub batch_envelopes: u64,
    /// Bytes of a batch.
    pub batch_bytes: u64,
    /// Envelopes waiting in a mailbox.
    pub mailbox_entries: u64,
    /// Bytes waiting in a mailbox.
    pub mailbox_bytes: u64,
    /// Devices of a mailbox.
    pub devices: u64,
    /// Bytes of an attachment. A relay that does not say takes none.
    #[serde(default)]
    pub attachment_bytes: u64,
    /// Bytes of the attachments waiting in a mailbox. A relay that does not say takes none.
    #[serde(default)]
    pub mailbox_attachment_bytes: u64,
}

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayPolicies {
    /// Who may register a mailbox: `open`, `invite` or `closed`.
    pub registration: String,
    /// Who may submit: `open`.
    pub submission: String,
}

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
pub struct Registered {
    /// Whether the mailbox is new.
    pub created: bool,
}

/// `GET /v1/mailbox/devices`: the mailbox's devices, in the order in which they were registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    /// What is known of each.
    pub devices: Vec<Device>,
}

/// One device of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// `GET /v1/tracking/{id}`: what became of a queued envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackingStatus {
    /// `queued`, `stored`, `failed` or `expired`.
    pub state: TrackingState,
    /// Where it is going.
    pub destination: Domain,
    /// When it was queued, in Unix seconds.
    pub queued_at: u64,
    /// How often it was offered to the destination.
    pub attempts: u32,
    /// The last reason why it is not there yet, or why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it is tried next, in Unix seconds, while it is queued and waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<u64>,
    /// When it reached its final state, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<u64>,
}

/// Where a queued envelope stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrackingState {
    /// Waiting for its destination.
    Queued,
    /// On stable storage at its destination.
    Stored,
    /// Given up, with a reason.
    Failed,
    /// Its time was over before the destination had it.
    Expired,
}

/// An error: RFC 9457, with a stable `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:postrider:problem:` and a slug.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status again.
    pub status: u16,
    /// What is wrong with this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Where the mailbox is kept, of a mailbox that has moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
}

impl Problem {
    /// The slug in `type`, or the whole of it if it is not one of ours.
    pub fn slug(&self) -> &str {
        self.kind.strip_prefix(PROBLEM_TYPE_PREFIX).unwrap_or(&self.kind)
    }

    /// The failure class that the slug names, if it names one.
    pub fn class(&self) -> Option<FailureClass> {
        self.slug().parse().ok()
    }
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
    fn a_relay_that_says_nothing_of_attachments_takes_none() {
        let older = r#"{"body_bytes":131072,"header_bytes":1024,"lifetime_seconds":2592000,"batch_envelopes":256,
            "batch_bytes":4194304,"mailbox_entries":10000,"mailbox_bytes":268435456,"devices":16}"#;
        let limits: RelayLimits = serde_json::from_str(older).unwrap();
        assert_eq!((limits.devices, limits.attachment_bytes, limits.mailbox_attachment_bytes), (16, 0, 0));
    }

    #[test]
    fn a_token_is_not_shown() {
        let granted = SessionGranted { token: "hidden".into(), expires_at: 5 };
        assert!(!format!("{granted:?}").contains("hidden"));
    }
}
