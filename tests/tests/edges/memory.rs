//! Memory is bounded: what is announced takes none, and what is over the budget is refused.

use std::fs;

use futures_util::future::join_all;
use postrider_common::wire;
use postrider_common::wire::submit::SubmitResult;
use postrider_tests::binary::postrider;
use postrider_tests::cluster::Cluster;
use tokio::io::AsyncWriteExt;

use crate::raw::{ALPHA, Answer, Owner, Target, head, say};

const CONNECTIONS: usize = 200;
const MIB: u64 = 1 << 20;

/// What the process holds in memory.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn bodies_take_memory_as_they_come_and_within_the_budget() {
    let limits =
        "[limits]\nbody_timeout = \"8 s\"\nheader_timeout = \"60 s\"\nbeginning_connections_per_ip = 400\n";
    let cluster = Cluster::builder([ALPHA])
        .processes(postrider())
        .configure(move |_| limits.into())
        .start()
        .await
        .unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let owner = Owner::registered(&alpha).await;
    let process = cluster.process_id(ALPHA).await.unwrap().unwrap();

    // What is announced and never sent keeps nobody out: everybody is admitted, and told later that they are slow.
    let idle = resident(process);
    let announced = unfinished_bodies(&alpha, process, 0).await;
    assert_eq!((announced.slow, announced.refused), (CONNECTIONS, 0));
    let taken = announced.most.saturating_sub(idle);
    assert!(taken < 32 * MIB, "{} KiB for 200 connections and bodies that never came", taken / 1024);

    // What is sent counts: 200 MiB do not fit.
    let idle = resident(process);
    let sent = unfinished_bodies(&alpha, process, 1 << 20).await;
    assert!(sent.refused >= CONNECTIONS / 4, "only {} of 200 were refused", sent.refused);
    assert!(sent.slow >= CONNECTIONS / 4, "only {} of 200 were admitted", sent.slow);
    let taken = sent.most.saturating_sub(idle);
    assert!(taken < 224 * MIB, "{} MiB for bodies", taken / MIB);

    // The budget is whole again.
    let good = owner.envelope(b"good");
    assert_eq!(alpha.submit(&[(alpha.name.clone(), good)]).await, [SubmitResult::Stored]);
}

/// How the relay answered requests whose bodies did not come to their end.
#[derive(Debug, Default)]
struct Answers {
    slow: usize,
    refused: usize,
    /// The most that the process held in memory meanwhile.
    most: u64,
}

/// From 200 connections at a time, announces 4 MiB and sends `bytes` of them.
async fn unfinished_bodies(alpha: &Target, process: u32, bytes: usize) -> Answers {
    let connections = join_all((0..CONNECTIONS).map(|_| alpha.tls("http/1.1"))).await;
    let announced =
        head("POST /v1/envelopes", &[("content-type", wire::CONTENT_TYPE), ("content-length", "4194304")]);
    let piece = vec![0; bytes];
    let (announced, piece) = (&announced, &piece);
    let requests = connections.into_iter().map(|mut stream| async move {
        say(&mut stream, announced).await.unwrap();
        // Whoever is refused meanwhile finds the connection closed.
        let _ = say(&mut stream, piece).await;
        let _ = stream.flush().await;
        let answer = Answer::read(&mut stream).await;
        (answer, resident(process))
    });
    let mut answers = Answers::default();
    for (answer, resident) in join_all(requests).await {
        answers.most = answers.most.max(resident);
        match answer {
            Some(answer) if answer.status == 408 => {
                answer.assert_problem("admitted", 408, "slow-body");
                answers.slow += 1;
            }
            Some(answer) => {
                answer.assert_problem("over the budget", 503, "unavailable");
                assert_eq!(answer.header("retry-after"), Some("5"));
                answers.refused += 1;
            }
            // The answer was lost when the connection was reset under the rest of the body.
            None => answers.refused += 1,
        }
    }
    answers
}
