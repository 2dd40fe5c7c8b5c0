//! Bytes that somebody has made up to do harm.
//!
//! What a decoder may allocate is bounded by the input, which the edge has bounded before. Byte strings and texts are
//! borrowed: bincode takes them out of the input, or fails when it is shorter than their length says. A list is
//! allocated by serde, which reserves for at most 1 MiB of elements whatever the count says (`MAX_PREALLOC_BYTES` in
//! its `size_hint::cautious`) and grows only as elements are read, each of which uses up input: an entry 16 bytes, an
//! acknowledged id 8, an attachment 44, none of them much smaller than in memory. The items of a batch, which may
//! have 4 bytes and become over a hundred, are counted first and are at most [`MAX_BATCH_ENVELOPES`].

use std::time::Duration;

use bytes::Bytes;
use postrider_common::limits::{MAX_BATCH_ENVELOPES, MAX_ENVELOPE_BYTES, MAX_MESSAGE_BYTES};
use postrider_common::wire::mailbox::{DeviceMessage, Entry, ServerMessage};
use postrider_common::wire::submit::{self, SubmitResult};
use postrider_common::wire::{VERSION, WireError, forward};
use postrider_common::{Draft, EntryId, Envelope, FailureClass, MailboxId, Outcome, Timestamp};

use crate::forms::{self, Form};
use crate::vectors;

/// Decodes `bytes`, which must not panic; a message that comes out must be one that can be written and read again.
fn check_decodes_or_not(form: &Form, bytes: &Bytes) {
    if let Ok(Some(again)) = (form.redo)(bytes) {
        assert_eq!((form.redo)(&again), Ok(Some(again.clone())), "{}", form.name);
    }
}

#[test]
fn a_changed_byte_is_an_error_or_another_message() {
    for (name, form) in vectors::MESSAGES {
        let original = vectors::bytes(name);
        for position in 0..original.len() {
            for change in [0x01, 0x02, 0x80, 0xff] {
                let mut bytes = original.to_vec();
                bytes[position] ^= change;
                let bytes = Bytes::from(bytes);
                // The bytes of the version are the same everywhere.
                if position < 4 {
                    assert!(matches!((form.redo)(&bytes), Err(WireError::UnsupportedVersion(_))));
                }
                check_decodes_or_not(form, &bytes);
            }
        }
    }
}

#[test]
fn a_huge_number_anywhere_is_no_panic() {
    for (name, form) in vectors::MESSAGES {
        let original = vectors::bytes(name);
        for position in 4..original.len() - 8 {
            for number in [u64::MAX, 1 << 63, 1 << 32, MAX_MESSAGE_BYTES as u64] {
                let mut bytes = original.to_vec();
                bytes[position..position + 8].copy_from_slice(&number.to_be_bytes());
                check_decodes_or_not(form, &bytes.into());
            }
        }
    }
}

/// Version 1, then these parts.
fn message(parts: &[&[u8]]) -> Bytes {
    [&VERSION.to_be_bytes()[..], &parts.concat()].concat().into()
}

#[test]
fn a_length_without_the_bytes_is_an_error() {
    let malformed = Err(WireError::Malformed("its fields do not decode"));
    for length in [1, 1 << 20, 1 << 32, u64::MAX] {
        let length = length.to_be_bytes();
        // An envelope with no device: 57 bytes of fields and 4 of urgency before the first length.
        let envelope = message(&[&[0; 61], &length]);
        assert_eq!((forms::ENVELOPE.redo)(&envelope), malformed);
        let attachments = message(&[&[0; 61], &[0; 8], &1_u64.to_be_bytes(), b"b", &length]);
        assert_eq!((forms::ENVELOPE.redo)(&attachments), malformed);
        let entries = message(&[&[0; 4], &length]);
        assert_eq!((forms::SERVER_MESSAGE.redo)(&entries), malformed);
        assert_eq!((forms::DEVICE_MESSAGE.redo)(&entries), malformed);
        // One item, whose domain, envelope or reason is that long.
        let item = message(&[&1_u64.to_be_bytes(), &length]);
        assert_eq!((forms::SUBMIT_REQUEST.redo)(&item), malformed);
        assert_eq!((forms::FORWARD_REQUEST.redo)(&item), malformed);
        let refused = message(&[&1_u64.to_be_bytes(), &2_u32.to_be_bytes(), &length]);
        assert_eq!((forms::SUBMIT_RESULTS.redo)(&refused), malformed);
        let reject = message(&[&1_u64.to_be_bytes(), &4_u32.to_be_bytes(), &length]);
        assert_eq!((forms::FORWARD_OUTCOMES.redo)(&reject), malformed);
    }
}

