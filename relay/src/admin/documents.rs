//! The JSON documents of the administration socket. Times are Unix seconds; unknown fields are ignored.

use postrider_common::{DeviceId, Domain, InviteId, MailboxId, TrackingId};
use serde::{Deserialize, Serialize};

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Which relay.
    pub domain: Domain,
    /// Its software.
    pub version: String,
    /// Its clock.
    pub time: u64,
    /// When it was started.
    pub started_at: u64,
    /// Why it takes no envelopes at the moment, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<String>,
    /// Its store and the disk.
    pub store: StoreStatus,
    /// What waits for other relays. Absent if that cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueStatus>,
    /// The relays that fail, at most 50.
    pub failing: Vec<Destination>,
    /// Whether no other relay can be reached, so that the fault is likely here.
    pub local_fault: bool,
    /// What is connected.
    pub connections: ConnectionsStatus,
    /// Its own certificates, and those by which other relays have proven themselves, of which the end counts.
    pub certificates: Vec<Certificate>,
    /// How it stands with certificates from an ACME server. Absent if none are wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acme: Option<AcmeStatus>,
    /// Whether DNSSEC could be checked when that was tried last. Absent if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dnssec: Option<bool>,
}

/// A store and its disk, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Of its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Free on its disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_free: Option<u64>,
    /// Below so many no new envelopes are taken.
    pub reserve: u64,
    /// Envelopes that could not be read since the relay was started, as far as they were asked for.
    #[serde(default)]
    pub unreadable: usize,
    /// Bytes of attachments, those included whose envelope has yet to come,
    #[serde(default)]
    pub attachment_bytes: u64,
    /// and how many there may be.
    #[serde(default)]
    pub attachment_limit: u64,
}

/// All that waits for other relays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// For how many something waits, or fail, or are paused.
    pub destinations: usize,
    /// Of them, those that fail,
    pub failing: usize,
    /// and those that are paused.
    pub paused: usize,
    /// What waits.
    pub envelopes: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What is connected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionsStatus {
    /// Connections of clients.
    pub clients: u64,
    /// Devices that wait for envelopes.
    pub devices: usize,
    /// Connections of other relays that have called.
    pub relays_in: u64,
    /// Connections to other relays.
    pub relays_out: usize,
}

/// When a certificate ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Whose it is.
    pub of: String,
    /// When it ends.
    pub expires_at: u64,
    /// Whole days until then.
    pub days_left: u64,
}

/// How it stands with certificates from an ACME server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeStatus {
    /// What they are for.
    pub names: Vec<Domain>,
    /// The server's host.
    pub server: String,
    /// When the last one was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<u64>,
    /// When one is asked for next.
    pub next_attempt: u64,
    /// Failures in a row since.
    pub failures: u32,
    /// What the last of them was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// `POST /v1/reload`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What counts from now on.
    pub changes: Vec<String>,
    /// Sections of the configuration that have changed and count from the next start only.
    pub after_restart: Vec<String>,
    /// What is allowed but odd.
    pub warnings: Vec<String>,
}

/// `POST /v1/invites`: what is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CreateInvites {
    /// How many.
    pub count: u32,
    /// For how many mailboxes each.
    pub uses: u32,
    /// For how long.
    pub valid_for_seconds: u64,
    /// Where clients connect: a host, with a port if it is not 443. Without it: as far as the relay knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

impl Default for CreateInvites {
    fn default() -> Self {
        Self { count: 1, uses: 1, valid_for_seconds: 7 * 86_400, authority: None }
    }
}

/// `POST` and `GET /v1/invites`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invites {
    /// Those that were made, or a page of those that there are, in no particular order.
    pub invites: Vec<InviteShown>,
    /// What to give as `after` for the next page, if there may be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<InviteId>,
}

/// An invite.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteShown {
    /// What it is revoked by.
    pub id: InviteId,
    /// For how many mailboxes it is,
    pub uses: u32,
    /// and how many have been registered with it.
    pub used: u32,
    /// When its time is over.
    pub expires_at: u64,
    /// The invite itself. Only in the answer to its making.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// Without the invite itself.
impl std::fmt::Debug for InviteShown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InviteShown").field("id", &self.id).finish_non_exhaustive()
    }
}

/// `GET /v1/mailboxes`: a page of them, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailboxes {
    /// What is known of each.
    pub mailboxes: Vec<Mailbox>,
    /// What to give as `after` for the next page, if there may be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<MailboxId>,
}

/// A mailbox, from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailbox {
    /// Which one.
    pub mailbox: MailboxId,
    /// Envelopes that wait in it.
    pub envelopes: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The bytes of the attachments that they name.
    #[serde(default)]
    pub attachment_bytes: u64,
    /// How many devices it has.
    pub devices: usize,
    /// The day on which one of them was last here, by its first second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact: Option<u64>,
    /// Since when it is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_since: Option<u64>,
    /// Where it is kept instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<Domain>,
}

