//! Who comes through a load balancer, and ports of their own for clients and other relays.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use postrider_tests::authority::Leaf;
use postrider_tests::cluster::{Cluster, PATIENCE};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::inbound::Caller;
use crate::raw::{ALPHA, Answer, BETA, Owner, Target, domain, head, say, until_end};

/// From where the proxy of these tests connects; everybody else connects from 127.0.0.1.
const PROXY: [u8; 4] = [127, 0, 0, 2];
const PROXIES: &str = "proxies = [\"127.0.0.2\"]";

/// The header that a proxy sends for this client.
fn header(client: &str) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    match client.parse().unwrap() {
        IpAddr::V4(client) => {
            header.extend([0x11, 0, 12]);
            header.extend(client.octets());
            header.extend([192, 0, 2, 1]);
        }
        IpAddr::V6(client) => {
            header.extend([0x21, 0, 36]);
            header.extend(client.octets());
            header.extend([0; 16]);
        }
    }
    header.extend([0xd4, 0x31, 1, 0xbb]);
    header
}

/// As a health check of the proxy's own begins.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

async fn alpha(limits: &'static str) -> (Cluster, Target, Target) {
    let cluster =
        Cluster::builder([ALPHA]).listen(PROXIES).configure(move |_| limits.into()).start().await.unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let proxy = alpha.clone().from(PROXY.into());
    (cluster, alpha, proxy)
}

async fn serves(target: &Target) -> bool {
    let Ok(mut stream) = target.try_tls("http/1.1", None).await else { return false };
    say(&mut stream, &head("GET /.well-known/postrider", &[("connection", "close")])).await.unwrap();
    Answer::read(&mut stream).await.is_some_and(|answer| answer.status == 200)
}

