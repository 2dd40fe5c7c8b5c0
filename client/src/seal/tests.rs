//! What `seal` and `open` promise.

use std::time::Duration;

use bytes::Bytes;
use postrider_common::secret::Secret;
use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn identity(domain: &str) -> Identity {
    Identity::generate(domain.parse().unwrap())
}

fn sealed(from: &Identity, to: &Identity, message: &[u8]) -> Envelope {
    seal_at(NOW, from, to.card(), message, &SealOptions::default()).unwrap()
}

#[test]
fn opens_for_the_recipient_and_names_the_sender() {
    let (alice, bob) = (identity("a.example"), identity("b.example"));
    let options =
        SealOptions { device: Some(*bob.device()), urgency: Urgency::Urgent, ..SealOptions::default() };
    let envelope = seal_at(NOW, &alice, bob.card(), b"hello", &options).unwrap();
    assert_eq!(envelope.mailbox(), bob.card().mailbox());
    assert_eq!((envelope.device(), envelope.urgency()), (Some(bob.device()), Urgency::Urgent));
    let opened = bob.open(&envelope).unwrap();
    assert_eq!((&opened.sender, opened.message.as_slice()), (alice.address(), &b"hello"[..]));
    assert!(!format!("{opened:?}").contains("104, 101"), "no message in {opened:?}");
}

#[test]
fn the_expiry_is_a_full_hour() {
    let (alice, bob) = (identity("a.example"), identity("b.example"));
    let envelope = sealed(&alice, &bob, b"x");
    assert_eq!(envelope.expires_at().as_secs() % 3600, 0);
    let ahead = envelope.expires_at().since(NOW + SealOptions::default().expires_in);
    assert!(envelope.expires_at() >= NOW + SealOptions::default().expires_in);
    assert!(ahead < Duration::from_secs(3600));
}

#[test]
fn every_class_is_filled_exactly_and_no_byte_is_wasted() {
    let (alice, bob) = (identity("a.example"), identity("b.example"));
    let overhead = OUTSIDE + INSIDE + "a.example".len();
    for (nth, class) in SIZE_CLASSES.into_iter().enumerate().skip(2) {
        let full = (class - overhead).min(max_message_bytes());
        let envelope = sealed(&alice, &bob, &vec![7; full]);
        assert_eq!(envelope.body().len(), class);
        assert_eq!(bob.open(&envelope).unwrap().message, vec![7; full]);
        if let Some(next) = SIZE_CLASSES.get(nth + 1) {
            assert_eq!(sealed(&alice, &bob, &vec![7; full + 1]).body().len(), *next);
        }
    }
    assert_eq!(sealed(&alice, &bob, b"").body().len(), 2048);
}

#[test]
fn the_longest_message_fits_the_longest_domain() {
    let long = format!("{}.example", ["a".repeat(63), "b".repeat(63), "c".repeat(63)].join("."));
    assert_eq!(long.len(), 199);
    let (alice, bob) = (identity(&long), identity("b.example"));
    let message = vec![1; max_message_bytes()];
    assert_eq!(bob.open(&sealed(&alice, &bob, &message)).unwrap().message, message);
    let longer = vec![1; max_message_bytes() + 1];
    assert_eq!(
        seal(&identity("a"), bob.card(), &longer, &SealOptions::default()),
        Err(SealError::TooLong { length: longer.len(), limit: max_message_bytes() }),
        "the limit does not depend on the domain"
    );
}

#[test]
fn nobody_else_opens_it() {
    let (alice, bob, eve) = (identity("a.example"), identity("b.example"), identity("b.example"));
    let envelope = sealed(&alice, &bob, b"secret");
    assert_eq!(eve.open(&envelope), Err(OpenError::NotForUs));
    let mut redirected = Outside::of(&envelope);
    redirected.mailbox = *eve.card().mailbox();
    let redirected = redirected.with_body(envelope.body().to_vec()).unwrap();
    assert_eq!(eve.open(&redirected), Err(OpenError::Decryption));
}

#[test]
fn any_changed_byte_is_noticed() {
    let (alice, bob) = (identity("a.example"), identity("b.example"));
    let encoded = sealed(&alice, &bob, b"hello").encoded().to_vec();
    let body_starts = encoded.len() - 2048 - 8;
    // Every byte of the outside, and a sample of the body.
    for at in (0..body_starts).chain((body_starts..encoded.len()).step_by(29)) {
        let mut changed = encoded.clone();
        changed[at] ^= 1;
        let opened = Envelope::decode(Bytes::from(changed)).map(|envelope| bob.open(&envelope));
        assert!(!matches!(opened, Ok(Ok(_))), "byte {at}");
    }
}

#[test]
fn a_recipient_cannot_pass_a_message_on_as_the_senders() {
    let (alice, bob, carol) = (identity("a.example"), identity("b.example"), identity("c.example"));
    let envelope = sealed(&alice, &bob, b"I quit");
    let (encapsulated, ciphertext) = parts(&envelope).unwrap();
    let associated = Outside::of(&envelope).associated_data();
    let plaintext = suite::open(bob.seed(), encapsulated, INFO, ciphertext, &associated).unwrap();

    let mut outside = Outside::of(&envelope);
    outside.mailbox = *carol.card().mailbox();
    let sealer = Sealer::new(carol.card().public_key(), INFO).unwrap();
    let mut body = [&[VERSION], sealer.encapsulated().as_slice()].concat();
    body.extend(sealer.seal(&plaintext, &outside.associated_data()).unwrap());
    let forged = outside.with_body(body).unwrap();
    assert_eq!(carol.open(&forged), Err(OpenError::Signature));
}

