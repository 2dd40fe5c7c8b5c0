//! A cluster's rules under faults, thousands of times a minute, and the same every time.
//!
//! A [`Script`] is a list of operations over up to five relays: clients submit and bring attachments, devices register,
//! connect, acknowledge, go and are removed, relays die and are started again, ways between them are cut and mended, lose
//! things and repeat them, clocks are set, mailboxes are closed and opened and move from relay to relay, time passes. A seed makes a script, and decides whatever is left open in it: how long a request takes and a
//! flush, which tracking ids there are, the jitter of a back-off. [`run`] carries a script out and says what was wrong.
//! The same seed and script give the same run, to the last event.
//!
//! # What must be true
//!
//! While the script runs:
//!
//! 1. **Nothing is made up.** A device gets only envelopes that somebody submitted, byte for byte, and that are for it.
//! 2. **Nothing arrives twice.** In a mailbox an envelope has one entry id, whoever submitted it, to which relay, how
//!    often, and however often it was sent from relay to relay. An entry id stands for one envelope, also after a
//!    crash.
//! 3. **What is acknowledged does not come again.** Once the relay has answered the acknowledgement, no later request
//!    of the device's shows the entry. Before that it may come as often as the device asks.
//! 4. **An ephemeral envelope is never stored** and never queued.
//! 5. **No relay fails by itself.** No task panics or ends before its time, no store gives up, and a relay that is told
//!    to stop does so within its time.
//!
//! Then everything is mended, every relay is started, every registered device connects and acknowledges what it gets,
//! and time passes. A device that is connected is not connected again: it has to be woken. And then:
//!
//! 6. **It comes to rest.** Within twelve hours no queue and no mailbox has anything in it.
//! 7. **What was shown stays.** What a device was shown it is shown until it has acknowledged it, or its time is over:
//!    a relay that dies takes nothing back.
//! 8. **Nothing is lost.** Every envelope that a relay has answered `stored` for, or `queued` where its tracking now
//!    says `stored`, has reached every device that it was for and that was registered before it was submitted and ever
//!    since, unless its time was over.
//! 9. **Custody has an end that is told.** Every tracking id that a client was given is known, and says `stored`, or
//!    `expired` of an envelope whose time was over, or a failure that can have been: `no-such-mailbox` or
//!    `no-such-device` where they may not have been there. The same holds for what was refused at submission. What
//!    every relay has refused does not arrive.
//! 10. **One envelope, one place in the queue.** Submitted to the same relay again, it has the same tracking id, unless
//!     the earlier one has failed or expired.
//! 11. **First come, first offered.** Of two envelopes for the same relay, of which the second was submitted after the
//!     first was answered, the first is offered to that relay first. What is retried, or queued again because it had
//!     ended, may be overtaken; so may what was over when its turn came, by a clock that was set back afterwards.
//! 12. **Registrations and deletions last** as envelopes do, once they were answered.
//! 13. **Deleted means gone.** No store has a body, an entry, an item, or an index of one; every counter is zero. And
//!     forty days later no mark, no tracking record and nothing that was learnt of mailboxes elsewhere is left.
//! 14. **A mailbox that moves takes everything along.** Its owner moves it as the SDK does, and goes on with what was
//!     interrupted. All that is said above holds for it, whichever relays its envelopes were submitted to, with its first
//!     address and at whatever moment; except that at each relay that it comes to an envelope may have one more entry
//!     id, that what was shown at the relay before may come again, and that at the relay of its address a repetition may have
//!     another tracking id. What was submitted to one relay, and every device had acknowledged before the mailbox first began to
//!     move, stays behind: it comes nowhere else. An
//!     envelope fails as a `loop` only if its mailbox has moved more often than an envelope is sent on.
//! 15. **A device begins when it is registered.** Where a mailbox has another device, one gets nothing that came before
//!     it, also if it was there earlier, and was removed. Where it has none, what comes waits for the first one, and none
//!     of it is lost. A device that was removed is not there, and nobody waits for it: what it alone had not acknowledged
//!     goes (see 6 and 13).
//! 16. **A mailbox that is closed takes nothing**, once its administrator was told so, and hands no connected device an
//!     ephemeral envelope; `mailbox-refused` is the answer then, and at no other time. What it has taken before it has
//!     when it is opened, and its devices, too, however long that takes. Until then it does not move.
//! 17. **No envelope without its attachment.** None is taken of which not every chunk was brought; none is refused for an
//!     attachment that is there. Whatever a device is shown, its attachment is at that relay until the device has
//!     acknowledged it.
//! 18. **No attachment without its envelope.** With the last acknowledgement it is gone. What no envelope was taken with is
//!     gone when its time is over, and so are all files (see 13).
//!
//! # What is real, and what is not
//!
//! Real: everything behind the doors of a relay ([`Core`](postrider::core::Core)): exchange, store with its groups,
//! views, leases and marks, attachments' books, delivery with its workers and rules, hub, expiry, greetings, the order in which a relay
//! stops; and the bytes of a forwarded batch. Not real: the disk is memory that loses what was not flushed when the
//! relay dies, attachments have no bytes and files only names, the store's writer is a task that lets others act and time pass between its steps, and relays call each
//! other at the trait where delivery meets the federation client. Sockets, TLS, HTTP, DNS, and the embedded engine's
//! files have suites of their own, and the [`soak`](crate::soak) has all of it together, with processes.
//!
//! All tasks of all relays take turns on one thread, and time stands still while any of them has something to do: an
//! hour without events costs nothing. A simulator that moves every host forward by ticks, each with a runtime of its
//! own, as `turmoil` does, costs the more the more time passes, and back-offs, expiry and the retention of marks are
//! about hours and days. What decides an order or a time is a parameter of the production code (`Clock`, `Random`);
//! where it chooses between events that have both come, it does so in a fixed order.
//!
//! # That it finds anything
//!
//! A [`Fault`] breaks one rule on purpose. Tests ask for each to be found within a number of seeds.

