//! What a session is good for: not for a device that was removed, and not without end.

use std::time::Duration;

use postrider_common::wire;
use postrider_common::wire::mailbox::DeviceMessage;
use postrider_tests::clock::StandingClock;
use postrider_tests::cluster::Cluster;

use crate::raw::{ALPHA, Owner, Target};
use crate::stream::HANDSHAKE;

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
