//! What comes in at the edges and should not: bad input, refusals, and what the logs tell of it.

#[cfg(test)]
#[path = "edges/abuse.rs"]
mod abuse;
#[cfg(test)]
#[path = "edges/client.rs"]
mod client;
#[cfg(test)]
#[path = "edges/doors.rs"]
mod doors;
#[cfg(test)]
#[path = "edges/downloads.rs"]
mod downloads;
#[cfg(test)]
#[path = "edges/early.rs"]
mod early;
#[cfg(test)]
#[path = "edges/inbound.rs"]
mod inbound;
#[cfg(test)]
#[path = "edges/members.rs"]
mod members;
#[cfg(test)]
#[path = "edges/memory.rs"]
mod memory;
#[cfg(test)]
#[path = "edges/outbound.rs"]
mod outbound;
#[cfg(test)]
#[path = "edges/privacy.rs"]
mod privacy;
#[cfg(test)]
#[path = "edges/proxies.rs"]
mod proxies;
#[cfg(test)]
#[path = "edges/raw.rs"]
mod raw;
#[cfg(test)]
#[path = "edges/sessions.rs"]
mod sessions;
#[cfg(test)]
#[path = "edges/stream.rs"]
mod stream;
