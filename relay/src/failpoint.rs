//! Places where a test can have the process end at once, as if the power had gone.
//!
//! They exist only with the feature `failpoints`, which nothing that is shipped has: without it [`reach`] is nothing.
//! The environment variable `POSTRIDER_FAILPOINT` names a step and at which time of reaching it the process aborts,
//! for instance `flushed:3`.

/// A step on the way of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// `half-written`: one half of a group of operations is written.
    HalfWritten,
    /// `written`: a group of operations is written, and not flushed.
    Written,
    /// `flushed`: it is on stable storage, and not answered.
    Flushed,
    /// `forwarded`: a peer has answered for a batch, and nothing of it is settled.
    Forwarded,
    /// `onward`: envelopes that follow a binding are queued for the new relay, and are still where they were.
    Onward,
    /// `pushed`: entries are sent to a device, which has not acknowledged them.
    Pushed,
    /// `chunk-written`: a chunk of an attachment is on stable storage, and the store does not know it.
    ChunkWritten,
    /// `chunk-sent`: a peer has a chunk of an attachment, and further ones are still here.
    ChunkSent,
    /// `file-deleted`: a file of an attachment is deleted, and the store does not know it.
    FileDeleted,
}

/// Where a step has been reached.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) const fn reach(_step: Step) {}

/// Aborts the process if the environment says so.
#[cfg(feature = "failpoints")]
pub(crate) fn reach(step: Step) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let wanted = std::env::var("POSTRIDER_FAILPOINT").ok()?;
        let (step, time) = wanted.split_once(':')?;
        Some((step.to_owned(), time.parse().ok()?))
    });
    static REACHED: AtomicU64 = AtomicU64::new(0);

    let name = match step {
        Step::HalfWritten => "half-written",
        Step::Written => "written",
        Step::Flushed => "flushed",
        Step::Forwarded => "forwarded",
        Step::Onward => "onward",
        Step::Pushed => "pushed",
        Step::ChunkWritten => "chunk-written",
        Step::ChunkSent => "chunk-sent",
        Step::FileDeleted => "file-deleted",
    };
    if let Some((wanted, time)) = &*WANTED
        && wanted == name
        && REACHED.fetch_add(1, Ordering::Relaxed) + 1 == *time
    {
        std::process::abort();
    }
}