mod campaign;
mod device;
mod files;
mod invariants;
mod ledger;
mod moves;
mod network;
mod node;
mod requests;
mod script;
mod shrink;
mod source;
mod terms;
mod world;
mod writer;

use std::fmt;
use std::str::FromStr;

pub use campaign::{Campaign, Finding, Report};
pub use ledger::Counts;
pub use postrider::store::simulated::Step;
pub use script::{CHUNKS, DEVICES, LONG, Letter, MAILBOXES, Op, RELAYS, Script, Shape};
pub use shrink::shrink;

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A store answers before it has flushed.
    AnswerBeforeFlush,
    /// A store does not remember what it has taken before.
    ForgetMark,
    /// An item is settled as delivered before the other relay has answered.
    SettleBeforeAnswer,
    /// What waited for a mailbox's first device is not given to it.
    LoseUnclaimed,
    /// A further device gets what waits for the others.
    GiveOld,
    /// What waits for a device stays when that is removed.
    KeepOfRemoved,
    /// A mailbox that is to be closed stays open.
    StayOpen,
    /// An attachment counts as whole when its first chunk is there.
    CountPartAsWhole,
    /// A store does not remember which attachments an entry needs.
    ForgetReference,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What was not as it must be, in words.
    pub violations: Vec<String>,
    /// How much happened.
    pub counts: Counts,
    /// Everything that happened, in order, as one number.
    pub hash: u64,
    /// The same in words, if they were asked for.
    pub trace: Vec<String>,
}

/// Carries `script` out. Everything that it leaves open, `seed` decides. It takes a thread's time, and no other.
///
/// # Panics
/// If the operating system has not even a thread-local runtime to give.
#[expect(
    clippy::expect_used,
    reason = "a runtime without drivers for sockets asks for nothing that can be refused"
)]
pub fn run(seed: u64, script: &Script, fault: Option<Fault>, traced: bool) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime can be made").block_on(world::run(seed, script, fault, traced))
}

impl Fault {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::AnswerBeforeFlush,
        Self::ForgetMark,
        Self::SettleBeforeAnswer,
        Self::LoseUnclaimed,
        Self::GiveOld,
        Self::KeepOfRemoved,
        Self::StayOpen,
        Self::CountPartAsWhole,
        Self::ForgetReference,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AnswerBeforeFlush => "answer-before-flush",
            Self::ForgetMark => "forget-mark",
            Self::SettleBeforeAnswer => "settle-before-answer",
            Self::LoseUnclaimed => "lose-unclaimed",
            Self::GiveOld => "give-old",
            Self::KeepOfRemoved => "keep-of-removed",
            Self::StayOpen => "stay-open",
            Self::CountPartAsWhole => "count-part-as-whole",
            Self::ForgetReference => "forget-reference",
        })
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|fault| fault.to_string() == name);
        found.ok_or_else(|| format!("one of {}", Self::ALL.map(|fault| fault.to_string()).join(", ")))
    }
}
