//! Those who watch a relay: metrics, health, and the status at a glance.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider::monitor::catalogue::{ALL, Kind};
use postrider_common::wire::submit::SubmitResult;
use postrider_tests::authority::Leaf;
use postrider_tests::binary::postrider;
use postrider_tests::clock::StandingClock;
use postrider_tests::cluster::{Builder, Cluster, PATIENCE, Stopped};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::commands::{ALPHA, BETA, ask, ask_anyhow, ask_json, data, queue, run, text};

const METRICS: &str = "metrics = \"127.0.0.1:0\"";
const DAY: Duration = Duration::from_secs(86_400);

fn watched() -> Builder {
    Cluster::builder([ALPHA, BETA]).listen(METRICS)
}

/// What a page of metrics says: each sample, with its labels as they are written.
async fn samples(cluster: &Cluster, domain: &str) -> BTreeMap<String, f64> {
    let (status, page) = cluster.monitoring(domain, "/metrics").await.unwrap();
    assert_eq!(status, 200, "{page}");
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (sample, value) = line.rsplit_once(' ').expect(line);
            (sample.to_owned(), value.parse().expect(line))
        })
        .collect()
}

/// Waits until a sample has this value.
async fn until(cluster: &Cluster, domain: &str, sample: &str, value: f64) {
    let reached = async {
        while samples(cluster, domain).await.get(sample) != Some(&value) {
            tokio::task::yield_now().await;
        }
    };
    let reached = timeout(PATIENCE, reached).await;
    assert!(reached.is_ok(), "{sample} never was {value}: {:#?}", samples(cluster, domain).await);
}

