//! Each kind of abuse, at both doors: it ends as documented, good clients are served meanwhile, and memory is bounded.

use std::fs;
use std::future::pending;

use futures_util::future::join_all;
use postrider_tests::abuse::Reaction::{Answered, Closed, GoneAway, Reset};
use postrider_tests::abuse::{Abuser, Door, Kind, Reaction, Tally};
use postrider_tests::binary::postrider;
use postrider_tests::cluster::{Cluster, PATIENCE, User};
use tokio::time::timeout;

use crate::raw::ALPHA;

/// Of each kind, at each door.
const CONNECTIONS: usize = 4;
const MESSAGES: usize = 10;
const MEMORY: u64 = 256 << 20;
/// The shortest that the configuration allows.
const LIMITS: &str =
    "[limits]\nheader_timeout = \"1 s\"\nbody_timeout = \"1 s\"\ntls_handshake_timeout = \"1 s\"\n";
/// Codes of HTTP/2.
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// What the relay has to do, besides closing the connection; nothing, where it holds out without harm.
enum Expected {
    Cut(&'static [Reaction]),
    HeldOut(&'static [Reaction]),
}
use Expected::{Cut, HeldOut};

/// What `docs/operations.md` says of each.
const fn expected(kind: Kind, door: Door) -> Expected {
    match (kind, door) {
        (Kind::SlowHeader | Kind::HandshakeOnly, Door::Clients) => Cut(&[]),
        (Kind::SlowBody, _) => Cut(&[Answered(408)]),
        (Kind::HugeHeader, Door::Clients) => Cut(&[Answered(431)]),
        (Kind::HugeHeader, Door::Relays) => Cut(&[GoneAway(ENHANCE_YOUR_CALM)]),
        (Kind::InvalidFrames, _) => Cut(&[GoneAway(PROTOCOL_ERROR)]),
        (Kind::ResetStorm, _) => Cut(&[GoneAway(ENHANCE_YOUR_CALM)]),
        (Kind::OversizedBatches, _) => Cut(&[Answered(413)]),
        (Kind::TooManyStreams, Door::Clients) => Cut(&[Reset(REFUSED_STREAM)]),
        (Kind::TinyWindows, _) => Cut(&[Reset(REFUSED_STREAM)]),
        (Kind::TooManyStreams, Door::Relays) => HeldOut(&[Reset(REFUSED_STREAM)]),
        (Kind::EndlessFrames | Kind::UnauthenticatedFlood, Door::Clients) => HeldOut(&[Answered(401)]),
        (Kind::EndlessFrames | Kind::UnauthenticatedFlood, Door::Relays) => HeldOut(&[Answered(403)]),
        // Without a proof of who it is, a relay has thirty seconds, and this test has not.
        (Kind::SlowHeader | Kind::HandshakeOnly, Door::Relays) => HeldOut(&[]),
    }
}

#[tokio::test]
async fn good_clients_are_served_beside_each_kind_of_abuse() {
    let cluster =
        Cluster::builder([ALPHA]).processes(postrider()).configure(|_| LIMITS.into()).start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(ALPHA).await.unwrap());
    let address = cluster.address(ALPHA).await.unwrap();
    let abuser = Abuser::new(cluster.authority(), ALPHA, address, [127, 0, 0, 9].into()).unwrap();
    for kind in Kind::ALL {
        for door in [Door::Clients, Door::Relays] {
            if !kind.is_for(door) {
                continue;
            }
            let what = format!("{kind} by {}", door.name());
            let tally = Tally::default();
            let abusing = join_all((0..CONNECTIONS).map(|_| abuser.abuse(kind, door, &tally)));
            let seen = |wanted: &[Reaction]| {
                let counts = tally.counts();
                wanted.iter().all(|reaction| counts.contains_key(reaction))
            };
            match expected(kind, door) {
                Cut(wanted) => {
                    let both = async { tokio::join!(abusing, correspond(&alice, &bob)) };
                    timeout(PATIENCE, both).await.unwrap_or_else(|_| panic!("{what}: {:?}", tally.counts()));
                    assert!(seen(wanted), "{what}: {:?}", tally.counts());
                    assert_eq!(tally.counts()[&Closed], CONNECTIONS as u64, "{what}");
                }
                HeldOut(wanted) => {
                    let served = async {
                        correspond(&alice, &bob).await;
                        while !seen(wanted) {
                            correspond(&alice, &bob).await;
                        }
                    };
                    // If it is ended after all, so much the better.
                    let abusing = async {
                        abusing.await;
                        pending::<()>().await;
                    };
                    tokio::select! {
                        () = abusing => {}
                        served = timeout(PATIENCE, served) => {
                            served.unwrap_or_else(|_| panic!("{what}: {:?}", tally.counts()));
                        }
                    }
                }
            }
        }
    }
    let process = cluster.process_id(ALPHA).await.unwrap().unwrap();
    let most = most_resident(process);
    assert!(most < MEMORY, "{} MiB", most >> 20);
    cluster.shut_down().await.unwrap();
}

/// Messages there and back.
async fn correspond(alice: &User, bob: &User) {
    for _ in 0..MESSAGES {
        alice.send(bob, b"beside all that").await.unwrap();
        assert_eq!(bob.receive().await.unwrap().message, b"beside all that");
        bob.send(alice, b"it goes on").await.unwrap();
        assert_eq!(alice.receive().await.unwrap().message, b"it goes on");
    }
}

/// The most that the process has ever held in memory.
fn most_resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}
