//! Every key on its own: it is read, checked and explained.

use postrider_common::limits;

use super::files::Files;
use super::problems;
use crate::config::Config;
use crate::config::key::{Absence, Kind};
use crate::config::keys::{ALL, SECTIONS};

#[test]
fn every_key_is_read_and_its_type_and_range_checked() {
    let files = Files::new();
    for key in ALL {
        let expect = |value: &str| {
            let text = files.with_key(key, value);
            let found = problems(&files, &text);
            let name = format!(" {} ", key.path.replace("peers.", "peers[1]."));
            assert!(found.iter().any(|line| line.contains(&name)), "{} = {value}: {found:?}", key.path);
        };
        expect("1.5");
        expect("true");
        match &key.kind {
            Kind::Count(range) | Kind::Size(range) => {
                for value in [range.start() - 1, range.end() + 1] {
                    expect(&value.to_string());
                }
                expect("-1");
                expect("99999999999999999999999999999999999999999999");
            }
            Kind::Duration(range) => {
                for millis in [range.start() - 1, range.end() + 1] {
                    expect(&format!("\"{millis} ms\""));
                }
            }
            Kind::Choice(_) => expect("\"something-else\""),
            Kind::Texts(_) => {
                expect("[\"not one\"]");
                expect("[1]");
            }
            Kind::Text(_) => expect("\"\""),
        }
    }
}

#[test]
fn every_example_and_every_end_of_a_range_is_good() {
    let files = Files::new();
    for key in ALL {
        let values = match &key.kind {
            Kind::Count(range) | Kind::Size(range) => {
                vec![range.start().to_string(), range.end().to_string()]
            }
            Kind::Duration(range) => {
                vec![format!("\"{} ms\"", range.start()), format!("\"{} ms\"", range.end())]
            }
            Kind::Choice(words) => words.iter().map(|word| format!("\"{word}\"")).collect(),
            Kind::Text(_) | Kind::Texts(_) => Vec::new(),
        };
        // The identity in these files is for another domain than the example's.
        let example = (key.path != "domain").then(|| key.example());
        let limits = matches!(key.kind, Kind::Count(_) | Kind::Size(_));
        for value in values.iter().map(String::as_str).chain(example) {
            let text = files.with_key(key, value);
            if let Err(error) = Config::load(&files.write(&text)) {
                // The end of a range may well contradict another key, which then is what the message is about.
                let only_contradictions = error.problems().iter().all(|problem| {
                    ["does not hold one", "could never pass", "are over", "is missing", "does not go with"]
                        .iter()
                        .any(|text| problem.text.contains(text))
                });
                assert!(only_contradictions && (limits || key.path.contains("trust")), "{text}\n{error}");
            }
        }
    }
}

#[test]
fn every_key_belongs_to_a_section_and_is_explained() {
    for key in ALL {
        assert!(SECTIONS.iter().any(|section| section.path == key.section()), "{}", key.path);
        assert!(!key.text.is_empty(), "{}", key.path);
        assert!(!matches!(key.absence, Absence::Default("")), "{}", key.path);
    }
}

#[test]
fn what_is_allowed_stays_within_what_is_ever_read() {
    let most = |key: &str| match &ALL.iter().find(|known| known.path == key).unwrap().kind {
        Kind::Count(range) | Kind::Size(range) => usize::try_from(*range.end()).unwrap(),
        Kind::Duration(range) => usize::try_from(*range.end()).unwrap(),
        _ => panic!("{key} has no range"),
    };
    assert!(
        most("limits.body") + most("limits.header") + limits::ENVELOPE_OVERHEAD <= limits::MAX_ENVELOPE_BYTES
    );
    assert!(most("limits.batch_bytes") <= limits::MAX_MESSAGE_BYTES);
    assert!(most("limits.stream_window_bytes") + limits::MAX_ENVELOPE_BYTES <= limits::MAX_MESSAGE_BYTES);
    assert!(most("limits.batch_envelopes") <= limits::MAX_BATCH_ENVELOPES);
    assert!(most("limits.stream_window_entries") <= limits::MAX_BATCH_ENVELOPES);
    assert_eq!(most("limits.lifetime") as u128, limits::MAX_LIFETIME.as_millis());
}
