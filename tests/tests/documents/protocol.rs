//! What `docs/protocol.md` says of federation, of paths and of waits.

use std::time::Duration;

use postrider_common::backoff;
use postrider_federation::{ALPN, Hello, PROTOCOL_VERSION};
use serde_json::Value;

use super::{file, section};

#[test]
fn its_greeting_is_a_real_one() {
    let document = file("docs/protocol.md");
    let (_, text) = document.split_once("```json Hello\n").unwrap();
    let (text, _) = text.split_once("```").unwrap();
    let value: Value = serde_json::from_str(text).unwrap();
    let hello: Hello = serde_json::from_str(text).unwrap();
    assert_eq!(hello.versions, [PROTOCOL_VERSION]);
    assert_eq!(serde_json::to_value(hello).unwrap(), value);
}

#[test]
fn it_names_the_protocol_its_headers_and_its_paths() {
    let document = section(&file("docs/protocol.md"), "## Federation API");
    assert!(document.contains(&format!("`{}`", str::from_utf8(ALPN).unwrap())));
    let source = file("federation/src/lib.rs");
    let constants: Vec<_> = source.lines().filter(|line| line.starts_with("const ")).collect();
    for name in ["ENVELOPES_PATH", "HELLO_PATH", "ORIGIN_HEADER", "DESTINATION_HEADER"] {
        let line = constants.iter().find(|line| line.contains(name)).unwrap();
        let value = line.split('"').nth(1).unwrap();
        assert!(document.contains(value), "{value}");
    }
}

#[test]
fn every_path_of_the_client_api_has_its_place() {
    let calls = section(&file("docs/protocol.md"), "### Calls");
    let source = file("relay/src/api/router.rs");
    let (source, _) = source.split_once("#[cfg(test)]").unwrap();
    let routed: Vec<_> = source
        .lines()
        .filter(|line| line.contains(", Method::"))
        .flat_map(|line| line.split('"').filter(|part| part.starts_with('/')))
        .collect();
    assert!(routed.len() > 7, "{routed:?}");
    for path in routed {
        assert!(calls.contains(path), "{path} is not among the calls");
    }
}

#[test]
fn its_ladder_is_the_one_that_is_climbed() {
    let retries = section(&file("docs/protocol.md"), "### Retries");
    let words: String = retries.split_whitespace().collect::<Vec<_>>().join(" ");
    let steps: Vec<_> = (1..10)
        .map(|failures| match backoff::wait(failures, Duration::ZERO, None, 0.5).as_secs() {
            seconds @ 0..60 => format!("{seconds} s"),
            seconds => format!("{} min", seconds / 60),
        })
        .collect();
    assert!(words.contains(&format!("The ladder: {}; then hourly", steps.join(", "))), "{steps:?}");
    let after = |failing_for| backoff::wait(10, failing_for, None, 0.5).as_secs() / 3600;
    assert_eq!((after(Duration::ZERO), after(Duration::from_secs(86_400))), (1, 4));
}
