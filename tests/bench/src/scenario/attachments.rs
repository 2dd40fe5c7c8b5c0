//! One large attachment is brought, goes from one relay to another, and is fetched: `attachments`.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use postrider_client::{Relay, SubmitResult, TrackingState};
use postrider_common::clock::{Clock, SystemClock};
use postrider_common::{Attachment, Draft};
use tokio::time::Instant;

use super::{DESTINATION, Figure, ORIGIN, Progress, Stage};
use crate::books::Latency;
use crate::process::Memory;
use crate::report::{Report, mib, ratio};
use crate::{BenchError, Options};

const CHUNK_BYTES: u32 = 8 << 20;
/// Chunks that the client brings or fetches at a time.
const IN_FLIGHT: usize = 4;
/// How often it is asked whether the envelope is there.
const ASK: Duration = Duration::from_millis(5);
const HOUR: Duration = Duration::from_secs(3600);

pub(super) async fn run(options: &Options, progress: Progress<'_>) -> Result<Report, BenchError> {
    let mut stage = Stage::start(options, progress, &[ORIGIN, DESTINATION]).await?;
    let (alice, bob) = (stage.bed.client(ORIGIN).await?, stage.bed.client(DESTINATION).await?);
    let recipient = stage.bed.recipients(DESTINATION, 1).await?.remove(0);
    let before = memory(&stage).await?;

    let length = options.attachment_mib << 20;
    let began = Instant::now();
    let attachment = bring(&alice, length).await?;
    let brought = began.elapsed();
    progress(&format!("{} MiB are at {ORIGIN}", options.attachment_mib));

    let to = recipient.address();
    let draft = Draft::new(to.mailbox, SystemClock.now() + HOUR, vec![7; options.size]);
    let envelope = Draft { attachments: vec![attachment.clone()], ..draft }.finish()?;
    let from = stage.reading().await?;
    let began = Instant::now();
    let tracking = match alice.submit_one(&to.domain, envelope).await? {
        SubmitResult::Queued { tracking } => tracking,
        other => return Err(BenchError::Generator(format!("the envelope was not queued: {other:?}"))),
    };
    loop {
        let status = alice.track(tracking).await?;
        match status.state {
            TrackingState::Stored => break,
            TrackingState::Queued => tokio::time::sleep(ASK).await,
            other => {
                return Err(BenchError::Generator(format!("the envelope is {other:?}: {:?}", status.reason)));
            }
        }
    }
    let carried = began.elapsed();
    let until = stage.reading().await?;
    progress(&format!("and at {DESTINATION}"));

    let began = Instant::now();
    fetch(&bob, &attachment).await?;
    let fetched = began.elapsed();
    let after = memory(&stage).await?;

    let speed = |time: Duration| ratio(mib(length), time.as_secs_f64());
    let grown = |relay: usize| mib(after[relay].peak.saturating_sub(before[relay].resident));
    let figure = |key, label, value| Figure { key, label, value };
    let more = vec![
        figure("between_mib_per_second", "MiB/s between the relays", speed(carried)),
        figure("upload_mib_per_second", "MiB/s from the client", speed(brought)),
        figure("download_mib_per_second", "MiB/s to the recipient", speed(fetched)),
        figure("origin_grown_mib", "MiB more memory at the origin", grown(0)),
        figure("destination_grown_mib", "MiB more memory at the destination", grown(1)),
    ];
    let mut report = stage.report(options, 1, &from, &until, more).await?;
    let all = carried.as_secs_f64() * 1000.0;
    report.latency = Latency { p50: all, p95: all, p99: all, max: all };
    stage.bed.shut_down().await?;
    Ok(report)
}

async fn memory(stage: &Stage) -> Result<Vec<Memory>, BenchError> {
    stage.bed.memory().await
}

/// The same bytes in each chunk: what they are is all the same to the relay.
async fn bring(relay: &Relay, length: u64) -> Result<Attachment, BenchError> {
    let attachment = relay.reserve_attachment(length, CHUNK_BYTES).await?.attachment();
    let content = Bytes::from(vec![0x5a; CHUNK_BYTES as usize]);
    let bring = |number| {
        let (content, attachment) = (content.clone(), &attachment);
        async move {
            let bytes = attachment.chunk(number).map_or(0, |(_, bytes)| bytes as usize);
            relay.put_chunk(attachment.id, number, content.slice(..bytes)).await
        }
    };
    let all = stream::iter(0..attachment.chunks()).map(bring).buffer_unordered(IN_FLIGHT);
    all.try_for_each(|()| async { Ok(()) }).await?;
    Ok(attachment)
}

async fn fetch(relay: &Relay, attachment: &Attachment) -> Result<(), BenchError> {
    let fetch = |number| relay.chunk(attachment, number);
    let all = stream::iter(0..attachment.chunks()).map(fetch).buffer_unordered(IN_FLIGHT);
    all.try_for_each(|_| async { Ok(()) }).await?;
    Ok(())
}
