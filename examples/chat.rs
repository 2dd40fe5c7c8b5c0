//! Two people at two organisations chat in one terminal.
//!
//! ```sh
//! cargo run --example chat
//! printf 'a: Are you there?\nb: I am.\n' | cargo run --example chat
//! ```
//!
//! A line that begins with `a:` is said by alice at alpha.example, one with `b:` by bob at beta.example. Each goes from
//! the writer's relay to the reader's, sealed for the reader, and is shown when it has been opened there. The relays are
//! real ones, started in this process. The end of the input ends it, once everything has arrived.

use std::error::Error;
use std::process::ExitCode;

use postrider_client::{Delivery, Identity, Relay, SealOptions, Session, SubmitResult, seal};
use postrider_tests::cluster::Cluster;
use tokio::sync::{mpsc, watch};

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
    let cluster = Cluster::start(["alpha.example", "beta.example"]).await?;
    let alice = Person::join(&cluster, "alice", "alpha.example").await?;
    let bob = Person::join(&cluster, "bob", "beta.example").await?;
    println!("alice is {}\nbob is   {}", alice.me.address(), bob.me.address());
    println!("Write `a: …` as alice, `b: …` as bob; end with Ctrl-D.");
    let (to_alice, for_alice) = watch::channel(None);
    let (to_bob, for_bob) = watch::channel(None);
    let talk = async {
        let (said_by_alice, said_by_bob) = talk(&alice, &bob).await?;
        to_alice.send(Some(said_by_bob))?;
        to_bob.send(Some(said_by_alice))?;
        Ok::<_, Box<dyn Error>>(said_by_alice + said_by_bob)
    };
    let (said, (), ()) = tokio::try_join!(talk, alice.listen(for_alice), bob.listen(for_bob))?;
    cluster.shut_down().await?;
    println!("ok: {said} messages between two organisations");
    Ok(())
}

/// Sends what is typed, until the input ends. How much each has said.
async fn talk(alice: &Person, bob: &Person) -> Result<(usize, usize), Box<dyn Error>> {
    let (lines, mut typed) = mpsc::channel(1);
    // Reading from a terminal blocks.
    let reading = tokio::task::spawn_blocking(move || {
        for line in std::io::stdin().lines() {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let (mut by_alice, mut by_bob) = (0, 0);
    while let Some(line) = typed.recv().await {
        let line = line?;
        match line.split_once(':') {
            Some(("a", text)) => {
                alice.say(bob, text.trim()).await?;
                by_alice += 1;
            }
            Some(("b", text)) => {
                bob.say(alice, text.trim()).await?;
                by_bob += 1;
            }
            _ if line.trim().is_empty() => {}
            _ => println!("Begin the line with `a:` or `b:`."),
        }
    }
    reading.await?;
    Ok((by_alice, by_bob))
}

/// Somebody with a mailbox: what an app keeps.
struct Person {
    name: &'static str,
    me: Identity,
    relay: Relay,
    session: Session,
}

impl Person {
    async fn join(cluster: &Cluster, name: &'static str, domain: &str) -> Result<Self, Box<dyn Error>> {
        let me = Identity::generate(domain.parse()?);
        let relay = cluster.client(domain)?;
        let session = relay.session(&me).await?;
        session.register().await?;
        Ok(Self { name, me, relay, session })
    }

    /// Hands a message to this person's own relay, which passes it on.
    async fn say(&self, to: &Self, text: &str) -> Result<(), Box<dyn Error>> {
        let envelope = seal(&self.me, to.me.card(), text.as_bytes(), &SealOptions::default())?;
        match self.relay.submit_one(to.me.domain(), envelope).await? {
            SubmitResult::Refused { reason, .. } => Err(format!("the relay refused it: {reason}").into()),
            _ => Ok(()),
        }
    }

    /// Shows what arrives, until as much has come as `expected` says once it says a number.
    async fn listen(&self, mut expected: watch::Receiver<Option<usize>>) -> Result<(), Box<dyn Error>> {
        let mut receiver = self.session.receive();
        let mut heard = 0;
        while *expected.borrow_and_update() != Some(heard) {
            tokio::select! {
                changed = expected.changed() => changed?,
                delivery = receiver.next() => {
                    let Delivery::Entry(entry) = delivery? else { continue };
                    let opened = self.me.open(&entry.envelope)?;
                    println!("{:>5} reads, from {}: {}", self.name, opened.sender.domain, String::from_utf8_lossy(&opened.message));
                    receiver.acknowledge(&[entry.id]).await?;
                    heard += 1;
                }
            }
        }
        Ok(receiver.close().await?)
    }
}
