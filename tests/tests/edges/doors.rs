//! The door: TLS, how long a connection may take over anything, and how many there may be.

use std::time::Duration;

use postrider_common::wire;
use postrider_tests::cluster::{Cluster, PATIENCE};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::raw::{ALPHA, Answer, BETA, Owner, Target, head, say, until_end};

/// The shortest that the configuration allows.
const LIMITS: &str =
    "[limits]\nheader_timeout = \"1 s\"\nbody_timeout = \"1 s\"\ntls_handshake_timeout = \"1 s\"\n";
/// What ends by a limit of a second ends long before this, and not at once.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn whoever_is_slow_is_cut_off() {
    let cluster = Cluster::builder([ALPHA]).configure(|_| LIMITS.into()).start().await.unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let owner = Owner::registered(&alpha).await;
    let batch = ("content-type", wire::CONTENT_TYPE);
    let began = Instant::now();

    let silent = async {
        let mut stream = alpha.tcp().await;
        assert_eq!(until_end(&mut stream).await, b"", "nothing is said before TLS");
    };
    let half_a_greeting = async {
        let mut stream = alpha.tcp().await;
        stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1]).await.unwrap();
        until_end(&mut stream).await;
    };
    let no_request = async {
        until_end(&mut alpha.tls("http/1.1").await).await;
    };
    let no_http2 = async {
        until_end(&mut alpha.tls("h2").await).await;
    };
    let half_a_preface = async {
        let mut stream = alpha.tls("h2").await;
        stream.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
        until_end(&mut stream).await;
    };
    let no_request_on_http2 = async {
        let mut stream = alpha.tls("h2").await;
        // The preface, and an empty SETTINGS frame.
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        until_end(&mut stream).await;
    };
    let half_a_head = async {
        let mut stream = alpha.tls("http/1.1").await;
        say(&mut stream, b"GET /.well-known/postrider HTTP/1.1\r\nhost: re").await.unwrap();
        until_end(&mut stream).await;
    };
    let idle_after_a_request = async {
        let mut stream = alpha.tls("http/1.1").await;
        say(&mut stream, &head("GET /.well-known/postrider", &[])).await.unwrap();
        assert_eq!(Answer::read(&mut stream).await.unwrap().status, 200);
        until_end(&mut stream).await;
    };
    let half_a_body = async {
        let mut stream = alpha.tls("http/1.1").await;
        let head = head("POST /v1/envelopes", &[batch, ("content-length", "1000")]);
        say(&mut stream, &[&head[..], b"half"].concat()).await.unwrap();
        let answer = Answer::read(&mut stream).await.expect("a slow client is told");
        answer.assert_problem("a slow body", 408, "slow-body");
        until_end(&mut stream).await;
    };
    let a_trickle = async {
        let mut stream = alpha.tls("http/1.1").await;
        say(&mut stream, &head("POST /v1/envelopes", &[batch, ("content-length", "1000")])).await.unwrap();
        let (mut reading, mut writing) = tokio::io::split(stream);
        let mut every = tokio::time::interval(Duration::from_millis(50));
        let sending = async {
            // The limit is on the whole body: bytes that keep coming do not extend it.
            while writing.write_all(b"x").await.is_ok() && writing.flush().await.is_ok() {
                every.tick().await;
            }
            std::future::pending::<()>().await;
        };
        let answer = tokio::select! {
            () = sending => unreachable!(),
            answer = Answer::read(&mut reading) => answer,
        };
        answer.expect("a slow client is told").assert_problem("a trickle", 408, "slow-body");
    };
    let all = async {
        tokio::join!(silent, half_a_greeting, no_request, no_http2, half_a_preface);
    };
    let more = async {
        tokio::join!(no_request_on_http2, half_a_head, idle_after_a_request, half_a_body, a_trickle);
    };
    tokio::join!(all, more);
    assert!(began.elapsed() >= Duration::from_secs(1), "the limit is a second");
    assert!(began.elapsed() < SOON, "all of them are cut off at about the same time");
    alpha.assert_nothing_stored_and_serving(&owner).await;
}

