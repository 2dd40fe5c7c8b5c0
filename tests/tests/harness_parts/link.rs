//! Links, with an echo at their end.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use postrider_common::supervisor::Supervisor;
use postrider_tests::link::{Condition, Link};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

/// Sends back what it gets, with a byte of its own in front of each connection.
struct Echo {
    address: SocketAddr,
    supervisor: Supervisor,
}

impl Echo {
    async fn start(greeting: u8) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let supervisor = Supervisor::new();
        let connections = supervisor.clone();
        let stopping = supervisor.stopping();
        supervisor.spawn_service("echo", async move {
            let accept = async {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    connections.spawn("echo connection", async move {
                        let (mut from, mut to) = stream.split();
                        // Its end, in whatever way, is what the tests look at from the other side.
                        if to.write_all(&[greeting]).await.is_ok() {
                            let _ = tokio::io::copy(&mut from, &mut to).await;
                        }
                    });
                }
            };
            tokio::select! {
                () = accept => {}
                () = stopping => {}
            }
        });
        Self { address, supervisor }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.supervisor.stop();
    }
}

/// A connection over the link that has been greeted.
async fn connect(link: &Link, greeting: u8) -> TcpStream {
    let mut stream = TcpStream::connect(link.address()).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), greeting);
    stream
}

async fn ping(stream: &mut TcpStream, text: &[u8]) -> io::Result<()> {
    stream.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer, text);
    Ok(())
}

/// That the connection ends with a reset, and not with an orderly close.
async fn check_reset(mut stream: TcpStream) {
    let end = async {
        loop {
            if let Err(error) = stream.read_u8().await {
                return error.kind();
            }
        }
    };
    let end = timeout(Duration::from_secs(10), end).await;
    assert_eq!(end, Ok(io::ErrorKind::ConnectionReset));
}

/// That nothing arrives, as far as can be told in a moment.
async fn check_silent(stream: &mut TcpStream) {
    assert!(timeout(Duration::from_millis(50), stream.read_u8()).await.is_err());
}

#[tokio::test]
async fn an_open_link_passes_and_counts() {
    let echo = Echo::start(b'1').await;
    let link = Link::to(echo.address).await.unwrap();
    let mut stream = connect(&link, b'1').await;
    ping(&mut stream, b"hello").await.unwrap();
    let long = vec![7; 300_000];
    let (mut from, mut to) = stream.split();
    let mut back = vec![0; long.len()];
    let (sent, read) = tokio::join!(to.write_all(&long), from.read_exact(&mut back));
    sent.unwrap();
    read.unwrap();
    assert_eq!(back, long);

    // The end of one way passes while the other is still open.
    to.shutdown().await.unwrap();
    assert_eq!(from.read(&mut [0]).await.unwrap(), 0);
    let traffic = link.wait_for(|traffic| traffic.open == 0).await;
    assert_eq!(traffic.connections, 1);
    assert_eq!((traffic.request_bytes, traffic.response_bytes), (300_005, 300_006));
    assert_eq!((traffic.dropped_request_bytes, traffic.dropped_response_bytes), (0, 0));
}

#[tokio::test]
async fn a_cut_link_resets_what_is_open_and_what_comes() {
    let echo = Echo::start(b'1').await;
    let link = Link::to(echo.address).await.unwrap();
    let stream = connect(&link, b'1').await;
    link.cut();
    check_reset(stream).await;
    let result = async {
        let mut stream = TcpStream::connect(link.address()).await?;
        stream.read_u8().await
    };
    assert!(result.await.is_err());
    link.heal();
    let mut stream = connect(&link, b'1').await;
    ping(&mut stream, b"again").await.unwrap();
    assert_eq!(link.traffic().connections, 3);
}

#[tokio::test]
async fn dropped_requests_do_not_arrive() {
    let echo = Echo::start(b'1').await;
    let link = Link::to(echo.address).await.unwrap();
    let mut stream = connect(&link, b'1').await;
    link.set(Condition::DropRequests);
    stream.write_all(b"lost").await.unwrap();
    let traffic = link.wait_for(|traffic| traffic.dropped_request_bytes == 4).await;
    assert_eq!(traffic.request_bytes, 0);
    check_silent(&mut stream).await;
    // New connections are made, and the target's greeting arrives.
    connect(&link, b'1').await;
    // A stream with a hole in it does not go on.
    link.heal();
    check_reset(stream).await;
    ping(&mut connect(&link, b'1').await, b"again").await.unwrap();
}

