//! A mailbox moves to another relay, as its owner's app does that, whatever else happens to both relays.

use std::time::Duration;

use super::World;
use crate::cluster::ClusterError;

/// How often an owner begins anew whose relays are killed again and again.
const TIMES: usize = 400;
/// Until then: a relay takes only so many bindings of one mailbox in a second.
const AGAIN: Duration = Duration::from_millis(300);

/// Moves a user's mailbox `by` so many relays further. What happens to one mailbox takes turns.
pub(super) async fn move_away(world: &World, user: usize, by: usize) -> Result<(), ClusterError> {
    let _turn = world.owners[user].lock().await;
    let from = world.ledger.home(user);
    let to = (from + by) % world.relays.len();
    let identity = world.users[user][0].at(world.relays[from].parse()?);
    let (here, there) = (world.client(from)?, world.client(to)?);
    // From the moment on at which a relay may have heard of it.
    world.ledger.leaving(user, to);
    let mut why = String::new();
    for _ in 0..TIMES {
        let moved = async { here.session(&identity).await?.move_to(&there).await };
        match moved.await {
            Ok(_) => {
                world.ledger.moved(user);
                world.count(|counts| counts.moves += 1);
                return Ok(());
            }
            Err(error) => why = error.to_string(),
        }
        tokio::time::sleep(AGAIN).await;
    }
    Err(ClusterError::Start(format!("user {user} cannot move from {from} to {to}: {why}")))
}
