//! A bot that answers whoever writes to it.
//!
//! ```sh
//! cargo run --example bot
//! ```
//!
//! It knows nobody beforehand: people introduce themselves by sending their card, and are answered what they ask. The bot
//! is at beta.example, who asks is at alpha.example; both relays are real and run in this process.

use std::collections::HashMap;
use std::error::Error;
use std::process::ExitCode;

use postrider_client::{
    ContactCard, Delivery, Identity, Opened, Receiver, Relay, SealOptions, SubmitResult, seal,
};
use postrider_common::Address;
use postrider_tests::cluster::Cluster;

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
    let mut bot = Bot(App::join(&cluster, "beta.example").await?, HashMap::new());
    let mut alice = App::join(&cluster, "alpha.example").await?;
    let bot_card = bot.0.me.card().clone();
    let hello = format!("hello {}", alice.me.card());
    let questions = [
        (hello.as_str(), "Hello! Ask me for `sum`, `reverse` or `bye`."),
        ("sum 2 3 4", "9"),
        ("sum two", "`two` is no number."),
        ("reverse postrider", "redirtsop"),
        ("bye", "Goodbye."),
    ];
    let ask = async {
        for (question, expected) in &questions {
            alice.send(&bot_card, question).await?;
            let answer = alice.next().await?;
            let text = String::from_utf8_lossy(&answer.message);
            println!("{:<30.30} {text}", *question);
            if text != *expected {
                return Err(format!("{question}: {expected} was expected").into());
            }
        }
        Ok::<_, Box<dyn Error>>(())
    };
    tokio::try_join!(bot.serve(), ask)?;
    cluster.shut_down().await?;
    println!("ok: {} questions answered", questions.len());
    Ok(())
}

/// The app, and the cards of those who have introduced themselves.
struct Bot(App, HashMap<Address, ContactCard>);

impl Bot {
    /// Answers until somebody says goodbye.
    async fn serve(&mut self) -> Result<(), Box<dyn Error>> {
        loop {
            let Opened { sender, message, .. } = self.0.next().await?;
            let text = String::from_utf8_lossy(&message).into_owned();
            let (command, rest) = text.split_once(' ').unwrap_or((&text, ""));
            if command == "hello"
                && let Ok(card) = rest.parse::<ContactCard>()
                && *card.address() == sender
            {
                // The sender is proven by the signature, and the card is the sender's: it is theirs to give.
                self.1.insert(sender.clone(), card);
            }
            // Whoever is not known cannot be answered: there is no key to seal for.
            let Some(card) = self.1.get(&sender) else {
                println!("(the bot does not know {})", sender.domain);
                continue;
            };
            self.0.send(card, &answer(command, rest)).await?;
            if command == "bye" {
                return Ok(());
            }
        }
    }
}

fn answer(command: &str, rest: &str) -> String {
    match command {
        "hello" => "Hello! Ask me for `sum`, `reverse` or `bye`.".into(),
        "sum" => {
            let numbers: Result<Vec<i64>, _> =
                rest.split_whitespace().map(|word| word.parse().map_err(|_| word)).collect();
            match numbers {
                Ok(numbers) => numbers.iter().sum::<i64>().to_string(),
                Err(word) => format!("`{word}` is no number."),
            }
        }
        "reverse" => rest.chars().rev().collect(),
        "bye" => "Goodbye.".into(),
        other => format!("I do not know `{other}`."),
    }
}

/// A mailbox and the way to its relay.
struct App {
    me: Identity,
    relay: Relay,
    receiver: Receiver,
}

impl App {
    async fn join(cluster: &Cluster, domain: &str) -> Result<Self, Box<dyn Error>> {
        let me = Identity::generate(domain.parse()?);
        let relay = cluster.client(domain)?;
        let session = relay.session(&me).await?;
        session.register().await?;
        Ok(Self { me, relay, receiver: session.receive() })
    }

    async fn send(&self, to: &ContactCard, text: &str) -> Result<(), Box<dyn Error>> {
        let envelope = seal(&self.me, to, text.as_bytes(), &SealOptions::default())?;
        match self.relay.submit_one(to.domain(), envelope).await? {
            SubmitResult::Refused { reason, .. } => Err(format!("the relay refused it: {reason}").into()),
            _ => Ok(()),
        }
    }

    /// The next message that can be opened. One that cannot is nobody's fault that we know, and is dropped.
    async fn next(&mut self) -> Result<Opened, Box<dyn Error>> {
        loop {
            let Delivery::Entry(entry) = self.receiver.next().await? else { continue };
            let opened = self.me.open(&entry.envelope);
            self.receiver.acknowledge(&[entry.id]).await?;
            if let Ok(opened) = opened {
                return Ok(opened);
            }
        }
    }
}
