//! The socket itself: whose it is, what it takes, and that it goes.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use postrider_tests::cluster::{Cluster, PATIENCE, Stopped};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::commands::{ALPHA, data};

async fn raw(cluster: &Cluster, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(data(cluster, ALPHA).join("admin.sock")).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it answers and closes").unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn the_socket_is_for_its_owner_and_goes_with_the_relay() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let socket = data(&cluster, ALPHA).join("admin.sock");
    let metadata = fs::metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(cluster.stop(ALPHA).await.unwrap(), Stopped::InOrder);
    assert!(!socket.exists());
    cluster.restart(ALPHA).await.unwrap();
    assert!(socket.exists());
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn odd_requests_are_refused_and_idle_connections_keep_nobody_out() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    for (request, expected) in [
        (&b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n"[..], "HTTP/1.1 200 OK"),
        (b"GET /v2/status HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 404 Not Found"),
        (b"POST /v1/queue HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 405"),
        (b"GET /v1/queue/UPPER HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 400"),
        (b"GET /v1/tracking/x HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 400"),
        (b"POST /v1/queue/b.example/drop HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}", "HTTP/1.1 400"),
        (
            b"POST /v1/queue/b.example/drop HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{\"al\": 1}",
            "HTTP/1.1 400",
        ),
        (b"\x16\x03\x01 no HTTP at all\r\n\r\n", "HTTP/1.1 400"),
    ] {
        let answer = raw(&cluster, request).await;
        assert!(answer.starts_with(expected), "{:?}: {answer}", String::from_utf8_lossy(request));
    }
    // More connections than there is room for, on which nothing is said: they are given up after a while.
    let path = data(&cluster, ALPHA).join("admin.sock");
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(UnixStream::connect(&path).await.unwrap());
    }
    let answer = raw(&cluster, b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.contains("\"domain\":\"alpha.example\""), "{answer}");
    drop(idle);
    cluster.shut_down().await.unwrap();
}
