//! The golden vectors in `docs/vectors`, each against the encoder and the decoder.
//!
//! **A released vector never changes.** Clients and relays that cannot be recalled write and read these bytes. When
//! one of these tests fails, the code is wrong, not the file. A new version of a message gets files of its own.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use ed25519_dalek::{Signer, SigningKey};
use postrider_common::wire::control::{Nonce, session_proof};
use postrider_common::wire::mailbox::{DeviceMessage, Entry, ServerMessage};
use postrider_common::wire::submit::{self, SubmitResult};
use postrider_common::wire::{WireError, forward};
use postrider_common::{
    Attachment, AttachmentId, Binding, DeviceId, Domain, Draft, EntryId, Envelope, EnvelopeId, FailureClass,
    MailboxId, Outcome, Timestamp, TrackingId, Urgency,
};

use crate::forms::{self, Form};

/// Each file that is a message, and which kind it is.
pub(crate) const MESSAGES: [(&str, &Form); 9] = [
    ("envelope-minimal", &forms::ENVELOPE),
    ("envelope-full", &forms::ENVELOPE),
    ("submit-request", &forms::SUBMIT_REQUEST),
    ("submit-results", &forms::SUBMIT_RESULTS),
    ("forward-request", &forms::FORWARD_REQUEST),
    ("forward-outcomes", &forms::FORWARD_OUTCOMES),
    ("server-entries", &forms::SERVER_MESSAGE),
    ("server-ephemeral", &forms::SERVER_MESSAGE),
    ("device-acknowledge", &forms::DEVICE_MESSAGE),
];

/// Each file that is not: what is signed, and the signatures.
const SIGNED: [&str; 4] = ["session-proof", "session-proof-signature", "binding", "binding-signature"];

pub(crate) fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors")
}

/// A file's text.
pub(crate) fn text(name: &str) -> String {
    fs::read_to_string(directory().join(name).with_extension("hex")).unwrap()
}

/// A file's bytes: what stands before each `#`, in lower-case hexadecimal.
pub(crate) fn bytes(name: &str) -> Bytes {
    let digits: String =
        text(name).lines().flat_map(|line| line.split('#').next()).flat_map(str::split_whitespace).collect();
    HEXLOWER.decode(digits.as_bytes()).unwrap().into()
}

/// `N` bytes that count up from `first`.
fn counting<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|i| first + u8::try_from(i).unwrap())
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&counting(0))
}

fn mailbox() -> MailboxId {
    MailboxId::from_bytes(key().verifying_key().to_bytes())
}

fn device() -> DeviceId {
    DeviceId::from_bytes(counting(0x40))
}

fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

fn binding() -> Binding {
    Binding::sign(&key(), domain("beta.example"), 7)
}

fn minimal() -> Draft {
    Draft {
        id: EnvelopeId::from_bytes(counting(0)),
        mailbox: mailbox(),
        device: None,
        expires_at: Timestamp::from_secs(1_796_083_200),
        urgency: Urgency::Normal,
        header: Bytes::new(),
        body: Bytes::from_static(b"ciphertext"),
        attachments: Vec::new(),
    }
}

fn envelope_minimal() -> Envelope {
    minimal().finish().unwrap()
}

fn envelope_full() -> Envelope {
    let attachment =
        |id, length, chunk_length| Attachment { id: AttachmentId::from_bytes(id), length, chunk_length };
    let draft = Draft {
        id: EnvelopeId::from_bytes(counting(0x10)),
        device: Some(device()),
        urgency: Urgency::Urgent,
        header: Bytes::from_static(b"wrapped key"),
        body: Bytes::from_static(b"another ciphertext"),
        attachments: vec![attachment(counting(0x60), 1_000_000, 65_536), attachment([0xff; 32], 1, 1)],
        ..minimal()
    };
    draft.finish().unwrap()
}

