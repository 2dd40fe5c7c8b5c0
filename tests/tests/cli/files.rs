//! Files beside messages, where something is wrong with them.

use std::fs;
use std::num::NonZeroU32;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use postrider_tests::binary::postrider;
use postrider_tests::cluster::{Cluster, PATIENCE};
use postrider_tests::link::{Condition, Link};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
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
        Self::configured("").await
    }

    async fn configured(configuration: &'static str) -> Self {
        let builder = Cluster::builder([ALPHA]).configure(move |_| configuration.into());
        let cluster = builder.start().await.unwrap();
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

    /// The files of attachments at the relay.
    fn all_at_relay(&self) -> Vec<PathBuf> {
        fn files(path: &Path) -> Vec<PathBuf> {
            let entries = fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path());
            entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
        }
        files(&self.cluster.directory(ALPHA).unwrap().join("data/attachments"))
    }

    /// The one of so many bytes.
    fn at_relay(&self, bytes: u64) -> PathBuf {
        let all = self.all_at_relay().into_iter();
        let mut fitting = all.filter(|path| fs::metadata(path).unwrap().len() == bytes);
        let found = fitting.next().expect("the relay has it");
        assert_eq!(fitting.next(), None, "only one has {bytes} bytes");
        found
    }

    /// The same, as a process of its own.
    fn spawn(&self, person: &Person, command: &str, arguments: &[&str]) -> Child {
        let mut client = Command::new(postrider());
        client.args(["client", command, "--identity"]).arg(&person.identity);
        client.args(&person.to_relay).args(arguments).kill_on_drop(true).stdin(Stdio::null());
        client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn door(&self) -> &Link {
        self.cluster.door(ALPHA).unwrap()
    }

    /// What commands have left for later ones beside alice's identity.
    fn notes(&self) -> Vec<PathBuf> {
        let all = fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| path.to_str().unwrap().contains(".alice.identity.upload-")).collect()
    }

    fn saved(&self) -> Vec<String> {
        let names = fs::read_dir(&self.into).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }
}

const NONE: [PathBuf; 0] = [];
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
    let mut following =
        office.spawn(&office.bob, "receive", &["--follow", "--save", office.into.to_str().unwrap()]);
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

const MIB: u64 = 1 << 20;

/// So slow that something can be done meanwhile.
fn slow(link: &Link) {
    let bytes_per_second = NonZeroU32::new(8 << 20);
    link.set(Condition::Slow { delay: Duration::ZERO, bytes_per_second });
}

#[tokio::test]
async fn who_follows_waits_for_a_relay_that_is_away_in_the_middle_of_a_file() {
    let office = Office::open().await;
    office.send("with a file", &[("good.bin", 12 << 20)]).await;
    slow(office.door());
    let before = office.door().traffic();
    let mut following =
        office.spawn(&office.bob, "receive", &["--follow", "--save", office.into.to_str().unwrap()]);
    let fetched = |traffic: &postrider_tests::link::Traffic| traffic.response_bytes - before.response_bytes;
    office.door().wait_for(|traffic| fetched(traffic) > 5 * MIB).await;
    office.door().cut();
    let cut = office.door().traffic().connections;
    // More than one attempt at a file and a look after the relay make.
    tokio::select! {
        ended = following.wait() => panic!("it has ended: {ended:?}"),
        _ = office.door().wait_for(|traffic| traffic.connections > cut + 8) => {}
    }
    office.door().heal();
    let mut said = BufReader::new(following.stdout.take().unwrap()).lines();
    let saved = async {
        while let Some(line) = said.next_line().await.unwrap() {
            if line.contains("saved as") {
                return;
            }
        }
        panic!("it has ended");
    };
    timeout(PATIENCE, saved).await.expect("it is saved");
    assert_eq!(office.saved(), ["good.bin"]);
}

