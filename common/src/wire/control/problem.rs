//! What is said when something is refused.

use serde::{Deserialize, Serialize};

use crate::{Domain, FailureClass};

/// The media type of an error: RFC 9457.
pub const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";
/// What the `type` of a problem begins with; the rest is its slug.
pub const PROBLEM_TYPE_PREFIX: &str = "urn:postrider:problem:";

/// An error: RFC 9457, with a stable `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Problem {
    /// `urn:postrider:problem:` and a slug.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status again.
    pub status: u16,
    /// What is wrong with this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Where the mailbox is kept, of a mailbox that has moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
}

impl Problem {
    /// Of a slug of ours, without a word on this request.
    pub fn new(slug: &str, title: impl Into<String>, status: u16) -> Self {
        let kind = format!("{PROBLEM_TYPE_PREFIX}{slug}");
        Self { kind, title: title.into(), status, detail: None, domain: None }
    }

    /// The slug in `type`, or the whole of it if it is not one of ours.
    pub fn slug(&self) -> &str {
        self.kind.strip_prefix(PROBLEM_TYPE_PREFIX).unwrap_or(&self.kind)
    }

    /// The failure class that the slug names, if it names one.
    pub fn class(&self) -> Option<FailureClass> {
        self.slug().parse().ok()
    }
}
