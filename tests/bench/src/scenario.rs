//! What the scenarios have in common.

mod abuse;
mod attachments;
mod backlog;
mod flow;
mod idle;
mod outage;
mod reopen;

use std::sync::Arc;
use std::time::Duration;

use postrider_client::Relay;
use postrider_common::Address;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::bed::Bed;
use crate::books::Books;
use crate::crew::Crew;
use crate::flush::{self, file_system};
use crate::process::Usage;
use crate::recipient::{Recipient, Windows, take};
use crate::report::{Figure, RelayFigures, Report, ratio};
use crate::sender::{Sender, Window};
use crate::{BenchError, Options, Scenario};

/// The relay that clients submit to,
const ORIGIN: &str = "alpha.example";
/// and others that keep recipients.
const DESTINATION: &str = "beta.example";
const OTHER_DESTINATION: &str = "gamma.example";

/// Told what goes on.
pub(crate) type Progress<'a> = &'a (dyn Fn(&str) + Sync);

pub(crate) async fn run(options: &Options, progress: Progress<'_>) -> Result<Vec<Report>, BenchError> {
    let report = match options.scenario {
        Scenario::Local => Box::pin(flow::run(options, progress, &[ORIGIN])).await,
        Scenario::Federated | Scenario::Latency => {
            Box::pin(flow::run(options, progress, &[ORIGIN, DESTINATION])).await
        }
        Scenario::Backlog => Box::pin(backlog::run(options, progress)).await,
        Scenario::Outage => Box::pin(outage::run(options, progress)).await,
        Scenario::Reopen => Box::pin(reopen::run(options, progress)).await,
        Scenario::Idle => Box::pin(idle::run(options, progress)).await,
        Scenario::Attachments => Box::pin(attachments::run(options, progress)).await,
        Scenario::Abuse => return Box::pin(abuse::run(options, progress)).await,
    };
    Ok(vec![report?])
}

/// Relays, books, and who works with them.
struct Stage {
    bed: Bed,
    books: Arc<Books>,
    flushes: Vec<Duration>,
    setting: String,
}

/// What had been used at one moment.
struct Reading {
    at: Instant,
    relays: Vec<Usage>,
    generator: Usage,
}

impl Stage {
    async fn start(
        options: &Options,
        progress: Progress<'_>,
        names: &[&'static str],
    ) -> Result<Self, BenchError> {
        let bed = match options.scenario {
            Scenario::Abuse => Bed::start_as_it_comes(options, names).await?,
            _ => Bed::start(options, names).await?,
        };
        let file_system = file_system(bed.directory());
        let setting = format!("{} byte bodies, {} on {file_system}", options.size, bed.directory().display());
        for name in bed.names() {
            progress(&format!("{name} is process {}", bed.process(name).await?));
        }
        if file_system == "tmpfs" {
            progress(
                "the relays' data is in memory: flushes take no time. --dir says where else it could be",
            );
        }
        let flushes = flush::flushes(bed.directory())?;
        Ok(Self { bed, books: Arc::new(Books::new(options.size)?), flushes, setting })
    }

    async fn reading(&self) -> Result<Reading, BenchError> {
        Ok(Reading { at: Instant::now(), relays: self.bed.usage().await?, generator: Usage::own()? })
    }

    /// What has happened between two readings, as `envelopes` envelopes.
    async fn report(
        &mut self,
        options: &Options,
        envelopes: u64,
        from: &Reading,
        until: &Reading,
        more: Vec<Figure>,
    ) -> Result<Report, BenchError> {
        // Again, for the disk may have changed its pace meanwhile.
        self.flushes.extend(flush::flushes(self.bed.directory())?);
        let memory = self.bed.memory().await?;
        let used = until.relays.iter().zip(&from.relays).map(|(later, earlier)| *later - *earlier);
        let relays = self.bed.names().iter().zip(used).zip(memory);
        let seconds = (until.at - from.at).as_secs_f64();
        let generator = (until.generator - from.generator).cpu.as_secs_f64();
        Ok(Report {
            scenario: options.scenario.name(),
            envelopes,
            seconds,
            latency: self.books.latency(),
            relays: relays.map(|((name, usage), memory)| RelayFigures { name, usage, memory }).collect(),
            flush_ms: self.flush_ms(),
            generator_cpu_share: ratio(generator, seconds),
            more,
            abused: None,
            setting: self.setting.clone(),
        })
    }

    fn flush_ms(&self) -> f64 {
        flush::median(self.flushes.clone()).as_secs_f64() * 1000.0
    }
}

/// As many windows as there are senders.
fn windows(senders: usize, window: usize, batch: usize) -> Windows {
    // A window that is smaller than a batch would never open.
    (0..senders).map(|_| Arc::new(Semaphore::new(window.max(batch)))).collect()
}

/// Starts the devices.
async fn connect(
    crew: &Crew,
    recipients: &[Arc<Recipient>],
    books: &Arc<Books>,
    windows: &Windows,
) -> Result<(), BenchError> {
    for recipient in recipients {
        let stream = recipient.connect().await?;
        let (books, windows) = (Arc::clone(books), Arc::clone(windows));
        crew.spawn("recipient", take(stream, books, windows, crew.stopping()));
    }
    Ok(())
}

/// Starts one sender.
fn send(
    crew: &Crew,
    options: &Options,
    books: &Arc<Books>,
    number: usize,
    (relay, to): (Relay, Arc<[Address]>),
    (window, most): (Window, u64),
) {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    let sender = Sender { number, relay, to, batch: options.batch, window, books: Arc::clone(books), most };
    crew.spawn("sender", sender.run(crew.stopping()));
}

fn addresses(recipients: &[Arc<Recipient>]) -> Arc<[Address]> {
    recipients.iter().map(|recipient| recipient.address()).collect()
}
