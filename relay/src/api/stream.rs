//! The WebSocket by which a device receives (RFC 6455).
//!
//! The relay pushes entries as they become durable and keeps the rest back while the device holds a full window
//! unacknowledged. What was not acknowledged when the connection ends comes again on the next one.

mod unfinished;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use postrider_common::supervisor::Supervisor;
use postrider_common::wire::mailbox::{DeviceMessage, ServerMessage};
use postrider_common::{EntryId, Timestamp};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::auth::Session;
use super::body::RequestBody;
use super::problem::ApiError;
use super::router::Answer;
use super::{Shared, mailbox};
use crate::admission::Admission;
use crate::exchange::Exchange;
use crate::failpoint::{self, Step};
use crate::hub::{Attendance, Connection, Ending, Event};
use crate::reading::Ruled;
use crate::store::{StoreError, Window};
use crate::telemetry::Seldom;
use unfinished::Unfinished;

/// What one frame carries at most: large enough to be efficient, small enough that acknowledgements are not stuck
/// behind it.
const PAGE: Window = Window { count: 64, bytes: 256 << 10 };
/// A device's frames are acknowledgements, which are small.
const MAX_INCOMING: usize = 16 << 10;
/// How much is read at a time. A stream has this much for as long as it is open, and most are idle.
const READ_BUFFER: usize = 2 << 10;
/// Acknowledgements being made durable at once; beyond that the device is not read from.
const MAX_ACKNOWLEDGING: usize = 16;
/// How often a quiet connection is pinged, and how long a device may stay silent.
const PING: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(90);
/// How often a device may ping, or answer pings, between two of the relay's.
const MOST_PINGS: u32 = 100;
/// How often a device that stays connected is noted as being here. Of that the day is kept, and a device may be away for
/// seven of them at least.
const CONTACT: Duration = Duration::from_secs(86_400);
/// How long one frame may take to leave.
const SEND: Duration = Duration::from_secs(30);
/// How long a device has to take note that the relay closes the stream.
const LINGER: Duration = Duration::from_secs(2);

/// The subprotocol that this is, for clients that offer one.
const PROTOCOL: &str = "postrider.v1";
/// What a subprotocol begins with that is a token. It is never the one that is chosen, so that it is in no answer.
const TOKEN: &str = "postrider.bearer.";

/// Turns the request into a WebSocket and serves it in a task of its own, which counts as the connection that it is.
pub(super) async fn open(
    api: &Shared,
    session: Session,
    mut request: Request<RequestBody>,
    client: Arc<Admission>,
) -> Answer {
    let accept = accept_key(request.headers())?;
    let is_offered = offered(request.headers()).any(|protocol| protocol == PROTOCOL);
    let connection = api.exchange.connect(session.mailbox, session.device, Attendance::Stream).await?;
    let exchange = Arc::clone(&api.exchange);
    let (supervisor, window) = (api.supervisor.clone(), api.settings.stream_window);
    let upgrade = hyper::upgrade::on(&mut request);
    api.supervisor.spawn("device stream", async move {
        // An upgrade that fails is a client that went away.
        let Ok(upgraded) = upgrade.await else { return };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_INCOMING))
            .max_frame_size(Some(MAX_INCOMING))
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(4 << 20);
        let io = Ruled { io: TokioIo::new(upgraded), rule: Unfinished::new() };
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        let stream = DeviceStream::new(socket, session, &exchange, window, &supervisor);
        tokio::select! {
            () = stream.run(connection) => {}
            () = supervisor.hurrying() => tracing::debug!("a device stream that did not end was closed"),
        }
        // Until here the socket was open, and counted.
        drop(client);
    });
    let mut response = Response::new(Full::<Bytes>::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if is_offered {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    }
    Ok(response)
}

/// The token among the subprotocols that the client offers.
pub(super) fn offered_token(headers: &HeaderMap) -> Option<&str> {
    offered(headers).find_map(|protocol| protocol.strip_prefix(TOKEN))
}

fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    tokens(headers, SEC_WEBSOCKET_PROTOCOL)
}

/// What a header lists, over all its lines.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// RFC 6455 section 4.2.1: what an opening handshake has.
fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, ApiError> {
    let has = |name, wanted: &str| tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted));
    if !(has(UPGRADE, "websocket") && has(CONNECTION, "upgrade") && has(SEC_WEBSOCKET_VERSION, "13")) {
        return Err(ApiError::UpgradeRequired);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(ApiError::UpgradeRequired)?;
    HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_| ApiError::UpgradeRequired)
}

