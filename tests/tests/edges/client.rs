//! The client API: every documented error, each with its problem document, and nothing stored.

use std::time::Duration;

use futures_util::future::join_all;
use postrider_common::clock::{Clock, ManualClock, SystemClock};
use postrider_common::wire::control::Nonce;
use postrider_common::wire::{self, submit};
use postrider_common::{Domain, Envelope, TrackingId};
use postrider_tests::cluster::Cluster;
use tokio::io::AsyncWriteExt;

use crate::raw::{ALPHA, Answer, BETA, Owner, Target, domain, head, say};

const BATCH: (&str, &str) = ("content-type", wire::CONTENT_TYPE);
const JSON: (&str, &str) = ("content-type", "application/json");

type Headers<'a> = &'a [(&'a str, &'a str)];

async fn alpha() -> (Cluster, Target) {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let target = Target::of(&cluster, ALPHA).await;
    (cluster, target)
}

fn batch(owner: &Owner, count: usize) -> Vec<u8> {
    let items: Vec<(Domain, Envelope)> =
        (0..count).map(|_| (domain(ALPHA), owner.envelope(b"refused"))).collect();
    submit::encode_request(&items).to_vec()
}

#[tokio::test]
async fn a_submission_that_is_wrong_as_a_whole_is_refused_as_a_whole() {
    let (_cluster, alpha) = alpha().await;
    let owner = Owner::registered(&alpha).await;
    let good = batch(&owner, 1);
    let version_9 = [&[0, 0, 0, 9], &good[4..]].concat();
    let longer = [&good[..], b"?"].concat();
    let (no_headers, json, binary): (Headers<'_>, Headers<'_>, Headers<'_>) = (&[], &[JSON], &[BATCH]);
    let cases = [
        ("JSON", json, &good[..], 415, "unsupported-media-type"),
        ("no content type", no_headers, &good, 415, "unsupported-media-type"),
        ("text", &[("content-type", "text/plain; charset=utf-8")], &good, 415, "unsupported-media-type"),
        ("nothing", binary, b"", 400, "malformed"),
        ("garbage", binary, b"\0\0\0\x01\0\0\0\0\0\0\0\x02garbage, garbage", 400, "malformed"),
        ("text for bytes", binary, b"{\"envelopes\": []}", 400, "unsupported-version"),
        ("an unknown version", binary, &version_9, 400, "unsupported-version"),
        ("cut short", binary, &good[..good.len() - 1], 400, "malformed"),
        ("bytes behind the end", binary, &longer, 400, "malformed"),
        ("257 envelopes", binary, &batch(&owner, 257), 413, "too-large"),
        ("1025 envelopes", binary, &batch(&owner, 1025), 413, "too-large"),
    ];
    for (what, headers, body, status, slug) in cases {
        alpha.call("POST /v1/envelopes", headers, body).await.assert_problem(what, status, slug);
    }
    let problem = alpha.call("POST /v1/envelopes", &[BATCH], &version_9).await;
    let detail = problem.assert_problem("an unknown version", 400, "unsupported-version").detail;
    assert_eq!(detail.as_deref(), Some("the body has version 9, this relay reads version 1"));
    alpha.assert_nothing_stored_and_serving(&owner).await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let (_cluster, alpha) = alpha().await;
    let owner = Owner::registered(&alpha).await;

    // Not a byte of the body follows.
    for length in ["4194305", "99999999999"] {
        let declared = head("POST /v1/envelopes", &[BATCH, ("content-length", length)]);
        alpha.send(&declared).await.assert_problem(length, 413, "too-large");
    }
    let declared = head("POST /v1/sessions", &[JSON, ("content-length", "8193")]);
    alpha.send(&declared).await.assert_problem("a session request", 413, "too-large");

    // With no length declared, it is refused where the limit is passed.
    let mut stream = alpha.tls("http/1.1").await;
    say(&mut stream, &head("POST /v1/envelopes", &[BATCH, ("transfer-encoding", "chunked")])).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(stream);
    let chunk = [b"100000\r\n", &vec![0; 1 << 20][..], b"\r\n"].concat();
    let sending = async {
        // The relay may close before all of it is sent.
        for _ in 0..5 {
            if say(&mut writing, &chunk).await.is_err() {
                break;
            }
        }
        let _ = writing.flush().await;
        std::future::pending::<()>().await;
    };
    let answer = tokio::select! {
        () = sending => unreachable!(),
        answer = Answer::read(&mut reading) => answer,
    };
    answer.expect("an answer").assert_problem("chunked", 413, "too-large");
    alpha.assert_nothing_stored_and_serving(&owner).await;
}

#[tokio::test]
async fn a_client_that_goes_on_sending_a_refused_body_reads_why() {
    let (_cluster, alpha) = alpha().await;
    // Larger than what the sockets' buffers take: a relay that closed at once would reset the connection, and the answer
    // would be lost on the way.
    let body = vec![0; 5 << 20];
    let mut stream = alpha.tls("http/1.1").await;
    let length = body.len().to_string();
    say(&mut stream, &head("POST /v1/envelopes", &[BATCH, ("content-length", &length)])).await.unwrap();
    let _ = say(&mut stream, &body).await;
    Answer::read(&mut stream).await.expect("an answer").assert_problem("5 MiB", 413, "too-large");
}

#[tokio::test]
async fn a_body_that_ends_early_leaves_nothing() {
    let (_cluster, alpha) = alpha().await;
    let owner = Owner::registered(&alpha).await;
    let body = batch(&owner, 3);
    for sent in [0, 1, body.len() / 2, body.len() - 1] {
        let mut stream = alpha.tls("http/1.1").await;
        let length = body.len().to_string();
        let head = head("POST /v1/envelopes", &[BATCH, ("content-length", &length)]);
        say(&mut stream, &[&head, &body[..sent]].concat()).await.unwrap();
        stream.shutdown().await.unwrap();
        // Whether the relay still says something to a client that has gone does not matter.
        if let Some(answer) = Answer::read(&mut stream).await {
            answer.assert_problem("cut short", 400, "malformed");
        }
    }
    alpha.assert_nothing_stored_and_serving(&owner).await;
}

#[tokio::test]
async fn a_path_or_a_method_that_does_not_exist_is_said() {
    let (_cluster, alpha) = alpha().await;
    for line in ["GET /", "GET /v1", "POST /v1/envelopes/", "GET /v2/envelopes", "GET /.well-known/other"] {
        alpha.call(line, &[], b"").await.assert_problem(line, 404, "not-found");
    }
    for path in ["/v1/tracking/", "/v1/tracking/nonsense", &format!("/v1/tracking/{}", TrackingId::random())]
    {
        let line = format!("GET {path}");
        alpha.call(&line, &[], b"").await.assert_problem(path, 404, "unknown-tracking");
    }
    for (line, allow) in [
        ("POST /.well-known/postrider", "GET"),
        ("GET /v1/envelopes", "POST"),
        ("PUT /v1/challenges", "POST"),
        ("DELETE /v1/sessions", "POST"),
        ("GET /v1/mailbox", "PUT, DELETE"),
        ("POST /v1/mailbox/entries", "GET"),
        ("GET /v1/mailbox/acknowledgements", "POST"),
        ("POST /v1/mailbox/stream", "GET"),
        ("PUT /v1/mailbox/devices", "GET"),
        ("POST /v1/mailbox/binding", "GET, PUT"),
        ("DELETE /v1/tracking/aaaa", "GET"),
    ] {
        let answer = alpha.call(line, &[], b"").await;
        answer.assert_problem(line, 405, "method-not-allowed");
        assert_eq!(answer.header("allow"), Some(allow), "{line}");
    }
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let (_cluster, alpha) = alpha().await;
    let answer = alpha.call("GET /.well-known/postrider", &[("x", &"x".repeat(16 << 10))], b"").await;
    assert_eq!(answer.status, 431, "{answer:?}");
    let long = format!("GET /{}", "x".repeat(16 << 10));
    let answer = alpha.call(&long, &[], b"").await;
    assert!([414, 431].contains(&answer.status), "{answer:?}");
    for garbage in ["\0\x01\x02\x03\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "HELO relay\r\n\r\n"] {
        assert_eq!(alpha.send(garbage.as_bytes()).await.status, 400, "{garbage:?}");
    }
    assert_eq!(alpha.call("GET /.well-known/postrider", &[], b"").await.status, 200);
}

#[tokio::test]
async fn what_is_the_owners_takes_the_owners_token() {
    let (_cluster, alpha) = alpha().await;
    let (_other_cluster, other) = self::alpha().await;
    let owner = Owner::registered(&alpha).await;
    // The same name, another relay: the key that makes tokens is its own.
    let foreign = format!("Bearer {}", Owner::registered(&other).await.token);
    let basic = format!("Basic {}", owner.token);
    let mut garbled = format!("Bearer {}", owner.token);
    garbled.replace_range(20..21, if garbled.as_bytes()[20] == b'A' { "B" } else { "A" });
    let cases = [
        ("no token", None),
        ("another scheme", Some(basic.as_str())),
        ("nothing after the scheme", Some("Bearer")),
        ("not base64", Some("Bearer ?&%$")),
        ("too short", Some("Bearer AAAA")),
        ("another relay's", Some(foreign.as_str())),
        ("changed", Some(garbled.as_str())),
    ];
    for line in [
        "PUT /v1/mailbox",
        "DELETE /v1/mailbox",
        "GET /v1/mailbox/entries",
        "POST /v1/mailbox/acknowledgements",
        "GET /v1/mailbox/stream",
        "GET /v1/mailbox/devices",
        "GET /v1/mailbox/binding",
        "PUT /v1/mailbox/binding",
    ] {
        for (what, token) in cases {
            let headers: Vec<_> = token.iter().map(|token| ("authorization", *token)).collect();
            let answer = alpha.call(line, &headers, b"").await;
            answer.assert_problem(&format!("{line}: {what}"), 401, "unauthenticated");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{what}");
        }
    }
    alpha.assert_nothing_stored_and_serving(&owner).await;
}

#[tokio::test]
async fn only_a_signed_challenge_of_this_relay_and_minute_opens_a_session() {
    let clock = ManualClock::new(SystemClock.now());
    let cluster = Cluster::builder([ALPHA]).clock(clock.clone()).start().await.unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let owner = Owner::signed_in(&alpha).await;

    let reused = owner.session_request(&alpha.name, alpha.challenge().await);
    assert_eq!(alpha.open_session(&reused).await.status, 200);
    let invented = owner.session_request(&alpha.name, Nonce([7; 32]));
    let misdirected = owner.session_request(&domain(BETA), alpha.challenge().await);
    let mut for_another = owner.session_request(&alpha.name, alpha.challenge().await);
    for_another.mailbox = Owner::signed_in(&alpha).await.mailbox;
    let expired = owner.session_request(&alpha.name, alpha.challenge().await);
    clock.advance(Duration::from_secs(60));
    for (what, request) in [
        ("used before", &reused),
        ("not the relay's", &invented),
        ("signed for another relay", &misdirected),
        ("another's mailbox", &for_another),
        ("too late", &expired),
    ] {
        alpha.open_session(request).await.assert_problem(what, 403, "proof-refused");
    }
    for (what, body) in [
        ("no JSON", &b"mailbox"[..]),
        ("an array", b"[]"),
        ("fields missing", b"{}"),
        ("not UTF-8", b"{\"mailbox\":\"\xff\"}"),
        ("deep", "[".repeat(8000).as_bytes()),
    ] {
        alpha.call("POST /v1/sessions", &[JSON], body).await.assert_problem(what, 400, "malformed");
    }
    let wrong_type = alpha.call("POST /v1/sessions", &[BATCH], b"{}").await;
    wrong_type.assert_problem("bincode", 415, "unsupported-media-type");

    // A token ends too.
    let answer = alpha.call_as(&owner, "PUT /v1/mailbox", &[], b"").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    clock.advance(Duration::from_secs(86_400));
    let answer = alpha.call_as(&owner, "GET /v1/mailbox/entries", &[], b"").await;
    answer.assert_problem("a day later", 401, "unauthenticated");
}

#[tokio::test]
async fn a_mailbox_that_is_not_there_and_a_device_too_many_are_said() {
    let cluster =
        Cluster::builder([ALPHA]).configure(|_| "[limits]\ndevices = 2\n".into()).start().await.unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let nobody = Owner::signed_in(&alpha).await;
    for line in [
        "GET /v1/mailbox/entries",
        "DELETE /v1/mailbox",
        "GET /v1/mailbox/devices",
        "GET /v1/mailbox/binding",
    ] {
        alpha.call_as(&nobody, line, &[], b"").await.assert_problem(line, 404, "no-such-mailbox");
    }

    let owner = Owner::registered(&alpha).await;
    let second = owner.another_device(&alpha).await;
    let answer = alpha.call_as(&second, "GET /v1/mailbox/entries", &[], b"").await;
    answer.assert_problem("a device that is not registered", 403, "no-such-device");
    assert_eq!(alpha.call_as(&second, "PUT /v1/mailbox", &[], b"").await.status, 200);
    let third = owner.another_device(&alpha).await;
    let answer = alpha.call_as(&third, "PUT /v1/mailbox", &[], b"").await;
    answer.assert_problem("a third device", 409, "too-many-devices");

    let answer = alpha.call_as(&owner, "GET /v1/mailbox/binding", &[], b"").await;
    answer.assert_problem("never said", 404, "no-binding");
    let unsigned = format!(r#"{{"domain":"{ALPHA}","serial":1,"signature":"{}"}}"#, "00".repeat(64));
    for (what, headers, body, status, slug) in [
        ("no type", &[][..], &unsigned[..], 415, "unsupported-media-type"),
        ("no JSON", &[JSON], "?", 400, "malformed"),
        ("no domain", &[JSON], r#"{"serial":1}"#, 400, "malformed"),
        ("another's signature", &[JSON], &unsigned, 403, "binding-refused"),
    ] {
        let answer = alpha.call_as(&owner, "PUT /v1/mailbox/binding", headers, body.as_bytes()).await;
        answer.assert_problem(what, status, slug);
    }
    let mut statuses = Vec::new();
    for _ in 0..30 {
        let answer = alpha.call_as(&owner, "PUT /v1/mailbox/binding", &[JSON], unsigned.as_bytes()).await;
        statuses.push(answer.status);
        if answer.status == 429 {
            answer.assert_problem("again and again", 429, "rate-limited");
        }
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    for query in ["wait=x", "wait=-1", "after=1.5", "after="] {
        let line = format!("GET /v1/mailbox/entries?{query}");
        alpha.call_as(&owner, &line, &[], b"").await.assert_problem(query, 400, "malformed");
    }
    for (what, headers, body, status, slug) in [
        ("no type", None, &b"\0\0\0\x01"[..], 415, "unsupported-media-type"),
        ("nothing", Some(BATCH), b"", 400, "malformed"),
        ("garbage", Some(BATCH), b"\0\0\0\x01\0\0\0\x09", 400, "malformed"),
        (
            "a count that lies",
            Some(BATCH),
            b"\0\0\0\x01\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
            400,
            "malformed",
        ),
        ("a version", Some(BATCH), b"\0\0\0\x02\0\0\0\0", 400, "unsupported-version"),
        ("too much", Some(BATCH), &[0; 17 << 10], 413, "too-large"),
    ] {
        let headers: Vec<_> = headers.into_iter().collect();
        let answer = alpha.call_as(&owner, "POST /v1/mailbox/acknowledgements", &headers, body).await;
        answer.assert_problem(what, status, slug);
    }
    alpha.assert_nothing_stored_and_serving(&owner).await;
}

#[tokio::test]
async fn one_bad_item_fails_alone() {
    use postrider_common::FailureClass::{Expired, Malformed, NoSuchMailbox, PolicyDeniedHere};
    use postrider_common::wire::submit::SubmitResult::{Refused, Stored};

    let (_cluster, alpha) = alpha().await;
    let owner = Owner::registered(&alpha).await;
    let stranger = Owner::signed_in(&alpha).await;
    let good = owner.envelope(b"good");
    let expired =
        postrider_common::Draft::new(owner.mailbox, SystemClock.now(), &b"late"[..]).finish().unwrap();
    let items = [
        (domain(ALPHA), good.clone()),
        (domain(ALPHA), stranger.envelope(b"nobody")),
        (domain(ALPHA), expired),
        (domain("nowhere.example"), owner.envelope(b"elsewhere")),
    ];
    let refused = |reason| Refused { reason, retry_after: None };
    let results = alpha.submit(&items).await;
    assert_eq!(results, [Stored, refused(NoSuchMailbox), refused(Expired), refused(PolicyDeniedHere)]);

    // Two items, the envelope of the first changed in its version.
    let mut body =
        submit::encode_request(&[(domain(ALPHA), owner.envelope(b"broken")), items[0].clone()]).to_vec();
    let envelope_version = 4 + 8 + 8 + ALPHA.len() + 8 + 3;
    assert_eq!(body[envelope_version], 1);
    body[envelope_version] = 77;
    let answer = alpha.call("POST /v1/envelopes", &[BATCH], &body).await;
    let results = submit::decode_results(&answer.body).unwrap();
    assert_eq!(results, [refused(postrider_common::FailureClass::VersionUnsupported), Stored]);
    body[envelope_version] = 1;
    // The last byte of the first envelope counts its attachments.
    let first = items[0].1.encoded().len() + 2;
    body[4 + 8 + 8 + ALPHA.len() + 8 + first - 1] = 9;
    let answer = alpha.call("POST /v1/envelopes", &[BATCH], &body).await;
    let results = submit::decode_results(&answer.body).unwrap();
    assert_eq!(results, [refused(Malformed), Stored]);

    let entries = alpha.entries(&owner).await;
    assert_eq!(entries.iter().map(|entry| &entry.envelope).collect::<Vec<_>>(), [&good]);
}

#[tokio::test]
async fn whoever_asks_too_much_is_told_when_to_come_back() {
    let cluster = Cluster::builder([ALPHA])
        .submission("rate_per_second = 1\nburst = 20")
        .configure(|_| "[limits]\nbatch_envelopes = 20\n".into())
        .start()
        .await
        .unwrap();
    let alpha = Target::of(&cluster, ALPHA).await;
    let owner = Owner::registered(&alpha).await;
    // More than what is left of the burst, so none of it is taken: 429 is for the whole request.
    let answer = alpha.call("POST /v1/envelopes", &[BATCH], &batch(&owner, 20)).await;
    answer.assert_problem("a batch", 429, "rate-limited");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=20).contains(&wait), "{wait}");
    assert_eq!(alpha.entries(&owner).await, [], "nothing of the refused batch is stored");

    let mut refused = 0;
    for _ in 0..20 {
        let answer = alpha.call("POST /v1/challenges", &[], b"").await;
        if answer.status != 200 {
            answer.assert_problem("a challenge", 429, "rate-limited");
            assert_eq!(answer.header("retry-after"), Some("1"));
            refused += 1;
        }
    }
    assert!(refused > 0, "20 requests are over what a burst of 20 leaves after signing in");
    for (line, headers) in [
        ("POST /v1/envelopes", &[BATCH][..]),
        ("POST /v1/sessions", &[JSON]),
        (&format!("GET /v1/tracking/{}", TrackingId::random()), &[]),
    ] {
        // A token has come in meanwhile, or two, and not so many.
        let answers = join_all((0..8).map(|_| alpha.call(line, headers, b""))).await;
        let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
        assert!(!refused.is_empty(), "{line}: {answers:?}");
        for answer in refused {
            answer.assert_problem(line, 429, "rate-limited");
        }
    }
    // What a device does with its own mailbox is not limited by it.
    assert_eq!(alpha.entries(&owner).await, []);
}
