//! Promises about who may make a mailbox.

use std::sync::Arc;

use postrider::store::{Invited, Permit, Registration, Store};
use postrider_common::{InviteId, InviteRefusal, Timestamp};

use super::{HOUR, NOW, Subject, device, mailbox, open};

fn invite(number: u8) -> InviteId {
    InviteId::from_bytes([number; 16])
}

fn invited(number: u8, uses: u32, used: u32) -> Invited {
    Invited { id: invite(number), uses, used, expires_at: NOW + HOUR }
}

async fn come_at(store: &Arc<dyn Store>, of: u8, by: u8, permit: Permit, now: Timestamp) -> Registration {
    store.admit(mailbox(of), device(by), permit, now).await.unwrap()
}

async fn come(store: &Arc<dyn Store>, of: u8, by: u8, permit: Permit) -> Registration {
    come_at(store, of, by, permit, NOW).await
}

/// A mailbox is made by whoever is permitted to; a device is added by whoever has the mailbox. A use is taken with the
/// mailbox and never for anything else, also after the store was opened anew.
pub async fn counts_an_invite_with_its_registration(subject: &impl Subject) {
    let store = open(subject);
    store.add_invites(vec![invited(1, 2, 0)]).await.unwrap();
    let (ticket, unknown) = (Permit::Invite(invite(1)), Permit::Invite(invite(9)));
    assert_eq!(come(&store, 1, 1, Permit::Nobody).await, Registration::NotPermitted);
    let refused = Registration::InviteRefused(InviteRefusal::Unknown);
    assert_eq!(come(&store, 1, 1, unknown).await, refused);
    assert_eq!(store.mailbox(mailbox(1)).await.unwrap(), None, "a refusal leaves nothing");

    assert_eq!(come(&store, 1, 1, ticket).await, Registration::Created);
    assert_eq!(come(&store, 1, 1, ticket).await, Registration::Unchanged);
    assert_eq!(come(&store, 1, 2, ticket).await, Registration::DeviceAdded);
    assert_eq!(come(&store, 1, 3, Permit::Nobody).await, Registration::DeviceAdded);
    assert_eq!(come(&store, 1, 4, unknown).await, Registration::DeviceAdded, "it needs none");
    assert_eq!(store.invites(None, 9).await.unwrap(), [invited(1, 2, 1)]);

    drop(store);
    let store = open(subject);
    assert_eq!(store.invites(None, 9).await.unwrap(), [invited(1, 2, 1)]);
    assert_eq!(come(&store, 2, 1, ticket).await, Registration::Created);
    let used_up = Registration::InviteRefused(InviteRefusal::UsedUp);
    assert_eq!(come(&store, 3, 1, ticket).await, used_up);
    assert_eq!(come(&store, 3, 1, Permit::Everybody).await, Registration::Created);
    assert_eq!(store.invites(None, 9).await.unwrap(), [invited(1, 2, 2)], "it is still told of");

    // Many at once, and fewer uses than they are.
    store.add_invites(vec![invited(2, 5, 0)]).await.unwrap();
    let racing = (10..30).map(|of| store.admit(mailbox(of), device(1), Permit::Invite(invite(2)), NOW));
    let answers = futures_util::future::try_join_all(racing).await.unwrap();
    assert_eq!(answers.iter().filter(|answer| **answer == Registration::Created).count(), 5);
    assert_eq!(answers.iter().filter(|answer| **answer == used_up).count(), 15);
}

/// Invites are listed page by page, revoked for good, and end by themselves.
pub async fn ends_invites(subject: &impl Subject) {
    let store = open(subject);
    store.add_invites((1..=5).map(|number| invited(number, 1, 0)).collect()).await.unwrap();
    assert_eq!(come(&store, 1, 1, Permit::Invite(invite(3))).await, Registration::Created);
    store.add_invites(vec![invited(3, 9, 0)]).await.unwrap();
    let first = store.invites(None, 3).await.unwrap();
    let others = store.invites(Some(first[2].id), 3).await.unwrap();
    let mut all: Vec<_> = first.into_iter().chain(others).collect();
    all.sort_by_key(|invited| invited.id);
    let expected = [(1, 0), (2, 0), (3, 1), (4, 0), (5, 0)].map(|(number, used)| invited(number, 1, used));
    assert_eq!(all, expected, "the third was there, and stays as it was");

    assert!(store.remove_invite(invite(1)).await.unwrap());
    assert!(!store.remove_invite(invite(1)).await.unwrap());
    let gone = Registration::InviteRefused(InviteRefusal::Unknown);
    assert_eq!(come(&store, 2, 1, Permit::Invite(invite(1))).await, gone);
    let over = Registration::InviteRefused(InviteRefusal::Over);
    assert_eq!(come_at(&store, 2, 1, Permit::Invite(invite(2)), NOW + HOUR).await, over);
    store.expire(NOW + HOUR - std::time::Duration::from_millis(1), 100).await.unwrap();
    assert_eq!(store.invites(None, 9).await.unwrap().len(), 4);
    assert!(store.expire(NOW + HOUR, 2).await.unwrap().more);
    assert!(!store.expire(NOW + HOUR, 100).await.unwrap().more);
    assert_eq!(store.invites(None, 9).await.unwrap(), []);
    assert_eq!(come(&store, 2, 1, Permit::Invite(invite(2))).await, gone);
}
