use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::{fs, io};

use clap::Parser;
use postrider_common::supervisor::Supervisor;
use tempfile::TempDir;

use super::*;
use crate::command::{Cli, Command};
use crate::store;

/// A data directory with a store that is closed.
fn data() -> TempDir {
    let data = tempfile::tempdir().unwrap();
    let store = store::open(&data.path().join("store"), &store::Options::default(), &Supervisor::new());
    drop(store.unwrap());
    data
}

fn run(data: &Path, arguments: &[&str]) -> (Result<(), StoreCommandError>, String) {
    let line = ["postrider", "store"].iter().chain(arguments).copied();
    let cli = Cli::try_parse_from(line.chain(["--data", data.to_str().unwrap()])).unwrap();
    let Command::Store(command) = cli.command else { panic!("{arguments:?}") };
    let mut out = Vec::new();
    let result = super::run(&command, &mut io::empty(), &mut out);
    (result, String::from_utf8_lossy(&out).into_owned())
}

fn code(result: Result<(), StoreCommandError>) -> u8 {
    result.map_or_else(|error| error.exit().code(), |()| 0)
}

#[test]
fn a_clean_store_and_a_damaged_one_are_told_apart() {
    let data = data();
    let (result, out) = run(data.path(), &["check"]);
    result.unwrap();
    assert!(out.starts_with(&format!("{}: clean\n", data.path().join("store").display())), "{out}");
    let (result, out) = run(data.path(), &["check", "--json"]);
    result.unwrap();
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&found["clean"], &found["totals"]["records"]), (&true.into(), &2.into()), "{out}");

    fs::write(data.path().join("store/CURRENT"), "base-7").unwrap();
    let (result, out) = run(data.path(), &["check"]);
    assert!(out.contains("problem: the relay would refuse the store"), "{out}");
    assert_eq!(code(result), 65);
    let (result, out) = run(data.path(), &["check", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&found["clean"], &found["problems"][0]["problem"]), (&false.into(), &"opening".into()));
    assert_eq!(code(result), 65);
    assert_eq!(code(run(data.path(), &["export", "-"]).0), 65);
}

#[test]
fn an_export_is_for_its_owner_and_takes_the_place_of_nothing() {
    let data = data();
    let file = data.path().join("export");
    let name = file.to_str().unwrap();
    let (result, out) = run(data.path(), &["export", name]);
    result.unwrap();
    assert!(out.starts_with(&format!("{name}: exported 2 records, ")), "{out}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&file).unwrap();
    assert_eq!(code(run(data.path(), &["export", name]).0), 73);
    assert_eq!(fs::read(&file).unwrap(), before);

    let other = tempfile::tempdir().unwrap();
    let (result, out) = run(other.path(), &["import", name]);
    result.unwrap();
    let told = format!("imported 2 records, {} bytes, with 0 attachments\n", 7 + 4 + 7 + 33);
    assert!(out.ends_with(&told), "{out}");
    assert_eq!(code(run(other.path(), &["import", name]).0), 73);
    assert_eq!(code(run(other.path(), &["check"]).0), 0);
}

#[test]
fn what_is_not_there_or_not_right_has_codes_of_its_own() {
    let (empty, data) = (tempfile::tempdir().unwrap(), data());
    assert_eq!(code(run(empty.path(), &["check"]).0), 69);
    let file = empty.path().join("export");
    let name = file.to_str().unwrap();
    assert_eq!(code(run(empty.path(), &["export", name]).0), 69);
    assert_eq!(code(run(empty.path(), &["import", name]).0), 69);
    fs::write(&file, "something else").unwrap();
    assert_eq!(code(run(empty.path(), &["import", name]).0), 65);
    assert_eq!(code(run(empty.path(), &["import", "-"]).0), 65);
    fs::remove_file(&file).unwrap();

    let store = store::open(&data.path().join("store"), &store::Options::default(), &Supervisor::new());
    for arguments in [&["check"][..], &["export", name]] {
        let (result, _) = run(data.path(), arguments);
        assert!(result.as_ref().unwrap_err().to_string().contains("in use by another process"), "{result:?}");
        assert_eq!(code(result), 74);
    }
    assert!(!file.exists(), "what was begun is deleted");
    drop(store);
    assert_eq!(code(run(data.path(), &["export", empty.path().join("no/export").to_str().unwrap()]).0), 73);
}
