//! A mailbox moves to another relay.

use http::StatusCode;
use postrider_common::wire::control::BindingStatement;
use postrider_common::{Binding, InviteSecret};

use super::connection::Call;
use super::{Relay, Session, json};
use crate::{Error, Identity};

impl Session {
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
    ///
    /// ```no_run
    /// # use postrider_client::{Binding, Session};
    /// # async fn example(session: Session, binding: Binding) -> Result<(), postrider_client::Error> {
    /// match session.bind(&binding).await {
    ///     Err(error) if error.slug() == Some("binding-outdated") => println!("it was told a later one"),
    ///     bound => bound?,
    /// }
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// ```no_run
    /// # use postrider_client::{Relay, Session};
    /// # async fn example(session: Session) -> Result<(), Box<dyn std::error::Error>> {
    /// let there = Relay::builder("https://relay.example.net").build()?;
    /// let moved = session.move_to(&there).await?;
    /// moved.save("moved.identity")?;
    /// println!("my new card: {}", moved.card());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn move_to(&self, relay: &Relay) -> Result<Identity, Error> {
        self.moved(relay, None).await
    }

    /// The same to a relay where registering takes an invite.
    pub async fn move_to_invited(&self, relay: &Relay, invite: &InviteSecret) -> Result<Identity, Error> {
        self.moved(relay, Some(invite)).await
    }

    async fn moved(&self, relay: &Relay, invite: Option<&InviteSecret>) -> Result<Identity, Error> {
        let devices = self.devices().await?.into_iter().map(|known| known.device);
        let domain = relay.info().await?.domain;
        let identity = self.identity().at(domain.clone());
        let there = relay.session(&identity).await?;
        there.registered(invite).await?;
        for device in devices.filter(|device| device != identity.device()) {
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

impl Relay {
    /// Prepares this relay to keep a mailbox whose owner cannot sign in at the old one any more: registers it with this
    /// device, and has it bound to here. What is answered is this device's identity here, and the binding: the old
    /// relay's administrator can put it in force there (`postrider mailbox redirect`), and nobody else can make one.
    ///
    /// Which serial counts at the old relay cannot be asked. The time in seconds is above all that were counted up.
    ///
    /// ```no_run
    /// # use postrider_client::{Identity, Relay};
    /// # async fn example(new: Relay, lost: Identity) -> Result<(), postrider_client::Error> {
    /// let (mine, binding) = new.take_in(&lost, None).await?;
    /// println!("from now on at {}, by serial {}", mine.address(), binding.serial());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn take_in(
        &self,
        identity: &Identity,
        invite: Option<&InviteSecret>,
    ) -> Result<(Identity, Binding), Error> {
        let domain = self.info().await?.domain;
        let identity = identity.at(domain.clone());
        let here = self.session(&identity).await?;
        here.registered(invite).await?;
        let known = here.binding().await?;
        let binding = match known {
            Some(binding) if *binding.domain() == domain => binding,
            known => {
                let after = known.map_or(0, |binding| binding.serial().saturating_add(1));
                identity.binding(after.max(self.clock().now().as_secs()))
            }
        };
        here.bind(&binding).await?;
        Ok((identity, binding))
    }
}
