//! A relay's key is changed, as its administrator and those of its peers do that, whatever else happens to the relays.

use std::time::Duration;

use super::World;
use super::suspension::AGAIN;
use crate::cluster::ClusterError;

/// How often a relay that is killed again and again is told to read what has been written.
const TIMES: usize = 100;

/// Announces the relay's next key, has every peer learn it, and puts it in use when the announcement has lasted. Two
/// changes of one relay's key take turns.
pub(super) async fn rotate(world: &World, relay: usize, announced: Duration) -> Result<(), ClusterError> {
    let domain = &world.relays[relay];
    let _turn = world.rotations[relay].lock().await;
    told(world, domain, &["identity", "rotate"]).await?;
    let block = world.cluster.directory(domain)?.join("announcement");
    std::fs::write(&block, told(world, domain, &["identity", "export"]).await?)?;
    let block = block.to_str().ok_or(ClusterError::Start("a directory with an odd name".into()))?;
    for peer in world.relays.iter().filter(|peer| *peer != domain) {
        told(world, peer, &["peer", "import", block]).await?;
    }
    tokio::time::sleep(announced).await;
    told(world, domain, &["identity", "rotate", "--now"]).await?;
    world.count(|counts| counts.rotations += 1);
    Ok(())
}

/// What a command says. A relay that was killed while it was told to read what the command has written is told again.
async fn told(world: &World, domain: &str, arguments: &[&str]) -> Result<Vec<u8>, ClusterError> {
    let mut arguments = arguments;
    let mut said = String::new();
    for _ in 0..TIMES {
        let output = world.cluster.command(domain, arguments).await?;
        said = String::from_utf8_lossy(&output.stderr).into_owned();
        let is_told_again = arguments == ["reload"];
        if output.status.success() || is_told_again && said.contains("no relay runs") {
            return Ok(output.stdout);
        }
        if !is_told_again && !said.contains("the running relay goes on with what it had") {
            break;
        }
        arguments = &["reload"];
        tokio::time::sleep(AGAIN).await;
    }
    Err(ClusterError::Start(format!("{domain}: {arguments:?}: {said}")))
}
