//! The `postrider` binary, for tests that run it as a process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The binary of the profile that this test was built with.
///
/// It is looked for beside the test's own executable, in `target/<profile>`. If it is missing or older than a source
/// file of a crate that it is made of, it is built: a test must not run another relay than the one in the checkout.
///
/// # Panics
///
/// When the binary cannot be built: there is nothing to test then.
pub fn postrider() -> PathBuf {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    found(BINARY.get_or_init(|| find_or_build("postrider", &[])))
}

/// The same with places where `POSTRIDER_FAILPOINT` in the environment ends it: `flushed` for instance, then a
/// colon and at which time. `relay/src/failpoint.rs` says what they mean. It is another binary, so
/// that the one that is shipped never has them.
///
/// # Panics
///
/// As [`postrider()`].
pub fn postrider_with_failpoints() -> PathBuf {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    found(BINARY.get_or_init(|| find_or_build("postrider-failpoints", &["--features", "failpoints"])))
}

#[expect(clippy::panic, reason = "a test without the binary has to fail, and say why")]
fn found(binary: &Result<PathBuf, String>) -> PathBuf {
    match binary {
        Ok(binary) => binary.clone(),
        Err(why) => panic!("there is no relay to test: {why}"),
    }
}

fn find_or_build(name: &str, features: &[&str]) -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let directory = program.parent().ok_or("the program's own path is too short")?;
    // A test is in `target/<profile>/deps`, an example in `target/<profile>/examples`, a program one above.
    let is_below = directory.ends_with("deps") || directory.ends_with("examples");
    let directory = directory.parent().filter(|_| is_below).unwrap_or(directory);
    let binary = directory.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if is_current(&binary) {
        return Ok(binary);
    }
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(profile) => profile,
        None => return Err(format!("{} names no profile", directory.display())),
    };
    let target = directory.parent().ok_or("the profile's directory has no parent")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--package", "postrider", "--bin", name])
        .args(features)
        .args(["--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .map_err(|error| format!("cargo does not run: {error}"))?;
    match (built.success(), binary.is_file()) {
        (true, true) => Ok(binary),
        (true, false) => Err(format!("cargo build did not make {}", binary.display())),
        (false, _) => Err(format!("cargo build ended with {built}")),
    }
}

/// Whether the binary is there and not older than what it is made of.
fn is_current(binary: &Path) -> bool {
    let Some(built) = modified(binary) else { return false };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    ["common", "federation", "client", "relay"]
        .iter()
        .all(|name| newest(&workspace.join(name).join("src")).is_none_or(|newest| newest <= built))
}

/// When the newest file below a directory was changed.
fn newest(directory: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(directory).ok()?.flatten();
    entries
        .filter_map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => newest(&entry.path()),
            _ => modified(&entry.path()),
        })
        .max()
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
