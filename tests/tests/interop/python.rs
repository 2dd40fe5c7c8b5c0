//! Python, as a child process.

use std::io::Write;
use std::path::Path;

use tokio::process::Command;

/// What the client imports beside the standard library: `tests/interop/requirements.txt`.
const PACKAGES: &str = "import cryptography, websockets.sync.client";

/// Runs one of the client's test files to its end, or says that it cannot. What it printed is in the failure.
pub(crate) async fn run(tests: &str, relays: &str) {
    if !is_installed().await {
        return;
    }
    let output = Command::new(python())
        .args(["-B", "-m", "unittest", "--verbose", tests])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("interop"))
        .env("POSTRIDER_RELAYS", relays)
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(output.status.success(), "{tests} fails:\n{said}");
    assert!(!said.contains("Ran 0 tests"), "{tests} has no tests");
}

/// Whether Python and the packages are there. If not, it says so, or fails where they must be.
async fn is_installed() -> bool {
    let asked = Command::new(python()).args(["-c", PACKAGES]).output().await;
    if asked.is_ok_and(|output| output.status.success()) {
        return true;
    }
    let missing = "python3 with cryptography and websockets is not installed";
    assert!(
        std::env::var_os("POSTRIDER_REQUIRE_INTEROP").is_none(),
        "{missing}, and the environment says that it has to be"
    );
    // Past the test runner, which keeps what passing tests print to itself.
    let _ = writeln!(std::io::stderr(), "skipped: {missing}");
    false
}

fn python() -> std::ffi::OsString {
    std::env::var_os("POSTRIDER_PYTHON").unwrap_or_else(|| "python3".into())
}
