//! What can be seen without a relay.

use clap::{CommandFactory, Parser};
use postrider_client::{ContactCard, Entry, SealOptions, TrackingState, TrackingStatus, seal};
use postrider_common::EntryId;

use super::receive::print_entry;
use super::*;

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: ClientCommand,
}

fn parse(arguments: &str) -> Result<ClientCommand, clap::Error> {
    Cli::try_parse_from(std::iter::once("client").chain(arguments.split_whitespace())).map(|cli| cli.command)
}

async fn output(arguments: &str, input: &str) -> Result<String, ClientCommandError> {
    let mut out = Vec::new();
    run(parse(arguments).unwrap(), &mut input.as_bytes(), &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn arguments_are_checked_where_they_are_given() {
    Cli::command().debug_assert();
    let id = "a".repeat(26);
    assert!(parse(&format!("status --relay https://r.example {id}")).is_ok());
    for wrong in [
        "status --relay https://r.example tracking",
        "keygen --domain Example.org --out x",
        "send --identity x --relay https://r.example",
        "send --identity x --relay https://r.example --to postrider-card:1:AA",
        "receive --identity x --relay https://r.example --pin ab",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
    let both = format!("receive --identity x --relay https://r.example --ca f --pin {}", "ab".repeat(32));
    assert!(parse(&both).is_err());
}

#[tokio::test]
async fn keygen_prints_the_card_of_the_keys_that_it_saved() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("me.identity");
    let arguments = format!("keygen --domain example.org --out {}", file.display());
    let printed = output(&arguments, "").await.unwrap();
    let card: ContactCard = printed.parse().unwrap();
    assert_eq!(&card, Identity::load(&file).unwrap().card());
    let error = output(&arguments, "").await.unwrap_err().to_string();
    assert!(error.contains("is not overwritten"), "{error}");
}

#[tokio::test]
async fn send_says_in_one_sentence_what_is_wrong_before_it_calls_anybody() {
    let directory = tempfile::tempdir().unwrap();
    let (file, card) = (directory.path().join("me.identity"), directory.path().join("card"));
    let identity = Identity::generate("example.org".parse().unwrap());
    identity.save(&file).unwrap();
    let arguments = format!(
        "send --identity {} --relay https://r.example --address 127.0.0.1:1 --card {}",
        file.display(),
        card.display()
    );
    let error = output(&arguments, "hello").await.unwrap_err();
    assert!(matches!(error, ClientCommandError::Input { .. }), "{error}");
    fs::write(&card, "hello").unwrap();
    let error = output(&arguments, "hello").await.unwrap_err();
    assert!(matches!(error, ClientCommandError::Card { .. }), "{error}");
    fs::write(&card, identity.card().to_string()).unwrap();
    let error = output(&arguments, &"x".repeat(200_000)).await.unwrap_err();
    assert!(matches!(error, ClientCommandError::Seal(_)), "{error}");
    let error = output(&arguments, "hello").await.unwrap_err();
    assert!(matches!(error, ClientCommandError::Relay(Error::Connect { .. })), "{error}");
    assert!(!error.to_string().contains('\n'));
}

#[test]
fn a_message_can_neither_steer_the_terminal_nor_pass_for_another() {
    let identity = Identity::generate("example.org".parse().unwrap());
    let sender = identity.address().clone();
    let show = |message: &[u8]| {
        let envelope = seal(&identity, identity.card(), message, &SealOptions::default()).unwrap();
        show::opened(&identity.open(&envelope))
    };
    assert_eq!(show("grüß dich\n".as_bytes()), format!("{sender}: grüß dich\n"));
    let shown = show(b"one\nboss@example.org: pay\r\x1b[2J");
    assert_eq!(shown, format!("{sender}: one\n    boss@example.org: pay\\r\\u{{1b}}[2J\n"));
    assert_eq!(show("a\u{202e}b".as_bytes()), format!("{sender}: a\\u{{202e}}b\n"));
    assert_eq!(show(b"\xff\xfe"), format!("{sender}: (2 bytes that are not text)\n"));
}

#[test]
fn what_does_not_open_is_shown_but_not_acknowledged() {
    let (alice, bob) =
        (Identity::generate("a.example".parse().unwrap()), Identity::generate("b.example".parse().unwrap()));
    let envelope = seal(&alice, bob.card(), b"hello", &SealOptions::default()).unwrap();
    let entry = Entry::new(EntryId(4), envelope);
    let mut out = Vec::new();
    assert!(print_entry(&bob, &entry, &mut out).unwrap().is_some());
    assert!(print_entry(&alice, &entry, &mut out).unwrap().is_none());
    let expected = format!("{}: hello\n(the envelope is for another mailbox)\n", alice.address());
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn what_could_not_be_printed_is_not_acknowledged() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
    let bob = Identity::generate("b.example".parse().unwrap());
    let envelope = seal(&bob, bob.card(), b"hello", &SealOptions::default()).unwrap();
    let entry = Entry::new(EntryId(4), envelope);
    let error = print_entry(&bob, &entry, &mut Broken).unwrap_err();
    assert!(matches!(error, ClientCommandError::Output(_)), "{error}");
}

#[test]
fn a_status_is_a_short_table() {
    let mut status = TrackingStatus::new(TrackingState::Queued, "b.example".parse().unwrap(), 0);
    status.attempts = 2;
    status.reason = Some("connect-failed".into());
    status.next_attempt_at = Some(60);
    assert_eq!(
        show::status(&status),
        "state:        queued\n\
         destination:  b.example\n\
         queued at:    1970-01-01T00:00:00Z\n\
         attempts:     2\n\
         reason:       connect-failed\n\
         next attempt: 1970-01-01T00:01:00Z\n"
    );
    status.state = TrackingState::Unknown;
    assert!(show::status(&status).starts_with("state:        unknown to this version\n"));
}
