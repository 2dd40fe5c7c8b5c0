//! A good client beside hundreds of abusive connections, kind by kind: `abuse`.

mod crowd;
mod good;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use postrider_tests::abuse::{Abuser, Door, Kind};
use tokio::time::sleep;

use super::{Figure, ORIGIN, Progress, Stage};
use crate::crew::Crew;
use crate::process::Memory;
use crate::report::{Abused, Report, count, ratio};
use crate::{BenchError, Options, descriptors};
use crowd::Crowd;

/// How many addresses the crowd has together.
const ADDRESSES: usize = 10;
/// Where the good client comes from, and in one case the crowd too.
const OFFICE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// One thing to be measured.
#[derive(Debug, Clone, Copy)]
struct Case {
    kind: Kind,
    door: Door,
    /// Whether all of it comes from the good client's own address.
    is_from_the_office: bool,
}

/// One report for each case.
pub(super) async fn run(options: &Options, progress: Progress<'_>) -> Result<Vec<Report>, BenchError> {
    descriptors::allow(2 * options.connections)?;
    let mut stage = Stage::start(options, progress, &[ORIGIN]).await?;
    let recipient = stage.bed.recipients(ORIGIN, 1).await?.swap_remove(0);
    let good = Crew::new();
    let client = stage.bed.client(ORIGIN).await?;
    good.spawn("good client", good::talk(client, recipient, Arc::clone(&stage.books), good.stopping()));
    // Before anything is measured.
    stage.books.all_delivered(1).await?;
    let mut reports = Vec::new();
    for case in cases(options.kind) {
        progress(&case.to_string());
        reports.push(measure(options, &mut stage, &good, case).await?);
    }
    good.stop().await?;
    stage.bed.shut_down().await?;
    Ok(reports)
}

fn cases(only: Option<Kind>) -> Vec<Case> {
    let wanted = |kind: &Kind| only.is_none_or(|only| only == *kind);
    let mut cases = Vec::new();
    for kind in Kind::ALL.into_iter().filter(wanted) {
        for door in [Door::Clients, Door::Relays] {
            if kind.is_for(door) {
                cases.push(Case { kind, door, is_from_the_office: false });
            }
        }
        if kind == Kind::SlowHeader {
            cases.push(Case { kind, door: Door::Clients, is_from_the_office: true });
        }
    }
    cases
}

async fn measure(
    options: &Options,
    stage: &mut Stage,
    good: &Crew,
    case: Case,
) -> Result<Report, BenchError> {
    let books = Arc::clone(&stage.books);
    let during = async |stage: &Stage| {
        books.reset_latencies();
        let before = books.delivered();
        good.work_for(options.duration).await?;
        // However long it takes: what was not answered in time counts as well.
        good.during(books.all_delivered(before + 1)).await?;
        Ok::<_, BenchError>((stage.reading().await?, books.latency(), books.delivered() - before))
    };
    // Until the relay is done with those that were there before.
    good.work_for(options.warm_up).await?;
    let (_, quiet, _) = during(stage).await?;

    Memory::forget_peak(stage.bed.process(ORIGIN).await?)?;
    let crowd = Crowd::start(abusers(options, stage, case).await?, case.kind, case.door)?;
    // Until most of them are connected.
    good.during(async {
        sleep(options.warm_up).await;
        Ok(())
    })
    .await?;
    let from = stage.reading().await?;
    let (until, abused, envelopes) = during(stage).await?;
    let more = [
        ("connections", "abusive connections at a time", count(options.connections as u64)),
        ("quiet_p50_ms", "ms for half of them while it was quiet", quiet.p50),
        ("quiet_p95_ms", "ms for 95 % of them while it was quiet", quiet.p95),
        ("quiet_p99_ms", "ms for 99 % of them while it was quiet", quiet.p99),
        ("p99_ratio", "times as long for 99 % of them", ratio(abused.p99, quiet.p99)),
    ];
    let more = more.map(|(key, label, value)| Figure { key, label, value }).into();
    let mut report = stage.report(options, envelopes, &from, &until, more).await?;
    report.latency = abused;
    let became: BTreeMap<_, _> =
        crowd.end()?.into_iter().map(|(reaction, times)| (reaction.to_string(), times)).collect();
    report.abused = Some(Abused { kind: case.kind.name(), by: case.by(), quiet, became });
    Ok(report)
}

async fn abusers(options: &Options, stage: &Stage, case: Case) -> Result<Vec<Abuser>, BenchError> {
    let mut addresses = Vec::new();
    for number in 1..=u8::try_from(ADDRESSES).unwrap_or(u8::MAX) {
        let own = Ipv4Addr::new(127, 0, 1, number).into();
        addresses.push(stage.bed.abuser(ORIGIN, if case.is_from_the_office { OFFICE } else { own }).await?);
    }
    Ok(addresses.into_iter().cycle().take(options.connections).collect())
}

impl Case {
    /// Who they say they are.
    const fn by(self) -> &'static str {
        match (self.door, self.is_from_the_office) {
            (Door::Relays, _) => "relays",
            (Door::Clients, false) => "clients",
            (Door::Clients, true) => "clients behind the good one's address",
        }
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} by {}", self.kind, self.by())
    }
}
