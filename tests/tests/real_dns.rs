//! Discovery and DANE with DNS software that others run: nsd serves signed zones, unbound resolves and validates them.
//!
//! Where one of the programs is not installed, the tests say `skipped: … is not installed` and pass. With
//! `POSTRIDER_REQUIRE_REAL_DNS` in the environment, as in the gate, that is a failure.

#[cfg(test)]
#[path = "real_dns/answers.rs"]
mod answers;
#[cfg(test)]
#[path = "real_dns/dane.rs"]
mod dane;
#[cfg(test)]
#[path = "real_dns/doctor.rs"]
mod doctor;
#[cfg(test)]
#[path = "real_dns/lab.rs"]
mod lab;
#[cfg(test)]
#[path = "real_dns/open.rs"]
mod open;
#[cfg(test)]
#[path = "real_dns/programs.rs"]
mod programs;
#[cfg(test)]
#[path = "real_dns/relay.rs"]
mod relay;
#[cfg(test)]
#[path = "real_dns/zones.rs"]
mod zones;