#[test]
fn the_items_of_a_batch_are_counted_before_they_are_read() {
    let batches =
        [forms::SUBMIT_REQUEST, forms::SUBMIT_RESULTS, forms::FORWARD_REQUEST, forms::FORWARD_OUTCOMES];
    for form in batches {
        for count in [MAX_BATCH_ENVELOPES as u64 + 1, 1 << 32, u64::MAX] {
            let bytes = message(&[&count.to_be_bytes()]);
            assert_eq!((form.redo)(&bytes), Err(WireError::TooLarge), "{}", form.name);
        }
        let most = message(&[&(MAX_BATCH_ENVELOPES as u64).to_be_bytes()]);
        assert!(matches!((form.redo)(&most), Err(WireError::Malformed(_))), "{}", form.name);
    }
}

#[test]
fn the_largest_batch_passes_and_a_larger_one_does_not() {
    let stored = |count| forward::encode_outcomes(&vec![Outcome::Stored; count]);
    let read = forward::decode_outcomes(&stored(MAX_BATCH_ENVELOPES));
    assert_eq!(read.unwrap().len(), MAX_BATCH_ENVELOPES);
    let more = forward::decode_outcomes(&stored(MAX_BATCH_ENVELOPES + 1));
    assert_eq!(more, Err(WireError::TooLarge));

    let entry = Entry::new(EntryId(1), Envelope::decode(vectors::bytes("envelope-minimal")).unwrap());
    let entries = |count| ServerMessage::Entries(vec![entry.clone(); count]).encode();
    assert!(ServerMessage::decode(&entries(MAX_BATCH_ENVELOPES)).is_ok());
    let more = ServerMessage::decode(&entries(MAX_BATCH_ENVELOPES + 1));
    assert_eq!(more, Err(WireError::TooLarge));

    let acknowledged = |count| DeviceMessage::Acknowledge(vec![EntryId(1); count]).encode();
    assert!(DeviceMessage::decode(&acknowledged(MAX_BATCH_ENVELOPES)).is_ok());
    let more = DeviceMessage::decode(&acknowledged(MAX_BATCH_ENVELOPES + 1));
    assert_eq!(more, Err(WireError::TooLarge));
}

#[test]
fn more_bytes_than_any_message_has_are_not_looked_at() {
    for form in forms::ALL {
        let bytes = Bytes::from(vec![0; MAX_MESSAGE_BYTES + 1]);
        assert_eq!((form.redo)(&bytes), Err(WireError::TooLarge), "{}", form.name);
    }
    let envelope = Envelope::decode(vec![0; MAX_ENVELOPE_BYTES + 1].into());
    assert_eq!(envelope, Err(WireError::TooLarge));
}

/// The wire form of a list of framed envelopes, whatever is in the frames.
fn framed(frames: &[&[u8]]) -> Bytes {
    let mut bytes = message(&[&(frames.len() as u64).to_be_bytes()]).to_vec();
    for frame in frames {
        bytes.extend_from_slice(&(frame.len() as u64).to_be_bytes());
        bytes.extend_from_slice(frame);
    }
    bytes.into()
}

/// As [`framed`], each for `alpha.example`.
fn submitted(frames: &[&[u8]]) -> Bytes {
    let mut bytes = message(&[&(frames.len() as u64).to_be_bytes()]).to_vec();
    for frame in frames {
        for part in [b"alpha.example", *frame] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
    }
    bytes.into()
}

#[test]
fn one_bad_envelope_is_refused_alone() {
    let good = vectors::bytes("envelope-minimal");
    let envelope = Envelope::decode(good.clone()).unwrap();
    let cut = good.slice(..good.len() - 1);
    let future = [&2_u32.to_be_bytes()[..], b"whatever"].concat();
    let huge = vec![0; MAX_ENVELOPE_BYTES + 1];
    let frames: [&[u8]; 6] = [&good, &cut, &future, &huge, b"", &good];
    let expected = [
        Ok(envelope.clone()),
        Err(FailureClass::Malformed),
        Err(FailureClass::VersionUnsupported),
        Err(FailureClass::TooLarge),
        Err(FailureClass::Malformed),
        Ok(envelope),
    ];
    assert_eq!(forward::decode_request(&framed(&frames)).unwrap(), expected);

    let submitted = submit::decode_request(&submitted(&frames)).unwrap();
    let submitted: Vec<_> = submitted.into_iter().map(|item| item.map(|(_, envelope)| envelope)).collect();
    assert_eq!(submitted, expected);
}

