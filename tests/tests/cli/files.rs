//! Files beside messages, where something is wrong with them.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use postrider_tests::binary::postrider;
use postrider_tests::cluster::{Cluster, PATIENCE};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::client::{ALPHA, Person, printed};

/// Two people of one relay, and a directory for files.
struct Office {
    cluster: Cluster,
    directory: TempDir,
    alice: Person,
    bob: Person,
    into: PathBuf,
}

impl Office {
    async fn open() -> Self {
        let cluster = Cluster::start([ALPHA]).await.unwrap();
        let directory = TempDir::new().unwrap();
        let alice = Person::new("alice", ALPHA, &cluster, directory.path()).await;
        let bob = Person::new("bob", ALPHA, &cluster, directory.path()).await;
        for person in [&alice, &bob] {
            printed(&person.run("receive", &["--register"]).await);
        }
        let into = directory.path().join("saved");
        fs::create_dir(&into).unwrap();
        Self { cluster, directory, alice, bob, into }
    }

    /// From alice to bob, with files of so many bytes.
    async fn send(&self, message: &str, files: &[(&str, usize)]) {
        let card = self.bob.card.to_str().unwrap();
        let mut arguments = vec!["--card", card, "--message", message];
        let paths: Vec<_> = files.iter().map(|(name, bytes)| self.file(name, *bytes)).collect();
        for path in &paths {
            arguments.extend(["--attach", path]);
        }
        assert_eq!(printed(&self.alice.run("send", &arguments).await), "stored\n");
    }

    fn file(&self, name: &str, bytes: usize) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, vec![b'x'; bytes]).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The one file of so many bytes at the relay.
    fn at_relay(&self, bytes: u64) -> PathBuf {
        fn files(path: &Path) -> Vec<PathBuf> {
            let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
            entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
        }
        let all = files(&self.cluster.directory(ALPHA).unwrap().join("data/attachments"));
        let mut fitting = all.into_iter().filter(|path| fs::metadata(path).unwrap().len() == bytes);
        let found = fitting.next().expect("the relay has it");
        assert_eq!(fitting.next(), None, "only one has {bytes} bytes");
        found
    }

    fn saved(&self) -> Vec<String> {
        let names = fs::read_dir(&self.into).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Of a file of up to 4 KiB, with padding and encryption.
const SMALL: u64 = 4096 + 16;

/// Changes a byte of the one small file at the relay.
fn damage(office: &Office) {
    let file = fs::OpenOptions::new().write(true).open(office.at_relay(SMALL)).unwrap();
    file.write_all_at(b"?", 7).unwrap();
}

#[tokio::test]
async fn a_file_that_is_damaged_is_told_and_holds_nothing_up() {
    let office = Office::open().await;
    office.send("before", &[]).await;
    office.send("with files", &[("bad.bin", 10), ("good.bin", 9000)]).await;
    office.send("behind", &[]).await;
    damage(&office);

    let output = office.bob.run("receive", &["--save", office.into.to_str().unwrap()]).await;
    let (said, told) =
        (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr));
    for expected in [
        "before\n",
        "with files\n",
        "attachment bad.bin, 10 bytes: lost: the attachment does not open",
        "attachment good.bin, 9000 bytes: saved as ",
        "behind\n",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    assert_eq!(told, "postrider: attachments that are lost: bad.bin\n");
    assert_eq!(office.saved(), ["good.bin"], "nothing stays of the other");
    assert_eq!(printed(&office.bob.run("receive", &[]).await), "", "all is settled");
}

#[tokio::test]
async fn who_follows_goes_on_after_a_file_that_is_damaged() {
    let office = Office::open().await;
    office.send("with a file", &[("bad.bin", 10)]).await;
    damage(&office);
    let mut command = Command::new(postrider());
    command.args(["client", "receive", "--identity"]).arg(&office.bob.identity).args(&office.bob.to_relay);
    command.args(["--follow", "--save"]).arg(&office.into).kill_on_drop(true);
    let mut following =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut told = BufReader::new(following.stderr.take().unwrap()).lines();
    let told = timeout(PATIENCE, told.next_line()).await.expect("it is told in time").unwrap().unwrap();
    assert_eq!(told, "postrider: attachments that are lost: bad.bin");
    office.send("behind", &[]).await;
    let last = async {
        while let Some(line) = said.next_line().await.unwrap() {
            if line.ends_with(": behind") {
                return;
            }
        }
        panic!("it has ended");
    };
    timeout(PATIENCE, last).await.expect("it goes on");
    following.kill().await.unwrap();
    assert_eq!(office.saved(), [""; 0]);
    let again = printed(&office.bob.run("receive", &["--save", office.into.to_str().unwrap()]).await);
    assert!(!again.contains("with a file"), "{again}");
}

#[tokio::test]
async fn a_file_that_the_relay_does_not_give_holds_only_its_own_message_back() {
    let office = Office::open().await;
    office.send("before", &[]).await;
    office.send("with a file", &[("bad.bin", 10)]).await;
    office.send("behind", &[]).await;
    let file = office.at_relay(SMALL);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..9]).unwrap();

    let save = ["--save", office.into.to_str().unwrap()];
    let output = office.bob.run("receive", &save).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for expected in ["before\n", "bad.bin, 10 bytes: not fetched, its message comes again: ", "behind\n"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(told, "postrider: attachments that the relay does not give now: bad.bin\n");

    fs::write(&file, &whole).unwrap();
    let again = printed(&office.bob.run("receive", &save).await);
    assert!(again.contains("with a file\n") && again.contains("bad.bin, 10 bytes: saved as "), "{again}");
    assert!(!again.contains("before") && !again.contains("behind"), "{again}");
}

#[tokio::test]
async fn what_was_printed_before_a_file_could_not_be_written_does_not_come_again() {
    let office = Office::open().await;
    office.send("before", &[]).await;
    office.send("with a file", &[("good.bin", 10)]).await;
    let nowhere = office.directory.path().join("nowhere");
    let output = office.bob.run("receive", &["--save", nowhere.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(74), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("before\n"), "{output:?}");
    let again = printed(&office.bob.run("receive", &["--save", office.into.to_str().unwrap()]).await);
    assert!(!again.contains("before") && again.contains("good.bin, 10 bytes: saved as "), "{again}");
}