type Socket = WebSocketStream<Ruled<TokioIo<Upgraded>, Unfinished>>;

/// One device's stream.
struct DeviceStream<'a> {
    socket: Socket,
    session: Session,
    exchange: &'a Exchange,
    supervisor: &'a Supervisor,
    window: Window,
    /// Sent and not acknowledged, with their sizes.
    unacknowledged: BTreeMap<EntryId, usize>,
    unacknowledged_bytes: usize,
    /// The last entry sent on this connection.
    cursor: Option<EntryId>,
    /// Whether the mailbox may hold entries after the cursor.
    has_more: bool,
    acknowledging: FuturesUnordered<BoxFuture<'a, Result<(), StoreError>>>,
    /// The device's pings and pongs since the relay's last ping.
    pings: u32,
    /// When the device was last noted as being here, by the relay's clock.
    noted_at: Timestamp,
}

/// Why a stream ends.
enum End {
    /// The device closed it, or its network did.
    Gone,
    /// The relay closes it.
    Close(CloseCode, &'static str),
}

impl<'a> DeviceStream<'a> {
    fn new(
        socket: Socket,
        session: Session,
        exchange: &'a Exchange,
        window: Window,
        supervisor: &'a Supervisor,
    ) -> Self {
        Self {
            socket,
            session,
            exchange,
            supervisor,
            window,
            unacknowledged: BTreeMap::new(),
            unacknowledged_bytes: 0,
            cursor: None,
            has_more: true,
            acknowledging: FuturesUnordered::new(),
            pings: 0,
            noted_at: exchange.now(),
        }
    }

    async fn run(mut self, connection: Connection) {
        let Err(end) = self.serve(connection).await;
        // What the device has acknowledged is made durable even if it has gone.
        while self.acknowledging.next().await.is_some() {}
        if let End::Close(code, reason) = end {
            let frame = CloseFrame { code, reason: reason.into() };
            let _ = timeout(SEND, self.socket.close(Some(frame))).await;
            let _ = timeout(LINGER, self.linger(code)).await;
        }
    }

    /// Drops what the device is still sending. If the socket were closed over it, the system would reset the connection,
    /// and the device might never read why.
    async fn linger(&mut self, code: CloseCode) {
        if matches!(code, CloseCode::Size | CloseCode::Protocol) || self.socket.get_ref().rule.is_over() {
            // Where one frame ends and the next begins is no longer known, or nobody reads frames any more.
            let _ = tokio::io::copy(&mut self.socket.get_mut().io, &mut tokio::io::sink()).await;
        } else {
            while let Some(Ok(_)) = self.socket.next().await {}
        }
    }

