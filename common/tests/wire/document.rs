//! `docs/protocol.md` against the code: the examples in it are the golden vectors and real documents, and its tables
//! have the numbers and words that the code has.
//!
//! An example is a fenced block whose opening line says which: ` ```hex envelope-minimal ` is a file in `docs/vectors`,
//! ` ```json Problem ` a document of that type.

use std::collections::BTreeSet;
use std::fs;

use data_encoding::HEXLOWER;
use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use postrider_common::limits::{
    MAX_ATTACHMENTS, MAX_BATCH_ENVELOPES, MAX_CHUNK_BYTES, MAX_CHUNKS, MAX_ENVELOPE_BYTES, MAX_MESSAGE_BYTES,
};
use postrider_common::wire::attachments::{
    AttachmentOffer, AttachmentStatus, AttachmentsWanted, ReserveAttachment,
};
use postrider_common::wire::control::{
    BindingStatement, Challenge, Devices, NamedDevice, Nonce, PROBLEM_CONTENT_TYPE, PROBLEM_TYPE_PREFIX,
    Problem, Registered, Registration, RelayInfo, SessionGranted, SessionRequest, TrackingStatus,
    session_proof,
};
use postrider_common::wire::{CONTENT_TYPE, MAX_REASON};
use postrider_common::{Domain, FailureClass, Persistence};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::vectors;

fn document() -> String {
    fs::read_to_string(vectors::directory().join("../protocol.md")).unwrap()
}

/// The fenced blocks of a language: the word after it, and the lines between the fences.
fn examples(language: &str) -> Vec<(String, String)> {
    let document = document();
    let mut examples = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        let Some(opening) = line.strip_prefix("```") else {
            continue;
        };
        let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        if let Some((found, name)) = opening.split_once(' ')
            && found == language
        {
            examples.push((name.to_owned(), block.join("\n") + "\n"));
        }
    }
    examples
}

/// The one document of a type.
fn example<T: DeserializeOwned>(name: &str) -> T {
    let (_, text) = examples("json").into_iter().find(|(found, _)| found == name).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The cells of each table row that has this many, without the backquotes.
fn rows<const N: usize>() -> Vec<[String; N]> {
    document()
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .filter_map(|row| {
            let cells: Vec<_> = row.split(" | ").map(|cell| cell.replace('`', "")).collect();
            cells.try_into().ok()
        })
        .collect()
}

#[test]
fn it_quotes_every_vector_word_for_word() {
    let examples = examples("hex");
    for (name, block) in &examples {
        assert_eq!(*block, vectors::text(name), "{name}");
    }
    let quoted: BTreeSet<_> = examples.into_iter().map(|(name, _)| name).collect();
    let files = fs::read_dir(vectors::directory()).unwrap().map(|file| {
        let path = file.unwrap().path();
        path.file_stem().unwrap().to_str().unwrap().to_owned()
    });
    assert_eq!(quoted, files.collect());
}

/// That `text` is a `T` of which no field is left out or made up.
fn check_json<T: Serialize + DeserializeOwned>(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap();
    let parsed: T = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_value(parsed).unwrap(), value);
}

#[test]
fn its_json_documents_are_real() {
    let mut seen = BTreeSet::new();
    for (name, text) in examples("json") {
        match name.as_str() {
            "RelayInfo" => check_json::<RelayInfo>(&text),
            "Challenge" => check_json::<Challenge>(&text),
            "SessionRequest" => check_json::<SessionRequest>(&text),
            "SessionGranted" => check_json::<SessionGranted>(&text),
            "NamedDevice" => check_json::<NamedDevice>(&text),
            "Devices" => check_json::<Devices>(&text),
            "BindingStatement" => check_json::<BindingStatement>(&text),
            "Registration" => check_json::<Registration>(&text),
            "Registered" => check_json::<Registered>(&text),
            "TrackingStatus" => check_json::<TrackingStatus>(&text),
            "ReserveAttachment" => check_json::<ReserveAttachment>(&text),
            "AttachmentStatus" => check_json::<AttachmentStatus>(&text),
            "AttachmentOffer" => check_json::<AttachmentOffer>(&text),
            "AttachmentsWanted" => check_json::<AttachmentsWanted>(&text),
            "Problem" => check_json::<Problem>(&text),
            // A type of the federation crate, which is above this one: checked in `tests/tests/documents`.
            "Hello" => continue,
            other => panic!("which type is {other}?"),
        }
        seen.insert(name);
    }
    assert_eq!(seen.len(), 15, "an example for each type: {seen:?}");
}

