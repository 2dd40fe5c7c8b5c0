//! The WebSocket: what opens it, and how it closes on a device that does not keep to the protocol.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use postrider_common::EntryId;
use postrider_common::wire::control::Devices;
use postrider_common::wire::mailbox::{DeviceMessage, ServerMessage};
use postrider_tests::clock::StandingClock;
use postrider_tests::cluster::{Cluster, PATIENCE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::raw::{ALPHA, Answer, Owner, Target, head, say, until_end};

pub(crate) type Socket = WebSocketStream<TlsStream<TcpStream>>;

pub(crate) const HANDSHAKE: [(&str, &str); 4] = [
    ("upgrade", "websocket"),
    ("connection", "Upgrade"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

pub(crate) async fn open(alpha: &Target, owner: &Owner) -> Socket {
    let bearer = format!("Bearer {}", owner.token);
    let headers = [&HANDSHAKE[..], &[("authorization", &bearer)]].concat();
    let mut stream = alpha.tls("http/1.1").await;
    say(&mut stream, &head("GET /v1/mailbox/stream", &headers)).await.unwrap();
    let answer = Answer::read(&mut stream).await.unwrap();
    assert_eq!(answer.status, 101, "{answer:?}");
    // RFC 6455's own example.
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

/// The next message that is no ping.
async fn next(socket: &mut Socket) -> Option<Message> {
    let next = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Ping(_))) => {}
                Some(Ok(message)) => return Some(message),
                Some(Err(_)) | None => return None,
            }
        }
    };
    timeout(PATIENCE, next).await.expect("a message or an end in time")
}

async fn assert_closed(what: &str, socket: Socket, code: CloseCode) {
    assert_closed_because(what, socket, code, "").await;
}

