//! Who may bring how much before it is submitted.

use super::*;

/// Otherwise one who submits nothing keeps everybody else from bringing anything.
#[tokio::test]
async fn what_one_brings_and_does_not_submit_leaves_room_for_others() {
    let limits = AttachmentLimits { bytes: 100, mailbox_bytes: 9000, total_bytes: 1000, retention: HOUR };
    let bench =
        Bench { limits: StoreLimits { attachments: limits, ..StoreLimits::default() }, ..Bench::new() };
    let clock = ManualClock::new(now());
    let open = bench.open_at(Arc::new(clock.clone())).await;
    open.store.register(MAILBOX, DEVICE, now()).await.unwrap();
    let bytes: &[u8; 100] = &[7; 100];
    let bring = async |bringer: Bringer| {
        // What waits is looked up once a second.
        clock.advance(Duration::from_secs(1));
        let id = match &bringer {
            Bringer::Peer(domain) => {
                let attachment = Attachment { id: AttachmentId::random(), length: 100, chunk_length: 100 };
                let (envelope, all) = (EnvelopeId::random(), vec![attachment.clone()]);
                open.attachments.offer(domain, MAILBOX, envelope, all).await.unwrap();
                attachment.id
            }
            _ => open.attachments.reserve(100, 100, &bringer).await?.attachment.id,
        };
        let chunk = Chunk { number: 0, digest: sha256(bytes) };
        open.attachments.receive(id, chunk, &bringer, Full::new(Bytes::from_static(bytes))).await?;
        Ok(Attachment { id, length: 100, chunk_length: 100 })
    };
    let [first, second] = [bring(ALICE).await.unwrap(), bring(ALICE).await.unwrap()];
    let before = open.attachments.used_bytes();
    assert_eq!(bring(ALICE).await, Err(AttachmentError::TooMuchWaits));
    assert_eq!(open.attachments.used_bytes(), before, "what was refused takes nothing");
    let beta: Domain = "beta.example".parse().unwrap();
    let peer = Bringer::Peer(beta.clone());
    let theirs = bring(peer.clone()).await.unwrap();
    assert_eq!(bring(peer.clone()).await, Err(AttachmentError::TooMuchWaits));
    bring(Bringer::Member(MAILBOX)).await.unwrap();

    // What an envelope needs is no longer hers.
    let of =
        |attachment| Draft { attachments: vec![attachment], ..Draft::new(MAILBOX, now() + HOUR, &b"x"[..]) };
    let needs_first = of(first.clone()).finish().unwrap();
    assert_eq!(open.deposit(&needs_first).await, Outcome::Stored);
    let (shares, both) = (&open.attachments.0.shares, [first.id, second.id]);
    assert_eq!(shares.among(&both), HashSet::from(both));
    open.attachments.submitted(&both).await.unwrap();
    assert_eq!(
        shares.among(&both),
        HashSet::from([second.id]),
        "who has brought what was taken is forgotten at once"
    );
    assert_eq!(bring(ALICE).await, Err(AttachmentError::TooMuchWaits), "a quarter of 600 is left");
    // One that is there already needs nothing more.
    let again = Draft { id: *needs_first.id(), ..of(second.clone()) }.finish().unwrap();
    assert_eq!(open.deposit(&again).await, Outcome::Duplicate);
    assert_eq!(bring(ALICE).await, Err(AttachmentError::TooMuchWaits));
    assert_eq!(open.deposit(&of(second).finish().unwrap()).await, Outcome::Stored);
    bring(ALICE).await.unwrap();

    // Nor is what was for an envelope that was refused the peer's, and what is in use is not taken from anybody.
    open.attachments.withdraw(&beta, vec![theirs.id, first.id]).await.unwrap();
    assert_eq!(open.attachments.state(theirs.id).await, Err(AttachmentError::Unknown));
    assert!(open.attachments.state(first.id).await.is_ok());
    bring(peer).await.unwrap();
    clock.advance(HOUR * 3);
    open.attachments.tidy();
    bring(ALICE).await.unwrap();
    open.close().await;
}

/// Whatever comes of the others that are brought at the same time.
#[tokio::test]
async fn what_was_begun_counts_while_a_chunk_of_it_is_there() {
    let limits = AttachmentLimits { bytes: 200, mailbox_bytes: 9000, total_bytes: 1000, retention: HOUR };
    let bench =
        Bench { limits: StoreLimits { attachments: limits, ..StoreLimits::default() }, ..Bench::new() };
    let open = bench.open().await;
    let bytes: &[u8; 100] = &[7; 100];
    let bring = async |id, number, is_right| {
        let digest = if is_right { sha256(bytes) } else { [0; 32] };
        let body = Full::new(Bytes::from_static(bytes));
        open.attachments.receive(id, Chunk { number, digest }, &ALICE, body).await
    };
    let reserve = async || open.attachments.reserve(200, 100, &ALICE).await.unwrap().attachment.id;
    let [first, second] = [reserve().await, reserve().await];
    assert_eq!(bring(first, 0, false).await, Err(AttachmentError::WrongDigest));
    assert_eq!(bring(second, 0, true).await, Ok(()), "nothing of the first is there");
    assert_eq!(bring(second, 1, false).await, Err(AttachmentError::WrongDigest));
    assert_eq!(bring(first, 0, true).await, Err(AttachmentError::TooMuchWaits));
    assert_eq!(bring(second, 1, true).await, Ok(()));
    open.close().await;
}