/// `GET /v1/mailboxes/{mailbox}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxDetails {
    /// The mailbox.
    #[serde(flatten)]
    pub mailbox: Mailbox,
    /// Its devices.
    pub devices_known: Vec<DeviceShown>,
}

/// A device, from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceShown {
    /// Which one.
    pub device: DeviceId,
    /// The day on which it was last here, by its first second.
    pub last_contact: u64,
}

/// `POST /v1/mailboxes`: which one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMailbox {
    /// Its id, which its owner has told.
    pub mailbox: Option<MailboxId>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// Whether it is new.
    pub created: bool,
}

/// `GET /v1/queue`: every destination that something waits for, that fails, or that is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// In the order of their names.
    pub destinations: Vec<Destination>,
}

/// One destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// Which relay.
    pub domain: Domain,
    /// Envelopes that wait for it or are under way.
    pub envelopes: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Since when an administrator holds it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_since: Option<u64>,
    /// Present while it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failing>,
    /// When the first of the envelopes with a time of their own is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_retry_at: Option<u64>,
}

/// How a destination fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// Since when.
    pub since: u64,
    /// Consecutive failures.
    pub failures: u32,
    /// The last one's class.
    pub class: String,
    /// At whose end it is mended.
    pub whose_end: String,
    /// What happened.
    pub detail: String,
    /// When it is tried next.
    pub next_attempt_at: u64,
}

/// `GET /v1/queue/{domain}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationDetails {
    /// The destination.
    #[serde(flatten)]
    pub destination: Destination,
    /// How it has failed lately, oldest first.
    pub history: Vec<Met>,
    /// Envelopes in quarantine.
    pub quarantined: usize,
    /// A page of its queue, oldest first.
    pub items: Vec<Item>,
    /// What to give as `after` for the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One queued envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its place in the queue: a number, as text, since it has more digits than some readers of JSON keep.
    pub item: String,
    /// What its sender asks by.
    pub tracking: TrackingId,
    /// Of the envelope.
    pub bytes: u32,
    /// When its time is over.
    pub expires_at: u64,
    /// How often the destination has answered for it.
    pub attempts: u32,
    /// When it is due again, if it has a time of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<u64>,
    /// Whether it is on its way at this moment.
    pub under_way: bool,
    /// Whether this relay's disk did not give it back when it was its turn.
    #[serde(default)]
    pub unreadable: bool,
    /// The envelope as it goes over the wire, in base64. Only in `GET /v1/queue/{domain}/envelopes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<String>,
}

/// `GET /v1/queue/{domain}/envelopes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelopes {
    /// Oldest first.
    pub items: Vec<Item>,
    /// What to give as `after` for the next page, if there may be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What was met, once or several times in a row in the same words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met {
    /// The class.
    pub class: String,
    /// At whose end it is mended.
    pub whose_end: String,
    /// What happened.
    pub detail: String,
    /// When first.
    pub first_at: u64,
    /// When last.
    pub last_at: u64,
    /// How often.
    pub times: u32,
}

/// `POST /v1/queue/{domain}/retry` and `…/drop`: which envelopes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// By their places.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<String>,
    /// All of them, a step at a time. For `drop`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Where to go on: the `next` of the step before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// How many envelopes something was done with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// So many.
    pub done: usize,
    /// So many were left: they were under way or gone, or there was nothing to do.
    pub left: usize,
    /// What to give as `after` for the next step, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `GET /v1/queue/{domain}/quarantine`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Oldest first.
    pub items: Vec<Quarantined>,
}

/// An envelope that its destination could neither read nor take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// What it was in the queue.
    pub item: String,
    /// Why.
    pub class: String,
    /// When.
    pub at: u64,
    /// Of the envelope as it goes over the wire.
    pub bytes: usize,
    /// Of its header.
    pub header_bytes: usize,
    /// Of its body.
    pub body_bytes: usize,
    /// Its end.
    pub expires_at: u64,
    /// The envelope as it goes over the wire, in base64.
    pub envelope: String,
}

/// `GET /v1/tracking/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// Which envelope.
    pub tracking: TrackingId,
    /// Where it is going.
    pub destination: Domain,
    /// `queued`, `stored`, `failed` or `expired`.
    pub state: String,
    /// When it was queued.
    pub queued_at: u64,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<u64>,
    /// Why it failed, or what was met last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// At whose end that is mended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whose_end: Option<String>,
    /// When it is tried next. Absent where nobody can say, as while its destination is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<u64>,
    /// Since when an administrator holds its destination back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_since: Option<u64>,
    /// Whether this relay's disk did not give it back when it was its turn.
    #[serde(default)]
    pub unreadable: bool,
    /// What was met while it waited, in the order of time: answers for this envelope, and failures of its destination.
    pub attempts: Vec<Met>,
}