/// That `value` is written as the file says, and read back from it.
fn check<T: PartialEq + std::fmt::Debug>(
    name: &str,
    value: &T,
    encoded: &[u8],
    decode: impl Fn(&Bytes) -> Result<T, WireError>,
) {
    let golden = bytes(name);
    assert_eq!(HEXLOWER.encode(encoded), HEXLOWER.encode(&golden), "{name}");
    assert_eq!(decode(&golden).as_ref(), Ok(value), "{name}");
}

#[test]
fn envelopes() {
    for (name, envelope) in [("envelope-minimal", envelope_minimal()), ("envelope-full", envelope_full())] {
        check(name, &envelope, envelope.encoded(), |bytes| Envelope::decode(bytes.clone()));
    }
}

#[test]
fn submissions() {
    let items =
        vec![(domain("alpha.example"), envelope_minimal()), (domain("beta.example"), envelope_full())];
    let request = submit::encode_request(&items);
    let submitted = items.into_iter().map(Ok).collect();
    check("submit-request", &submitted, &request, submit::decode_request);

    let results = vec![
        SubmitResult::Stored,
        SubmitResult::Queued { tracking: TrackingId::from_bytes(counting(0xa0)) },
        SubmitResult::Refused { reason: FailureClass::TooLarge, retry_after: None },
        SubmitResult::Refused {
            reason: FailureClass::RateLimited,
            retry_after: Some(Duration::from_secs(30)),
        },
    ];
    let answer = submit::encode_results(&results);
    check("submit-results", &results, &answer, |bytes| submit::decode_results(bytes));
}

#[test]
fn forwarding() {
    let envelopes = [envelope_minimal(), envelope_full()];
    let request = forward::encode_request(envelopes.iter());
    let read = envelopes.into_iter().map(Ok).collect();
    check("forward-request", &read, &request, forward::decode_request);

    let outcomes = vec![
        Outcome::Stored,
        Outcome::Duplicate,
        Outcome::Moved(Box::new(binding())),
        Outcome::retry(FailureClass::MailboxFull, Duration::from_secs(600)),
        Outcome::reject(FailureClass::NoSuchMailbox),
    ];
    let answer = forward::encode_outcomes(&outcomes);
    check("forward-outcomes", &outcomes, &answer, |bytes| forward::decode_outcomes(bytes));
}

#[test]
fn the_mailbox() {
    let entry = |id, envelope| Entry::new(EntryId(id), envelope);
    let entries = ServerMessage::Entries(vec![entry(41, envelope_minimal()), entry(300, envelope_full())]);
    check("server-entries", &entries, &entries.encode(), ServerMessage::decode);

    let typing = Draft { urgency: Urgency::Ephemeral, body: Bytes::from_static(b"typing"), ..minimal() };
    let ephemeral = ServerMessage::Ephemeral(typing.finish().unwrap());
    check("server-ephemeral", &ephemeral, &ephemeral.encode(), ServerMessage::decode);

    let acknowledge = DeviceMessage::Acknowledge(vec![EntryId(41), EntryId(300)]);
    check("device-acknowledge", &acknowledge, &acknowledge.encode(), |bytes| DeviceMessage::decode(bytes));
}

#[test]
fn a_session_is_proven() {
    let proof = session_proof(&domain("alpha.example"), &Nonce(counting(0xc0)), &mailbox(), &device());
    assert_eq!(proof, bytes("session-proof"));
    assert_eq!(key().sign(&proof).to_bytes()[..], bytes("session-proof-signature"));
}

#[test]
fn a_binding_is_signed() {
    // The signature of the library is over what the other file says.
    let signature = key().sign(&bytes("binding")).to_bytes();
    assert_eq!(signature[..], bytes("binding-signature"));
    assert_eq!(binding().signature(), &signature);
    assert_eq!(Binding::verify(mailbox(), domain("beta.example"), 7, signature), Ok(binding()));
}

#[test]
fn every_file_is_checked() {
    let mut found: Vec<_> = fs::read_dir(directory())
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort_unstable();
    let mut known: Vec<_> = MESSAGES.iter().map(|(name, _)| *name).chain(SIGNED).collect();
    known.sort_unstable();
    assert_eq!(found, known);
}
