//! A process that is killed at any moment has lost nothing that it has answered.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use futures_util::future::join_all;

use super::*;

/// Makes the test binary the process that is killed.
const DIRECTORY: &str = "POSTRIDER_TEST_KILLED_DIRECTORY";
const FIRST: &str = "POSTRIDER_TEST_KILLED_FIRST";
const SIZES: Sizes = Sizes { segment_bytes: 64 << 10, memtable_bytes: 16 << 10, ..TINY };
const ALL: Window = Window { count: usize::MAX, bytes: usize::MAX };

fn open_store(path: &Path) -> Arc<dyn Store> {
    crate::store::open(path, &options(SIZES), &Supervisor::new()).unwrap()
}

/// Says `stored N` and `gone N` when it has been told so, and `going N` before it asks for that.
async fn work(path: &Path, first: u64) {
    let store = open_store(path);
    store.register(MAILBOX, DEVICE, NOW).await.unwrap();
    let mut out = std::io::stdout();
    let mut next = first;
    loop {
        let numbers: Vec<_> = (next..next + 24).collect();
        next += 24;
        join_all(numbers.iter().map(|number| {
            let store = &store;
            async move {
                let body = number.to_string().into_bytes().repeat(80);
                let draft = Draft::new(MAILBOX, NOW + Duration::from_secs(60), body);
                let outcome = store.deposit(vec![draft.finish().unwrap()], NOW).await.unwrap();
                assert_eq!(outcome, [Outcome::Stored]);
                writeln!(std::io::stdout(), "stored {number}").unwrap();
            }
        }))
        .await;
        // All but every eighth go again, those of this round and of the ones before.
        for entry in store.fetch(MAILBOX, DEVICE, None, ALL, NOW).await.unwrap().entries {
            let number = number_in(entry.envelope.body());
            if !number.is_multiple_of(8) || number + 400 < next {
                writeln!(out, "going {number}").unwrap();
                store.acknowledge(MAILBOX, DEVICE, vec![entry.id]).await.unwrap();
                writeln!(out, "gone {number}").unwrap();
            }
        }
    }
}

/// The number is there eighty times.
fn number_in(body: &[u8]) -> u64 {
    std::str::from_utf8(&body[..body.len() / 80]).unwrap().parse().unwrap()
}

#[tokio::test]
async fn nothing_answered_is_lost_when_the_process_is_killed() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let first = std::env::var(FIRST).unwrap().parse().unwrap();
        return work(Path::new(&directory), first).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut numbers = Numbers(u64::from(std::process::id()));
    let (mut expected, mut unsure, mut highest) = (BTreeSet::new(), BTreeSet::new(), 0);
    for round in 0..5 {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([test.as_str(), "--exact", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .env(FIRST, (highest + 1000).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut left = 1 + numbers.below(1200);
        while let Some(Ok(line)) = lines.next() {
            let words: Vec<_> = line.split(' ').collect();
            if let [what, number] = words[..]
                && let Ok(number) = number.parse::<u64>()
            {
                highest = highest.max(number);
                match what {
                    "stored" => assert!(expected.insert(number)),
                    "going" => {
                        expected.remove(&number);
                        unsure.insert(number);
                    }
                    _ => assert!(unsure.remove(&number)),
                }
            }
            left = left.saturating_sub(1);
            if left == 0 {
                // What it had said before is still read.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let store = open_store(directory.path());
        let found = store.fetch(MAILBOX, DEVICE, None, ALL, NOW).await.unwrap().entries;
        let found: BTreeSet<_> = found.iter().map(|entry| number_in(entry.envelope.body())).collect();
        let lost: Vec<_> = expected.difference(&found).collect();
        assert!(lost.is_empty(), "round {round}: lost {lost:?}");
        // Beyond what was answered there is only what was under way.
        let more =
            found.difference(&expected).filter(|number| !unsure.contains(number) && **number <= highest);
        assert!(more.count() < 24, "round {round}");
        expected = found;
        unsure.clear();
        store.close().await.unwrap();
    }
}