#[tokio::test]
async fn whoever_comes_through_a_proxy_is_counted_by_their_own_address() {
    let (_cluster, alpha, proxy) = alpha("[limits]\nconnections_per_ip = 2\n").await;
    let one = proxy.saying(&header("192.0.2.7"));
    let held = [one.tls("http/1.1").await, one.tls("h2").await];
    assert!(!serves(&one).await, "two of one client");
    assert!(serves(&proxy.saying(&header("192.0.2.8"))).await, "another client");
    let line = b"PROXY TCP4 192.0.2.7 192.0.2.1 54321 443\r\n";
    assert!(!serves(&proxy.saying(line)).await, "the same client in the form of version 1");
    assert!(serves(&proxy.saying(b"PROXY TCP4 192.0.2.9 192.0.2.1 54321 443\r\n")).await);
    assert!(serves(&proxy.saying(LOCAL)).await, "the proxy itself");
    assert!(serves(&alpha).await, "somebody who has no proxy");

    // An IPv6 subscriber is one client, whatever the addresses.
    let held_too = [
        proxy.saying(&header("2001:db8:1:2::3")).tls("h2").await,
        proxy.saying(&header("2001:db8:1:2:ffff::4")).tls("h2").await,
    ];
    assert!(!serves(&proxy.saying(&header("2001:db8:1:2::5"))).await);
    assert!(serves(&proxy.saying(&header("2001:db8:1:3::3"))).await);
    drop(held_too);

    // The count ends with the connection.
    drop(held);
    let let_in = async {
        while !serves(&one).await {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, let_in).await.expect("there is room again");
}

#[tokio::test]
async fn how_fast_one_submits_is_counted_by_their_own_address_too() {
    let cluster = Cluster::builder([ALPHA]).listen(PROXIES).submission("rate_per_second = 1\nburst = 256");
    let cluster = cluster.start().await.unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let proxy = alpha.clone().from(PROXY.into());
    let owner = Owner::registered(&alpha).await;
    let batch: Vec<_> = (0..250).map(|_| (domain(ALPHA), owner.envelope(b"hello"))).collect();
    let one = proxy.saying(&header("192.0.2.7"));
    one.submit(&batch).await;
    let body = postrider_common::wire::submit::encode_request(&batch);
    let content = [("content-type", postrider_common::wire::CONTENT_TYPE)];
    let again = one.call("POST /v1/envelopes", &content, &body).await;
    again.assert_problem("too fast", 429, "rate-limited");
    proxy.saying(&header("192.0.2.8")).submit(&batch).await;
}

#[tokio::test]
async fn of_a_proxy_a_header_is_demanded_and_from_nobody_else_is_one_taken() {
    let (cluster, alpha, proxy) = alpha("[limits]\nconnections_per_ip = 1\n").await;
    // A proxy that is not set up for it: not even TLS begins, and its administrator is told.
    let error = proxy.try_tls("http/1.1", None).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
    cluster.logged(ALPHA, "a proxy's connection was refused: it does not begin with a header").await.unwrap();
    for (said, reason) in [
        (&b"PROXY UNKNOWN\r\n"[..], "that names no client over TCP4 or TCP6"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\0", "no TCP connection over IPv4 or IPv6"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", "65535 bytes"),
    ] {
        let mut stream = proxy.tcp().await;
        stream.write_all(said).await.unwrap();
        assert_eq!(until_end(&mut stream).await, b"");
        cluster.logged(ALPHA, reason).await.unwrap();
    }

    // Whoever is no proxy and says to be somebody else: the bytes are taken for TLS, and are none.
    let mut spoofed = alpha.tcp().await;
    spoofed.write_all(&header("192.0.2.7")).await.unwrap();
    let said = until_end(&mut spoofed).await;
    assert!(said.len() <= 7, "at most an alert: {said:?}");
    let held = alpha.saying(&[]).tls("h2").await;
    assert!(!serves(&alpha).await, "counted by their own address");
    assert!(!serves(&alpha.saying(&header("192.0.2.7"))).await);
    assert!(serves(&proxy.saying(&header("192.0.2.7"))).await, "and the one they named has its room");
    drop(held);
    // Nobody's address gets into the log by this.
    let log = cluster.log(ALPHA).await.unwrap();
    assert!(!log.contains("192.0.2.7") && !log.contains("127.0.0.2"), "{log}");
}

#[tokio::test]
async fn a_header_has_to_come_within_the_time_for_the_handshake() {
    let (_cluster, _, proxy) = alpha("[limits]\ntls_handshake_timeout = \"1 s\"\n").await;
    let whole = header("192.0.2.7");
    for said in [&b""[..], &whole[..7], &whole[..20], &whole] {
        let mut stream = proxy.tcp().await;
        stream.write_all(said).await.unwrap();
        assert_eq!(until_end(&mut stream).await, b"");
    }
    let mut trickle = proxy.tcp().await;
    let mut every = tokio::time::interval(Duration::from_millis(100));
    let sending = async {
        for byte in whole.iter().cycle() {
            every.tick().await;
            if trickle.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    };
    timeout(PATIENCE, sending).await.expect("it is cut off");
    assert!(serves(&proxy.saying(&whole)).await);
}

#[tokio::test]
async fn a_peer_that_comes_through_a_proxy_is_proven_as_ever() {
    let cluster = Cluster::builder([ALPHA, BETA]).listen(PROXIES).start().await.unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let owner = Owner::registered(&alpha).await;
    let beta = cluster.authority().issue(&Leaf::new(&domain(BETA), cluster.clock().now())).unwrap();
    let through = alpha.clone().from(PROXY.into()).saying(&header("192.0.2.7"));
    let mut caller = Caller::connect(&through, &beta).await;
    assert_eq!(caller.forward(&[owner.envelope(b"through")], |_| {}).await.status, 200);
    assert_eq!(alpha.entries(&owner).await.len(), 1);
}

#[tokio::test]
async fn clients_and_relays_can_have_ports_of_their_own() {
    let own = "clients = [\"127.0.0.1:0\"]\nfederation = [\"127.0.0.1:0\"]";
    let cluster = Cluster::builder([ALPHA, BETA]).listen(own).start().await.unwrap();
    let certified = cluster.authority().issue(&Leaf::new(&domain(BETA), cluster.clock().now())).unwrap();
    let at = async |name: &str, index: usize| {
        let addresses = cluster.addresses(name).await.unwrap();
        assert_eq!(addresses.len(), 3);
        Target::at(cluster.authority(), name, addresses[index])
    };
    let (everybody, clients, relays) = (at(ALPHA, 0).await, at(ALPHA, 1).await, at(ALPHA, 2).await);
    assert!(serves(&everybody).await && serves(&clients).await);
    for (target, alpn) in [(&clients, "postrider/1"), (&relays, "http/1.1"), (&relays, "h2")] {
        let error = target.try_tls(alpn, Some(&certified)).await.unwrap_err();
        assert!(error.to_string().contains("NoApplicationProtocol"), "{alpn}: {error}");
    }

    // Envelopes go to the port for relays, and are fetched at the one for clients.
    let relays_of_beta = at(BETA, 2).await;
    cluster.link(ALPHA, BETA).unwrap().set_target(relays_of_beta.address);
    cluster.door(BETA).unwrap().set_target(at(BETA, 1).await.address);
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    alice.send(&bob, b"by the right doors").await.unwrap();
    assert_eq!(bob.receive().await.unwrap().message, b"by the right doors");
}
