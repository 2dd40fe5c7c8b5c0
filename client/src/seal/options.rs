//! How a message is sent.

use std::time::Duration;

use postrider_common::{DeviceId, Urgency};

/// How a message is sent. Begin with the default, and say what differs:
///
/// ```
/// use std::time::Duration;
///
/// use postrider_client::{SealOptions, Urgency};
///
/// let call = SealOptions::default().expires_in(Duration::from_secs(3600)).urgency(Urgency::Urgent);
/// assert_eq!((call.urgency, call.device), (Urgency::Urgent, None));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SealOptions {
    /// How long relays keep it for the recipient. Rounded up to a full hour, so that it says little about when
    /// the message was written.
    pub expires_in: Duration,
    /// How much the recipient's device should be bothered.
    pub urgency: Urgency,
    /// One device of the recipient's, or all.
    pub device: Option<DeviceId>,
}

/// Two weeks, normal urgency, every device.
impl Default for SealOptions {
    fn default() -> Self {
        Self { expires_in: Duration::from_secs(14 * 86_400), urgency: Urgency::Normal, device: None }
    }
}

impl SealOptions {
    /// How long relays keep it.
    #[must_use]
    pub const fn expires_in(mut self, lifetime: Duration) -> Self {
        self.expires_in = lifetime;
        self
    }

    /// How much the recipient's device should be bothered.
    #[must_use]
    pub const fn urgency(mut self, urgency: Urgency) -> Self {
        self.urgency = urgency;
        self
    }

    /// For this one of the recipient's devices only.
    #[must_use]
    pub const fn device(mut self, device: DeviceId) -> Self {
        self.device = Some(device);
        self
    }
}
