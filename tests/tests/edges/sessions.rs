//! What a session is good for: not for a device that was removed, and not without end.

use std::time::Duration;

use futures_util::SinkExt;
use futures_util::future::join_all;
use postrider_common::EntryId;
use postrider_common::wire;
use postrider_common::wire::mailbox::DeviceMessage;
use postrider_tests::clock::StandingClock;
use postrider_tests::cluster::{Cluster, PATIENCE};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::raw::{ALPHA, Owner, Target};
use crate::stream::{HANDSHAKE, open};

const JSON: (&str, &str) = ("content-type", "application/json");
const BATCH: (&str, &str) = ("content-type", wire::CONTENT_TYPE);
const MEMBERS: &str = "policy = \"members\"\nrate_per_second = 1000000\nburst = 1000000";
const A_WHILE: Duration = Duration::from_secs(6 * 60);

#[tokio::test]
async fn a_removed_device_is_told_so_whatever_it_asks() {
    let clock = StandingClock::new();
    let cluster = Cluster::builder([ALPHA]).clock(clock.clone()).submission(MEMBERS).start().await.unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let lost = Owner::registered(&alpha).await;
    let other = lost.another_device(&alpha).await;
    assert_eq!(alpha.call_as(&other, "PUT /v1/mailbox", &[], b"").await.status, 200);
    let remove = format!("DELETE /v1/mailbox/devices/{}", lost.device);
    assert_eq!(alpha.call_as(&other, &remove, &[], b"").await.status, 204);

    let of_other = format!("/v1/mailbox/devices/{}", other.device);
    let (remove_other, name_other) = (format!("DELETE {of_other}"), format!("PUT {of_other}/name"));
    let acknowledgement = DeviceMessage::Acknowledge(vec![]).encode();
    for (line, headers, body) in [
        ("DELETE /v1/mailbox", &[][..], &b""[..]),
        ("GET /v1/mailbox/devices", &[], b""),
        (&remove_other, &[], b""),
        (&name_other, &[JSON], br#"{"name":"00"}"#),
        (&remove, &[], b""),
        ("GET /v1/mailbox/binding", &[], b""),
        ("PUT /v1/mailbox/binding", &[JSON], b"{}"),
        ("GET /v1/mailbox/entries", &[], b""),
        ("POST /v1/mailbox/acknowledgements", &[BATCH], &acknowledgement),
        ("GET /v1/mailbox/stream", &HANDSHAKE, b""),
        ("POST /v1/envelopes", &[BATCH], b""),
        ("POST /v1/attachments", &[JSON], br#"{"length":1,"chunk_length":1}"#),
    ] {
        alpha.call_as(&lost, line, headers, body).await.assert_problem(line, 403, "no-such-device");
    }
    // A session is as good as the mailbox's key for a moment only.
    clock.advance(A_WHILE);
    let answer = alpha.call_as(&lost, "PUT /v1/mailbox", &[], b"").await;
    answer.assert_problem("back by an old session", 401, "unauthenticated");
    assert_eq!(alpha.call_as(&other, "PUT /v1/mailbox", &[], b"").await.status, 200, "it is registered");
    let back = lost.signed_in_again(&alpha).await;
    assert_eq!(alpha.call_as(&back, "PUT /v1/mailbox", &[], b"").await.status, 200, "it has the key");
    assert_eq!(alpha.entries(&lost).await, [], "and its earlier session is good again");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn one_mailbox_is_changed_so_often_and_others_are_not_kept_from_it() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let (busy, other) = (Owner::registered(&alpha).await, Owner::registered(&alpha).await);
    let rename = async |of: &Owner| {
        let line = format!("PUT /v1/mailbox/devices/{}/name", of.device);
        alpha.call_as(of, &line, &[JSON], br#"{"name":"00"}"#).await
    };
    let mut taken = 0;
    let limited = loop {
        let answer = rename(&busy).await;
        if answer.status != 204 {
            break answer;
        }
        taken += 1;
        assert!(taken < 1000, "it has an end");
    };
    limited.assert_problem("again and again", 429, "rate-limited");
    assert_eq!(limited.header("retry-after"), Some("1"));
    assert!(taken >= 49, "{taken} at once, after it was registered");
    let unknown = format!("DELETE /v1/mailbox/devices/{}", other.device);
    // Some may have come in meanwhile, and not so many.
    let answers = join_all((0..60).map(|_| alpha.call_as(&busy, &unknown, &[], b""))).await;
    let limited = answers.iter().find(|answer| answer.status == 429);
    limited.unwrap_or_else(|| panic!("{answers:?}")).assert_problem("removing", 429, "rate-limited");
    assert_eq!(rename(&other).await.status, 204);
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn acknowledging_nothing_takes_a_moment_and_what_is_there_is_found_in_between() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let owner = Owner::registered(&alpha).await;
    let nothing = |count: u64| (1 << 40..(1 << 40) + count).map(EntryId);
    let message = |entries: Vec<EntryId>| DeviceMessage::Acknowledge(entries).encode();
    let acknowledge = async |entries| {
        let line = "POST /v1/mailbox/acknowledgements";
        let answer = alpha.call_as(&owner, line, &[BATCH], &message(entries)).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    };
    alpha.submit(&[(alpha.name.clone(), owner.envelope(b"one"))]).await;
    for entries in [nothing(1024).collect(), vec![]] {
        let began = Instant::now();
        acknowledge(entries).await;
        assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
    }
    let waiting = alpha.entries(&owner).await;
    assert_eq!(waiting.len(), 1);
    acknowledge(nothing(500).chain([waiting[0].id]).chain(nothing(500)).collect()).await;
    assert_eq!(alpha.entries(&owner).await, []);

    // The same over a stream, on which nothing is answered.
    alpha.submit(&[(alpha.name.clone(), owner.envelope(b"two"))]).await;
    let waiting = alpha.entries(&owner).await;
    let mut socket = open(&alpha, &owner).await;
    let entries = nothing(500).chain([waiting[0].id]).chain(nothing(500)).collect();
    socket.send(Message::Binary(message(entries))).await.unwrap();
    let gone = async { while !alpha.entries(&owner).await.is_empty() {} };
    timeout(PATIENCE, gone).await.expect("it is acknowledged");
    cluster.shut_down().await.unwrap();
}
