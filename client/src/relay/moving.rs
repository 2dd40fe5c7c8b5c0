//! A mailbox moves to another relay.

use http::StatusCode;
use postrider_common::wire::control::{BindingStatement, Devices};
use postrider_common::{Binding, DeviceId};

use super::connection::Call;
use super::{Relay, Session, json};
use crate::{Error, Identity};

impl Session {
    /// The mailbox's devices.
    pub async fn devices(&self) -> Result<Vec<DeviceId>, Error> {
        let devices: Devices = json(&self.call(Call::get("/v1/mailbox/devices")).await?)?;
        Ok(devices.devices)
    }

    /// Where the mailbox has said that it is kept, if it was ever said to this relay.
    pub async fn binding(&self) -> Result<Option<Binding>, Error> {
        let answer = match self.call(Call::get("/v1/mailbox/binding")).await {
            Err(error)
                if error.status() == Some(StatusCode::NOT_FOUND) && error.slug() == Some("no-binding") =>
            {
                return Ok(None);
            }
            answer => answer?,
        };
        let statement: BindingStatement = json(&answer)?;
        let binding = statement.of(self.identity().address().mailbox);
        binding.map(Some).map_err(|error| Error::protocol(error.to_string()))
    }

    /// Tells the relay where the mailbox is kept. It goes by this one from then on if its serial is the highest so far;
    /// otherwise the [slug](Error::slug) is `binding-outdated`.
    pub async fn bind(&self, binding: &Binding) -> Result<(), Error> {
        self.call(Call::put_json("/v1/mailbox/binding", &BindingStatement::from(binding))?).await?;
        Ok(())
    }

    /// Moves the mailbox from this session's relay to `relay`, with all its devices and everything that waits in it. The
    /// answer is this device's identity there: [save](Identity::save) it, and give its card to those who write to you.
    ///
    /// First everything is prepared at the new relay, then it is told that it keeps the mailbox, and last the old one
    /// that it does not. After an error the same call goes on where it ended; until it has succeeded, the mailbox is
    /// where it was. Moving back is the same the other way round.
    ///
    /// The old relay sends on what comes to the old address for as long as the mailbox is not deleted there. Other
    /// devices are refused by it with the slug `moved`, and find in [`Error::moved_to`] where to go.
    pub async fn move_to(&self, relay: &Relay) -> Result<Identity, Error> {
        let devices = self.devices().await?;
        let domain = relay.info().await?.domain;
        let identity = self.identity().at(domain.clone());
        let there = relay.session(&identity).await?;
        there.register().await?;
        for device in devices.into_iter().filter(|device| device != identity.device()) {
            relay.session(&identity.with_device(device)).await?.register().await?;
        }
        let (here_now, there_now) = (self.binding().await?, there.binding().await?);
        let highest = here_now.iter().chain(&there_now).map(Binding::serial).max().unwrap_or_default();
        // One with the serial of another that the old relay has would never be taken there: two devices have moved the
        // mailbox to two relays at once.
        let is_taken = |binding: &Binding| {
            here_now.as_ref().is_some_and(|here| here != binding && here.serial() >= binding.serial())
        };
        let is_it = |binding: &Binding| {
            *binding.domain() == domain && binding.serial() == highest && !is_taken(binding)
        };
        let binding = match there_now.filter(is_it) {
            // From a time before, when something went wrong after this.
            Some(binding) => binding,
            None => identity.binding(highest.saturating_add(1)),
        };
        there.bind(&binding).await?;
        self.bind(&binding).await?;
        Ok(identity)
    }
}
