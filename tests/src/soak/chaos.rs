//! Does what the plan says, to relays and links.

use std::sync::Arc;

use tokio::time::Instant;

use super::plan::{Event, Fault};
use super::{World, moving, rotation, suspension};
use crate::cluster::ClusterError;
use crate::link::Link;

/// Waits until the event's time has come, breaks something, and mends it.
pub(super) async fn happen(world: Arc<World>, started: Instant, event: Event) {
    tokio::time::sleep_until(started + event.at).await;
    if let Err(error) = break_and_mend(&world, &event).await {
        world.give_up(format!("{:?}: {error}", event.fault));
    }
}

async fn break_and_mend(world: &World, event: &Event) -> Result<(), ClusterError> {
    let (link, condition) = match event.fault {
        Fault::Kill(relay) => return kill(world, relay, event.lasts).await,
        Fault::Rotation(relay) => return rotation::rotate(world, relay, event.lasts).await,
        Fault::Suspension(user) => return suspension::suspend(world, user, event.lasts).await,
        Fault::Move { user, by } => return moving::move_away(world, user, by).await,
        Fault::Dns { relay, trouble } => {
            let view = world.cluster.view(&world.relays[relay])?;
            view.set_trouble(Some(trouble));
            tokio::time::sleep(event.lasts).await;
            view.set_trouble(None);
            world.count(|counts| counts.cuts += 1);
            return Ok(());
        }
        Fault::Link { from, to, condition } => {
            (world.cluster.link(&world.relays[from], &world.relays[to])?, condition)
        }
        Fault::Door { relay, condition } => (world.cluster.door(&world.relays[relay])?, condition),
    };
    cut(link, condition, event).await;
    world.count(|counts| counts.cuts += 1);
    Ok(())
}

async fn cut(link: &Link, condition: crate::link::Condition, event: &Event) {
    link.set(condition);
    tokio::time::sleep(event.lasts).await;
    link.heal();
}

/// Two kills of one relay take turns.
async fn kill(world: &World, relay: usize, lasts: std::time::Duration) -> Result<(), ClusterError> {
    let domain = &world.relays[relay];
    let _turn = world.turns[relay].lock().await;
    if let Some(how) = world.cluster.has_ended(domain).await? {
        return Err(ClusterError::Start(format!("{domain} has ended by itself: {how}")));
    }
    world.cluster.kill(domain).await?;
    tokio::time::sleep(lasts).await;
    world.cluster.restart(domain).await?;
    world.count(|counts| counts.kills += 1);
    Ok(())
}
