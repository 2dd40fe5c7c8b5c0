//! Trust in the keys that a domain's own DNS names, signed: TLSA `3 1 1`. Names, dates and usages are ignored.

use postrider_common::{Failure, FailureClass};

use super::pinned::either;
use super::{Case, Distrust, Expected};
use crate::certificate::Pin;

/// `incomplete` says why the records of some target are not known, among which the presented key might be.
pub(super) fn judge(
    case: &Case<'_>,
    presented: Pin,
    pins: &[Pin],
    incomplete: Option<&Failure>,
) -> Result<(), Distrust> {
    if pins.contains(&presented) {
        return Ok(());
    }
    let expected = Expected::Keys(pins.to_vec());
    if let Some(failure) = incomplete {
        return Err(case.refuse(failure.class, expected, failure.detail.clone()));
    }
    let (claimed, keys) = (case.claimed, either(pins));
    let detail =
        format!("the key in the TLSA records of {claimed} is {keys}, but the key {presented} was presented");
    Err(case.refuse(FailureClass::TlsDaneMismatch, expected, detail))
}