#[tokio::test]
async fn dropped_responses_were_requests_that_arrived() {
    let echo = Echo::start(b'1').await;
    let link = Link::to(echo.address).await.unwrap();
    let mut stream = connect(&link, b'1').await;
    link.set(Condition::DropResponses);
    stream.write_all(b"done").await.unwrap();
    let traffic = link.wait_for(|traffic| traffic.dropped_response_bytes == 4).await;
    assert_eq!((traffic.request_bytes, traffic.response_bytes), (4, 1));
    check_silent(&mut stream).await;
    link.heal();
    check_reset(stream).await;
}

#[tokio::test]
async fn a_connection_that_lost_nothing_lives_on() {
    let echo = Echo::start(b'1').await;
    let link = Link::to(echo.address).await.unwrap();
    let mut stream = connect(&link, b'1').await;
    for condition in [Condition::DropAll, Condition::DropRequests, Condition::DropResponses] {
        link.set(condition);
        assert_eq!(link.condition(), condition);
    }
    link.heal();
    ping(&mut stream, b"still here").await.unwrap();
}

#[tokio::test]
async fn the_end_of_a_connection_vanishes_too() {
    let echo = Echo::start(b'1').await;
    let link = Link::to(echo.address).await.unwrap();
    let mut stream = connect(&link, b'1').await;
    link.set(Condition::DropAll);
    stream.shutdown().await.unwrap();
    check_silent(&mut stream).await;
    link.heal();
    check_reset(stream).await;
}

#[tokio::test]
async fn a_slow_link_holds_each_piece() {
    let echo = Echo::start(b'1').await;
    let link = Link::to(echo.address).await.unwrap();
    let mut stream = connect(&link, b'1').await;
    link.set(Condition::Slow { delay: Duration::from_millis(40), bytes_per_second: None });
    let start = Instant::now();
    ping(&mut stream, b"there and back").await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn a_narrow_link_takes_its_time() {
    let echo = Echo::start(b'1').await;
    let link = Link::to(echo.address).await.unwrap();
    let mut stream = connect(&link, b'1').await;
    link.set(Condition::Slow { delay: Duration::ZERO, bytes_per_second: NonZeroU32::new(10_000) });
    let start = Instant::now();
    ping(&mut stream, &[1; 2_000]).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(200));
    // It trickles: the beginning is back long before the end has gone.
    stream.write_all(&[2; 50_000]).await.unwrap();
    let start = Instant::now();
    assert_eq!(stream.read_u8().await.unwrap(), 2);
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_change_reaches_bytes_that_are_held() {
    let echo = Echo::start(b'1').await;
    let link = Link::to(echo.address).await.unwrap();
    let mut stream = connect(&link, b'1').await;
    link.set(Condition::Slow { delay: Duration::from_secs(3600), bytes_per_second: None });
    stream.write_all(b"held").await.unwrap();
    check_silent(&mut stream).await;
    link.heal();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"held");
}

#[tokio::test]
async fn a_target_may_come_back_elsewhere() {
    let first = Echo::start(b'1').await;
    let second = Echo::start(b'2').await;
    let link = Link::to(first.address).await.unwrap();
    let mut old = connect(&link, b'1').await;
    link.set_target(second.address);
    connect(&link, b'2').await;
    ping(&mut old, b"where it was").await.unwrap();

    // A port that is taken, where nobody listens.
    let deaf = TcpSocket::new_v4().unwrap();
    deaf.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    link.set_target(deaf.local_addr().unwrap());
    check_reset(TcpStream::connect(link.address()).await.unwrap()).await;
}

#[tokio::test]
async fn a_stopped_link_takes_its_connections_with_it() {
    let echo = Echo::start(b'1').await;
    let link = Link::to(echo.address).await.unwrap();
    let (stream, address) = (connect(&link, b'1').await, link.address());
    link.stop().await;
    check_reset(stream).await;
    TcpListener::bind(address).await.unwrap();
}