async fn assert_closed_because(what: &str, mut socket: Socket, code: CloseCode, reason: &str) {
    match next(&mut socket).await {
        Some(Message::Close(Some(frame))) => {
            assert_eq!(frame.code, code, "{what}: {}", frame.reason);
            assert!(frame.reason.contains(reason), "{what}: {}", frame.reason);
        }
        other => panic!("{what}: a close frame was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn a_stream_counts_as_the_connection_that_it_is() {
    let limits = "[limits]\nconnections_per_ip = 4\n";
    let cluster = Cluster::builder([ALPHA]).configure(move |_| limits.into()).start().await.unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let mut owners = Vec::new();
    for _ in 0..4 {
        owners.push(Owner::registered(&alpha).await);
    }
    let mut streams = Vec::new();
    for owner in &owners {
        streams.push(open(&alpha, owner).await);
    }
    let mut over = alpha.tcp().await;
    assert_eq!(until_end(&mut over).await, b"", "over the limit there is not even TLS");
    // One that ends makes room.
    drop(streams.pop());
    let let_in = async {
        loop {
            let mut stream = alpha.tcp().await;
            // Over the limit, the connection ends at once. Let in, the relay waits for a greeting.
            if timeout(Duration::from_millis(100), stream.read_u8()).await.is_err() {
                return;
            }
        }
    };
    timeout(PATIENCE, let_in).await.expect("there is room again");
}

/// A page in a browser can set no header on a WebSocket.
#[tokio::test]
async fn a_token_among_the_subprotocols_opens_a_stream_and_is_not_sent_back() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let owner = Owner::registered(&alpha).await;
    let answer = async |protocols: &str, more: &[(&str, &str)]| {
        let headers = [&HANDSHAKE[..], &[("sec-websocket-protocol", protocols)], more].concat();
        alpha.send(&head("GET /v1/mailbox/stream", &headers)).await
    };
    let offered = format!("postrider.v1, postrider.bearer.{}", owner.token);
    let opened = answer(&offered, &[]).await;
    let told = (opened.status, opened.header("sec-websocket-protocol"));
    assert_eq!(told, (101, Some("postrider.v1")));
    // Whoever offers the token alone is told no protocol, and a browser then closes.
    let alone = answer(&format!("postrider.bearer.{}", owner.token), &[]).await;
    assert_eq!((alone.status, alone.header("sec-websocket-protocol")), (101, None));
    for (protocols, more) in [
        ("postrider.v1", &[][..]),
        ("postrider.v1, postrider.bearer.nonsense", &[]),
        (&offered, &[("authorization", "Bearer nonsense")]),
    ] {
        answer(protocols, more).await.assert_problem(protocols, 401, "unauthenticated");
    }
    // Nowhere else.
    let answer = alpha.call("GET /v1/mailbox/entries", &[("sec-websocket-protocol", &offered)], b"").await;
    answer.assert_problem("a poll", 401, "unauthenticated");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn only_a_whole_handshake_of_a_registered_device_opens_a_stream() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let owner = Owner::registered(&alpha).await;
    for (missing, _) in HANDSHAKE {
        let headers: Vec<_> = HANDSHAKE.into_iter().filter(|(name, _)| *name != missing).collect();
        let answer = alpha.call_as(&owner, "GET /v1/mailbox/stream", &headers, b"").await;
        answer.assert_problem(missing, 426, "upgrade-required");
        assert!(answer.header("upgrade").is_some(), "RFC 9110 wants the protocol named: {answer:?}");
    }
    for (name, value) in [("upgrade", "h2c"), ("connection", "close"), ("sec-websocket-version", "8")] {
        let mut headers = HANDSHAKE;
        headers.iter_mut().filter(|header| header.0 == name).for_each(|header| header.1 = value);
        let answer = alpha.call_as(&owner, "GET /v1/mailbox/stream", &headers, b"").await;
        answer.assert_problem(name, 426, "upgrade-required");
    }
    let stranger = Owner::signed_in(&alpha).await;
    let answer = alpha.call_as(&stranger, "GET /v1/mailbox/stream", &HANDSHAKE, b"").await;
    answer.assert_problem("not registered", 404, "no-such-mailbox");
    let device = owner.another_device(&alpha).await;
    let answer = alpha.call_as(&device, "GET /v1/mailbox/stream", &HANDSHAKE, b"").await;
    answer.assert_problem("a device that is not registered", 403, "no-such-device");

    open(&alpha, &owner).await;
    alpha.assert_nothing_stored_and_serving(&owner).await;
}

#[tokio::test]
async fn a_message_that_is_none_closes_the_stream_and_takes_nothing() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let owner = Owner::registered(&alpha).await;
    let waiting = owner.envelope(b"waiting");
    alpha.submit(&[(alpha.name.clone(), waiting.clone())]).await;
    let acknowledge = DeviceMessage::Acknowledge(vec![EntryId(1)]).encode();
    let version_2 = [&[0, 0, 0, 2], &acknowledge[4..]].concat();
    let too_many = DeviceMessage::Acknowledge((0..1025).map(EntryId).collect()).encode();
    for (what, message, code) in [
        ("text", Message::text("acknowledge 1"), CloseCode::Unsupported),
        ("nothing", Message::binary(vec![]), CloseCode::Unsupported),
        ("garbage", Message::binary(b"\0\0\0\x01garbage".to_vec()), CloseCode::Unsupported),
        ("another version", Message::binary(version_2), CloseCode::Unsupported),
        ("bytes behind the end", Message::binary([&acknowledge[..], b"?"].concat()), CloseCode::Unsupported),
        ("too many entries", Message::binary(too_many), CloseCode::Unsupported),
        ("17 KiB", Message::binary(vec![0; 17 << 10]), CloseCode::Size),
        ("2 MiB", Message::binary(vec![0; 2 << 20]), CloseCode::Size),
    ] {
        let mut socket = open(&alpha, &owner).await;
        assert_entry(what, &mut socket).await;
        // The relay may close before all of it is sent.
        let _ = socket.send(message).await;
        assert_closed(what, socket, code).await;
    }
    for (what, bytes, code) in [
        ("a frame without a mask", &[0x82, 1, 0][..], CloseCode::Protocol),
        ("a reserved opcode", &[0x83, 0x80, 0, 0, 0, 0], CloseCode::Protocol),
        ("reserved bits", &[0xf2, 0x80, 0, 0, 0, 0], CloseCode::Protocol),
        ("a ping in pieces", &[0x09, 0x80, 0, 0, 0, 0], CloseCode::Protocol),
        ("a continuation of nothing", &[0x80, 0x80, 0, 0, 0, 0], CloseCode::Protocol),
        ("a declared 2^62 bytes", &[0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], CloseCode::Size),
    ] {
        let mut socket = open(&alpha, &owner).await;
        assert_entry(what, &mut socket).await;
        say(socket.get_mut(), bytes).await.unwrap();
        socket.get_mut().flush().await.unwrap();
        assert_closed(what, socket, code).await;
    }
    // What was waiting still is.
    let entries = alpha.entries(&owner).await;
    assert_eq!(entries.iter().map(|entry| &entry.envelope).collect::<Vec<_>>(), [&waiting]);
}

async fn assert_entry(what: &str, socket: &mut Socket) {
    match next(socket).await {
        Some(Message::Binary(bytes)) => match ServerMessage::decode(&bytes) {
            Ok(ServerMessage::Entries(entries)) => assert_eq!(entries.len(), 1, "{what}"),
            other => panic!("{what}: {other:?}"),
        },
        other => panic!("{what}: {other:?}"),
    }
}