#[tokio::test]
async fn what_is_no_tls_1_3_is_refused() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    for garbage in [&b"GET / HTTP/1.1\r\nhost: relay\r\n\r\n"[..], b"\0\0\0\0\0\0\0\0\0\0\0\0", &[0xff; 4096]]
    {
        let mut stream = alpha.tcp().await;
        stream.write_all(garbage).await.unwrap();
        let said = until_end(&mut stream).await;
        assert!(said.len() <= 7 && !said.starts_with(b"HTTP"), "at most an alert: {said:?}");
    }

    let mut stream = alpha.tcp().await;
    stream.write_all(&client_hello_of_tls_1_2()).await.unwrap();
    let said = until_end(&mut stream).await;
    let protocol_version = [0x15, 3, 3, 0, 2, 2, 70];
    assert_eq!(said, protocol_version, "a fatal alert says why");

    assert_eq!(alpha.call("GET /.well-known/postrider", &[], b"").await.status, 200);
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_no_more() {
    let limits = "[limits]\nconnections_per_ip = 4\n";
    let cluster = Cluster::builder([ALPHA]).configure(move |_| limits.into()).start().await.unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(alpha.tls("http/1.1").await);
    }
    for _ in 0..3 {
        let mut over = alpha.tcp().await;
        assert_eq!(until_end(&mut over).await, b"", "over the limit there is not even TLS");
    }
    // Those that were let in are served,
    let mut stream = open.pop().unwrap();
    say(&mut stream, &head("GET /.well-known/postrider", &[("connection", "close")])).await.unwrap();
    assert_eq!(Answer::read(&mut stream).await.unwrap().status, 200);
    // and one that ends makes room, as soon as the relay has noticed.
    until_end(&mut stream).await;
    let let_in = async {
        loop {
            let mut stream = alpha.tcp().await;
            let mut byte = [0];
            let over = timeout(Duration::from_millis(100), stream.read(&mut byte)).await;
            // Over the limit, the connection ends at once. Let in, the relay waits for a greeting.
            if over.is_err() {
                return;
            }
        }
    };
    timeout(PATIENCE, let_in).await.expect("there is room again");
}

#[tokio::test]
async fn so_many_of_an_address_are_beginning_and_no_more() {
    let limits = "[limits]\nbeginning_connections_per_ip = 2\n";
    let cluster = Cluster::builder([ALPHA]).configure(move |_| limits.into()).start().await.unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let mut kept = Vec::new();
    // Each makes room for the next as soon as it is answered what it asked for.
    for _ in 0..4 {
        let mut stream = alpha.tls("http/1.1").await;
        say(&mut stream, &head("GET /.well-known/postrider", &[])).await.unwrap();
        assert_eq!(Answer::read(&mut stream).await.unwrap().status, 200);
        kept.push(stream);
    }
    let _silent = alpha.tcp().await;
    let mut refused = alpha.tls("http/1.1").await;
    say(&mut refused, &head("GET /v1/mailbox/devices", &[])).await.unwrap();
    assert_eq!(Answer::read(&mut refused).await.unwrap().status, 401, "which is nothing yet");
    let mut over = alpha.tcp().await;
    assert_eq!(until_end(&mut over).await, b"", "two that have come to nothing are enough");
    let elsewhere = alpha.clone().from([127, 0, 0, 9].into());
    assert_eq!(elsewhere.call("GET /.well-known/postrider", &[], b"").await.status, 200);
}

#[tokio::test]
async fn a_thousand_half_open_connections_keep_no_peer_out() {
    const HELD: usize = 1000;
    allow_descriptors(3 * HELD);
    let patient = "[limits]\ntls_handshake_timeout = \"2 min\"\n";
    let cluster = Cluster::builder([ALPHA, BETA]).configure(move |_| patient.into()).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let beta = Target::of(&cluster, BETA).await;
    let mut held = Vec::new();
    for n in 0..HELD {
        // As many from each address as there may be.
        let address = u8::try_from(9 + n / 64).unwrap();
        let mut stream = beta.clone().from([127, 0, 0, address].into()).tcp().await;
        if n % 2 == 0 {
            stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1]).await.unwrap();
        }
        held.push(stream);
    }
    alice.send(&bob, b"through the crowd").await.unwrap();
    assert_eq!(bob.receive().await.unwrap().message, b"through the crowd");
    for stream in &mut held {
        let said = stream.try_read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(said, Err(std::io::ErrorKind::WouldBlock), "it was there all the time");
    }
}

/// Both ends of each connection are in this process.
fn allow_descriptors(count: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = u64::try_from(count).unwrap();
    if current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).unwrap();
    }
}

/// As a client of ten years ago begins: no `supported_versions`.
fn client_hello_of_tls_1_2() -> Vec<u8> {
    let extensions = [
        &[0, 10, 0, 4, 0, 2, 0, 23][..],  // supported_groups: secp256r1
        &[0, 11, 0, 2, 1, 0],             // ec_point_formats: uncompressed
        &[0, 13, 0, 6, 0, 4, 4, 3, 8, 4], // signature_algorithms: ECDSA and RSA-PSS with SHA-256
    ]
    .concat();
    let mut hello = vec![3, 3];
    hello.extend([7; 32]); // random
    hello.push(0); // session id
    hello.extend([0, 4, 0xc0, 0x2b, 0xc0, 0x2f]); // ECDHE with AES-128-GCM
    hello.extend([1, 0]); // no compression
    hello.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    hello.extend(extensions);
    let length = u16::try_from(hello.len()).unwrap();
    let handshake = [&[1, 0][..], &length.to_be_bytes(), &hello].concat();
    let length = u16::try_from(handshake.len()).unwrap();
    [&[0x16, 3, 1][..], &length.to_be_bytes(), &handshake].concat()
}
