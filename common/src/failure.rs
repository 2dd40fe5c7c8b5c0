//! What can go wrong with an envelope on its way, as one enum.
//!
//! A class is chosen where the failure is known and never derived from text afterwards. Its slug is the same
//! word in metrics, tracking answers, logs and documents, and never changes once released.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

macro_rules! failure_classes {
    ($($(#[$doc:meta])* $name:ident = $slug:literal, $persistence:ident;)*) => {
        /// The class of a failure.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum FailureClass {
            $($(#[$doc])* $name,)*
        }

        impl FailureClass {
            /// Every class there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word that names it everywhere.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            /// Whether trying again can help.
            pub const fn persistence(self) -> Persistence {
                match self { $(Self::$name => Persistence::$persistence,)* }
            }
        }

        impl FromStr for FailureClass {
            type Err = UnknownClass;

            fn from_str(slug: &str) -> Result<Self, UnknownClass> {
                match slug { $($slug => Ok(Self::$name),)* _ => Err(UnknownClass) }
            }
        }
    };
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// The envelope stays in the queue until it expires.
    Temporary,
    /// Asked once more after ten minutes, permanent if the answer is the same.
    Confirm,
    /// Temporary for the first four hours, permanent after that.
    TemporaryForHours,
    /// The envelope has failed; tracking says why.
    Permanent,
}

impl Persistence {
    /// For how long after it was first seen the failure still counts as temporary.
    pub const fn temporary_for(self) -> Duration {
        match self {
            Self::Temporary => Duration::MAX,
            Self::Confirm => Duration::from_secs(10 * 60),
            Self::TemporaryForHours => Duration::from_secs(4 * 3600),
            Self::Permanent => Duration::ZERO,
        }
    }
}

failure_classes! {
    /// Our own policy does not let envelopes go there, or come from there.
    PolicyDeniedHere = "policy-denied-here", Permanent;
    /// The peer's policy does not take envelopes from us.
    PolicyDeniedThere = "policy-denied-there", Confirm;
    /// The domain publishes no SRV record for this service.
    DiscoveryAbsent = "discovery-absent", TemporaryForHours;
    /// The domain says that it does not offer this service (SRV target `.`).
    DiscoveryDeclined = "discovery-declined", Permanent;
    /// The look-up failed or answered something unusable.
    DiscoveryFailed = "discovery-failed", Temporary;
    /// DNSSEC says that the answer is forged.
    DiscoveryBogus = "discovery-bogus", Temporary;
    /// No address of the peer accepted a connection.
    ConnectFailed = "connect-failed", Temporary;
    /// The peer's certificate is not one that our trust settings accept.
    TlsUntrusted = "tls-untrusted", Temporary;
    /// The peer's certificate is for another name.
    TlsNameMismatch = "tls-name-mismatch", Temporary;
    /// The peer's certificate has expired or is not yet valid.
    TlsExpired = "tls-expired", Temporary;
    /// The peer's key is none of the pinned ones.
    TlsPinMismatch = "tls-pin-mismatch", Temporary;
    /// The peer's key is none of those in its secure TLSA records.
    TlsDaneMismatch = "tls-dane-mismatch", Temporary;
    /// The peer does not accept our certificate.
    TlsOurCertificateRefused = "tls-our-certificate-refused", Temporary;
    /// The peer speaks no protocol version that we speak.
    VersionUnsupported = "version-unsupported", Temporary;
    /// The peer is overloaded and asked us to come back.
    RemoteBusy = "remote-busy", Temporary;
    /// The host that answered does not serve this domain.
    RemoteMisdirected = "remote-misdirected", Temporary;
    /// The peer failed, or did not answer after the request was sent.
    RemoteFailed = "remote-failed", Temporary;
    /// The relay keeps no such mailbox.
    NoSuchMailbox = "no-such-mailbox", Permanent;
    /// The mailbox has no such device.
    NoSuchDevice = "no-such-device", Permanent;
    /// The mailbox takes no envelopes.
    MailboxRefused = "mailbox-refused", Permanent;
    /// The mailbox holds as much as it may.
    MailboxFull = "mailbox-full", Temporary;
    /// The relay's disk is nearly full.
    StorageFull = "storage-full", Temporary;
    /// The queue for that destination holds as much as it may.
    QueueFull = "queue-full", Temporary;
    /// The sender sent too much in too little time.
    RateLimited = "rate-limited", Temporary;
    /// The relay cannot store at the moment, or is shutting down.
    Unavailable = "unavailable", Temporary;
    /// The envelope is larger than the relay takes.
    TooLarge = "too-large", Permanent;
    /// The bytes are not an envelope.
    Malformed = "malformed", Permanent;
    /// The envelope's lifetime is longer than the relay keeps anything.
    LifetimeTooLong = "lifetime-too-long", Permanent;
    /// The mailbox has moved to another relay.
    Moved = "moved", Temporary;
    /// The envelope would come back to where it was.
    Loop = "loop", Permanent;
    /// The relay has not all of the attachments that the envelope names.
    AttachmentMissing = "attachment-missing", Temporary;
    /// An ephemeral envelope found no connected device.
    NotConnected = "not-connected", Permanent;
    /// The envelope's time is over.
    Expired = "expired", Permanent;
    /// The relay's administrator has taken the envelope out of the queue.
    Dropped = "dropped", Permanent;
}

/// Who can do something about a failure, seen from the relay that holds the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhoseEnd {
    /// This relay's administrator.
    Here,
    /// The other relay's.
    There,
    /// Whoever sent the envelope.
    Sender,
    /// Whoever publishes the names.
    Dns,
    /// Whoever looks after the network in between.
    Network,
}

impl WhoseEnd {
    /// The word that names it everywhere.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::There => "there",
            Self::Sender => "sender",
            Self::Dns => "DNS",
            Self::Network => "network",
        }
    }
}

