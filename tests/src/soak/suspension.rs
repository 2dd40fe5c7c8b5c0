//! An administrator closes a mailbox for a while, whatever else happens to its relay.

use std::sync::Arc;
use std::time::Duration;

use postrider_common::wire::control::TrackingState;
use tokio::time::timeout;

use super::{Phase, World};
use crate::cluster::ClusterError;
use crate::dice::Dice;

/// How often a relay that is killed again and again is told.
const TIMES: usize = 400;
/// Between two looks for refusals, and how much is asked then: the relays' rate limits are the senders' as well.
const PAUSE: Duration = Duration::from_secs(1);
const ASKED: usize = 50;
/// Until it is told again.
pub(super) const AGAIN: Duration = Duration::from_millis(50);

/// Closes a user's mailbox, and opens it again after `lasts`. What happens to one mailbox takes turns.
pub(super) async fn suspend(world: &World, user: usize, lasts: Duration) -> Result<(), ClusterError> {
    let _turn = world.owners[user].lock().await;
    // From the moment on at which the relay may have heard of it.
    world.ledger.closing(user);
    told(world, user, "suspend").await?;
    world.ledger.closed(user);
    tokio::time::sleep(lasts).await;
    world.ledger.opening(user);
    told(world, user, "resume").await?;
    world.ledger.opened(user);
    world.count(|counts| counts.suspensions += 1);
    Ok(())
}

/// Looks for refusals until the load is over: what was refused is not under way, and must not keep senders waiting.
pub(super) async fn watch(world: Arc<World>, mut dice: Dice) {
    let mut phase = world.phase();
    while timeout(PAUSE, phase.wait_for(|phase| *phase > Phase::Load)).await.is_err() {
        look_for_refusals(&world, ASKED, &mut dice).await;
    }
}

/// Asks what became of what may have been refused since it was queued, of so many at most. Who does not answer is asked
/// again later.
pub(super) async fn look_for_refusals(world: &World, most: usize, dice: &mut Dice) {
    let mut letters = world.ledger.doubtful();
    if !letters.is_empty() {
        let first = dice.below(letters.len());
        letters.rotate_left(first);
    }
    for (id, origin, tracking) in letters.into_iter().take(most) {
        let Ok(relay) = world.client(origin) else { continue };
        let Ok(status) = relay.track(tracking).await else { continue };
        let reason = status.reason.as_deref().and_then(|reason| reason.parse().ok());
        if let (TrackingState::Failed, Some(reason)) = (status.state, reason) {
            world.ledger.refused_later(&id, tracking, reason);
        }
    }
}

/// Has the command say so to the running relay, as soon as there is one.
async fn told(world: &World, user: usize, what: &str) -> Result<(), ClusterError> {
    let domain = &world.relays[world.ledger.home(user)];
    let mailbox = world.users[user][0].at(domain.parse()?).address().to_string();
    let mut said = String::new();
    for _ in 0..TIMES {
        let output = world.cluster.command(domain, &["mailbox", what, &mailbox]).await?;
        if output.status.success() {
            return Ok(());
        }
        said = String::from_utf8_lossy(&output.stderr).into_owned();
        tokio::time::sleep(AGAIN).await;
    }
    Err(ClusterError::Start(format!("{domain}: mailbox {what}: {said}")))
}
