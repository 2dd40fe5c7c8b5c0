//! What every engine of the [`Store`] contract has to do: one function per promise.
//!
//! An engine of your own is tested by implementing [`Subject`] for something that makes empty stores, and then
//!
//! ```ignore
//! postrider_tests::store_conformance!(MyEngine::new());
//! ```
//!
//! in a test file: it makes one `#[test]` of each promise. A broken promise is a panic.

#![expect(clippy::unwrap_used, reason = "a test suite: whatever an operation refuses is a failure")]

mod attachments;
mod bindings;
mod devices;
mod invites;
mod leases;
mod mailboxes;
mod queue;
mod steering;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use postrider::store::{Fetched, Leased, Store, StoreError, StoreLimits, Window};
use postrider_common::{DeviceId, Domain, Draft, EntryId, Envelope, MailboxId, Timestamp};

pub use attachments::*;
pub use bindings::*;
pub use devices::*;
pub use invites::*;
pub use leases::*;
pub use mailboxes::*;
pub use queue::*;
pub use steering::*;
pub use whole::*;

/// Something that a store is kept on, empty at first.
pub trait Subject {
    /// Opens the store. Once the last one was closed or dropped, another has what it had.
    fn open(&self, limits: StoreLimits) -> Result<Arc<dyn Store>, StoreError>;
}

/// When the tests begin: the first second of a day, so that nothing expires by rounding.
pub const NOW: Timestamp = Timestamp::from_secs(1_790_035_200);
/// A window that takes everything.
pub const ALL: Window = Window { count: usize::MAX, bytes: usize::MAX };
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Makes one `#[test]` of each promise. The expression gives an empty [`Subject`].
#[macro_export]
macro_rules! store_conformance {
    ($subject:expr) => {
        $crate::store_conformance! { $subject =>
            registers_mailboxes_and_devices
            answers_each_envelope_in_order
            fetches_oldest_first_within_a_window
            keeps_entries_until_acknowledged
            keeps_an_envelope_until_its_last_device_has_it
            starts_a_further_device_from_now
            gives_an_envelope_for_one_device_to_that_one
            recognises_duplicates_for_the_retention
            bounds_a_mailbox
            leaves_out_what_has_expired
            expires_within_a_budget
            unregisters_with_everything
            keeps_envelopes_of_every_size
            makes_mailboxes_for_those_who_come_later
            closes_a_mailbox_and_opens_it_again
            lists_mailboxes_page_by_page
            removes_a_device_with_what_waits_for_it_alone
            knows_devices_by_the_day_and_the_name
            drops_devices_that_stay_away
            drops_few_devices_at_a_time_for_which_much_waits
            keeps_the_devices_of_a_closed_mailbox
            tells_what_a_device_has_yet_to_acknowledge
            counts_an_invite_with_its_registration
            ends_invites
            takes_the_binding_with_the_highest_serial
            holds_what_is_in_a_mailbox_that_moves
            remembers_where_other_mailboxes_are_kept
            queues_once_what_goes_on
            knows_again_what_goes_on
            knows_again_what_has_arrived_elsewhere
            tracks_an_envelope_that_goes_on
            leases_in_order_and_once
            leaves_an_item_to_its_present_lease
            lapses_and_releases_leases
            tracks_an_envelope_to_its_end
            delays_items_by_their_own_time
            takes_what_waits_by_a_clock_that_was_set_back
            queues_an_envelope_once_per_address
            queues_a_failed_envelope_again
            bounds_a_destination
            leaves_room_beside_what_was_held
            keeps_backoffs
            expires_queued_items_but_not_leased_ones
            keeps_what_is_quarantined_aside
            tells_why_an_envelope_expired
            forgets_leases_when_reopened
            keeps_destinations_apart
            keeps_how_a_destination_has_failed
            keeps_what_was_answered_about_an_envelope
            keeps_a_pause
            shows_a_queue_page_by_page
            hastens_what_waits_for_its_own_time
            discards_what_is_not_under_way
            keeps_attachments_as_long_as_envelopes_need_them
            wants_attachments_for_envelopes_that_it_would_take
            tells_what_has_become_durable
            refuses_everything_once_closed
            keeps_everything_without_a_close
            is_open_once_at_a_time
            takes_concurrent_writes
        }
    };
    ($subject:expr => $($promise:ident)*) => {
        $(
            #[test]
            fn $promise() {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on($crate::conformance::$promise(&$subject));
            }
        )*
    };
}

fn open(subject: &impl Subject) -> Arc<dyn Store> {
    subject.open(StoreLimits::default()).unwrap()
}

/// A mailbox by number.
pub fn mailbox(number: u8) -> MailboxId {
    MailboxId::from_bytes([number; 32])
}

/// A device by number.
pub fn device(number: u8) -> DeviceId {
    DeviceId::from_bytes([number; 32])
}

fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

/// An envelope that expires a day from [`NOW`].
fn envelope(to: u8, body: &str) -> Envelope {
    Draft::new(mailbox(to), NOW + DAY, body.as_bytes().to_vec()).finish().unwrap()
}

fn bodies(fetched: &Fetched) -> Vec<String> {
    let body = |envelope: &Envelope| String::from_utf8(envelope.body().to_vec()).unwrap();
    fetched.entries.iter().map(|entry| body(&entry.envelope)).collect()
}

fn leased_bodies(leased: &[Leased]) -> Vec<String> {
    let body = |leased: &Leased| String::from_utf8(leased.envelope.body().to_vec()).unwrap();
    leased.iter().map(body).collect()
}

fn ids(fetched: &Fetched) -> Vec<EntryId> {
    fetched.entries.iter().map(|entry| entry.id).collect()
}

async fn fetch(store: &Arc<dyn Store>, of: u8, by: u8) -> Fetched {
    store.fetch(mailbox(of), device(by), None, ALL, NOW).await.unwrap()
}
