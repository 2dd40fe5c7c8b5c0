//! Each scenario once, small.

use std::path::{Path, PathBuf};
use std::time::Duration;

use postrider_bench::{Options, Report, Scenario};
use postrider_tests::abuse::Kind;
use postrider_tests::binary::postrider;
use serde_json::Value;

/// What every scenario's line of JSON has.
const KEYS: [&str; 13] = [
    "scenario",
    "envelopes",
    "seconds",
    "per_second",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "max_ms",
    "cpu_us_per_envelope",
    "peak_rss_mib",
    "written_mib",
    "flush_ms",
    "generator_cpu_share",
];

fn options(scenario: Scenario) -> Options {
    Options {
        scenario,
        binary: postrider(),
        directory: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        duration: Duration::from_secs(60),
        warm_up: Duration::ZERO,
        envelopes: Some(200),
        size: 1024,
        senders: 2,
        recipients: 3,
        batch: 16,
        window: 64,
        attachment_mib: 9,
        kind: None,
        connections: 10,
        settle: Duration::ZERO,
    }
}

/// Runs it and checks what every line has, and that the documentation explains each of its keys.
async fn measured(options: &Options) -> (Report, Value) {
    let report = Box::pin(postrider_bench::run(options, &|_| {})).await.unwrap().swap_remove(0);
    let json: Value = serde_json::from_str(&report.json()).unwrap();
    for key in KEYS {
        let is_there = if key == "scenario" { json[key].is_string() } else { json[key].is_number() };
        assert!(is_there, "{key}: {json}");
    }
    assert_eq!(json["scenario"], options.scenario.name());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/performance.md");
    let documentation = std::fs::read_to_string(path).unwrap();
    for key in json.as_object().unwrap().keys() {
        assert!(documentation.contains(&format!("| `{key}` |")), "{key} is not explained");
    }
    let positive = ["peak_rss_mib", "flush_ms", "seconds", "max_ms"];
    assert!(positive.iter().all(|key| json[key].as_f64().unwrap() > 0.0), "{json}");
    (report, json)
}

/// The keys beyond those that every line has.
fn own_keys(json: &Value) -> Vec<&str> {
    let keys = json.as_object().unwrap().keys().map(String::as_str);
    keys.filter(|key| !KEYS.contains(key)).collect()
}

#[tokio::test]
async fn every_envelope_arrives_once() {
    for scenario in [Scenario::Local, Scenario::Federated] {
        // The run fails if the books do not balance.
        let (report, json) = measured(&options(scenario)).await;
        assert_eq!(report.envelopes(), 200);
        assert_eq!(own_keys(&json), [""; 0]);
        assert!(json["written_mib"].as_f64().unwrap() > 0.0, "{json}");
    }
}

#[tokio::test]
async fn what_was_stored_for_the_absent_is_drained() {
    let (report, json) = measured(&options(Scenario::Backlog)).await;
    assert_eq!(report.envelopes(), 200);
    let live = json["full_live_mib"].as_f64().unwrap();
    assert!(live > 0.19 && json["full_disk_mib"].as_f64().unwrap() > live, "{json}");
}

#[tokio::test]
async fn a_killed_relay_has_everything() {
    let (_, json) = measured(&options(Scenario::Reopen)).await;
    assert_eq!(own_keys(&json), ["drain_per_second", "first_after_seconds", "open_seconds"]);
    assert!(json["open_seconds"].as_f64() <= json["first_after_seconds"].as_f64(), "{json}");
}

#[tokio::test]
async fn an_outage_is_caught_up_with() {
    let options = Options { duration: Duration::from_millis(200), ..options(Scenario::Outage) };
    let (report, json) = measured(&options).await;
    assert_eq!(report.envelopes(), 200);
    assert!(json["caught_up_seconds"].as_f64() >= json["first_after_seconds"].as_f64(), "{json}");
    assert!(json["quiet_p50_ms"].as_f64().unwrap() > 0.0, "{json}");
}

#[tokio::test]
async fn idle_devices_are_counted() {
    let options = Options { duration: Duration::from_millis(200), ..options(Scenario::Idle) };
    let (report, json) = measured(&options).await;
    assert_eq!((report.envelopes(), json["connections"].as_f64()), (0, Some(3.0)));
}

#[tokio::test]
async fn a_good_client_is_served_beside_abuse() {
    let duration = Duration::from_millis(300);
    let options = Options { kind: Some(Kind::OversizedBatches), duration, ..options(Scenario::Abuse) };
    let (report, json) = measured(&options).await;
    assert!(report.envelopes() > 0, "{json}");
    assert!(json["became"].is_object(), "{json}");
    assert_eq!((json["kind"].as_str(), json["by"].as_str()), (Some("oversized-batches"), Some("clients")));
}

#[tokio::test]
async fn an_attachment_is_carried() {
    let (report, json) = measured(&options(Scenario::Attachments)).await;
    assert_eq!(report.envelopes(), 1);
    assert!(json["between_mib_per_second"].as_f64().unwrap() > 0.0, "{json}");
}

#[tokio::test]
async fn one_at_a_time_is_compared_with_a_flush() {
    let options = Options { envelopes: Some(5), ..options(Scenario::Latency) };
    let (report, json) = measured(&options).await;
    assert_eq!(report.envelopes(), 5);
    assert_eq!(own_keys(&json), ["p50_flushes"]);
}
