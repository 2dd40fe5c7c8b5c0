//! Says in time that a certificate is about to end: ours, or one by which another relay has proven itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use postrider_common::clock::SharedClock;
use postrider_common::supervisor::Supervisor;
use postrider_common::{Domain, Timestamp};
use postrider_federation::{CertificateInForce, Expiries, Presented};

use super::Reload;

/// How long before the end it is said, each time once.
const DAYS_LEFT: [u64; 3] = [30, 14, 3];
const DAY: Duration = Duration::from_secs(86_400);
/// How often it is looked at.
const ROUND: Duration = Duration::from_secs(3600);

/// A certificate, and who is shown it.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) to: &'static str,
    pub(crate) certificate: CertificateInForce,
}

impl Shown {
    /// When the one of this moment ends.
    pub(crate) fn end(&self) -> Option<Timestamp> {
        Presented::of(&self.certificate.current().cert).map(|presented| presented.not_after)
    }
}

/// What was said last of a certificate: its end, and how many of the days it was said at are over.
type Said = Option<(Timestamp, usize)>;

/// Looks at once, and then every hour, until the process stops. What was put in force meanwhile is looked at then.
pub(super) fn watch(
    shown: Vec<Shown>,
    peers: Expiries,
    reload: Reload,
    clock: &SharedClock,
    supervisor: &Supervisor,
) {
    let (clock, owner) = (Arc::clone(clock), supervisor.clone());
    supervisor.spawn_service("certificates", async move {
        let mut said: Vec<Said> = vec![None; shown.len()];
        let mut said_early = vec![None; shown.len()];
        let mut said_of_peers = BTreeMap::new();
        loop {
            for ((shown, said), said_early) in shown.iter().zip(&mut said).zip(&mut said_early) {
                look(shown, &reload, said, said_early, clock.now());
            }
            look_at_peers(&peers, &mut said_of_peers, clock.now());
            tokio::select! {
                () = owner.stopping() => return,
                () = clock.sleep(ROUND) => {}
            }
        }
    });
}

fn look(shown: &Shown, reload: &Reload, said: &mut Said, said_early: &mut Option<Timestamp>, now: Timestamp) {
    let Some(presented) = Presented::of(&shown.certificate.current().cert) else { return };
    let (end, to) = (presented.not_after, shown.to);
    let begin = presented.not_before;
    if is_early(begin, said_early, now) {
        tracing::error!("a certificate is not valid yet: the one that {to} are shown, before {begin}");
    }
    // What the relay renews itself is worth a word only when it is late.
    if reload.is_issued(&shown.certificate) && !is_late((presented.not_before, end), now) {
        return;
    }
    let Some(stage) = due(end, said, now) else { return };
    *said = Some((end, stage));
    if end <= now {
        tracing::error!("a certificate is over: the one that {to} are shown, since {end}");
    } else {
        let days = end.since(now).as_secs() / DAY.as_secs();
        tracing::warn!("a certificate ends soon: the one that {to} are shown, in {days} days, {end}");
    }
}

/// Whether a certificate is not valid before some time to come, of which that was not said yet.
fn is_early(begin: Timestamp, said: &mut Option<Timestamp>, now: Timestamp) -> bool {
    begin > now && said.replace(begin) != Some(begin)
}

/// What was said of each certificate of a peer's: of the peer and the end, since one may show different ones at its hosts.
type SaidOfPeers = BTreeMap<(Domain, Timestamp), Said>;

fn look_at_peers(peers: &Expiries, said: &mut SaidOfPeers, now: Timestamp) {
    said.retain(|(_, end), _| *end > now);
    for (peer, end) in peers.after(now) {
        let said = said.entry((peer.clone(), end)).or_default();
        if let Some(stage) = due(end, said, now) {
            *said = Some((end, stage));
            let days = end.since(now).as_secs() / DAY.as_secs();
            tracing::warn!(%peer, "another relay's certificate ends soon: in {days} days, {end}; its administrator has to renew it");
        }
    }
}

/// Whether a certificate should have been renewed by now: that is done before a quarter of its life is left.
fn is_late((from, end): (Timestamp, Timestamp), now: Timestamp) -> bool {
    end.since(now) < end.since(from) / 4
}

/// Which stage has come that was not said of this certificate yet: how many of [`DAYS_LEFT`] are over, or one more.
fn due(end: Timestamp, said: &Said, now: Timestamp) -> Option<usize> {
    let left = end.since(now);
    let over =
        DAYS_LEFT.iter().filter(|days| left <= DAY * u32::try_from(**days).unwrap_or(u32::MAX)).count();
    let stage = over + usize::from(end <= now);
    let last = said.filter(|(of, _)| *of == end).map_or(0, |(_, stage)| stage);
    (stage > last).then_some(stage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_renewed_here_is_late_in_the_last_quarter_of_its_life() {
        let from = Timestamp::from_secs(1_800_000_000);
        let late = |days: u32, now: u32| is_late((from, from + DAY * days), from + DAY * now);
        assert_eq!([late(90, 67), late(90, 68), late(6, 4), late(6, 5)], [false, true, false, true]);
    }

    #[test]
    fn that_one_is_not_valid_yet_is_said_once_of_each() {
        let (now, mut said) = (Timestamp::from_secs(1_800_000_000), None);
        let mut at = |begin, now| is_early(begin, &mut said, now);
        assert_eq!([at(now, now), at(now - DAY, now)], [false, false]);
        assert_eq!([at(now + DAY, now), at(now + DAY, now), at(now + DAY * 2, now)], [true, false, true]);
    }

    #[test]
    fn each_stage_is_said_once_and_anew_for_another_certificate() {
        let end = Timestamp::from_secs(1_800_000_000);
        let mut said: Said = None;
        let mut at = |days_before: i64, end: Timestamp| {
            let days = DAY * u32::try_from(days_before.unsigned_abs()).unwrap();
            let now = if days_before >= 0 { end - days } else { end + days };
            let stage = due(end, &said, now);
            if let Some(stage) = stage {
                said = Some((end, stage));
            }
            stage
        };
        assert_eq!(at(31, end), None);
        assert_eq!([at(30, end), at(29, end), at(14, end), at(4, end)], [Some(1), None, Some(2), None]);
        assert_eq!([at(2, end), at(1, end), at(-1, end), at(-9, end)], [Some(3), None, Some(4), None]);
        let renewed = end + DAY * 90;
        assert_eq!([at(80, renewed), at(13, renewed)], [None, Some(2)]);
    }
}
