//! What `docs/operations.md` lists.

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
        assert!(["here", "there", "sender", "DNS", "network"].contains(&row[2].as_str()), "{row:?}");
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
