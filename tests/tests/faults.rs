//! What one machine can do to a relay: end it at the worst moment, take its disk away, set its clock.

#[cfg(test)]
#[path = "faults/clock.rs"]
mod clock;
#[cfg(test)]
#[path = "faults/disk.rs"]
mod disk;
#[cfg(test)]
#[path = "faults/mounted.rs"]
mod mounted;
#[cfg(test)]
#[path = "delivery/plain.rs"]
#[expect(dead_code, reason = "it has more than these tests need")]
mod plain;
#[cfg(test)]
#[path = "faults/steps.rs"]
mod steps;
#[cfg(test)]
#[path = "faults/tools.rs"]
mod tools;
