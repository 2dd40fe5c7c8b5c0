//! Entries pushed over a WebSocket.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderValue, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use postrider_common::limits::{MAX_BATCH_ENVELOPES, MAX_MESSAGE_BYTES};
use postrider_common::wire::mailbox::{DeviceMessage, Entry, ServerMessage};
use postrider_common::{EntryId, Envelope};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::Session;
use super::connection::{Call, read};
use super::seen::Arrival;
use crate::Error;

/// After this long without a word from the relay it is asked whether it lives; after as long again it is not.
const QUIET: Duration = Duration::from_secs(30);

/// What a stream hands out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// An entry of the mailbox. It comes again, on a later session, until it is acknowledged.
    Entry(Entry),
    /// An envelope that is kept nowhere. There is nothing to acknowledge.
    Ephemeral(Envelope),
}

/// The entries of a mailbox as the relay pushes them.
///
/// Each entry is handed out once, however often the relay sends it, over all streams of a [`Session`] and its
/// clones. The relay stops pushing when 256 entries or 4 MiB are not acknowledged, so acknowledge as you go.
///
/// Pings are answered inside [`next`](Self::next): an app that does something else for long loses the stream, and
/// no entry. Dropping it closes the connection.
///
/// For an app that opens streams by its own rules; others use [`Session::receive`].
///
/// ```no_run
/// # use postrider_client::{Delivery, Error, Session};
/// # async fn example(session: Session) -> Result<(), Error> {
/// let mut stream = session.stream().await?;
/// while let Some(delivery) = stream.next().await {
///     if let Delivery::Entry(entry) = delivery? {
///         stream.acknowledge(&[entry.id]).await?;
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct MailboxStream {
    session: Session,
    socket: WebSocketStream<TokioIo<Upgraded>>,
    /// Entries of the last message that were not handed out yet.
    waiting: VecDeque<Entry>,
    quiet_until: Instant,
    asked: bool,
    ended: bool,
}

impl MailboxStream {
    pub(super) async fn open(session: &Session) -> Result<Self, Error> {
        let socket =
            session.authorized(Call::get("/v1/mailbox/stream"), |call| upgrade(session, call)).await?;
        Ok(Self {
            session: session.clone(),
            socket,
            waiting: VecDeque::new(),
            quiet_until: Instant::now() + QUIET,
            asked: false,
            ended: false,
        })
    }

    /// The next delivery, as soon as there is one. `None` after the relay has closed the stream in order, or after
    /// an error, which is always the last.
    ///
    /// Cancel-safe: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Delivery, Error>> {
        if self.ended {
            return None;
        }
        let next = self.receive().await.transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }

    /// Tells the relay that this device has the entries, durably, so that it may delete them.
    ///
    /// That this returns says that the message is on its way. If it is lost with the connection, the session says
    /// it again when the relay repeats the entries.
    pub async fn acknowledge(&mut self, entries: &[EntryId]) -> Result<(), Error> {
        self.session.seen().acknowledged(entries);
        if self.ended {
            return Err(Error::Closed);
        }
        for batch in entries.chunks(MAX_BATCH_ENVELOPES) {
            let message = DeviceMessage::Acknowledge(batch.to_vec()).encode();
            self.socket.send(Message::Binary(message)).await.map_err(Error::lost)?;
        }
        Ok(())
    }

    /// Says goodbye to the relay. Entries that were not acknowledged come again on the next session.
    pub async fn close(mut self) -> Result<(), Error> {
        if self.ended {
            return Ok(());
        }
        self.socket.close(None).await.map_err(Error::lost)
    }

    async fn receive(&mut self) -> Result<Option<Delivery>, Error> {
        loop {
            while let Some(entry) = self.waiting.front() {
                let id = entry.id;
                // Bound on its own: in the `match` itself the lock would be held while the relay is told.
                let arrival = self.session.seen().arrival(entry);
                match arrival {
                    Arrival::New => self.session.seen().handed_out(entry),
                    Arrival::Repeated => {}
                    Arrival::Settled => self.acknowledge(&[id]).await?,
                }
                let entry = self.waiting.pop_front();
                if let (Some(entry), Arrival::New) = (entry, arrival) {
                    return Ok(Some(Delivery::Entry(entry)));
                }
            }
            let Some(message) = self.message().await? else {
                return Ok(None);
            };
            match ServerMessage::decode(&message)? {
                ServerMessage::Entries(entries) => self.waiting = entries.into(),
                ServerMessage::Ephemeral(envelope) => return Ok(Some(Delivery::Ephemeral(envelope))),
            }
        }
    }

    /// The next binary message, or none if the stream was closed in order.
    async fn message(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let message = match timeout_at(self.quiet_until, self.socket.next()).await {
                Ok(Some(message)) => message.map_err(Error::lost)?,
                Ok(None) => return Ok(None),
                Err(_) if self.asked => return Err(Error::TimedOut { after: 2 * QUIET }),
                Err(_) => {
                    self.asked = true;
                    self.quiet_until = Instant::now() + QUIET;
                    let ping = Message::Ping(Bytes::new());
                    self.socket.send(ping).await.map_err(Error::lost)?;
                    continue;
                }
            };
            self.asked = false;
            self.quiet_until = Instant::now() + QUIET;
            match message {
                Message::Binary(message) => return Ok(Some(message)),
                Message::Text(_) => return Err(Error::protocol("it is a text message")),
                Message::Close(reason) => {
                    tracing::debug!(?reason, "the relay closes the stream");
                    // Sends the answer. How the connection ends after that does not matter.
                    let _ = self.socket.flush().await;
                    return Ok(None);
                }
                // Pings are answered by the protocol's own machinery.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }
}

async fn upgrade(session: &Session, mut call: Call) -> Result<WebSocketStream<TokioIo<Upgraded>>, Error> {
    let key = generate_key();
    let key_header = HeaderValue::from_str(&key).map_err(|error| Error::protocol(error.to_string()))?;
    call.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    call.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    call.headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    call.headers.insert(SEC_WEBSOCKET_KEY, key_header);

    let inner = &session.relay().0;
    let mut response = inner.connections.upgrade(&call, inner.request_timeout).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let answer = tokio::time::timeout(inner.request_timeout, read(response)).await;
        let answer = answer.unwrap_or(Err(Error::TimedOut { after: inner.request_timeout }))?;
        return Err(Error::from_answer(answer.status, &answer.headers, &answer.body));
    }
    let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT);
    if accepted.map(HeaderValue::as_bytes) != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err(Error::protocol("it does not accept the WebSocket that was asked for"));
    }
    let upgraded = hyper::upgrade::on(&mut response).await.map_err(Error::lost)?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
        .max_write_buffer_size(1 << 20);
    Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await)
}

impl fmt::Debug for MailboxStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailboxStream")
            .field("session", &self.session)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
