//! Trust in keys that were agreed beforehand, as with DANE's `3 1 1`: names, dates and usages are ignored.

use postrider_common::{Domain, Failure, FailureClass};

use crate::certificate::Pin;

pub(super) fn judge(presented: Pin, claimed: &Domain, pins: &[Pin]) -> Result<(), Failure> {
    // A fingerprint is public, so the comparison need not hide how far it got.
    if pins.contains(&presented) {
        return Ok(());
    }
    let expected: Vec<_> = pins.iter().map(Pin::to_string).collect();
    let expected = match expected.as_slice() {
        [] => "no key at all".into(),
        some => some.join(" or "),
    };
    Err(Failure::new(
        FailureClass::TlsPinMismatch,
        format!("the key pinned for {claimed} is {expected}, but the key {presented} was presented"),
    ))
}
