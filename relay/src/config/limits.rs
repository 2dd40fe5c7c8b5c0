//! The `[limits]` section.

use std::time::Duration;

use postrider_common::limits::{ENVELOPE_OVERHEAD, EnvelopeLimits};

use super::key::Key;
use super::keys::{
    LIMIT_ATTACHMENT, LIMIT_ATTACHMENT_RETENTION, LIMIT_ATTACHMENTS, LIMIT_BATCH_BYTES,
    LIMIT_BATCH_ENVELOPES, LIMIT_BEGINNING_PER_IP, LIMIT_BODY, LIMIT_BODY_TIMEOUT, LIMIT_CHALLENGE_LIFETIME,
    LIMIT_CONNECTIONS, LIMIT_CONNECTIONS_PER_IP, LIMIT_DEVICE_IDLE, LIMIT_DEVICES, LIMIT_DRAIN_TIMEOUT,
    LIMIT_HANDSHAKE_TIMEOUT, LIMIT_HEADER, LIMIT_HEADER_TIMEOUT, LIMIT_LIFETIME, LIMIT_LONG_POLL,
    LIMIT_MAILBOX_ATTACHMENTS, LIMIT_MAILBOX_BYTES, LIMIT_MAILBOX_ENTRIES, LIMIT_MARK_RETENTION,
    LIMIT_QUEUE_BYTES, LIMIT_QUEUE_ENVELOPES, LIMIT_REQUEST_HEADER, LIMIT_SESSION_LIFETIME,
    LIMIT_STREAM_BYTES, LIMIT_STREAM_ENTRIES, LIMIT_TRACKING_RETENTION,
};
use super::reader::Reader;
use super::unit::{show_duration, show_size};
use crate::store::{AttachmentLimits, StoreLimits, Window};

/// How much of anything there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One envelope and one batch.
    pub envelopes: EnvelopeLimits,
    /// One mailbox, one queue, and how long marks and tracking records stay.
    pub store: StoreLimits,
    /// Bytes of the head of an HTTP request.
    pub request_header_bytes: usize,
    /// For the head of a request.
    pub header_timeout: Duration,
    /// For the body of a request.
    pub body_timeout: Duration,
    /// For a TLS handshake.
    pub tls_handshake_timeout: Duration,
    /// Connections at the same time.
    pub connections: usize,
    /// Connections of one client address (IPv6: /64) at the same time.
    pub connections_per_ip: usize,
    /// Those of them that have yet to come to something.
    pub beginning_connections_per_ip: usize,
    /// From a challenge to its signature.
    pub challenge_lifetime: Duration,
    /// How long a device stays signed in.
    pub session_lifetime: Duration,
    /// From the signal to stop until what is still in progress is given up.
    pub drain_timeout: Duration,
    /// Entries on their way to one device, not yet acknowledged.
    pub stream_window: Window,
    /// The longest that a request for entries waits.
    pub long_poll_wait: Duration,
}

