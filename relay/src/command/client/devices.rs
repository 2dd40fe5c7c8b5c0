//! `postrider client devices`: the devices of one's own mailbox.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use postrider_client::{Device, DeviceName, Identity, Session};
use postrider_common::{DeviceId, Timestamp};

use super::{ClientCommandError, RelayArgs, print, show};

/// What to do with devices.
#[derive(Debug, Subcommand)]
pub enum DevicesCommand {
    /// List your devices: when each was last connected, and when it is removed if it stays away
    List(OwnerArgs),
    /// Call a device something that only your devices can read
    Name(NameArgs),
    /// Remove a device, with what waits for it alone
    Remove(RemoveArgs),
}

/// Whose devices.
#[derive(Debug, Args)]
pub struct OwnerArgs {
    /// The file that `keygen` wrote
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    #[command(flatten)]
    relay: RelayArgs,
}

/// `devices name`.
#[derive(Debug, Args)]
pub struct NameArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// Which device, as `list` tells it; this one, if it is left out
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceId>,
    /// What to call it
    #[arg(value_name = "NAME")]
    name: String,
}

/// `devices remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// Which device, as `list` tells it
    #[arg(value_name = "DEVICE")]
    device: DeviceId,
}

impl DevicesCommand {
    pub(super) async fn run(self, out: &mut (dyn Write + Send)) -> Result<(), ClientCommandError> {
        match self {
            Self::List(owner) => {
                let session = owner.session().await?;
                for device in session.devices().await? {
                    print(out, &line(session.identity(), &device))?;
                }
                Ok(())
            }
            Self::Name(NameArgs { owner, device, name }) => {
                let session = owner.session().await?;
                let device = device.unwrap_or(*session.identity().device());
                let sealed: Option<DeviceName> = session.identity().seal_device_name(&device, &name);
                let sealed = sealed.ok_or(ClientCommandError::LongName)?;
                Ok(session.name_device(&device, sealed).await?)
            }
            Self::Remove(RemoveArgs { owner, device }) => {
                Ok(owner.session().await?.remove_device(&device).await?)
            }
        }
    }
}

impl OwnerArgs {
    async fn session(self) -> Result<Session, ClientCommandError> {
        let identity = Identity::load(&self.identity)?;
        Ok(self.relay.build()?.session(&identity).await?)
    }
}

fn line(identity: &Identity, device: &Device) -> String {
    let name = match &device.name {
        None => "(no name)".into(),
        Some(name) => identity
            .open_device_name(&device.device, name)
            .map_or_else(|| "(a name that does not open)".into(), |name| show::one_line(&name)),
    };
    let this = if device.device == *identity.device() { ", this device" } else { "" };
    let [last, removed] = [device.last_contact, device.removed_at].map(day);
    format!("{} {name}: last connected on {last}, removed on {removed}{this}\n", device.device)
}

fn day(seconds: u64) -> String {
    Timestamp::from_secs(seconds).to_string().split('T').next().unwrap_or_default().to_owned()
}
