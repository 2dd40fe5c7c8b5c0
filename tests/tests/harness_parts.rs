//! The harness's own parts: what a multi-relay test rests on has to do what it says.

#[cfg(test)]
#[path = "harness_parts/authority.rs"]
mod authority;
#[cfg(test)]
#[path = "harness_parts/dns.rs"]
mod dns;
#[cfg(test)]
#[path = "harness_parts/link.rs"]
mod link;