impl Limits {
    pub(super) fn read(reader: &mut Reader<'_, '_>) -> Self {
        let limits = Self {
            envelopes: EnvelopeLimits {
                body: reader.length(&LIMIT_BODY),
                header: reader.length(&LIMIT_HEADER),
                attachment: reader.number(&LIMIT_ATTACHMENT),
                lifetime: reader.duration(&LIMIT_LIFETIME),
                batch_envelopes: reader.length(&LIMIT_BATCH_ENVELOPES),
                batch_bytes: reader.length(&LIMIT_BATCH_BYTES),
            },
            store: StoreLimits {
                mailbox_entries: reader.number(&LIMIT_MAILBOX_ENTRIES),
                mailbox_bytes: reader.number(&LIMIT_MAILBOX_BYTES),
                devices: reader.length(&LIMIT_DEVICES),
                queue_items: reader.number(&LIMIT_QUEUE_ENVELOPES),
                queue_bytes: reader.number(&LIMIT_QUEUE_BYTES),
                mark_retention: reader.duration(&LIMIT_MARK_RETENTION),
                tracking_retention: reader.duration(&LIMIT_TRACKING_RETENTION),
                device_idle: reader.duration(&LIMIT_DEVICE_IDLE),
                learnt_bindings: StoreLimits::default().learnt_bindings,
                attachments: AttachmentLimits {
                    bytes: reader.number(&LIMIT_ATTACHMENT),
                    mailbox_bytes: reader.number(&LIMIT_MAILBOX_ATTACHMENTS),
                    total_bytes: reader.number(&LIMIT_ATTACHMENTS),
                    retention: reader.duration(&LIMIT_ATTACHMENT_RETENTION),
                },
            },
            request_header_bytes: reader.length(&LIMIT_REQUEST_HEADER),
            header_timeout: reader.duration(&LIMIT_HEADER_TIMEOUT),
            body_timeout: reader.duration(&LIMIT_BODY_TIMEOUT),
            tls_handshake_timeout: reader.duration(&LIMIT_HANDSHAKE_TIMEOUT),
            connections: reader.length(&LIMIT_CONNECTIONS),
            connections_per_ip: reader.length(&LIMIT_CONNECTIONS_PER_IP),
            beginning_connections_per_ip: reader.length(&LIMIT_BEGINNING_PER_IP),
            challenge_lifetime: reader.duration(&LIMIT_CHALLENGE_LIFETIME),
            session_lifetime: reader.duration(&LIMIT_SESSION_LIFETIME),
            drain_timeout: reader.duration(&LIMIT_DRAIN_TIMEOUT),
            stream_window: Window {
                count: reader.length(&LIMIT_STREAM_ENTRIES),
                bytes: reader.length(&LIMIT_STREAM_BYTES),
            },
            long_poll_wait: reader.duration(&LIMIT_LONG_POLL),
        };
        limits.compare(reader);
        limits
    }

    /// Limits that are each in range and contradict one another.
    fn compare(&self, reader: &mut Reader<'_, '_>) {
        let envelope = (self.envelopes.body + self.envelopes.header + ENVELOPE_OVERHEAD) as u64;
        let containers: [(&Key, u64); 3] = [
            (&LIMIT_BATCH_BYTES, self.envelopes.batch_bytes as u64),
            (&LIMIT_MAILBOX_BYTES, self.store.mailbox_bytes),
            (&LIMIT_QUEUE_BYTES, self.store.queue_bytes),
        ];
        for (key, bytes) in containers {
            if bytes < envelope {
                let (bytes, envelope) = (show_size(bytes), show_size(envelope));
                reader.problem(
                    key,
                    format!(
                        "is {bytes}, which does not hold one envelope of the largest size: {} and {} with what an \
                         envelope needs besides make {envelope}",
                        LIMIT_BODY.path, LIMIT_HEADER.path
                    ),
                );
            }
        }
        let attachments = &self.store.attachments;
        for (key, bytes) in [
            (&LIMIT_MAILBOX_ATTACHMENTS, attachments.mailbox_bytes),
            (&LIMIT_ATTACHMENTS, attachments.total_bytes),
        ] {
            if bytes < attachments.bytes {
                let (bytes, one) = (show_size(bytes), show_size(attachments.bytes));
                let largest = LIMIT_ATTACHMENT.path;
                reader.problem(
                    key,
                    format!("is {bytes}, which does not hold one attachment of {largest} ({one})"),
                );
            }
        }
        let (marks, lifetime) = (self.store.mark_retention, self.envelopes.lifetime);
        if marks > lifetime && reader.is_set(&LIMIT_MARK_RETENTION) {
            let (marks, lifetime) = (show_duration(marks), show_duration(lifetime));
            reader.warning(
                &LIMIT_MARK_RETENTION,
                format!(
                    "is {marks}, longer than {} ({lifetime}), which only takes space",
                    LIMIT_LIFETIME.path
                ),
            );
        }
        if self.connections_per_ip > self.connections && reader.is_set(&LIMIT_CONNECTIONS_PER_IP) {
            reader.warning(
                &LIMIT_CONNECTIONS_PER_IP,
                format!("is over {} ({}) and has no effect", LIMIT_CONNECTIONS.path, self.connections),
            );
        }
    }
}
