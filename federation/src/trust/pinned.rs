//! Trust in keys that were agreed beforehand, as with DANE's `3 1 1`: names, dates and usages are ignored.

use postrider_common::FailureClass;

use super::{Case, Distrust, Expected};
use crate::certificate::Pin;

pub(super) fn judge(case: &Case<'_>, presented: Pin, pins: &[Pin]) -> Result<(), Distrust> {
    // A fingerprint is public, so the comparison need not hide how far it got.
    if pins.contains(&presented) {
        return Ok(());
    }
    let (claimed, expected) = (case.claimed, either(pins));
    let detail = format!("the key pinned for {claimed} is {expected}, but the key {presented} was presented");
    Err(case.refuse(FailureClass::TlsPinMismatch, Expected::Keys(pins.to_vec()), detail))
}

/// Keys for a sentence.
pub(super) fn either(pins: &[Pin]) -> String {
    match pins {
        [] => "no key at all".into(),
        some => some.iter().map(Pin::to_string).collect::<Vec<_>>().join(" or "),
    }
}