    async fn serve(&mut self, mut connection: Connection) -> Result<std::convert::Infallible, End> {
        let stopping = self.supervisor.stopping();
        let session_end = self.session.expires_at.since(self.exchange.now());
        let session_end = tokio::time::sleep(session_end);
        tokio::pin!(stopping, session_end);
        let mut ping = tokio::time::interval(PING);
        let mut heard = Instant::now();
        loop {
            self.push().await?;
            let may_read = self.acknowledging.len() < MAX_ACKNOWLEDGING;
            tokio::select! {
                () = &mut stopping => return Err(End::Close(CloseCode::Restart, "the relay is shutting down")),
                () = &mut session_end => return Err(End::Close(CloseCode::Policy, "the session is over")),
                Some(done) = self.acknowledging.next() => done.map_err(|error| store_failed(&error))?,
                message = self.socket.next(), if may_read => {
                    heard = Instant::now();
                    self.incoming(message)?;
                    self.note_contact().await;
                }
                event = connection.event() => self.happened(event).await?,
                _ = ping.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Err(End::Gone);
                    }
                    self.pings = 0;
                    self.socket.get_mut().rule.begin_anew();
                    self.send(Message::Ping(Bytes::new())).await?;
                }
            }
        }
    }

    /// Sends entries while there are some and the window is open.
    async fn push(&mut self) -> Result<(), End> {
        while self.has_more {
            let count = self.window.count.saturating_sub(self.unacknowledged.len()).min(PAGE.count);
            let bytes = self.window.bytes.saturating_sub(self.unacknowledged_bytes).min(PAGE.bytes);
            if count == 0 || bytes == 0 {
                return Ok(());
            }
            let (mailbox, device) = (self.session.mailbox, self.session.device);
            let page = self.exchange.fetch(mailbox, device, self.cursor, Window { count, bytes }).await;
            let page = page.map_err(|error| store_failed(&error))?;
            self.has_more = page.more;
            if page.entries.is_empty() {
                return Ok(());
            }
            for entry in &page.entries {
                let size = entry.envelope.encoded().len();
                self.cursor = Some(entry.id);
                self.unacknowledged.insert(entry.id, size);
                self.unacknowledged_bytes += size;
            }
            tracing::debug!(count = page.entries.len(), "pushed");
            self.send(Message::Binary(ServerMessage::Entries(page.entries).encode())).await?;
            failpoint::reach(Step::Pushed);
        }
        Ok(())
    }

    fn incoming(&mut self, message: Option<Result<Message, SocketError>>) -> Result<(), End> {
        match message {
            Some(Ok(Message::Binary(bytes))) => {
                let malformed =
                    |_| End::Close(CloseCode::Unsupported, "a message of this version is expected");
                let DeviceMessage::Acknowledge(entries) = DeviceMessage::decode(&bytes).map_err(malformed)?;
                self.socket.get_mut().rule.begin_anew();
                self.acknowledge(entries);
                Ok(())
            }
            Some(Ok(Message::Text(_))) => Err(End::Close(CloseCode::Unsupported, "messages are binary")),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                self.pings += 1;
                if self.pings > MOST_PINGS {
                    return Err(End::Close(CloseCode::Policy, "too many pings"));
                }
                Ok(())
            }
            Some(Ok(Message::Frame(_))) => Ok(()),
            Some(Ok(Message::Close(_))) | None => Err(End::Gone),
            Some(Err(SocketError::Capacity(_))) => {
                Err(End::Close(CloseCode::Size, "the message is too large"))
            }
            Some(Err(SocketError::Protocol(_))) => {
                Err(End::Close(CloseCode::Protocol, "the frame is malformed"))
            }
            Some(Err(SocketError::Io(error))) if unfinished::is_limit(&error) => {
                Err(End::Close(CloseCode::Policy, "a message in pieces without end"))
            }
            Some(Err(_)) => Err(End::Gone),
        }
    }

    fn acknowledge(&mut self, entries: Vec<EntryId>) {
        tracing::debug!(count = entries.len(), "acknowledged");
        let (exchange, session) = (self.exchange, self.session);
        let (given, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| {
            let size = self.unacknowledged.remove(entry);
            self.unacknowledged_bytes -= size.unwrap_or_default();
            size.is_some()
        });
        let has_given = !given.is_empty();
        if has_given {
            self.acknowledging.push(Box::pin(exchange.acknowledge(session.mailbox, session.device, given)));
        }
        // Of an earlier connection, or of nothing at all.
        if !others.is_empty() || !has_given {
            self.acknowledging.push(Box::pin(mailbox::acknowledge_any(exchange, session, others)));
        }
    }

    /// Whatever a device sends says that it is here; as long as it is connected, that is at least a pong in a while.
    async fn note_contact(&mut self) {
        let now = self.exchange.now();
        if now.since(self.noted_at) >= CONTACT {
            self.exchange.note_contact(self.session.mailbox, self.session.device).await;
            self.noted_at = now;
        }
    }

    async fn happened(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Wake => {
                self.has_more = true;
                Ok(())
            }
            Event::Ephemeral(envelope) => {
                self.send(Message::Binary(ServerMessage::Ephemeral(*envelope).encode())).await
            }
            Event::Ended(why) => Err(End::Close(CloseCode::Policy, reason(why))),
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match timeout(SEND, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }
}

fn reason(why: Ending) -> &'static str {
    match why {
        Ending::Replaced => "the device has another stream",
        Ending::Deleted => "the mailbox was deleted",
        Ending::Moved => "the mailbox has moved",
        Ending::Suspended => "the mailbox is suspended",
        Ending::DeviceRemoved => "the device was removed",
    }
}

fn store_failed(error: &StoreError) -> End {
    static SAID: Seldom = Seldom::new();
    if SAID.is_due(&error.to_string()) {
        tracing::error!("the store does not serve a device: {error}");
    }
    End::Close(CloseCode::Error, "the relay cannot serve the mailbox at the moment")
}
