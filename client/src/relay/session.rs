//! A device that is signed in.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, Method};
use postrider_common::limits::MAX_BATCH_ENVELOPES;
use postrider_common::wire::attachments::AttachmentStatus;
use postrider_common::wire::control::{Challenge, Registered, Registration, RelayInfo, SessionGranted};
use postrider_common::wire::mailbox::{DeviceMessage, Entry, ServerMessage};
use postrider_common::wire::submit::SubmitResult;
use postrider_common::{Domain, EntryId, Envelope, InviteSecret, Timestamp};
use zeroize::Zeroizing;

use super::attachments::reservation;
use super::connection::{Answer, Call};
use super::seen::Seen;
use super::{BINARY, MailboxStream, Receiver, Relay, is_unauthorized, json, results, submission};
use crate::{Error, Identity};

/// A new token is asked for this long before the old one ends.
const MARGIN: Duration = Duration::from_secs(60);
/// The policy of a relay that takes envelopes from everybody.
const OPEN: &str = "open";

/// Access to one mailbox, for one device.
///
/// Clones share the token and the memory of what was handed out. When the relay no longer accepts the token, a call
/// signs in again and goes on.
///
/// ```no_run
/// # use postrider_client::{Identity, Invite, Relay};
/// # async fn example(me: Identity, invite: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let relay = Relay::builder("https://relay.example.org").build()?;
/// let session = relay.session(&me).await?;
/// match session.register().await {
///     // Its people are invited: what `postrider invite create` prints.
///     Err(error) if error.slug() == Some("invite-needed") => {
///         session.register_invited(&invite.parse::<Invite>()?.secret).await?;
///     }
///     registered => println!("{:?}", registered?),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Session(Arc<State>);

struct State {
    relay: Relay,
    identity: Identity,
    /// Whether the relay takes envelopes from everybody, and need not be told who submits.
    is_open: bool,
    token: tokio::sync::Mutex<Option<Token>>,
    seen: Mutex<Seen>,
}

#[derive(Clone)]
struct Token {
    text: Arc<Zeroizing<String>>,
    expires_at: Timestamp,
}

impl Session {
    pub(super) async fn open(relay: Relay, identity: Identity) -> Result<Self, Error> {
        let RelayInfo { domain: actual, policies, .. } = relay.info().await?;
        if &actual != identity.domain() {
            return Err(Error::WrongRelay { expected: identity.domain().clone(), actual });
        }
        let session = Self(Arc::new(State {
            relay,
            identity,
            is_open: policies.submission == OPEN,
            token: tokio::sync::Mutex::default(),
            seen: Mutex::default(),
        }));
        session.token(None).await?;
        Ok(session)
    }

    /// Whose session it is.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// The relay.
    pub fn relay(&self) -> &Relay {
        &self.0.relay
    }

