//! Relays on 127.0.0.1 with real sockets, real TLS and a small certificate authority.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, in its supporting code too"
)]

mod batches;
mod events;
mod examinations;
mod fingerprints;
mod lifecycle;
mod matrix;
mod names;
mod places;
mod refusals;
mod reloads;
mod requests;
mod support;
mod verdicts;