#[test]
fn one_bad_domain_is_refused_alone() {
    let good = vectors::bytes("submit-request");
    let mut bytes = good.to_vec();
    // The first domain begins after the version, the count and its own length.
    bytes[20] = b'A';
    let read = submit::decode_request(&bytes.into()).unwrap();
    assert_eq!(read[0], Err(FailureClass::Malformed));
    assert!(read[1].is_ok());
}

#[test]
fn an_entry_that_is_no_envelope_makes_the_message_wrong() {
    let envelope = vectors::bytes("envelope-minimal");
    let ephemeral = |frame: &[u8]| {
        let length = (frame.len() as u64).to_be_bytes();
        ServerMessage::decode(&message(&[&1_u32.to_be_bytes(), &length, frame]))
    };
    assert!(ephemeral(&envelope).is_ok());
    assert!(matches!(ephemeral(&envelope[1..]), Err(WireError::Malformed(_))));
}

#[test]
fn a_reason_of_the_future_says_at_least_whether_to_come_back() {
    let reason = |variant: u32, rest: &[u8]| {
        let text = b"something-new";
        message(&[
            &1_u64.to_be_bytes(),
            &variant.to_be_bytes(),
            &(text.len() as u64).to_be_bytes(),
            text,
            rest,
        ])
    };
    let come_back = forward::decode_outcomes(&reason(3, &9_u32.to_be_bytes())).unwrap();
    let expected = Outcome::retry(FailureClass::RemoteFailed, Duration::from_secs(9));
    assert_eq!(come_back, [expected]);
    let never = forward::decode_outcomes(&reason(4, &[])).unwrap();
    assert_eq!(never, [Outcome::reject(FailureClass::MailboxRefused)]);

    let later = submit::decode_results(&reason(2, &[1, 0, 0, 0, 9])).unwrap();
    let expected = SubmitResult::Refused {
        reason: FailureClass::Unavailable,
        retry_after: Some(Duration::from_secs(9)),
    };
    assert_eq!(later, [expected]);
    let final_ = submit::decode_results(&reason(2, &[0])).unwrap();
    let expected = SubmitResult::Refused { reason: FailureClass::MailboxRefused, retry_after: None };
    assert_eq!(final_, [expected]);
}

#[test]
fn a_forged_binding_leaves_custody_where_it_is() {
    let mut bytes = vectors::bytes("forward-outcomes").to_vec();
    let signature = vectors::bytes("binding-signature");
    let at = bytes.windows(signature.len()).position(|window| window == signature).unwrap();
    bytes[at] ^= 1;
    let outcomes = forward::decode_outcomes(&bytes).unwrap();
    assert_eq!(outcomes[2], Outcome::retry(FailureClass::RemoteFailed, Duration::ZERO));
    assert_eq!(outcomes.len(), 5);
}

#[test]
fn a_duration_is_rounded_up() {
    let soon = Outcome::retry(FailureClass::MailboxFull, Duration::from_millis(1));
    let read = forward::decode_outcomes(&forward::encode_outcomes(&[soon])).unwrap();
    assert_eq!(read, [Outcome::retry(FailureClass::MailboxFull, Duration::from_secs(1))]);
}

#[test]
fn an_expiry_beyond_all_time_is_read() {
    let mailbox = MailboxId::from_bytes([1; 32]);
    let envelope = Draft::new(mailbox, Timestamp::from_millis(u64::MAX), &b"body"[..]).finish().unwrap();
    let mut bytes = envelope.encoded().to_vec();
    // After the version, the id, the mailbox and the absent device.
    bytes[53..61].copy_from_slice(&u64::MAX.to_be_bytes());
    let read = Envelope::decode(bytes.into()).unwrap();
    assert_eq!(read.expires_at(), Timestamp::from_millis(u64::MAX));
}