impl FailureClass {
    /// At whose end a failure of this class is mended.
    pub const fn whose_end(self) -> WhoseEnd {
        match self {
            Self::PolicyDeniedHere
            | Self::TlsOurCertificateRefused
            | Self::StorageFull
            | Self::QueueFull
            | Self::Unavailable
            | Self::Dropped => WhoseEnd::Here,
            Self::PolicyDeniedThere
            | Self::DiscoveryAbsent
            | Self::DiscoveryDeclined
            | Self::TlsUntrusted
            | Self::TlsNameMismatch
            | Self::TlsExpired
            | Self::TlsPinMismatch
            | Self::TlsDaneMismatch
            | Self::VersionUnsupported
            | Self::RemoteBusy
            | Self::RemoteMisdirected
            | Self::RemoteFailed
            | Self::MailboxRefused
            | Self::MailboxFull
            | Self::Moved
            | Self::Loop => WhoseEnd::There,
            Self::DiscoveryFailed | Self::DiscoveryBogus => WhoseEnd::Dns,
            Self::ConnectFailed => WhoseEnd::Network,
            Self::NoSuchMailbox
            | Self::NoSuchDevice
            | Self::RateLimited
            | Self::TooLarge
            | Self::Malformed
            | Self::LifetimeTooLong
            | Self::AttachmentMissing
            | Self::NotConnected
            | Self::Expired => WhoseEnd::Sender,
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// The slug is none that this version knows; a newer peer may have sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no failure class of this version")]
pub struct UnknownClass;

/// One failure: its class, what exactly happened (for people), and when to come back if the other side said so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{class}: {detail}")]
pub struct Failure {
    /// What kind.
    pub class: FailureClass,
    /// One sentence for an operator. It never names a mailbox, an envelope or a client's address.
    pub detail: String,
    /// The other side's `Retry-After`.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure without a `Retry-After`.
    pub fn new(class: FailureClass, detail: impl Into<String>) -> Self {
        Self { class, detail: detail.into(), retry_after: None }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn slugs_are_distinct_and_round_trip() {
        let slugs: HashSet<_> = FailureClass::ALL.iter().map(|class| class.slug()).collect();
        assert_eq!(slugs.len(), FailureClass::ALL.len());
        for class in FailureClass::ALL {
            assert_eq!(class.slug().parse(), Ok(*class));
            assert!(class.slug().len() <= crate::wire::MAX_REASON, "{class} fits the wire");
        }
        assert_eq!("something-new".parse::<FailureClass>(), Err(UnknownClass));
    }

    #[test]
    fn an_operators_slip_is_temporary_and_a_refusal_is_final() {
        assert_eq!(FailureClass::TlsExpired.persistence(), Persistence::Temporary);
        assert_eq!(FailureClass::VersionUnsupported.persistence(), Persistence::Temporary);
        assert_eq!(FailureClass::NoSuchMailbox.persistence(), Persistence::Permanent);
        assert_eq!(FailureClass::DiscoveryAbsent.persistence(), Persistence::TemporaryForHours);
        assert_eq!(FailureClass::PolicyDeniedThere.persistence(), Persistence::Confirm);
    }
}
