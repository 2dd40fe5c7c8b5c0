//! Envelopes on their way from senders to connected recipients: `local`, `federated` and `latency`.

use super::{Figure, ORIGIN, Progress, Stage, addresses, connect, send, windows};
use crate::crew::Crew;
use crate::report::{Report, ratio};
use crate::sender::Window;
use crate::{BenchError, Options, Scenario};

/// Senders submit to the first relay, recipients are at the last, which may be the same.
pub(super) async fn run(
    options: &Options,
    progress: Progress<'_>,
    relays: &[&'static str],
) -> Result<Report, BenchError> {
    let one_at_a_time = options.scenario == Scenario::Latency;
    let options = if one_at_a_time {
        &Options { senders: 1, recipients: 1, batch: 1, window: 1, ..options.clone() }
    } else {
        options
    };
    let mut stage = Stage::start(options, progress, relays).await?;
    let destination = relays.last().copied().unwrap_or(ORIGIN);
    let recipients = stage.bed.recipients(destination, options.recipients).await?;
    let windows = windows(options.senders, options.window, options.batch);
    let (senders, devices) = (Crew::new(), Crew::new());
    connect(&devices, &recipients, &stage.books, &windows).await?;
    progress(&format!("{} recipients are connected", recipients.len()));

    let mut from = stage.reading().await?;
    let mut before = 0;
    let to = addresses(&recipients);
    let most = options.envelopes.unwrap_or(u64::MAX);
    for (number, window) in windows.iter().enumerate() {
        let way = (stage.bed.client(ORIGIN).await?, to.clone());
        send(&senders, options, &stage.books, number, way, (Window::Acknowledged(window.clone()), most));
    }
    let load = async {
        if options.envelopes.is_none() {
            tokio::time::sleep(options.warm_up).await;
            progress("measuring");
            from = stage.reading().await?;
            before = stage.books.delivered();
            stage.books.reset_latencies();
        }
        match options.envelopes {
            None => tokio::time::sleep(options.duration).await,
            Some(most) => stage.books.all_delivered(most).await?,
        }
        Ok((stage.reading().await?, stage.books.delivered()))
    };
    let (until, after) = Box::pin(devices.during(senders.during(load))).await?;
    let mut report = stage.report(options, after - before, &from, &until, Vec::new()).await?;

    progress("waiting for what is under way");
    devices.during(senders.stop()).await?;
    devices.during(stage.books.all_delivered(stage.books.accepted())).await?;
    devices.stop().await?;
    let total = stage.books.balance()?;
    progress(&format!("the books balance: {total} envelopes were taken, and each has arrived once"));
    if one_at_a_time {
        let flushes = ratio(report.latency.p50, report.flush_ms);
        report.more.push(Figure { key: "p50_flushes", label: "median latency in flushes", value: flushes });
    }
    stage.bed.shut_down().await?;
    Ok(report)
}
