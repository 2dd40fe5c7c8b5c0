//! What became of a queued envelope.

use serde::{Deserialize, Serialize};

use crate::Domain;

/// `GET /v1/tracking/{id}`: what became of a queued envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrackingStatus {
    /// Where it stands.
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

impl TrackingStatus {
    /// Of an envelope that was not offered to its destination yet.
    pub const fn new(state: TrackingState, destination: Domain, queued_at: u64) -> Self {
        let (attempts, reason, next_attempt_at, ended_at) = (0, None, None, None);
        Self { state, destination, queued_at, attempts, reason, next_attempt_at, ended_at }
    }

    /// Whether nothing will change any more. Also of a state that this version does not know.
    pub const fn is_final(&self) -> bool {
        match self.state {
            TrackingState::Queued => false,
            TrackingState::Stored | TrackingState::Failed | TrackingState::Expired => true,
            TrackingState::Unknown => self.ended_at.is_some(),
        }
    }
}

/// Where a queued envelope stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TrackingState {
    /// Waiting for its destination.
    Queued,
    /// On stable storage at its destination.
    Stored,
    /// Given up, with a reason.
    Failed,
    /// Its time was over before the destination had it.
    Expired,
    /// A word of a newer relay's. [`TrackingStatus::is_final`] says whether it is the end.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_is_not_known_yet_is_no_error() {
        let read = |rest: &str| {
            let json = format!(r#"{{"destination":"b.example","queued_at":5,"attempts":2,{rest}}}"#);
            let status: TrackingStatus = serde_json::from_str(&json).unwrap();
            (status.state, status.is_final())
        };
        assert_eq!(read(r#""state":"queued""#), (TrackingState::Queued, false));
        assert_eq!(read(r#""state":"stored","ended_at":6"#), (TrackingState::Stored, true));
        assert_eq!(read(r#""state":"on-hold""#), (TrackingState::Unknown, false));
        assert_eq!(read(r#""state":"given-back","ended_at":6"#), (TrackingState::Unknown, true));
    }
}
