//! Devices that are connected and get nothing: `idle`.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::{Figure, ORIGIN, Progress, Stage, windows};
use crate::crew::Crew;
use crate::descriptors;
use crate::process::Memory;
use crate::recipient::take;
use crate::report::{Report, count, mib, ratio};
use crate::{BenchError, Options};

/// Devices that connect at the same time.
const CONNECTING: usize = 32;

pub(super) async fn run(options: &Options, progress: Progress<'_>) -> Result<Report, BenchError> {
    descriptors::allow(options.recipients)?;
    let mut stage = Stage::start(options, progress, &[ORIGIN]).await?;
    let recipients = stage.bed.recipients(ORIGIN, options.recipients).await?;
    progress(&format!("{} mailboxes are registered", recipients.len()));
    let (books, none) = (Arc::clone(&stage.books), windows(0, 1, 1));
    let devices = Crew::new();
    let relay = stage.bed.process(ORIGIN).await?;
    let before = Memory::of(relay)?;
    let from = stage.reading().await?;
    let connect = async |recipient: &Arc<crate::recipient::Recipient>| {
        let started = Instant::now();
        let stream = recipient.connect().await?;
        books.took(started.elapsed());
        devices.spawn("recipient", take(stream, Arc::clone(&books), Arc::clone(&none), devices.stopping()));
        Ok::<_, BenchError>(())
    };
    let connecting = stream::iter(&recipients).map(connect).buffer_unordered(CONNECTING).try_collect::<()>();
    Box::pin(devices.during(connecting)).await?;
    let connected = stage.reading().await?;
    progress("all are connected");
    devices.work_for(options.duration).await?;
    let until = stage.reading().await?;
    let after = Memory::of(relay)?;

    let devices_count = count(recipients.len() as u64);
    let memory = count(after.resident.saturating_sub(before.resident));
    let figure = |key, label, value| Figure { key, label, value };
    let cpu = |later: usize, span: [&super::Reading; 2]| {
        let used = span[1].relays[later] - span[0].relays[later];
        used.cpu.as_secs_f64()
    };
    let connecting_seconds = (connected.at - from.at).as_secs_f64();
    let more = vec![
        figure("connections", "devices", devices_count),
        figure("kib_per_connection", "KiB of memory per device", ratio(memory / 1024.0, devices_count)),
        figure("before_rss_mib", "MiB of memory before", mib(before.resident)),
        figure("after_rss_mib", "MiB of memory with all connected", mib(after.resident)),
        figure("connects_per_second", "connected per second", ratio(devices_count, connecting_seconds)),
        figure(
            "connect_cpu_ms",
            "ms of the relay's CPU per connection",
            ratio(cpu(0, [&from, &connected]) * 1000.0, devices_count),
        ),
        figure(
            "idle_cpu_share",
            "of a core, the relay's use while idle",
            ratio(cpu(0, [&connected, &until]), (until.at - connected.at).as_secs_f64()),
        ),
    ];
    let report = stage.report(options, 0, &from, &until, more).await?;
    devices.stop().await?;
    stage.bed.shut_down().await?;
    Ok(report)
}
