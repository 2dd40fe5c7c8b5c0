//! Every metric there is: its name, what it is, and what its labels are. `docs/metrics.md` is written from here.

/// A metric.
#[derive(Debug)]
pub struct Metric {
    /// As Prometheus has it.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// What tells its samples apart.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It grows until the relay is restarted.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often something was how large.
    Histogram,
}

impl Kind {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $constant:ident = $name:literal, $kind:ident, [$($label:literal),*];)*) => {
        $(
            pub(super) static $constant: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                help: concat!($($help),+),
            };
        )*

        /// Every metric, in the order in which they are written.
        pub static ALL: &[&Metric] = &[$(&$constant),*];
    };
}

metrics! {
    /// Always 1; the label says which version runs.
    BUILD_INFO = "postrider_build_info", Gauge, ["version"];
    /// When the relay was started, in Unix seconds.
    START_TIME = "postrider_start_time_seconds", Gauge, [];
    /// 1 if /readyz says so, 0 otherwise.
    READY = "postrider_ready", Gauge, [];

    /// Envelopes that clients or relays have brought and that were taken: stored, queued, or here already.
    ACCEPTED = "postrider_envelopes_accepted_total", Counter, ["from"];
    /// Envelopes that clients or relays have brought and that were not taken, for now or for good, by the reason.
    REFUSED = "postrider_envelopes_refused_total", Counter, ["from", "reason"];
    /// Envelopes that were put into mailboxes here, those that were here already left out.
    STORED = "postrider_envelopes_stored_total", Counter, [];
    /// Envelopes that were put into the queue for other relays by clients of this one.
    QUEUED = "postrider_envelopes_queued_total", Counter, [];
    /// Queued envelopes that their relay has taken.
    FORWARDED = "postrider_envelopes_forwarded_total", Counter, [];
    /// Queued envelopes that were given up, by the reason.
    FAILED = "postrider_envelopes_failed_total", Counter, ["reason"];
    /// Envelopes that were handed to devices; again, if a device comes again before it has acknowledged.
    DELIVERED = "postrider_envelopes_delivered_total", Counter, [];
    /// Envelopes that devices have acknowledged, each device by itself.
    ACKNOWLEDGED = "postrider_envelopes_acknowledged_total", Counter, [];
    /// Envelopes whose time was over before they were fetched from a mailbox, or taken out of the queue.
    EXPIRED = "postrider_envelopes_expired_total", Counter, ["place"];

    /// Envelopes that wait for each other relay. The 50 that fail or have most are named; the rest is `(others)`.
    QUEUE_ENVELOPES = "postrider_queue_envelopes", Gauge, ["destination"];
    /// Their bytes.
    QUEUE_BYTES = "postrider_queue_bytes", Gauge, ["destination"];
    /// How long the oldest of them has waited, for those that are named.
    QUEUE_OLDEST = "postrider_queue_oldest_seconds", Gauge, ["destination"];
    /// How many other relays something waits for, or fail, or are paused.
    QUEUE_DESTINATIONS = "postrider_queue_destinations", Gauge, [];
    /// Of them, those that fail.
    QUEUE_FAILING = "postrider_queue_failing_destinations", Gauge, [];
    /// 1 for each that is paused by an administrator and named.
    PAUSED = "postrider_destination_paused", Gauge, ["destination"];
    /// Consecutive failures of each that fails and is named, with the class of the last one.
    FAILURES = "postrider_destination_failures", Gauge, ["destination", "class"];
    /// Since when each of them has failed, in Unix seconds.
    FAILING_SINCE = "postrider_destination_failing_since_timestamp_seconds", Gauge, ["destination"];
    /// When each of them is tried next, in Unix seconds.
    NEXT_ATTEMPT = "postrider_destination_next_attempt_timestamp_seconds", Gauge, ["destination"];
    /// Deliveries to other relays that failed as a whole, or that brought attachments which were not taken, by class.
    DELIVERY_FAILURES = "postrider_delivery_failures_total", Counter, ["class"];
    /// 1 while no other relay can be reached, so that the fault is likely here.
    LOCAL_FAULT = "postrider_local_fault", Gauge, [];

    /// Open connections: of clients, of other relays that have called, to other relays, and those that have yet to
    /// say what they are.
    CONNECTIONS = "postrider_connections", Gauge, ["kind"];
    /// Connections that were closed before anything was served: over a limit, for the sake of a load balancer's
    /// header, because TLS failed, or because they took too long.
    CONNECTIONS_REFUSED = "postrider_connections_refused_total", Counter, ["reason"];
    /// Devices that are connected, by stream or long poll.
    DEVICES = "postrider_devices_connected", Gauge, [];

    /// How long it took to make a group of writes durable.
    FLUSH = "postrider_store_flush_seconds", Histogram, [];
    /// How many operations shared one.
    GROUP = "postrider_store_group_operations", Histogram, [];
    /// Bytes of the store's files.
    STORE_BYTES = "postrider_store_bytes", Gauge, [];
    /// Bytes that are free on its disk.
    DISK_FREE = "postrider_disk_free_bytes", Gauge, [];
    /// Below so many no new envelopes are taken.
    DISK_RESERVE = "postrider_disk_reserve_bytes", Gauge, [];
    /// Bytes of attachments, those included whose envelope has yet to come.
    ATTACHMENT_BYTES = "postrider_attachment_bytes", Gauge, [];
    /// How many there may be (`limits.attachments`).
    ATTACHMENT_LIMIT = "postrider_attachment_limit_bytes", Gauge, [];
    /// 1 if the store takes no more writes since one has failed.
    STORE_FAILED = "postrider_store_failed", Gauge, [];
    /// Envelopes that the disk did not give back since the relay was started, as far as they were asked for, up to a thousand.
    UNREADABLE = "postrider_store_unreadable_envelopes", Gauge, [];

    /// 1 if DNSSEC could be checked when that was tried last, 0 if not. Absent where it was never tried.
    DNSSEC = "postrider_dnssec_validating", Gauge, [];
    /// When this relay's own certificates end, in Unix seconds, by who is shown them.
    CERTIFICATE = "postrider_certificate_expiry_timestamp_seconds", Gauge, ["shown_to"];
    /// When the last certificate was issued by the ACME server, in Unix seconds. Absent without `[acme]`, or if none was.
    ACME_ISSUED = "postrider_acme_last_success_timestamp_seconds", Gauge, [];
    /// Failures in a row to get one since. Absent without `[acme]`. `postrider status` says what the last one was.
    ACME_FAILURES = "postrider_acme_consecutive_failures", Gauge, [];
    /// When one is asked for next, in Unix seconds: after a failure, or to renew what there is. Absent without `[acme]`.
    ACME_NEXT = "postrider_acme_next_attempt_timestamp_seconds", Gauge, [];
    /// When the certificates end by which other relays have proven themselves, in Unix seconds; where a key is pinned
    /// or published the date does not matter. At most the 100 that end first.
    PEER_CERTIFICATE = "postrider_peer_certificate_expiry_timestamp_seconds", Gauge, ["peer"];
    /// Times that the configuration was read again, by what came of it.
    RELOADS = "postrider_reloads_total", Counter, ["result"];
}