#[tokio::test]
async fn every_metric_of_the_catalogue_is_told_and_no_other_and_nobody_is_in_it() {
    let cluster = watched().start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    alice.send(&bob, b"hello").await.unwrap();
    bob.receive().await.unwrap();
    cluster.stop(BETA).await.unwrap();
    let tracking = queue(&alice, &bob, "waiting").await;
    until(&cluster, ALPHA, "postrider_queue_failing_destinations", 1.0).await;

    let (_, page) = cluster.monitoring(ALPHA, "/metrics").await.unwrap();
    let told: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let all: Vec<_> = ALL.iter().map(|metric| format!("{} {}", metric.name, metric.kind.word())).collect();
    assert_eq!(told, all);
    for (sample, value) in samples(&cluster, ALPHA).await {
        let (name, labels) = sample.split_once('{').unwrap_or((&sample, "}"));
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let is_named = |metric: &&&postrider::monitor::catalogue::Metric| match metric.kind {
            Kind::Histogram => base == Some(metric.name),
            _ => name == metric.name,
        };
        let metric = ALL.iter().find(is_named).expect(&sample);
        let labels = labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty());
        let labels: Vec<_> = labels.map(|label| label.split('=').next().unwrap()).collect();
        let expected = if name.ends_with("_bucket") { &["le"] } else { metric.labels };
        assert_eq!(labels, expected, "{sample}");
        assert!(value.is_finite() && value >= 0.0, "{sample} {value}");
    }
    for person in [alice.identity().address(), bob.identity().address()] {
        assert!(!page.contains(&person.mailbox.to_string()), "{page}");
    }
    assert!(!page.contains(&tracking.to_string()) && !page.contains("127.0.0.1"), "{page}");
    cluster.restart(BETA).await.unwrap();
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn an_envelopes_way_is_counted_at_each_step() {
    let cluster = watched().start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    let carol = cluster.user(ALPHA).await.unwrap();
    for _ in 0..3 {
        alice.send(&bob, b"hello").await.unwrap();
        bob.receive().await.unwrap();
    }
    alice.send(&carol, b"hello").await.unwrap();
    let stranger = cluster.connect(&postrider_client::Identity::generate(ALPHA.parse().unwrap())).unwrap();
    let refused = alice.send(&stranger, b"nobody").await;
    assert!(matches!(refused, Ok(SubmitResult::Refused { .. }) | Err(_)), "{refused:?}");

    until(&cluster, ALPHA, "postrider_envelopes_forwarded_total", 3.0).await;
    until(&cluster, BETA, "postrider_envelopes_acknowledged_total", 3.0).await;
    let (alpha, beta) = (samples(&cluster, ALPHA).await, samples(&cluster, BETA).await);
    for (sample, value) in [
        ("postrider_envelopes_accepted_total{from=\"clients\"}", 4.0),
        ("postrider_envelopes_accepted_total{from=\"relays\"}", 0.0),
        ("postrider_envelopes_refused_total{from=\"clients\",reason=\"no-such-mailbox\"}", 1.0),
        ("postrider_envelopes_queued_total", 3.0),
        ("postrider_envelopes_stored_total", 1.0),
        ("postrider_queue_destinations", 0.0),
        ("postrider_ready", 1.0),
        ("postrider_store_failed", 0.0),
        ("postrider_local_fault", 0.0),
        ("postrider_connections{kind=\"relays-out\"}", 1.0),
    ] {
        assert_eq!(alpha.get(sample), Some(&value), "{sample}: {alpha:#?}");
    }
    for (sample, value) in [
        ("postrider_envelopes_accepted_total{from=\"relays\"}", 3.0),
        ("postrider_envelopes_stored_total", 3.0),
        ("postrider_connections{kind=\"relays-in\"}", 1.0),
    ] {
        assert_eq!(beta.get(sample), Some(&value), "{sample}: {beta:#?}");
    }
    assert!(beta["postrider_envelopes_delivered_total"] >= 3.0);
    assert!(beta["postrider_store_flush_seconds_count"] > 0.0 && beta["postrider_store_bytes"] > 0.0);
    assert_eq!(beta["postrider_store_group_operations_count"], beta["postrider_store_flush_seconds_count"]);
    let end = (cluster.clock().now() + 30 * DAY).as_secs() as f64;
    for own in [
        "postrider_certificate_expiry_timestamp_seconds{shown_to=\"clients\"}",
        "postrider_certificate_expiry_timestamp_seconds{shown_to=\"other relays\"}",
        "postrider_peer_certificate_expiry_timestamp_seconds{peer=\"beta.example\"}",
    ] {
        assert!((alpha[own] - end).abs() < 3600.0, "{own}: {alpha:#?}");
    }

    // A peer that cannot be reached is told by name, with its class.
    cluster.stop(BETA).await.unwrap();
    queue(&alice, &bob, "waiting").await;
    until(
        &cluster,
        ALPHA,
        "postrider_destination_failures{destination=\"beta.example\",class=\"connect-failed\"}",
        1.0,
    )
    .await;
    let alpha = samples(&cluster, ALPHA).await;
    assert_eq!(alpha["postrider_queue_envelopes{destination=\"beta.example\"}"], 1.0);
    assert_eq!(alpha["postrider_delivery_failures_total{class=\"connect-failed\"}"], 1.0);
    for sample in [
        "postrider_queue_bytes",
        "postrider_queue_oldest_seconds",
        "postrider_destination_failing_since_timestamp_seconds",
        "postrider_destination_next_attempt_timestamp_seconds",
    ] {
        assert!(
            alpha.contains_key(&format!("{sample}{{destination=\"beta.example\"}}")),
            "{sample}: {alpha:#?}"
        );
    }
    cluster.restart(BETA).await.unwrap();
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_relay_that_drains_is_alive_and_not_ready() {
    let limits = "[limits]\ndrain_timeout = \"10 min\"\ntls_handshake_timeout = \"2 min\"\n";
    let cluster =
        Cluster::builder([ALPHA]).listen(METRICS).configure(move |_| limits.into()).start().await.unwrap();
    let ready = cluster.monitoring(ALPHA, "/readyz").await.unwrap();
    assert_eq!(ready, (200, "ready\n".into()));
    assert_eq!(cluster.monitoring(ALPHA, "/").await.unwrap().0, 404);
    let address = cluster.metrics(ALPHA).await.unwrap().unwrap();

    // A connection that has said nothing keeps a relay draining, until it says something that makes no sense.
    let mut held = TcpStream::connect(cluster.address(ALPHA).await.unwrap()).await.unwrap();
    until(&cluster, ALPHA, "postrider_connections{kind=\"beginning\"}", 1.0).await;
    let stopping = cluster.stop(ALPHA);
    let watching = async {
        loop {
            let (status, said) = Cluster::ask(address, "/readyz").await.unwrap();
            if status == 503 {
                assert_eq!(said, "the relay is stopping\n");
                break;
            }
        }
        assert_eq!(Cluster::ask(address, "/livez").await.unwrap(), (200, "alive\n".into()));
        held.write_all(b"no TLS at all\r\n\r\n").await.unwrap();
    };
    let (stopped, ()) = tokio::join!(stopping, watching);
    assert_eq!(stopped.unwrap(), Stopped::InOrder);
    assert!(Cluster::ask(address, "/livez").await.is_err(), "it ends with the relay");
}

#[tokio::test]
async fn below_the_reserve_of_disk_a_relay_is_not_ready() {
    let store = "[store]\nreserve = \"1024 GiB\"\n";
    let cluster =
        Cluster::builder([ALPHA]).listen(METRICS).configure(move |_| store.into()).start().await.unwrap();
    let samples = samples(&cluster, ALPHA).await;
    if samples["postrider_disk_free_bytes"] >= samples["postrider_disk_reserve_bytes"] {
        return println!("skipped: this machine has more than a TiB to spare");
    }
    assert_eq!(samples["postrider_ready"], 0.0);
    let (status, said) = cluster.monitoring(ALPHA, "/readyz").await.unwrap();
    assert_eq!(status, 503);
    assert!(said.starts_with("the disk is nearly full: "), "{said}");
    assert_eq!(cluster.monitoring(ALPHA, "/livez").await.unwrap().0, 200);
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn status_tells_at_a_glance_how_a_relay_is() {
    let cluster = watched().processes(postrider()).start().await.unwrap();
    assert_eq!(cluster.monitoring(ALPHA, "/readyz").await.unwrap().0, 200, "as a process too");
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    alice.send(&bob, b"hello").await.unwrap();
    bob.receive().await.unwrap();
    let shown = ask(&cluster, &["status"]).await;
    for line in [
        "relay:         alpha.example, version 0.1.0",
        "state:         ready",
        "certificate of beta.example: ",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    cluster.stop(BETA).await.unwrap();
    queue(&alice, &bob, "waiting").await;
    let told = async {
        loop {
            let status = ask_json(&cluster, &["status"]).await;
            if status["failing"][0]["failing"]["class"] == "connect-failed" {
                break status;
            }
        }
    };
    let status = timeout(PATIENCE, told).await.expect("it is told");
    assert_eq!(status["queue"]["envelopes"], 1);
    assert_eq!(status["certificates"].as_array().unwrap().len(), 3);
    assert!(status.get("obstacle").is_none());
    assert!(ask(&cluster, &["status"]).await.contains("beta.example        1"), "as in a list of the queue");

    let data = data(&cluster, ALPHA);
    cluster.stop(ALPHA).await.unwrap();
    let output = run(&["status", "--data", data.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(69));
    assert!(text(&output.stderr).contains("no relay runs on"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn status_of_a_relay_that_is_not_ready_is_an_error_too() {
    let store = "[store]\nreserve = \"1024 GiB\"\n";
    let cluster = Cluster::builder([ALPHA]).processes(postrider()).configure(move |_| store.into());
    let cluster = cluster.start().await.unwrap();
    let (code, out, err) = ask_anyhow(&cluster, &["status"]).await;
    if code == Some(0) {
        return println!("skipped: this machine has more than a TiB to spare");
    }
    assert_eq!(code, Some(69));
    assert!(out.contains("not ready: the disk is nearly full"), "{out}");
    assert!(err.contains("the relay is not ready: the disk is nearly full"), "{err}");
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_peers_certificate_that_ends_soon_is_told_once_and_one_that_does_not_is_not() {
    let clock = StandingClock::new();
    let cluster = watched().clock(clock.clone()).certificate(|domain, authority| {
        let now = postrider_common::clock::Clock::now(&postrider_common::clock::SystemClock);
        let days = if domain.as_str() == BETA { 13 } else { 400 };
        authority.issue(&Leaf::new(domain, now).valid(now - DAY, now + days * DAY))
    });
    let cluster = cluster.start().await.unwrap();
    let (alice, bob) = (cluster.user(ALPHA).await.unwrap(), cluster.user(BETA).await.unwrap());
    alice.send(&bob, b"hello").await.unwrap();
    bob.receive().await.unwrap();
    const SOON: &str = "another relay's certificate ends soon";
    const HOUR: Duration = Duration::from_secs(3600);
    clock.advance(HOUR);
    cluster.logged(ALPHA, &format!("{SOON}: in 12 days")).await.unwrap();
    for _ in 0..5 {
        clock.advance(HOUR);
        alice.send(&bob, b"hello again").await.unwrap();
        bob.receive().await.unwrap();
    }
    let status = samples(&cluster, ALPHA).await;
    assert!(
        status.contains_key("postrider_peer_certificate_expiry_timestamp_seconds{peer=\"beta.example\"}")
    );
    for (domain, times) in [(ALPHA, 1), (BETA, 0)] {
        assert_eq!(cluster.log(domain).await.unwrap().matches(SOON).count(), times, "{domain}");
    }
    cluster.shut_down().await.unwrap();
}
