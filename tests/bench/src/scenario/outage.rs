//! One destination is down while envelopes for it queue up, and comes back; another is healthy: `outage`.

use std::sync::Arc;

use super::{
    DESTINATION, Figure, ORIGIN, OTHER_DESTINATION, Progress, Stage, addresses, connect, send, windows,
};
use crate::books::Books;
use crate::crew::Crew;
use crate::report::{Report, count, ratio};
use crate::sender::Window;
use crate::{BenchError, Options};

const ENVELOPES: u64 = 20_000;

pub(super) async fn run(options: &Options, progress: Progress<'_>) -> Result<Report, BenchError> {
    let most = options.envelopes.unwrap_or(ENVELOPES);
    let mut stage = Stage::start(options, progress, &[ORIGIN, DESTINATION, OTHER_DESTINATION]).await?;
    let books = Arc::clone(&stage.books);
    let recipients = stage.bed.recipients(DESTINATION, options.recipients).await?;

    // One envelope at a time to the healthy destination, from the beginning to the end.
    let probes = Arc::new(Books::new(options.size)?);
    let (probe, probed) = (Crew::new(), Crew::new());
    let healthy = stage.bed.recipients(OTHER_DESTINATION, 1).await?;
    let turns = windows(1, 1, 1);
    connect(&probed, &healthy, &probes, &turns).await?;
    let way = (stage.bed.client(ORIGIN).await?, addresses(&healthy));
    let one = Options { batch: 1, ..options.clone() };
    send(&probe, &one, &probes, 0, way, (Window::Acknowledged(turns[0].clone()), u64::MAX));

    let course = async {
        tokio::time::sleep(options.warm_up).await;
        probes.reset_latencies();
        let before = probes.delivered();
        tokio::time::sleep(options.duration).await;
        probes.all_delivered(before + 1).await?;
        let quiet = probes.latency();

        stage.bed.stop(DESTINATION).await?;
        progress(&format!("{DESTINATION} is down"));
        let senders = Crew::new();
        let to = addresses(&recipients);
        for (number, window) in windows(options.senders, options.window, options.batch).iter().enumerate() {
            let way = (stage.bed.client(ORIGIN).await?, to.clone());
            send(&senders, options, &books, number, way, (Window::Answered(window.clone()), most));
        }
        senders.during(books.all_accepted(most)).await?;
        senders.finish().await?;
        progress(&format!("{most} envelopes wait for it"));

        let from = stage.reading().await?;
        probes.reset_latencies();
        let before = probes.delivered();
        stage.bed.restart(DESTINATION).await?;
        let ready = tokio::time::Instant::now();
        let identities = recipients.iter().map(|recipient| recipient.identity().clone());
        let recipients = stage.bed.sign_in(DESTINATION, identities.collect()).await?;
        let devices = Crew::new();
        connect(&devices, &recipients, &books, &windows(0, 1, 1)).await?;
        let arrived = async {
            books.all_delivered(1).await?;
            let first = ready.elapsed();
            books.all_delivered(most).await?;
            Ok((first, ready.elapsed()))
        };
        let (first, last) = devices.during(arrived).await?;
        let until = stage.reading().await?;
        probes.all_delivered(before + 1).await?;
        let busy = probes.latency();
        devices.stop().await?;
        Ok((quiet, busy, first, last, from, until))
    };
    let course = Box::pin(probed.during(probe.during(course)));
    let (quiet, busy, first, last, from, until) = course.await?;
    probed.during(probe.stop()).await?;
    probed.during(probes.all_delivered(probes.accepted())).await?;
    probed.stop().await?;
    probes.balance()?;
    books.balance()?;

    let figure = |key, label, value| Figure { key, label, value };
    let more = vec![
        figure("first_after_seconds", "s from its start to the first arrival", first.as_secs_f64()),
        figure("caught_up_seconds", "s from its start until caught up", last.as_secs_f64()),
        figure(
            "catch_up_per_second",
            "caught up per second, from the first on",
            ratio(count(most), (last - first).as_secs_f64()),
        ),
        figure("quiet_p50_ms", "ms to the healthy one before, p50", quiet.p50),
        figure("quiet_p99_ms", "ms to the healthy one before, p99", quiet.p99),
    ];
    let mut report = stage.report(options, most, &from, &until, more).await?;
    report.latency = busy;
    stage.bed.shut_down().await?;
    Ok(report)
}