    /// Hands envelopes over as [`Relay::submit`] does, to a relay that takes them from its members only
    /// ([`RelayPolicies::submission`](crate::RelayPolicies::submission) is `members`): it sees whose session submits. To one
    /// that takes them from everybody the token is not shown.
    ///
    /// ```no_run
    /// # use postrider_client::{Domain, Envelope, Error, Session, SubmitResult};
    /// # async fn example(session: Session, letters: Vec<(Domain, Envelope)>) -> Result<(), Error> {
    /// for ((domain, _), result) in letters.iter().zip(session.submit(&letters).await?) {
    ///     match result {
    ///         SubmitResult::Refused { reason, .. } => println!("not to {domain}: {reason}"),
    ///         taken => println!("to {domain}: {taken:?}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn submit(&self, items: &[(Domain, Envelope)]) -> Result<Vec<SubmitResult>, Error> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        results(&self.call_as_submitter(submission(items)).await?, items)
    }

    /// The same with one envelope. `domain` is the recipient's.
    pub async fn submit_one(&self, domain: &Domain, envelope: Envelope) -> Result<SubmitResult, Error> {
        let results = self.submit(&[(domain.clone(), envelope)]).await?;
        results.into_iter().next().ok_or_else(|| Error::protocol("it has no result"))
    }

    /// Makes room for an attachment as [`Relay::reserve_attachment`] does, at a relay that takes envelopes from its members
    /// only. To one that takes them from everybody the token is not shown. Chunks are brought without it:
    /// [`Relay::put_chunk`].
    ///
    /// ```no_run
    /// # use postrider_client::{Attachment, Error, Session};
    /// # async fn example(session: Session, ciphertext: Vec<u8>) -> Result<Attachment, Error> {
    /// let status = session.reserve_attachment(ciphertext.len() as u64, 1 << 20).await?;
    /// for (number, chunk) in (0..).zip(ciphertext.chunks(1 << 20)) {
    ///     session.relay().put_chunk(status.id, number, chunk.to_vec().into()).await?;
    /// }
    /// // For the envelope that is submitted next.
    /// Ok(status.attachment())
    /// # }
    /// ```
    pub async fn reserve_attachment(
        &self,
        length: u64,
        chunk_length: u32,
    ) -> Result<AttachmentStatus, Error> {
        json(&self.call_as_submitter(reservation(length, chunk_length)?).await?)
    }

    /// Makes the mailbox, if there is none, and adds this device to it, if it is new.
    pub async fn register(&self) -> Result<Registered, Error> {
        self.registered(None).await
    }

    /// The same at a relay where registering takes an invite ([`RelayPolicies::registration`](
    /// crate::RelayPolicies::registration) is `invite`). Of the invite a use is taken if the mailbox is new, and only then:
    /// repeating the call, or adding a device, costs nothing. If it is refused, the [slug](Error::slug) is
    /// `invite-refused`; without an invite it would be `invite-needed`.
    pub async fn register_invited(&self, secret: &InviteSecret) -> Result<Registered, Error> {
        self.registered(Some(secret)).await
    }

    pub(super) async fn registered(&self, invite: Option<&InviteSecret>) -> Result<Registered, Error> {
        let call = match invite {
            None => Call::new(Method::PUT, "/v1/mailbox"),
            Some(secret) => Call::put_json("/v1/mailbox", &Registration { invite: Some(secret.clone()) })?,
        };
        json(&self.call(call).await?)
    }

    /// Deletes the mailbox and everything in it.
    pub async fn delete_mailbox(&self) -> Result<(), Error> {
        self.call(Call::new(Method::DELETE, "/v1/mailbox")).await?;
        Ok(())
    }

    /// The entries that wait, oldest first, or those after `after`. Where there are none the relay answers as soon
    /// as one arrives, and at the latest after `wait` (in whole seconds; relays shorten long ones).
    ///
    /// For networks where WebSockets die; [`receive`](Self::receive) goes over to it by itself. What is not acknowledged
    /// comes again: nothing is dropped here.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use postrider_client::{Error, Session};
    /// # async fn example(session: Session) -> Result<(), Error> {
    /// let entries = session.entries(None, Duration::from_secs(30)).await?;
    /// // Kept by the app, on its own disk; only then:
    /// let ids: Vec<_> = entries.iter().map(|entry| entry.id).collect();
    /// session.acknowledge(&ids).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn entries(&self, after: Option<EntryId>, wait: Duration) -> Result<Vec<Entry>, Error> {
        let mut path = format!("/v1/mailbox/entries?wait={}", wait.as_secs());
        if let Some(after) = after {
            path.push_str(&format!("&after={after}"));
        }
        let limit = self.0.relay.0.request_timeout + wait;
        let answer = self.call_within(Call::get(&path), limit).await?;
        match ServerMessage::decode(&answer.body)? {
            ServerMessage::Entries(entries) => Ok(entries),
            ServerMessage::Ephemeral(_) => Err(Error::protocol("it is an ephemeral envelope, not entries")),
        }
    }

    /// Tells the relay that this device has the entries, durably, so that it may delete them.
    pub async fn acknowledge(&self, entries: &[EntryId]) -> Result<(), Error> {
        self.seen().acknowledged(entries);
        for batch in entries.chunks(MAX_BATCH_ENVELOPES) {
            let message = DeviceMessage::Acknowledge(batch.to_vec()).encode();
            self.call(Call::post("/v1/mailbox/acknowledgements", BINARY, message)).await?;
        }
        Ok(())
    }

    /// Opens a stream: the relay pushes entries as they arrive. It ends with its connection; [`receive`](
    /// Self::receive) opens the next one by itself.
    pub async fn stream(&self) -> Result<MailboxStream, Error> {
        MailboxStream::open(self).await
    }

    /// Receives for as long as the app likes, over as many streams as it takes.
    ///
    /// ```no_run
    /// # use postrider_client::{Delivery, Session};
    /// # async fn example(session: Session) -> Result<(), postrider_client::Error> {
    /// let mut receiver = session.receive();
    /// loop {
    ///     match receiver.next().await? {
    ///         Delivery::Entry(entry) => {
    ///             // Kept by the app, on its own disk; only then:
    ///             receiver.acknowledge(&[entry.id]).await?;
    ///         }
    ///         Delivery::Ephemeral(envelope) => println!("somebody is typing: {} bytes", envelope.body().len()),
    ///         // Of a kind that this app does not know.
    ///         _ => {}
    ///     }
    /// }
    /// # }
    /// ```
    pub fn receive(&self) -> Receiver {
        Receiver::new(self.clone())
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        // It has no states in between that a panic could leave behind.
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the token only to a relay that asks who submits.
    async fn call_as_submitter(&self, call: Call) -> Result<Answer, Error> {
        if self.0.is_open {
            match self.0.relay.call(call.clone()).await {
                // Its policy has changed meanwhile.
                Err(error) if is_unauthorized(&error) => {}
                other => return other,
            }
        }
        self.call(call).await
    }

    pub(super) async fn call(&self, call: Call) -> Result<Answer, Error> {
        self.call_within(call, self.0.relay.0.request_timeout).await
    }

    async fn call_within(&self, call: Call, limit: Duration) -> Result<Answer, Error> {
        self.authorized(call, |call| async move { self.0.relay.call_within(&call, limit).await }).await
    }

    /// Sends with a token; when the relay does not accept that, signs in again and sends once more.
    ///
    /// Not an `AsyncFn`: the futures of one are not known to be `Send`, and an app spawns tasks that use a session.
    pub(super) async fn authorized<T, F>(&self, call: Call, send: impl Fn(Call) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let token = self.token(None).await?;
        match send(call.clone().with_token(&token)?).await {
            Err(error) if is_unauthorized(&error) => {
                tracing::debug!("the relay no longer accepts the session: signing in again");
                let token = self.token(Some(&token)).await?;
                send(call.with_token(&token)?).await
            }
            other => other,
        }
    }

    /// The token, or a new one if there is none, it is about to end, or it is the one that was `refused`. Callers
    /// that come at the same time share one new token.
    async fn token(&self, refused: Option<&Token>) -> Result<Token, Error> {
        let mut current = self.0.token.lock().await;
        let soon = self.0.relay.clock().now() + MARGIN;
        if let Some(token) = current.as_ref() {
            let is_refused = refused.is_some_and(|refused| Arc::ptr_eq(&refused.text, &token.text));
            if !is_refused && token.expires_at > soon {
                return Ok(token.clone());
            }
        }
        let token = self.sign_in().await?;
        *current = Some(token.clone());
        Ok(token)
    }

    async fn sign_in(&self) -> Result<Token, Error> {
        let State { relay, identity, .. } = &*self.0;
        let challenge = Call::new(Method::POST, "/v1/challenges");
        let Challenge { nonce, .. } = json(&relay.call(challenge).await?)?;
        let request = Call::post_json("/v1/sessions", &identity.session_request(nonce))?;
        let granted: SessionGranted = json(&relay.call(request).await?)?;
        Ok(Token { expires_at: granted.expires_at(), text: Arc::new(Zeroizing::new(granted.token)) })
    }
}

impl Call {
    fn with_token(mut self, token: &Token) -> Result<Self, Error> {
        let bearer = Zeroizing::new(format!("Bearer {}", token.text.as_str()));
        let mut value = HeaderValue::from_str(&bearer)
            .map_err(|_| Error::protocol("its token cannot stand in a header"))?;
        value.set_sensitive(true);
        self.headers.insert(AUTHORIZATION, value);
        Ok(self)
    }
}

/// Without the token.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("relay", &self.0.relay)
            .field("identity", &self.0.identity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compiles, which is the test.
    #[test]
    fn an_app_may_use_a_session_from_a_task() {
        const fn sends<F: Future + Send>(_: &F) {}
        fn all(session: &Session) {
            sends(&session.register());
            sends(&session.entries(None, Duration::ZERO));
            sends(&session.acknowledge(&[]));
            sends(&session.stream());
            sends(&session.submit(&[]));
            sends(&session.reserve_attachment(1, 1));
            sends(&session.move_to(session.relay()));
        }
        let _ = all;
    }
}
