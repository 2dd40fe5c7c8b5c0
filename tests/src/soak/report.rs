//! What came of a soak.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use postrider_common::wire::control::TrackingState;
use postrider_common::{EnvelopeId, FailureClass, TrackingId};
use tempfile::TempDir;
use tokio::time::Instant;

use super::World;
use super::ledger::{Fault, Letter};
use crate::cluster::ClusterError;

/// How long the end of an expired envelope may take to be told: relays look for what is over once a minute.
const TRACKING_PATIENCE: Duration = Duration::from_secs(150);
/// How many of many alike are described.
const DESCRIBED: usize = 50;

/// The books, closed. As text it is the one line that says it all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Envelopes that relays have taken.
    pub accepted: usize,
    /// Of them, those that every device of their mailbox has got.
    pub delivered: usize,
    /// Of them, those whose time was over before.
    pub expired: usize,
    /// Of them, all others, and what arrived with other content.
    pub lost: usize,
    /// Deliveries that should not have been.
    pub duplicated: usize,
    /// Relays that were killed and started again.
    pub kills: usize,
    /// Ways that were broken and mended.
    pub cuts: usize,
    /// Keys that were changed.
    pub rotations: usize,
    /// Mailboxes that were closed and opened again.
    pub suspensions: usize,
    /// How often a mailbox has moved.
    pub moves: usize,
    /// Whatever else went wrong, such as a relay that ended by itself.
    pub broken: usize,
    /// What was lost, duplicated or broken, one line each.
    pub details: Vec<String>,
    /// Where the relays' directories with their logs are, if anything is to be looked into.
    pub kept: Option<PathBuf>,
}

impl Report {
    /// Whether every promise was kept.
    pub const fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.broken == 0
    }

    fn add(&mut self, fault: Fault) {
        let (count, detail) = match fault {
            Fault::Duplicated(detail) => (&mut self.duplicated, format!("duplicated: {detail}")),
            Fault::Damaged(detail) => (&mut self.lost, format!("lost, for it is damaged: {detail}")),
            Fault::Broken(detail) => (&mut self.broken, detail),
        };
        *count += 1;
        if *count <= DESCRIBED {
            self.details.push(detail);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            accepted,
            delivered,
            expired,
            lost,
            duplicated,
            kills,
            cuts,
            rotations,
            suspensions,
            moves,
            ..
        } = self;
        write!(
            f,
            "accepted={accepted} delivered={delivered} expired={expired} lost={lost} duplicated={duplicated} \
             kills={kills} cuts={cuts} rotations={rotations} suspensions={suspensions} moves={moves}"
        )
    }
}

/// Closes the books, and the cluster. `ended` is why the soak could not come to its end, if so.
pub(super) async fn close(
    world: Arc<World>,
    directory: TempDir,
    ended: Result<(), String>,
) -> Result<Report, ClusterError> {
    let counts = *world.counts.borrow();
    let mut report = Report {
        accepted: world.ledger.count_accepted(),
        delivered: world.ledger.count_delivered(),
        kills: counts.kills,
        cuts: counts.cuts,
        rotations: counts.rotations,
        suspensions: counts.suspensions,
        moves: counts.moves,
        ..Report::default()
    };
    match ended {
        // What a relay that is gone still has is neither lost nor delivered.
        Err(why) => report.add(Fault::Broken(format!("the soak could not go on: {why}"))),
        Ok(()) => account_for_the_rest(&world, &mut report).await,
    }
    world.ledger.faults().into_iter().for_each(|fault| report.add(fault));
    for relay in &world.relays {
        let log = world.cluster.log(relay).await?;
        let refusals = log.lines().filter(|line| line.contains(FailureClass::TlsPinMismatch.slug()));
        refusals.for_each(|line| report.add(Fault::Broken(format!("{relay} refused a key: {line}"))));
    }
    if report.is_clean() {
        // Tasks that are over hold nothing.
        if let Some(world) = Arc::into_inner(world) {
            world.cluster.shut_down().await?;
        }
    } else {
        write_logs(&world, directory.path()).await?;
        report.kept = Some(directory.keep());
    }
    Ok(report)
}

/// What was accepted and not delivered has expired, or is lost.
async fn account_for_the_rest(world: &World, report: &mut Report) {
    let now = world.now();
    let until = Instant::now() + TRACKING_PATIENCE;
    for (id, letter) in world.ledger.undelivered() {
        let is_over = letter.expires_at <= now;
        let is_looked_into = is_over || report.lost < DESCRIBED;
        let state = match letter.tracking {
            Some(tracking) if is_looked_into => last_state(world, &letter, tracking, is_over, until).await,
            _ => Ok(None),
        };
        let ended_well = matches!(state, Ok(None | Some(TrackingState::Expired | TrackingState::Stored)));
        if is_over && ended_well {
            report.expired += 1;
            continue;
        }
        report.lost += 1;
        if report.lost <= DESCRIBED {
            report.details.push(describe(world, &id, &letter, &state));
        }
    }
}

