//! Where challenges are checked: at the door that everybody comes through, by the rules that everybody is under.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::bench::{ALPHA, Bench, NAME};
use crate::check::{ALPN, shown};

/// A relay with a challenge that the server has begun to check, somewhere else, and does not end to.
async fn with_a_challenge(limits: &str) -> (Bench, SocketAddr, TcpStream) {
    let bench = Bench::start().await;
    fs::write(bench.file("postrider.toml"), format!("{}\n[limits]\n{limits}", bench.config())).unwrap();
    bench.restart().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    bench.server.lead_to(elsewhere.local_addr().unwrap());
    bench.switch_on().await;
    let (checking, _) = elsewhere.accept().await.unwrap();
    let address = bench.cluster.address(ALPHA).await.unwrap();
    (bench, address, checking)
}

#[tokio::test]
async fn a_challenge_is_answered_for_its_name_alone_and_to_who_comes_for_nothing_else() {
    let (bench, address, checking) = with_a_challenge("").await;
    let (alpn, answer) = shown(address, NAME, &[ALPN]).await.unwrap();
    assert_eq!(alpn.as_deref(), Some(ALPN.as_bytes()));
    for name in ["www.alpha.example", ALPHA] {
        let refused = shown(address, name, &[ALPN]).await.unwrap_err();
        assert!(refused.to_string().contains("NoApplicationProtocol"), "{name}: {refused}");
    }
    // What clients are shown is not what proves a name, nor is it the other way about.
    for offered in [&["h2"][..], &[ALPN, "h2"], &[]] {
        let (alpn, other) = shown(address, NAME, offered).await.unwrap();
        assert_ne!(alpn.as_deref(), Some(ALPN.as_bytes()), "{offered:?}");
        assert_ne!(other, answer, "{offered:?}");
    }
    drop(checking);
    bench.logged("a certificate could not be got for").await;
    let refused = shown(address, NAME, &[ALPN]).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "nothing is pending any more: {refused}");
    bench.cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn who_checks_a_challenge_is_counted_as_everybody_is() {
    let (bench, address, _checking) =
        with_a_challenge("connections_per_ip = 4\ntls_handshake_timeout = \"2 min\"\n").await;
    shown(address, NAME, &[ALPN]).await.expect("there is room");
    let mut held = Vec::new();
    while held.len() < 4 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Over the limit, the connection ends at once. Let in, the relay waits for a greeting.
        if timeout(Duration::from_millis(100), stream.read(&mut [0])).await.is_err() {
            held.push(stream);
        }
    }
    shown(address, NAME, &[ALPN]).await.expect_err("there are as many connections as there may be");
    drop(held.pop());
    while shown(address, NAME, &[ALPN]).await.is_err() {
        tokio::task::yield_now().await;
    }
    bench.cluster.shut_down().await.unwrap();
}
