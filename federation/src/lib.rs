//! Relay to relay: finding a peer, proving who it is and who we are, handing it envelopes and taking its own.
//!
//! Nothing here knows of storage or queues. The relay gives a batch to [`Client::forward`] and gets one outcome for
//! each envelope, or one [`Failure`](postrider_common::Failure) that says why not; a batch that comes in goes to the
//! relay's [`Inbound`]. Whoever is on the other side is a [`PeerId`], and [`judge`] alone makes those.

pub mod discovery;
pub mod hello;
pub mod pace;

mod certificate;
mod client;
mod executor;
mod expiries;
mod identity;
mod in_force;
mod linger;
mod policy;
mod server;
mod tls;
mod trust;

pub use certificate::{Pin, PinError, Presented};
pub use client::{
    ChunkAnswer, ChunkBody, Client, ClientConfig, Examination, ExaminedHost, OfferAnswer, OutgoingChunk,
    Reached, Tried, progress,
};
pub use discovery::{Network, Networks, Resolve, Resolver, ResolverSettings};
pub use executor::TaskExecutor;
pub use expiries::Expiries;
pub use hello::Hello;
pub use identity::{Generated, Identity, IdentityError};
pub use in_force::CertificateInForce;
pub use policy::{
    Direction, Peer, PeerLimits, Policy, PolicyError, PolicyInForce, PolicyMode, Terms, Unlisted,
};
pub use server::{Busy, ChunkRefused, Inbound, IncomingChunk, Server, ServerConfig};
pub use trust::{
    CaRoots, Distrust, Evidence, Expected, PeerId, Testimony, Trust, TrustError, TrustMode, Witness, judge,
};

/// The protocol that both sides name in the TLS handshake. A listener that serves clients on the same port tells
/// relays by it.
pub const ALPN: &[u8] = b"postrider/1";

/// The version of the federation protocol that this build speaks.
pub const PROTOCOL_VERSION: u32 = 1;

const ENVELOPES_PATH: &str = "/federation/v1/envelopes";
const ATTACHMENTS_PATH: &str = "/federation/v1/attachments";
const HELLO_PATH: &str = "/federation/v1/hello";
/// Names the relay that asks. Its certificate has to prove it.
const ORIGIN_HEADER: &str = "postrider-origin";
/// Names the relay that is asked.
const DESTINATION_HEADER: &str = "postrider-destination";
/// Where the events of this crate are logged.
const LOG: &str = "postrider::federation";
