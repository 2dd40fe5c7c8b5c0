//! What a relay promises about envelopes, each promise kept by relays that are real.

#[cfg(test)]
#[path = "delivery/attachments.rs"]
mod attachments;
#[cfg(test)]
#[path = "delivery/batches.rs"]
mod batches;
#[cfg(test)]
#[path = "delivery/devices.rs"]
mod devices;
#[cfg(test)]
#[path = "delivery/duplicates.rs"]
mod duplicates;
#[cfg(test)]
#[path = "delivery/ephemeral.rs"]
mod ephemeral;
#[cfg(test)]
#[path = "delivery/expiry.rs"]
mod expiry;
#[cfg(test)]
#[path = "delivery/links.rs"]
mod links;
#[cfg(test)]
#[path = "delivery/local.rs"]
mod local;
#[cfg(test)]
#[path = "delivery/moves.rs"]
mod moves;
#[cfg(test)]
#[path = "delivery/outages.rs"]
mod outages;
#[cfg(test)]
#[path = "delivery/plain.rs"]
mod plain;
#[cfg(test)]
#[path = "delivery/processes.rs"]
mod processes;
#[cfg(test)]
#[path = "delivery/raw.rs"]
mod raw;
#[cfg(test)]
#[path = "delivery/remote.rs"]
mod remote;
#[cfg(test)]
#[path = "delivery/stops.rs"]
mod stops;
#[cfg(test)]
#[path = "delivery/streams.rs"]
mod streams;
