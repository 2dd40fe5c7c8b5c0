//! The relay is killed with a backlog, and starts again on what it finds: `reopen`.

use tokio::time::Instant;

use super::{Figure, ORIGIN, Progress, Stage, addresses, connect, send, windows};
use crate::crew::Crew;
use crate::report::{Report, count, ratio};
use crate::sender::Window;
use crate::{BenchError, Options};

const ENVELOPES: u64 = 100_000;

pub(super) async fn run(options: &Options, progress: Progress<'_>) -> Result<Report, BenchError> {
    let most = options.envelopes.unwrap_or(ENVELOPES);
    let mut stage = Stage::start(options, progress, &[ORIGIN]).await?;
    let books = stage.books.clone();
    let recipients = stage.bed.recipients(ORIGIN, options.recipients).await?;
    let identities: Vec<_> = recipients.iter().map(|recipient| recipient.identity().clone()).collect();
    let to = addresses(&recipients);
    let senders = Crew::new();
    for (number, window) in windows(options.senders, options.window, options.batch).iter().enumerate() {
        let way = (stage.bed.client(ORIGIN).await?, to.clone());
        send(&senders, options, &books, number, way, (Window::Answered(window.clone()), most));
    }
    senders.during(books.all_accepted(most)).await?;
    senders.finish().await?;
    let stored = books.latency();
    drop(recipients);

    stage.bed.kill(ORIGIN).await?;
    progress(&format!("killed with {most} envelopes"));
    let from = stage.reading().await?;
    stage.bed.restart(ORIGIN).await?;
    let opened = from.at.elapsed();
    progress("it serves again; recipients connect");
    let devices = Crew::new();
    let drained = async {
        let recipients = stage.bed.sign_in(ORIGIN, identities).await?;
        connect(&devices, &recipients, &books, &windows(0, 1, 1)).await?;
        books.all_delivered(1).await?;
        let first = from.at.elapsed();
        let since = Instant::now();
        books.all_delivered(most).await?;
        Ok((first, since.elapsed(), stage.reading().await?))
    };
    let (first, draining, until) = Box::pin(devices.during(drained)).await?;
    devices.stop().await?;
    books.balance()?;
    let figure = |key, label, value| Figure { key, label, value };
    let more = vec![
        figure("open_seconds", "s from its start until it serves", opened.as_secs_f64()),
        figure("first_after_seconds", "s from its start to the first arrival", first.as_secs_f64()),
        figure("drain_per_second", "drained per second", ratio(count(most), draining.as_secs_f64())),
    ];
    let mut report = stage.report(options, most, &from, &until, more).await?;
    report.latency = stored;
    stage.bed.shut_down().await?;
    Ok(report)
}
