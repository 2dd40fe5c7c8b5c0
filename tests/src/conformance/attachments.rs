//! Attachments: whole before an envelope is taken with them, and there for as long as one needs them.

use std::sync::Arc;

use postrider::store::{Abandoned, Chunk, Enqueued, Offered, Store, StoreError, Verdict};
use postrider_common::{Attachment, AttachmentId, Draft, Envelope, EnvelopeId, FailureClass, Outcome};

use super::{ALL, DAY, HOUR, NOW, Subject, device, domain, fetch, ids, mailbox, open};

fn attachment(number: u8) -> Attachment {
    Attachment { id: AttachmentId::from_bytes([number; 32]), length: 6, chunk_length: 4 }
}

fn laden(to: u8, number: u8) -> Envelope {
    let draft = Draft::new(mailbox(to), NOW + DAY, vec![number]);
    Draft { attachments: vec![attachment(number)], ..draft }.finish().unwrap()
}

/// Reserves one, and says of its chunks that they are there.
async fn make_whole(store: &Arc<dyn Store>, number: u8) {
    let state = store.reserve_attachment(attachment(number), NOW).await.unwrap().unwrap();
    for number in [1, 0] {
        let chunk = Chunk { number, digest: [7; 32] };
        assert_eq!(store.put_chunk(state.attachment.id, state.file, chunk, NOW).await, Ok(true));
    }
}

async fn doomed(store: &Arc<dyn Store>) -> Result<usize, StoreError> {
    Ok(store.doomed(None, 100).await?.len())
}

/// An envelope is taken when all of its attachments are whole. With the last envelope that needs one it is doomed, in the
/// same step, and what nobody has submitted is when its time is over.
pub async fn keeps_attachments_as_long_as_envelopes_need_them(subject: &impl Subject) {
    let store = open(subject);
    store.register(mailbox(1), device(1), NOW).await.unwrap();
    let id = attachment(1).id;
    let missing = store.deposit(vec![laden(1, 1)], NOW).await.unwrap().remove(0);
    assert!(matches!(missing, Outcome::Retry { reason: FailureClass::AttachmentMissing, .. }), "{missing:?}");
    make_whole(&store, 1).await;
    assert_eq!(store.chunks(id).await.unwrap().len(), 2);
    assert_eq!(store.deposit(vec![laden(1, 1), laden(1, 1)], NOW).await, Ok(vec![Outcome::Stored; 2]));
    let to = domain("b.example");
    assert!(matches!(
        store.enqueue(to.clone(), to.clone(), vec![laden(9, 1)], NOW).await.unwrap()[..],
        [Enqueued::Queued(_)]
    ));
    assert_eq!(store.abandon_attachment(id).await, Ok(Abandoned::InUse));
    store.expire(NOW + DAY / 2, 100).await.unwrap();
    for entry in ids(&fetch(&store, 1, 1).await) {
        assert_eq!(doomed(&store).await, Ok(0));
        store.acknowledge(mailbox(1), device(1), vec![entry]).await.unwrap();
    }
    assert_eq!(store.lease(to.clone(), ALL, NOW, NOW + HOUR).await, Ok(Vec::new()), "it delays no others");
    let leased = store.lease_laden(to.clone(), NOW + HOUR).await.unwrap().unwrap();
    store.settle(to, vec![leased.end(Verdict::Delivered)], NOW).await.unwrap();
    assert_eq!((doomed(&store).await, store.attachment(id).await), (Ok(1), Ok(None)));
    let files = store.doomed(None, 1).await.unwrap();
    assert_eq!(store.attachment_bytes().await, Ok(6), "until it is deleted");
    store.forget_doomed(files.iter().map(|doomed| doomed.file).collect()).await.unwrap();
    assert_eq!(store.attachment_bytes().await, Ok(0));

    make_whole(&store, 2).await;
    store.expire(NOW + DAY / 2, 100).await.unwrap();
    assert!(store.attachment(attachment(2).id).await.unwrap().is_some());
    store.expire(NOW + DAY + HOUR, 100).await.unwrap();
    assert_eq!(doomed(&store).await, Ok(1));
}

/// What a peer offers is wanted if its envelope would be taken.
pub async fn wants_attachments_for_envelopes_that_it_would_take(subject: &impl Subject) {
    let store = open(subject);
    store.register(mailbox(1), device(1), NOW).await.unwrap();
    let (from, other) = (domain("a.example"), domain("c.example"));
    let offer = |by: &postrider_common::Domain, to: u8, envelope: EnvelopeId| {
        store.offer_attachments(by.clone(), mailbox(to), envelope, vec![attachment(1)], NOW)
    };
    let laden = laden(1, 1);
    assert_eq!(offer(&from, 2, *laden.id()).await, Ok(Offered::NotNeeded), "no such mailbox");
    let offered = offer(&from, 1, *laden.id()).await.unwrap();
    let Offered::Wanted(states) = offered else { unreachable!("{offered:?}") };
    assert_eq!((states.len(), states[0].present), (1, 0));
    assert_eq!(offer(&other, 1, *laden.id()).await, Ok(Offered::Busy), "somebody else brings it");
    for number in [0, 1] {
        let chunk = Chunk { number, digest: [7; 32] };
        assert_eq!(store.put_chunk(states[0].attachment.id, states[0].file, chunk, NOW).await, Ok(true));
    }
    let again = offer(&from, 1, *laden.id()).await.unwrap();
    assert!(matches!(again, Offered::Wanted(states) if states[0].is_whole()));
    assert_eq!(store.deposit(vec![laden.clone()], NOW).await, Ok(vec![Outcome::Stored]));
    assert_eq!(offer(&from, 1, *laden.id()).await, Ok(Offered::NotNeeded), "it has it");
}