async fn last_state(
    world: &World,
    letter: &Letter,
    tracking: TrackingId,
    is_over: bool,
    until: Instant,
) -> Result<Option<TrackingState>, String> {
    let relay = world.client(letter.origin).map_err(|error| error.to_string())?;
    loop {
        let status = relay.track(tracking).await.map_err(|error| error.to_string())?;
        if status.state != TrackingState::Queued || !is_over || Instant::now() > until {
            return Ok(Some(status.state));
        }
        // Tracking has no notification; this is a pause between questions.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn describe(
    world: &World,
    id: &EnvelopeId,
    letter: &Letter,
    state: &Result<Option<TrackingState>, String>,
) -> String {
    let Letter { origin, user, expires_at, accepted, .. } = letter;
    let state = match state {
        Ok(None) => "was stored at once".to_owned(),
        Ok(Some(state)) => format!("its tracking says {state:?}"),
        Err(error) => format!("its tracking says nothing: {error}"),
    };
    format!(
        "lost: {id} for {}, accepted by {} after {} ms, {state}; it expires at {}",
        world.address(*user),
        world.relays[*origin],
        accepted.unwrap_or_default().as_millis(),
        expires_at.as_secs(),
    )
}

async fn write_logs(world: &World, directory: &Path) -> Result<(), ClusterError> {
    for relay in &world.relays {
        std::fs::write(directory.join(relay).join("relay.log"), world.cluster.log(relay).await?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use postrider_client::Entry;
    use postrider_common::{EntryId, Envelope};

    use super::*;
    use crate::cluster::Cluster;
    use crate::dice::Dice;
    use crate::soak::ledger::{Holder, Visit};
    use crate::soak::letter;

    #[test]
    fn the_line_says_it_all() {
        let (kills, cuts, rotations) = (2, 3, 1);
        let report =
            Report { accepted: 5, delivered: 4, expired: 1, kills, cuts, rotations, ..Report::default() };
        assert!(report.is_clean());
        assert_eq!(
            report.to_string(),
            "accepted=5 delivered=4 expired=1 lost=0 duplicated=0 kills=2 cuts=3 rotations=1 suspensions=0 moves=0"
        );
    }

    #[test]
    fn no_broken_promise_is_clean() {
        for fault in [Fault::Duplicated("it".into()), Fault::Damaged("it".into()), Fault::Broken("it".into())]
        {
            let mut report = Report::default();
            report.add(fault);
            assert!(!report.is_clean());
            assert_eq!(report.details.len(), 1);
        }
    }

    #[tokio::test]
    async fn the_books_find_what_was_lost_and_what_came_twice() {
        let relays = vec!["relay1.example".to_owned()];
        let directory = TempDir::new().unwrap();
        let cluster = Cluster::builder(relays.clone()).directory(directory.path()).start().await.unwrap();
        let world = Arc::new(World::new(cluster, relays).unwrap());
        let mut dice = Dice::new(1);
        let mut accept = |expires_at| {
            let envelope =
                letter::write(&mut dice, world.users[0][0].address().mailbox, expires_at, Vec::new());
            world.ledger.written(&envelope, 0, 0);
            world.ledger.accepted(envelope.id(), None);
            envelope
        };
        let arrive = |id, envelope: &Envelope| {
            let entry = Entry::new(EntryId(id), envelope.clone());
            world.ledger.arrived(Holder { user: 0, device: 0, relay: 0 }, &mut Visit::default(), &entry);
        };
        let (later, over) = (world.long_life(), world.now());
        let (delivered, twice, _expired, _lost) = (accept(later), accept(later), accept(over), accept(later));
        arrive(1, &delivered);
        arrive(2, &twice);
        arrive(3, &twice);

        let report = close(Arc::clone(&world), directory, Ok(())).await.unwrap();
        assert_eq!(
            report.to_string(),
            "accepted=4 delivered=2 expired=1 lost=1 duplicated=1 kills=0 cuts=0 rotations=0 suspensions=0 moves=0"
        );
        assert!(!report.is_clean());
        assert_eq!(report.details.len(), 2, "{:?}", report.details);
        let kept = report.kept.unwrap();
        assert!(kept.join("relay1.example/relay.log").is_file());
        Arc::into_inner(world).unwrap().cluster.shut_down().await.unwrap();
        std::fs::remove_dir_all(kept).unwrap();
    }
}