#[tokio::test]
async fn a_send_that_was_killed_is_gone_on_with() {
    let office = Office::open().await;
    let (path, card) = (office.file("large.bin", 40 << 20), office.bob.card.to_str().unwrap());
    let arguments = ["--card", card, "--message", "at last", "--attach", &path];
    slow(office.door());
    let before = office.door().traffic().request_bytes;
    let mut sending = office.spawn(&office.alice, "send", &arguments);
    // Three chunks of 4 MiB go at a time: then some are there, whatever is still on its way.
    office.door().wait_for(|traffic| traffic.request_bytes > before + 29 * MIB).await;
    sending.kill().await.unwrap();
    office.door().heal();
    let [note] = &office.notes()[..] else { panic!("a note is left: {:?}", office.notes()) };
    assert_eq!(fs::metadata(note).unwrap().permissions().mode() & 0o777, 0o600);

    let before = office.door().traffic().request_bytes;
    assert_eq!(printed(&office.alice.run("send", &arguments).await), "stored\n");
    let sent = office.door().traffic().request_bytes - before;
    assert!(sent < 29 * MIB, "{sent} bytes of 40 MiB were sent once more");
    assert_eq!(office.notes(), NONE, "nothing is left");
    assert_eq!(office.all_at_relay().len(), 1, "there was one attachment only");
    printed(&office.bob.run("receive", &["--save", office.into.to_str().unwrap()]).await);
    assert!(fs::read(office.into.join("large.bin")).unwrap() == fs::read(path).unwrap());
}

#[tokio::test]
async fn a_send_waits_for_a_relay_that_is_away_and_not_for_ever() {
    let office = Office::open().await;
    let (path, card) = (office.file("large.bin", 24 << 20), office.bob.card.to_str().unwrap());
    let arguments = ["--card", card, "--message", "at last", "--attach", &path];
    let begin = async |arguments: &[&str]| {
        slow(office.door());
        let before = office.door().traffic().request_bytes;
        let mut sending = office.spawn(&office.alice, "send", arguments);
        office.door().wait_for(|traffic| traffic.request_bytes > before + MIB).await;
        office.door().cut();
        let mut told = BufReader::new(sending.stderr.take().unwrap()).lines();
        let line = timeout(PATIENCE, told.next_line()).await.expect("it is told in time").unwrap().unwrap();
        (sending, line)
    };
    let (mut sending, told) = begin(&[&arguments[..], &["--patience", "1 s"]].concat()).await;
    let ended = "; nothing has got through for 1 s, and the same command goes on where this one ended";
    assert!(told.starts_with("postrider: ") && told.ends_with(ended), "{told}");
    assert_eq!(sending.wait().await.unwrap().code(), Some(75));

    let (mut sending, told) = begin(&arguments).await;
    assert!(told.starts_with(&format!("postrider: {path}: ")), "{told}");
    assert!(told.ends_with("; trying for up to 10 min"), "{told}");
    office.door().heal();
    let ended = timeout(PATIENCE, sending.wait()).await.expect("it ends in time").unwrap();
    assert!(ended.success(), "{ended}");
    let received = printed(&office.bob.run("receive", &["--save", office.into.to_str().unwrap()]).await);
    assert!(received.contains("at last"), "{received}");
}

#[tokio::test]
async fn what_no_message_can_have_is_said_before_anything_is_brought() {
    let office = Office::configured("[limits]\nattachment = \"8 KiB\"\n").await;
    let card = office.bob.card.to_str().unwrap();
    let small = office.file("small.bin", 10);
    let mut arguments = vec!["--card", card, "--message", "x"];
    arguments.extend(["--attach", &small].repeat(17));
    let output = office.alice.run("send", &arguments).await;
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(told, "postrider: a message has at most 16 files, this one has 17\n");

    let large = office.file("large.bin", 9000);
    let arguments = ["--card", card, "--message", "x", "--attach", &small, "--attach", &large];
    let output = office.alice.run("send", &arguments).await;
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    let expected = format!(
        "postrider: {large}: the relay takes attachments of up to 8192 bytes, and with padding and encryption this one \
         has 9232 bytes\n"
    );
    assert_eq!(told, expected);
    assert_eq!(office.all_at_relay(), NONE);
}

#[tokio::test]
async fn files_are_given_up_when_their_message_is_refused_for_good() {
    let office = Office::open().await;
    let carol = Person::new("carol", ALPHA, &office.cluster, office.directory.path()).await;
    let (path, card) = (office.file("small.bin", 10), carol.card.to_str().unwrap());
    let arguments = ["--card", card, "--message", "x", "--attach", &path, "--attach", &path];
    let output = office.alice.run("send", &arguments).await;
    assert_eq!(output.status.code(), Some(69), "carol has no mailbox: {output:?}");
    let gone = async {
        while !office.all_at_relay().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the files are deleted");
    assert_eq!(office.notes(), NONE);
}