#[tokio::test]
async fn a_device_has_one_stream_and_a_deleted_mailbox_none() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let owner = Owner::registered(&alpha).await;
    let first = open(&alpha, &owner).await;
    let second = open(&alpha, &owner).await;
    assert_closed_because("the stream before", first, CloseCode::Policy, "another stream").await;
    let remove = format!("DELETE /v1/mailbox/devices/{}", owner.device);
    assert_eq!(alpha.call_as(&owner, &remove, &[], b"").await.status, 204);
    assert_closed_because("removed", second, CloseCode::Policy, "was removed").await;
    alpha.call_as(&owner, &remove, &[], b"").await.assert_problem("again", 403, "no-such-device");
    assert_eq!(alpha.call_as(&owner, "PUT /v1/mailbox", &[], b"").await.status, 200);
    let second = open(&alpha, &owner).await;
    assert_eq!(alpha.call_as(&owner, "DELETE /v1/mailbox", &[], b"").await.status, 204);
    assert_closed_because("deleted", second, CloseCode::Policy, "was deleted").await;
    let answer = alpha.call_as(&owner, "GET /v1/mailbox/stream", &HANDSHAKE, b"").await;
    answer.assert_problem("deleted", 404, "no-such-mailbox");
}

#[tokio::test]
async fn a_device_that_pings_without_end_is_disconnected() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let owner = Owner::registered(&alpha).await;
    let mut socket = open(&alpha, &owner).await;
    let mut answered = 0;
    let pinging = async {
        // The relay may close before all of them are sent.
        while socket.send(Message::Ping(vec![7].into())).await.is_ok() {
            match next(&mut socket).await {
                Some(Message::Pong(_)) => answered += 1,
                other => return other,
            }
        }
        next(&mut socket).await
    };
    match timeout(PATIENCE, pinging).await.expect("an end") {
        Some(Message::Close(Some(frame))) => {
            assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::Policy, "too many pings"));
        }
        other => panic!("a close frame was expected, not {other:?}"),
    }
    assert!(answered >= 50, "a few are answered, not only {answered}");
}

/// A frame of a client's with less than 126 bytes, not the last of its message unless it says so.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = 0x80 | u8::try_from(payload.len()).unwrap();
    [&[first, length, 0, 0, 0, 0], payload].concat()
}

const BEGINNING: u8 = 0x02;
const PIECE: u8 = 0x00;
const LAST: u8 = 0x80;
const PING: u8 = 0x89;

#[tokio::test]
async fn a_message_in_the_smallest_pieces_is_taken_and_one_without_an_end_is_not() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let owner = Owner::registered(&alpha).await;
    let mut socket = open(&alpha, &owner).await;
    // As many ids as there may be, a byte in each frame, with pings between them, and twice.
    let message = DeviceMessage::Acknowledge((0..1024).map(EntryId).collect()).encode();
    let mut bytes = frame(BEGINNING, &[]);
    for (at, byte) in message.iter().enumerate() {
        bytes.extend(frame(PIECE, &[*byte]));
        if at % 250 == 0 {
            bytes.extend(frame(PING, &[7; 125]));
        }
    }
    bytes.extend(frame(LAST, &[]));
    for _ in 0..2 {
        say(socket.get_mut(), &bytes).await.unwrap();
    }
    say(socket.get_mut(), &frame(PING, b"after it")).await.unwrap();
    while !matches!(next(&mut socket).await.expect("it is open"), Message::Pong(said) if said == "after it") {
    }

    // Frames that bring nothing, and are no message ever.
    let endless = [frame(BEGINNING, &[]), frame(PIECE, &[]).repeat(50_000)].concat();
    say(socket.get_mut(), &endless).await.unwrap();
    assert_closed_because("without an end", socket, CloseCode::Policy, "without end").await;
    alpha.assert_nothing_stored_and_serving(&owner).await;
}

#[tokio::test]
async fn a_device_that_stays_connected_is_not_away() {
    let clock = StandingClock::new();
    let limits = "[limits]\ndevice_idle = \"7 days\"\nsession_lifetime = \"30 days\"\n";
    let cluster = Cluster::builder([ALPHA])
        .clock(clock.clone())
        .configure(move |_| limits.into())
        .start()
        .await
        .unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let owner = Owner::registered(&alpha).await;
    let other = owner.another_device(&alpha).await;
    assert_eq!(alpha.call_as(&other, "PUT /v1/mailbox", &[], b"").await.status, 200);
    let mut socket = open(&alpha, &owner).await;
    for day in 0..8 {
        clock.advance(Duration::from_secs(86_400));
        socket.send(Message::Ping(vec![day].into())).await.unwrap();
        assert_eq!(next(&mut socket).await, Some(Message::Pong(vec![day].into())));
    }
    // The other one is away, and is removed; whoever is as long away as that goes with it.
    let left = async {
        loop {
            let answer = alpha.call_as(&owner, "GET /v1/mailbox/devices", &[], b"").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let known: Devices = serde_json::from_slice(&answer.body).unwrap();
            if known.devices.len() < 2 {
                return known.devices;
            }
        }
    };
    let left = timeout(PATIENCE, left).await.expect("one is removed");
    assert_eq!(left.iter().map(|known| known.device).collect::<Vec<_>>(), [owner.device]);
    socket.send(Message::Ping(vec![9].into())).await.unwrap();
    assert_eq!(next(&mut socket).await, Some(Message::Pong(vec![9].into())));
}
