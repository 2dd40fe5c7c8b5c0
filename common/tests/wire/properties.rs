//! What holds for whatever anybody may send.

use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use postrider_common::wire::mailbox::{DeviceMessage, Entry, ServerMessage};
use postrider_common::wire::submit::{self, SubmitResult};
use postrider_common::wire::{VERSION, WireError, forward};
use postrider_common::{
    Attachment, AttachmentId, Binding, DeviceId, Domain, Draft, EntryId, Envelope, EnvelopeId, FailureClass,
    MailboxId, Outcome, Timestamp, TrackingId, Urgency,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::forms::{self, Form};

fn domain() -> impl Strategy<Value = Domain> {
    "[a-z]{1,20}(\\.[a-z]{1,20}){0,3}".prop_map(|text| text.parse().unwrap())
}

fn attachment() -> impl Strategy<Value = Attachment> {
    (any::<[u8; 32]>(), any::<u64>(), any::<u32>()).prop_map(|(id, length, chunk_length)| Attachment {
        id: AttachmentId::from_bytes(id),
        length,
        chunk_length,
    })
}

fn draft() -> impl Strategy<Value = Draft> {
    (
        any::<([u8; 16], [u8; 32], Option<[u8; 32]>)>(),
        // A timestamp holds milliseconds.
        0..=u64::MAX / 1000,
        select(vec![Urgency::Normal, Urgency::Urgent, Urgency::Ephemeral]),
        vec(any::<u8>(), 0..40),
        vec(any::<u8>(), 1..200),
        vec(attachment(), 0..3),
    )
        .prop_map(|((id, mailbox, device), expires_at, urgency, header, body, attachments)| Draft {
            id: EnvelopeId::from_bytes(id),
            mailbox: MailboxId::from_bytes(mailbox),
            device: device.map(DeviceId::from_bytes),
            expires_at: Timestamp::from_secs(expires_at),
            urgency,
            header: header.into(),
            body: body.into(),
            attachments,
        })
}

fn envelope() -> impl Strategy<Value = Envelope> {
    draft().prop_map(|draft| draft.finish().unwrap())
}

fn reason() -> impl Strategy<Value = FailureClass> {
    select(FailureClass::ALL)
}

fn seconds() -> impl Strategy<Value = Duration> {
    any::<u32>().prop_map(|secs| Duration::from_secs(secs.into()))
}

fn submit_result() -> impl Strategy<Value = SubmitResult> {
    prop_oneof![
        Just(SubmitResult::Stored),
        any::<[u8; 16]>().prop_map(|id| SubmitResult::Queued { tracking: TrackingId::from_bytes(id) }),
        (reason(), proptest::option::of(seconds()))
            .prop_map(|(reason, retry_after)| SubmitResult::Refused { reason, retry_after }),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let binding = (any::<[u8; 32]>(), domain(), any::<u64>())
        .prop_map(|(seed, domain, serial)| Binding::sign(&SigningKey::from_bytes(&seed), domain, serial));
    prop_oneof![
        Just(Outcome::Stored),
        Just(Outcome::Duplicate),
        binding.prop_map(|binding| Outcome::Moved(Box::new(binding))),
        (reason(), seconds()).prop_map(|(reason, after)| Outcome::retry(reason, after)),
        reason().prop_map(Outcome::reject),
    ]
}

fn server_message() -> impl Strategy<Value = ServerMessage> {
    let entry = (any::<u64>(), envelope()).prop_map(|(id, envelope)| Entry::new(EntryId(id), envelope));
    prop_oneof![
        vec(entry, 0..4).prop_map(ServerMessage::Entries),
        envelope().prop_map(ServerMessage::Ephemeral),
    ]
}

/// What holds for the bytes of any message: they are the only ones for it, and none of them is idle.
fn check_bytes(form: &Form, encoded: &Bytes) -> Result<(), TestCaseError> {
    let again = (form.redo)(encoded);
    prop_assert_eq!(again, Ok(Some(encoded.clone())), "{}", form.name);
    for end in 0..encoded.len() {
        let prefix = (form.redo)(&encoded.slice(..end));
        prop_assert!(
            matches!(prefix, Err(WireError::Malformed(_))),
            "{} cut to {} of {} bytes: {:?}",
            form.name,
            end,
            encoded.len(),
            prefix
        );
    }
    let longer = Bytes::from([&encoded[..], &[0]].concat());
    prop_assert_eq!((form.redo)(&longer), Err(WireError::Malformed("bytes follow its end")), "{}", form.name);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn envelopes(draft in draft()) {
        let envelope = draft.clone().finish().unwrap();
        let read = forms::draft_of(&Envelope::decode(envelope.encoded().clone()).unwrap());
        prop_assert_eq!((read.id, read.mailbox, read.device), (draft.id, draft.mailbox, draft.device));
        prop_assert_eq!((read.expires_at, read.urgency), (draft.expires_at, draft.urgency));
        prop_assert_eq!((read.header, read.body), (draft.header, draft.body));
        prop_assert_eq!(read.attachments, draft.attachments);
        check_bytes(&forms::ENVELOPE, envelope.encoded())?;
    }

    #[test]
    fn submit_requests(items in vec((domain(), envelope()), 0..4)) {
        let encoded = submit::encode_request(&items);
        let read: Vec<_> = submit::decode_request(&encoded).unwrap().into_iter().map(Result::unwrap).collect();
        prop_assert_eq!(read, items);
        check_bytes(&forms::SUBMIT_REQUEST, &encoded)?;
    }

    #[test]
    fn submit_results(results in vec(submit_result(), 0..6)) {
        let encoded = submit::encode_results(&results);
        prop_assert_eq!(submit::decode_results(&encoded), Ok(results));
        check_bytes(&forms::SUBMIT_RESULTS, &encoded)?;
    }

    #[test]
    fn forward_requests(envelopes in vec(envelope(), 0..4)) {
        let encoded = forward::encode_request(envelopes.iter());
        let read: Vec<_> = forward::decode_request(&encoded).unwrap().into_iter().map(Result::unwrap).collect();
        prop_assert_eq!(read, envelopes);
        check_bytes(&forms::FORWARD_REQUEST, &encoded)?;
    }

    #[test]
    fn forward_outcomes(outcomes in vec(outcome(), 0..6)) {
        let encoded = forward::encode_outcomes(&outcomes);
        prop_assert_eq!(forward::decode_outcomes(&encoded), Ok(outcomes));
        check_bytes(&forms::FORWARD_OUTCOMES, &encoded)?;
    }

    #[test]
    fn server_messages(message in server_message()) {
        let encoded = message.encode();
        prop_assert_eq!(ServerMessage::decode(&encoded), Ok(message));
        check_bytes(&forms::SERVER_MESSAGE, &encoded)?;
    }

    #[test]
    fn device_messages(entries in vec(any::<u64>().prop_map(EntryId), 0..20)) {
        let message = DeviceMessage::Acknowledge(entries);
        let encoded = message.encode();
        prop_assert_eq!(DeviceMessage::decode(&encoded), Ok(message));
        check_bytes(&forms::DEVICE_MESSAGE, &encoded)?;
    }

    #[test]
    fn a_version_of_the_future_is_named(version in any::<u32>(), rest in vec(any::<u8>(), 0..100)) {
        prop_assume!(version != VERSION);
        let bytes = Bytes::from([&version.to_be_bytes()[..], &rest].concat());
        for form in forms::ALL {
            prop_assert_eq!((form.redo)(&bytes), Err(WireError::UnsupportedVersion(version)), "{}", form.name);
        }
    }

    #[test]
    fn noise_is_no_panic(rest in vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from([&VERSION.to_be_bytes()[..], &rest].concat());
        for form in forms::ALL {
            let _ = (form.redo)(&bytes);
        }
    }
}
