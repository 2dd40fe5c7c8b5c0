//! What `docs/metrics.md` and the rules for alarms in `deploy/` say of metrics.

use std::collections::BTreeSet;

use postrider::monitor::catalogue::{ALL, Kind, Metric};

use super::{file, section, table};

#[test]
fn every_metric_is_in_the_table() {
    let rows = table(&section(&file("docs/metrics.md"), "## Every metric"));
    let unquoted = |text: &str| text.replace('`', "");
    let expected: Vec<Vec<String>> = ALL
        .iter()
        .map(|metric| {
            let cells = [metric.name, metric.kind.word(), &metric.labels.join(", "), metric.help.trim()];
            cells.map(unquoted).to_vec()
        })
        .collect();
    for (row, expected) in rows.iter().zip(&expected) {
        assert_eq!(row, expected);
    }
    assert_eq!(rows.len(), expected.len());
}

#[test]
fn names_follow_the_conventions() {
    for Metric { name, kind, help, .. } in ALL {
        assert!(
            name.starts_with("postrider_") && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "{name}"
        );
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        assert!(help.trim().ends_with('.'), "{name}: {help}");
    }
    let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), ALL.len(), "no name is there twice");
}

#[test]
fn the_alarms_ask_for_metrics_that_there_are() {
    for document in ["deploy/prometheus-alerts.yml", "docs/metrics.md"] {
        let text = file(document);
        let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        let asked: BTreeSet<_> = words.filter(|word| word.starts_with("postrider_")).collect();
        assert!(asked.len() > 10, "{document}: {asked:?}");
        for name in asked {
            let is_named = |metric: &&Metric| {
                let rest = name.strip_prefix(metric.name);
                rest == Some("")
                    || metric.kind == Kind::Histogram
                        && rest.is_some_and(|rest| ["_bucket", "_sum", "_count"].contains(&rest))
            };
            assert!(ALL.iter().copied().any(|metric| is_named(&metric)), "{document} asks for {name}");
        }
    }
    let rules = file("deploy/prometheus-alerts.yml");
    let alerts = rules.lines().filter(|line| line.trim_start().starts_with("- alert: ")).count();
    for key in ["expr: ", "summary: ", "severity: "] {
        let lines = rules.lines().filter(|line| line.trim_start().starts_with(key));
        assert_eq!(lines.count(), alerts, "each alarm has one {key:?}");
    }
    assert!(!rules.contains('\t'), "YAML knows no tabs");
}
