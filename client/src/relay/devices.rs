//! The devices of a mailbox: listed, named, removed.

use postrider_common::DeviceId;
use postrider_common::wire::control::{Device, DeviceName, Devices, NamedDevice};

use super::connection::Call;
use super::{Session, json};
use crate::Error;

impl Session {
    /// The mailbox's devices, in the order in which they were registered: what they are called, when they were last
    /// connected, and when each is removed if it stays away.
    ///
    /// ```no_run
    /// # use postrider_client::{Error, Session};
    /// # async fn example(session: Session, next_week: u64) -> Result<(), Error> {
    /// for device in session.devices().await? {
    ///     if device.removed_at < next_week {
    ///         println!("{} is removed soon, unless it connects", device.device);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn devices(&self) -> Result<Vec<Device>, Error> {
        let devices: Devices = json(&self.call(Call::get("/v1/mailbox/devices")).await?)?;
        Ok(devices.devices)
    }

    /// Calls a device something. The relay keeps the bytes as they are: encrypt them, so that only your user's devices can
    /// read them ([`Identity::seal_device_name`](crate::Identity::seal_device_name) does). A device that there is not is
    /// refused with the [slug](Error::slug) `unknown-device`.
    ///
    /// ```no_run
    /// # use postrider_client::{DeviceId, DeviceName, Session};
    /// # async fn example(session: Session, device: DeviceId, name: DeviceName) -> Result<(), postrider_client::Error> {
    /// match session.name_device(&device, name).await {
    ///     Err(error) if error.slug() == Some("unknown-device") => println!("it was removed"),
    ///     named => named?,
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn name_device(&self, device: &DeviceId, name: DeviceName) -> Result<(), Error> {
        let path = format!("/v1/mailbox/devices/{device}/name");
        self.call(Call::put_json(&path, &NamedDevice { name })?).await?;
        Ok(())
    }

    /// Removes a device, this one or another, with what waits for it; its connections end at once. It does not keep out
    /// whoever has the mailbox's key: they can register again.
    ///
    /// ```no_run
    /// # use postrider_client::Session;
    /// # async fn example(session: Session, a_month_ago: u64) -> Result<(), postrider_client::Error> {
    /// for device in session.devices().await?.iter().filter(|device| device.last_contact < a_month_ago) {
    ///     session.remove_device(&device.device).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn remove_device(&self, device: &DeviceId) -> Result<(), Error> {
        self.call(Call::delete(&format!("/v1/mailbox/devices/{device}"))).await?;
        Ok(())
    }
}