#[test]
fn its_session_request_is_signed_right() {
    let request: SessionRequest = example("SessionRequest");
    let challenge: Challenge = example("Challenge");
    assert_eq!(request.nonce, challenge.nonce);
    let proof =
        session_proof(&"alpha.example".parse().unwrap(), &request.nonce, &request.mailbox, &request.device);
    assert_eq!(proof, vectors::bytes("session-proof"));
    let key = VerifyingKey::from_bytes(request.mailbox.as_bytes()).unwrap();
    key.verify(&proof, &Signature::from_bytes(&request.signature.0)).unwrap();
}

#[test]
fn its_binding_is_signed_right() {
    let statement: BindingStatement = example("BindingStatement");
    let request: SessionRequest = example("SessionRequest");
    assert!(statement.of(request.mailbox).is_ok());
    assert_eq!(statement.signature.0.to_vec(), vectors::bytes("binding-signature"));
}

#[test]
fn its_problem_has_our_prefix_and_a_known_class() {
    let problem: Problem = example("Problem");
    assert_eq!(problem.slug(), "rate-limited");
    assert_eq!(problem.class(), Some(FailureClass::RateLimited));
}

#[test]
fn it_names_the_media_types_and_limits() {
    let document = document();
    for text in [CONTENT_TYPE, PROBLEM_CONTENT_TYPE, PROBLEM_TYPE_PREFIX] {
        assert!(document.contains(&format!("`{text}`")), "{text}");
    }
    let rows = rows();
    let expect = |what: &str, limit: String| {
        let row = [what.to_owned(), limit];
        assert!(rows.contains(&row), "{row:?}");
    };
    let items = "envelopes, results or outcomes in a message, entry ids in an acknowledgement";
    expect("a message", format!("{} bytes", grouped(MAX_MESSAGE_BYTES)));
    expect("an envelope", format!("{} bytes", grouped(MAX_ENVELOPE_BYTES)));
    expect(items, grouped(MAX_BATCH_ENVELOPES));
    expect("attachments of an envelope", grouped(MAX_ATTACHMENTS));
    expect("a chunk of an attachment", format!("{} bytes", grouped(MAX_CHUNK_BYTES as usize)));
    expect("chunks of an attachment", grouped(MAX_CHUNKS as usize));
    expect("a reason", format!("{MAX_REASON} bytes"));
    expect("a domain", format!("{} bytes", Domain::MAX_LENGTH));
}

/// With commas between the thousands.
fn grouped(number: usize) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1000), number % 1000),
    }
}

#[test]
fn it_lists_every_reason() {
    let document = document();
    let (_, reasons) = document.split_once("\n## Reasons\n").unwrap();
    for class in FailureClass::ALL {
        let again = match class.persistence() {
            Persistence::Temporary => "helps",
            Persistence::Confirm => "once more after ten minutes",
            Persistence::TemporaryForHours => "helps for four hours",
            Persistence::Permanent => "does not help",
        };
        let row = reasons.lines().find(|line| line.starts_with(&format!("| `{class}` |")));
        assert!(row.is_some_and(|row| row.ends_with(&format!("| {again} |"))), "{class}");
    }
    let listed = reasons.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(listed, FailureClass::ALL.len());
}

#[test]
fn identifiers_are_spelled_as_it_says() {
    let request: SessionRequest = example("SessionRequest");
    assert_eq!(request.mailbox.to_string().len(), 52);
    let nonce = serde_json::to_value(Nonce([0xab; 32])).unwrap();
    assert_eq!(nonce, HEXLOWER.encode(&[0xab; 32]));
}
