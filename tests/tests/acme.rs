//! Certificates from an ACME server: one made here that checks everything, and, where it is installed, Pebble, which the
//! people of Let's Encrypt test clients with.

#[cfg(test)]
#[path = "acme/bench.rs"]
mod bench;
#[cfg(test)]
#[path = "acme/certificates.rs"]
mod certificates;
#[cfg(test)]
#[path = "acme/check.rs"]
mod check;
#[cfg(test)]
#[path = "acme/door.rs"]
mod door;
#[cfg(test)]
#[path = "acme/issuer.rs"]
mod issuer;
#[cfg(test)]
#[path = "acme/pebble.rs"]
mod pebble;
#[cfg(test)]
#[path = "acme/renewal.rs"]
mod renewal;
#[cfg(test)]
#[path = "acme/server.rs"]
mod server;
#[cfg(test)]
#[path = "acme/signed.rs"]
mod signed;
#[cfg(test)]
#[path = "acme/troubles.rs"]
mod troubles;