#[test]
fn nobody_writes_in_anothers_name() {
    let (alice, mallory, bob) = (identity("a.example"), identity("a.example"), identity("b.example"));
    let outside = Outside::of(&sealed(&mallory, &bob, b"pay"));
    let associated = outside.associated_data();
    let sealer = Sealer::new(bob.card().public_key(), INFO).unwrap();
    let signed =
        signed_bytes(alice.domain(), bob.card().mailbox(), sealer.encapsulated(), &associated, b"pay");
    let plaintext = plaintext(alice.address(), &mallory.sign(&signed), 3, b"pay").unwrap();
    let mut body = [&[VERSION], sealer.encapsulated().as_slice()].concat();
    body.extend(sealer.seal(&plaintext, &associated).unwrap());
    let forged = outside.with_body(body).unwrap();
    assert_eq!(bob.open(&forged), Err(OpenError::Signature));
}

#[test]
fn other_formats_are_told_apart() {
    let bob = identity("b.example");
    for body in [vec![1], vec![2; 2048], vec![1; 2047], vec![1; 512]] {
        let envelope = Draft::new(*bob.card().mailbox(), NOW, body).finish().unwrap();
        assert_eq!(bob.open(&envelope), Err(OpenError::UnknownFormat));
    }
    let header =
        Draft { header: Bytes::from_static(b"h"), ..Draft::new(*bob.card().mailbox(), NOW, vec![1; 2048]) };
    assert_eq!(bob.open(&header.finish().unwrap()), Err(OpenError::UnknownFormat));
}

fn file(byte: u8, name: &str) -> AttachedFile {
    let id = postrider_common::AttachmentId::from_bytes([byte; 32]);
    let attachment = Attachment { id, length: 5000, chunk_length: 4096 };
    AttachedFile { name: name.into(), length: 4321, attachment, key: Secret::new([byte; 32]) }
}

#[test]
fn what_is_attached_comes_with_its_keys_and_cannot_be_exchanged() {
    let (alice, bob) = (identity("a.example"), identity("b.example"));
    let files = [file(1, "one.txt"), file(2, "zwei ü")];
    let options = SealOptions::default();
    let envelope = seal_with(NOW, &alice, bob.card(), b"look", &files, &options).unwrap();
    assert_eq!(envelope.attachments().len(), 2);
    let opened = bob.open(&envelope).unwrap();
    assert_eq!((opened.message.as_slice(), opened.files.as_slice()), (&b"look"[..], &files[..]));
    assert!(!format!("{:?}", opened.files).contains("1, 1, 1"), "no key in {opened:?}");

    let mut other = Outside::of(&envelope);
    other.attachments.swap(0, 1);
    let other = other.with_body(envelope.body().to_vec()).unwrap();
    assert_eq!(bob.open(&other), Err(OpenError::Decryption));
    let mut without = Outside::of(&envelope);
    without.attachments.clear();
    let without = without.with_body(envelope.body().to_vec()).unwrap();
    assert_eq!(bob.open(&without), Err(OpenError::UnknownFormat));
}

#[test]
fn a_message_with_too_much_says_what_is_too_much() {
    let (alice, bob) = (identity("a.example"), identity("b.example"));
    let sealed = |bytes: usize, files: &[AttachedFile]| {
        seal_with(NOW, &alice, bob.card(), &vec![b'x'; bytes], files, &SealOptions::default())
    };
    let files: Vec<_> = (0..17).map(|n| file(n, "x")).collect();
    let error = sealed(1, &files).unwrap_err();
    assert_eq!(error.to_string(), "a message has at most 16 files, this one has 17");
    let most = max_message_bytes() - 16 * 42;
    sealed(most, &files[..16]).unwrap();
    let error = sealed(most + 1, &files[..16]).unwrap_err();
    assert_eq!(error, SealError::TooLong { length: most + 1, limit: most });
    let said = format!("a message has at most {most} bytes beside its files, this one has {}", most + 1);
    assert_eq!(error.to_string(), said);
}

/// Released formats are read for ever: these were written by the first version.
#[test]
fn the_first_versions_card_and_envelope_are_read() {
    let fixed = |domain: &str, byte| {
        let (signing, seed) = (Secret::new([byte; 32]), Secret::new([byte + 1; 32]));
        Identity::from_parts(domain.parse().unwrap(), &signing, seed, DeviceId::from_bytes([byte; 32]))
    };
    let (alice, bob) = (fixed("a.example", 1), fixed("b.example", 3));
    let card = include_str!("../../vectors/card-v1.txt");
    assert_eq!(card.parse::<ContactCard>().unwrap(), *bob.card());
    assert_eq!(card.trim_end(), bob.card().to_string());

    let envelope = include_str!("../../vectors/envelope-v1.hex").trim_end();
    let envelope = data_encoding::HEXLOWER.decode(envelope.as_bytes()).unwrap();
    let opened = bob.open(&Envelope::decode(envelope.into()).unwrap()).unwrap();
    assert_eq!((&opened.sender, opened.message.as_slice()), (alice.address(), &b"hello"[..]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn round_trips_at_any_size(message in proptest::collection::vec(any::<u8>(), 0..9000)) {
        let (alice, bob) = (identity("a.example"), identity("b.example"));
        let envelope = sealed(&alice, &bob, &message);
        prop_assert!(SIZE_CLASSES.contains(&envelope.body().len()));
        prop_assert_eq!(bob.open(&envelope).unwrap().message, message);
    }

    #[test]
    fn whatever_is_inside_is_read_without_a_panic(plaintext in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Inside::read(&plaintext, &[]);
    }
}
