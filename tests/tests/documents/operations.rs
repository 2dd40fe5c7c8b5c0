//! What `docs/operations.md` lists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use postrider::exit::Exit;
use postrider_common::FailureClass;

use super::{file, section, table};

#[test]
fn every_failure_class_is_explained_once() {
    let rows = table(&section(&file("docs/operations.md"), "## What each failure means"));
    let listed: Vec<_> = rows.iter().map(|row| row[0].as_str()).collect();
    let all: Vec<_> = FailureClass::ALL.iter().map(|class| class.slug()).collect();
    assert_eq!(listed, all);
    for row in rows {
        assert_eq!(row.len(), 4, "{row:?}");
        let class: FailureClass = row[0].parse().unwrap();
        assert_eq!(row[2], class.whose_end().word(), "{row:?}");
    }
}

#[test]
fn every_exit_code_is_explained() {
    let rows = table(&section(&file("docs/operations.md"), "## Exit codes"));
    let listed: Vec<u8> = rows.iter().map(|row| row[0].parse().unwrap()).collect();
    let all = [
        Exit::Ok,
        Exit::Usage,
        Exit::Data,
        Exit::Unavailable,
        Exit::Software,
        Exit::CannotCreate,
        Exit::Io,
        Exit::TemporaryFailure,
        Exit::NoPermission,
        Exit::Config,
    ];
    assert_eq!(listed, all.map(Exit::code));
}

/// What a line in the log begins with, of each level, as the sources have it.
fn logged() -> BTreeSet<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut lines = BTreeSet::new();
    for place in ["common/src", "federation/src", "relay/src"] {
        for source in sources(&root.join(place)) {
            let text = fs::read_to_string(source).unwrap();
            for (macro_name, level) in [("tracing::warn!(", "warn"), ("tracing::error!(", "error")] {
                for call in text.split(macro_name).skip(1) {
                    // The message is the first text that is no field's value.
                    let is_message = |text: &&str| text.contains(' ') || text.starts_with('{');
                    let message = call.split('"').skip(1).step_by(2).find(is_message).unwrap();
                    let message: Vec<_> = message.split_whitespace().filter(|word| *word != "\\").collect();
                    lines.insert((message.join(" "), level.to_owned()));
                }
            }
        }
    }
    lines
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

#[test]
fn every_warning_and_error_is_explained() {
    let rows = table(&section(&file("docs/operations.md"), "### Warnings and errors"));
    let mut explained = BTreeSet::new();
    for row in &rows {
        for line in row[0].split(" · ") {
            for level in row[1].split(", ") {
                explained.insert((line.to_owned(), level.to_owned()));
            }
        }
    }
    // What a part of the program has done is put together in one place; a warning about the configuration is its own.
    let (tasks, logged): (BTreeSet<_>, BTreeSet<_>) =
        logged().into_iter().partition(|(message, _)| message.starts_with('{'));
    assert_eq!(tasks.len(), 2, "{tasks:?}");
    assert!(logged.len() > 15, "{logged:?}");
    let is_explained = |(message, level): &(String, String)| {
        explained.iter().any(|(line, of)| of == level && message.starts_with(line.as_str()))
    };
    for line in &logged {
        assert!(is_explained(line), "{line:?} is not in the table");
    }
    for (line, level) in &explained {
        let is_logged = logged.iter().any(|(message, of)| of == level && message.starts_with(line.as_str()));
        assert!(is_logged || line == "the task", "{level} {line:?} is in the table and in no source");
    }
}
