//! Who a relay is, and what it takes.

use serde::{Deserialize, Serialize};

use crate::Domain;

/// `GET /.well-known/postrider`: what a relay is and takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
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

impl RelayInfo {
    /// Of a relay that speaks no version of anything yet: which it does is added to that.
    pub fn new(
        domain: Domain,
        software: impl Into<String>,
        limits: RelayLimits,
        policies: RelayPolicies,
    ) -> Self {
        let (client_protocol, federation_protocol) = (Vec::new(), Vec::new());
        Self { domain, client_protocol, federation_protocol, software: software.into(), limits, policies }
    }
}

/// How much of anything a relay takes. By default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
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
#[non_exhaustive]
pub struct RelayPolicies {
    /// Who may register a mailbox: `open`, `invite` or `closed`.
    pub registration: String,
    /// Who may submit: `open`.
    pub submission: String,
}

impl RelayPolicies {
    /// In the words of the protocol.
    pub fn new(registration: impl Into<String>, submission: impl Into<String>) -> Self {
        Self { registration: registration.into(), submission: submission.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_that_says_nothing_of_attachments_takes_none() {
        let older = r#"{"body_bytes":131072,"header_bytes":1024,"lifetime_seconds":2592000,"batch_envelopes":256,
            "batch_bytes":4194304,"mailbox_entries":10000,"mailbox_bytes":268435456,"devices":16}"#;
        let limits: RelayLimits = serde_json::from_str(older).unwrap();
        assert_eq!((limits.devices, limits.attachment_bytes, limits.mailbox_attachment_bytes), (16, 0, 0));
    }
}
