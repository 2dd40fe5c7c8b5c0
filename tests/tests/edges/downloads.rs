//! Downloads: what one address may take of them.

use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use postrider_client::Relay;
use postrider_tests::cluster::{Cluster, PATIENCE};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::raw::{ALPHA, Target, head, say};

const CHUNK: u32 = 4 << 20;
/// As many as one address may have at a time.
const MOST: usize = 64;

/// How to ask for an attachment of two chunks.
async fn large(relay: &Relay) -> String {
    let attachment = relay.reserve_attachment(2 * u64::from(CHUNK), CHUNK).await.unwrap();
    for number in 0..2 {
        relay.put_chunk(attachment.id, number, vec![7; CHUNK as usize].into()).await.unwrap();
    }
    format!("GET /v1/attachments/{}", attachment.id)
}

/// Connections on which it was asked for, and is not read: as many as there may be.
async fn stalled(alpha: &Target, line: &str) -> Vec<TlsStream<TcpStream>> {
    let mut stalled = Vec::new();
    loop {
        let mut stream = alpha.holding_back().tls("http/1.1").await;
        say(&mut stream, &head(line, &[])).await.unwrap();
        let mut begun = [0; 12];
        stream.read_exact(&mut begun).await.unwrap();
        if &begun != b"HTTP/1.1 200" {
            return stalled;
        }
        stalled.push(stream);
    }
}

#[tokio::test]
async fn one_address_leaves_downloads_to_others() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let line = large(&cluster.client(ALPHA).unwrap()).await;
    let alpha = Target::of(&cluster, ALPHA).await;
    let mut stalled = stalled(&alpha, &line).await;
    assert_eq!(stalled.len(), MOST);
    let ten = [("range", "bytes=0-9")];
    let over = alpha.call(&line, &ten, b"").await;
    over.assert_problem("one more", 503, "unavailable");
    assert_eq!(over.header("retry-after"), Some("5"));
    let elsewhere = alpha.clone().from([127, 0, 0, 9].into());
    assert_eq!(elsewhere.call(&line, &ten, b"").await.status, 206, "another address has its own");
    stalled.pop();
    let let_in = async { while alpha.call(&line, &ten, b"").await.status != 206 {} };
    timeout(PATIENCE, let_in).await.expect("whoever gives up makes room");
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_held_however_much_the_client_says_it_takes() {
    const BYTES: u32 = 300 << 10;
    /// As many as one connection may have. The system takes some megabytes of what they ask for.
    const REQUESTS: usize = 32;
    let often = "policy = \"open\"\nrate_per_second = 1000000\nburst = 1000000";
    let cluster = Cluster::builder([ALPHA]).submission(often).start().await.unwrap();
    let relay = cluster.client(ALPHA).unwrap();
    let small = relay.reserve_attachment(BYTES.into(), BYTES).await.unwrap();
    relay.put_chunk(small.id, 0, vec![7; BYTES as usize].into()).await.unwrap();
    let line = large(&relay).await;
    let alpha = Target::of(&cluster, ALPHA).await;
    let (mut unread, mut connections) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let (reading, writing) = tokio::io::split(alpha.holding_back().tls("h2").await);
        // Nothing ever comes in.
        let (nothing, silence) = tokio::io::duplex(1);
        let (mut requests, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1 << 30)
            .initial_connection_window_size(1 << 30)
            .handshake(TokioIo::new(tokio::io::join(silence, writing)))
            .await
            .unwrap();
        let uri = format!("https://{}/v1/attachments/{}", alpha.name, small.id);
        let ask = |_| requests.send_request(Request::get(&uri).body(Empty::<Bytes>::new()).unwrap());
        let answers: Vec<_> = (0..REQUESTS).map(ask).collect();
        unread.push((reading, nothing, requests, answers));
        connections.push(connection);
    }
    let left = async {
        // Not only for as long as they are begun.
        let mut times = 0;
        while times < 30 {
            times = if stalled(&alpha, &line).await.len() > MOST / 2 { 0 } else { times + 1 };
        }
    };
    tokio::select! {
        ended = join_all(connections) => panic!("{ended:?}"),
        left = timeout(PATIENCE, left) => left.expect("most turns are taken by what is not read"),
    }
}
