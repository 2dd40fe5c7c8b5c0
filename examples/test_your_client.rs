//! Relays to test a client against, whatever it is written in.
//!
//! ```sh
//! cargo run --example test_your_client                                   # shows how, with the SDK as the client
//! cargo run --example test_your_client -- python3 -m unittest my_tests   # runs your tests
//! ```
//!
//! One line starts two organisations' relays, with DNS, certificates and stores on disk; all of it is gone afterwards.
//! A command is run with `POSTRIDER_RELAYS` in its environment: a JSON list that says of each relay its `domain`, the
//! `url` and the `address` to connect to, and the file with the certificate of whoever issued its own, `authorities`.
//! A Rust test uses the harness itself, and can do more: stop and kill relays, cut and slow links, move the time.

use std::error::Error;
use std::process::ExitCode;

use postrider_client::SubmitResult;
use postrider_tests::cluster::{Cluster, ClusterError, User};
use postrider_tests::link::Condition;
use serde_json::{Value, json};
use tokio::process::Command;

const DOMAINS: [&str; 2] = ["alpha.example", "beta.example"];

#[tokio::main]
async fn main() -> ExitCode {
    let command: Vec<String> = std::env::args().skip(1).collect();
    let ended = match command.split_first() {
        Some((program, arguments)) => run(program, arguments).await,
        None => show().await.map(|()| true),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs somebody's tests. Whether they passed.
async fn run(program: &str, arguments: &[String]) -> Result<bool, Box<dyn Error>> {
    let cluster = Cluster::start(DOMAINS).await?;
    let places: Vec<Value> =
        DOMAINS.iter().map(|domain| place(&cluster, domain)).collect::<Result<_, _>>()?;
    let relays = Value::from(places).to_string();
    println!("POSTRIDER_RELAYS={relays}");
    let status = Command::new(program).args(arguments).env("POSTRIDER_RELAYS", relays).status().await?;
    cluster.shut_down().await?;
    println!("{program} ended with {status}");
    Ok(status.success())
}

/// What a client needs to know of a relay.
fn place(cluster: &Cluster, domain: &str) -> Result<Value, ClusterError> {
    Ok(json!({
        "domain": domain,
        "url": format!("https://{domain}"),
        "address": cluster.door(domain)?.address().to_string(),
        "authorities": cluster.directory(domain)?.with_file_name("authority.pem"),
    }))
}

/// What a test can do to relays while a client uses them.
async fn show() -> Result<(), Box<dyn Error>> {
    let cluster = Cluster::start(DOMAINS).await?;
    let (alice, bob) = (cluster.user("alpha.example").await?, cluster.user("beta.example").await?);

    println!("the recipient's relay is killed while alice writes");
    cluster.kill("beta.example").await?;
    let SubmitResult::Queued { tracking } = alice.send(&bob, b"through thick and thin").await? else {
        return Err("the envelope should wait".into());
    };
    println!("it comes back, on what it had on its disk");
    cluster.restart("beta.example").await?;
    println!("tracking says: {:?}", alice.outcome(tracking).await?.state);

    hears(&bob, "through thick and thin").await?;

    println!("the way between the relays loses the answers, so that an envelope is sent again");
    let link = cluster.link("alpha.example", "beta.example")?;
    link.set(Condition::DropResponses);
    let SubmitResult::Queued { tracking } = alice.send(&bob, b"once").await? else {
        return Err("the envelope should be on its way".into());
    };
    hears(&bob, "once").await?;
    link.wait_for(|traffic| traffic.dropped_response_bytes > 0).await;
    link.heal();
    println!("tracking says: {:?}", alice.outcome(tracking).await?.state);
    if !bob.waiting().await?.is_empty() {
        return Err("it came twice".into());
    }
    cluster.shut_down().await?;
    println!("ok: nothing lost, nothing twice");
    Ok(())
}

async fn hears(user: &User, expected: &str) -> Result<(), Box<dyn Error>> {
    let message = user.receive().await?.message;
    println!("bob reads: {}", String::from_utf8_lossy(&message));
    if message == expected.as_bytes() { Ok(()) } else { Err(format!("{expected} was expected").into()) }
}
