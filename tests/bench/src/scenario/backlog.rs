//! Envelopes for recipients who are offline, until they connect: `backlog`.

use tokio::time::Instant;

use super::{Figure, ORIGIN, Progress, Stage, addresses, connect, send, windows};
use crate::crew::Crew;
use crate::flush::disk_bytes;
use crate::report::{Report, count, mib, ratio};
use crate::sender::Window;
use crate::{BenchError, Options};

const ENVELOPES: u64 = 100_000;
/// How many at the beginning and at the end are looked at on their own.
const PART: u64 = 50_000;

pub(super) async fn run(options: &Options, progress: Progress<'_>) -> Result<Report, BenchError> {
    let most = options.envelopes.unwrap_or(ENVELOPES);
    let mut stage = Stage::start(options, progress, &[ORIGIN]).await?;
    let books = stage.books.clone();
    let recipients = stage.bed.recipients(ORIGIN, options.recipients).await?;
    let to = addresses(&recipients);
    let senders = Crew::new();

    let from = stage.reading().await?;
    for (number, window) in windows(options.senders, options.window, options.batch).iter().enumerate() {
        let way = (stage.bed.client(ORIGIN).await?, to.clone());
        send(&senders, options, &books, number, way, (Window::Answered(window.clone()), most));
    }
    let part = PART.min(most);
    let storing = async {
        books.all_accepted(part).await?;
        let first = Instant::now();
        books.all_accepted(most - part).await?;
        let last = Instant::now();
        books.all_accepted(most).await?;
        Ok((first - from.at, last.elapsed()))
    };
    let (first, last) = senders.during(storing).await?;
    senders.finish().await?;
    let full = stage.reading().await?;
    let stored = books.latency();
    let data = stage.bed.data(ORIGIN)?;
    let full_disk = disk_bytes(&data);
    progress(&format!("stored {most}; recipients connect"));

    let devices = Crew::new();
    let drained = async {
        connect(&devices, &recipients, &books, &windows(0, 1, 1)).await?;
        books.all_delivered(most).await?;
        stage.reading().await
    };
    let drained = Box::pin(devices.during(drained)).await?;
    let per_second = |envelopes: u64, time: std::time::Duration| ratio(count(envelopes), time.as_secs_f64());
    let live = most.saturating_mul(books.envelope_bytes());
    let mut more = vec![
        figure("store_first_per_second", "stored per second, first part", per_second(part, first)),
        figure("store_per_second", "stored per second", per_second(most, full.at - from.at)),
        figure("store_last_per_second", "stored per second, last part", per_second(part, last)),
        figure("drain_per_second", "drained per second", per_second(most, drained.at - full.at)),
        figure("full_live_mib", "MiB of envelopes while full", mib(live)),
        figure("full_disk_mib", "MiB on the disk while full", mib(full_disk)),
        figure("drained_disk_mib", "MiB on the disk after the drain", mib(disk_bytes(&data))),
    ];
    progress(&format!("drained; looking at the disk again in {} s", options.settle.as_secs()));
    devices.work_for(options.settle).await?;
    more.push(figure("settled_disk_mib", "MiB on the disk some time later", mib(disk_bytes(&data))));
    devices.stop().await?;
    books.balance()?;
    let mut report = stage.report(options, most, &from, &drained, more).await?;
    report.latency = stored;
    stage.bed.shut_down().await?;
    Ok(report)
}

const fn figure(key: &'static str, label: &'static str, value: f64) -> Figure {
    Figure { key, label, value }
}
