//! Programs that others have written, as child processes.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// What the tests need, and the package in which Debian has it.
const PROGRAMS: [&str; 4] = ["nsd", "unbound", "ldns-keygen", "ldns-signzone"];

/// Whether all programs are there. If not, it says so, or fails where they must be.
pub(crate) fn are_installed() -> bool {
    let Some(missing) = PROGRAMS.iter().find(|program| !is_installed(program)) else {
        return true;
    };
    assert!(
        std::env::var_os("POSTRIDER_REQUIRE_REAL_DNS").is_none(),
        "{missing} is not installed, and the environment says that it has to be"
    );
    // Past the test runner, which keeps what passing tests print to itself.
    let _ = writeln!(std::io::stderr(), "skipped: {missing} is not installed");
    false
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    places.into_iter().any(|place| place.join(program).exists())
}

/// Runs a program to its end.
pub(crate) fn run(directory: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(directory).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts a program that serves DNS at `address`, and waits until it answers.
    pub(crate) async fn start(
        directory: &Path,
        program: &str,
        arguments: &[&str],
        address: SocketAddr,
    ) -> Self {
        let log = File::create(directory.join(format!("{program}-{}.out", address.ip()))).unwrap();
        let program = ["/usr/sbin", "/usr/local/sbin"]
            .iter()
            .map(|place| Path::new(place).join(program))
            .find(|path| path.exists())
            .unwrap_or_else(|| program.into());
        let child = Command::new(program)
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self { child, address };
        server.answers(directory).await;
        server
    }

    async fn answers(&mut self, directory: &Path) {
        let mut message = Message::query();
        message.metadata.id = 1;
        message.add_query(Query::query(Name::root(), RecordType::SOA));
        let query = message.to_vec().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let asking = async {
            let mut answer = [0; 4096];
            loop {
                let _ = socket.send_to(&query, self.address).await;
                let answered = timeout(Duration::from_millis(50), socket.recv(&mut answer)).await;
                if matches!(answered, Ok(Ok(_))) || self.child.try_wait().unwrap().is_some() {
                    return answered.is_ok();
                }
            }
        };
        let answered = timeout(Duration::from_secs(20), asking).await.unwrap_or(false);
        if !answered {
            let said: Vec<_> = std::fs::read_dir(directory)
                .unwrap()
                .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok())
                .filter(|text| text.contains("error") || text.contains("notice"))
                .collect();
            panic!("the server at {} does not answer:\n{}", self.address, said.join("\n"));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // nsd has children of its own, which end in order only if it does.
        let _ = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}
