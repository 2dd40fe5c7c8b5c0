//! Two organisations' relays exchange envelopes, step by step.
//!
//! ```sh
//! cargo run --release --example two_relays
//! ```
//!
//! Everything is real except the names: two relays with stores on disk, a DNS server with their SRV records, mutual
//! TLS between them, clients that seal and open messages. All of it runs in this process on loopback ports and in a
//! temporary directory that is gone afterwards.

mod steps;

use std::collections::HashSet;
use std::error::Error;
use std::io::IsTerminal;
use std::process::ExitCode;

use postrider_common::wire::submit::SubmitResult;
use postrider_tests::cluster::{Cluster, User};
use steps::Steps;

const ALPHA: &str = "alpha.example";
const BETA: &str = "beta.example";
/// How many envelopes go each way.
const COUNT: usize = 100;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let steps = Steps::new(std::io::stdout().is_terminal());
    steps.say("starting a DNS server and two relays");
    let logs = steps.clone();
    let cluster = Cluster::builder([ALPHA, BETA]).log(move |domain| logs.dispatch(domain)).start().await?;
    let (alice, bob) = (cluster.user(ALPHA).await?, cluster.user(BETA).await?);
    steps.say("alice has a mailbox at alpha.example, bob one at beta.example");

    steps.title("One envelope from alice to bob, who is offline");
    steps.show_relays(true);
    let sent = alice.send(&bob, b"Are you there?").await?;
    if let SubmitResult::Queued { tracking } = sent {
        steps.say("alice's relay has it on disk and gave her a tracking id");
        alice.outcome(tracking).await?;
        steps.say("tracking says: stored at beta.example");
    }
    steps.say("bob connects");
    let received = bob.receive().await?;
    steps.say(&format!("bob reads {:?}, sent by alice", String::from_utf8_lossy(&received.message)));

    steps.title("The answer, to alice who is connected");
    alice.go_online().await?;
    bob.send(&alice, b"I am now.").await?;
    let received = alice.receive().await?;
    steps.say(&format!("alice reads {:?}", String::from_utf8_lossy(&received.message)));
    steps.show_relays(false);

    steps.title(&format!("{} envelopes each way", COUNT - 1));
    let (to_bob, to_alice) = tokio::try_join!(
        async {
            let ((), tally) = tokio::try_join!(send_all(&alice, &bob, &steps), receive_all(&bob, &steps))?;
            Ok::<_, Box<dyn Error>>(tally)
        },
        async {
            let ((), tally) = tokio::try_join!(send_all(&bob, &alice, &steps), receive_all(&alice, &steps))?;
            Ok::<_, Box<dyn Error>>(tally)
        },
    )?;
    steps.end_progress();
    cluster.shut_down().await?;

    // The two above arrived, or we would not be here.
    let delivered = 2 + to_bob.distinct + to_alice.distinct;
    let lost = 2 * COUNT - delivered;
    let duplicated = to_bob.repeated + to_alice.repeated;
    if lost + duplicated > 0 {
        return Err(format!("{delivered} envelopes delivered, {lost} lost, {duplicated} duplicated").into());
    }
    println!("ok: {delivered} envelopes delivered across 2 relays, 0 lost, 0 duplicated");
    Ok(())
}

/// What one user got.
struct Tally {
    distinct: usize,
    repeated: usize,
}

async fn send_all(from: &User, to: &User, steps: &Steps) -> Result<(), Box<dyn Error>> {
    for number in 1..COUNT {
        from.send(to, format!("message {number}").as_bytes()).await?;
        steps.progress(1, 0);
    }
    Ok(())
}

async fn receive_all(user: &User, steps: &Steps) -> Result<Tally, Box<dyn Error>> {
    let (mut seen, mut repeated) = (HashSet::new(), 0);
    while seen.len() < COUNT - 1 {
        let received = user.receive().await?;
        if seen.insert(received.message) {
            steps.progress(0, 1);
        } else {
            repeated += 1;
        }
    }
    Ok(Tally { distinct: seen.len(), repeated })
}
