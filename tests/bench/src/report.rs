//! What was measured, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

use crate::books::Latency;
use crate::process::{Memory, Usage};

const ABUSED: &str = "\
| abuse | by | quiet: p50 / p95 / p99 in ms | beside it | p99, times quiet | peak memory in MiB | what the relay did |
|---|---|---|---|---|---|---|
";

/// The figures of one run. `docs/performance.md` says what each means.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub(crate) scenario: &'static str,
    /// Envelopes that recipients acknowledged, or what the scenario counts instead.
    pub(crate) envelopes: u64,
    pub(crate) seconds: f64,
    pub(crate) latency: Latency,
    pub(crate) relays: Vec<RelayFigures>,
    pub(crate) flush_ms: f64,
    /// Of the time that passed, the part in which the generator's one thread worked.
    pub(crate) generator_cpu_share: f64,
    /// What this scenario has beyond that, in this order.
    pub(crate) more: Vec<Figure>,
    /// What `abuse` has beyond that.
    pub(crate) abused: Option<Abused>,
    /// What it ran on.
    pub(crate) setting: String,
}

/// One relay's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RelayFigures {
    pub(crate) name: &'static str,
    pub(crate) usage: Usage,
    pub(crate) memory: Memory,
}

/// One kind of abuse.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Abused {
    pub(crate) kind: &'static str,
    /// Who the abusers say they are.
    pub(crate) by: &'static str,
    /// The good client's latency without them.
    pub(crate) quiet: Latency,
    /// What the relay did about them, and how often.
    pub(crate) became: BTreeMap<String, u64>,
}

/// A figure that only some scenarios have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figure {
    /// In JSON.
    pub(crate) key: &'static str,
    /// For people, with the unit.
    pub(crate) label: &'static str,
    pub(crate) value: f64,
}

impl Report {
    /// One line.
    pub fn json(&self) -> String {
        let mut all = Map::new();
        let figures = [
            ("envelopes", json!(self.envelopes)),
            ("seconds", number(self.seconds)),
            ("per_second", number(self.per_second())),
            ("p50_ms", number(self.latency.p50)),
            ("p95_ms", number(self.latency.p95)),
            ("p99_ms", number(self.latency.p99)),
            ("max_ms", number(self.latency.max)),
            ("cpu_us_per_envelope", number(self.cpu_us_per_envelope())),
            ("peak_rss_mib", number(self.peak_rss_mib())),
            ("written_mib", number(self.written_mib())),
            ("flush_ms", number(self.flush_ms)),
            ("generator_cpu_share", number(self.generator_cpu_share)),
        ];
        all.insert("scenario".into(), json!(self.scenario));
        all.extend(figures.map(|(key, value)| (key.to_owned(), value)));
        if let Some(Abused { kind, by, became, .. }) = &self.abused {
            all.extend(
                [("kind", json!(kind)), ("by", json!(by)), ("became", json!(became))]
                    .map(|(key, value)| (key.to_owned(), value)),
            );
        }
        all.extend(self.more.iter().map(|figure| (figure.key.to_owned(), number(figure.value))));
        Value::Object(all).to_string()
    }

    /// What stands above the lines of reports that are lines of a table.
    pub fn heading(&self) -> Option<&'static str> {
        self.abused.as_ref().map(|_| ABUSED)
    }

    /// Envelopes that were counted.
    pub const fn envelopes(&self) -> u64 {
        self.envelopes
    }

    fn per_second(&self) -> f64 {
        ratio(count(self.envelopes), self.seconds)
    }

    /// Of all relays together.
    fn cpu_us_per_envelope(&self) -> f64 {
        let cpu: f64 = self.relays.iter().map(|relay| relay.usage.cpu.as_secs_f64()).sum();
        ratio(cpu * 1e6, count(self.envelopes))
    }

    /// Of the relay with the most.
    fn peak_rss_mib(&self) -> f64 {
        mib(self.relays.iter().map(|relay| relay.memory.peak).max().unwrap_or_default())
    }

    /// By all relays together.
    fn written_mib(&self) -> f64 {
        mib(self.relays.iter().map(|relay| relay.usage.written).sum())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { p50, p95, p99, max } = self.latency;
        if let Some(Abused { kind, by, quiet, became }) = &self.abused {
            let became: Vec<_> = became.iter().map(|(what, times)| format!("{what}: {times}")).collect();
            return writeln!(
                f,
                "| {kind} | {by} | {:.1} / {:.1} / {:.1} | {p50:.1} / {p95:.1} / {p99:.1} | {:.1} | {:.0} | {} |",
                quiet.p50,
                quiet.p95,
                quiet.p99,
                ratio(p99, quiet.p99),
                self.peak_rss_mib(),
                became.join(", "),
            );
        }
        writeln!(f, "{}: {}", self.scenario, self.setting)?;
        writeln!(f, "  envelopes             {} in {:.1} s", self.envelopes, self.seconds)?;
        writeln!(f, "  per second            {:.0}", self.per_second())?;
        writeln!(
            f,
            "  latency               p50 {p50:.2} ms, p95 {p95:.2} ms, p99 {p99:.2} ms, max {max:.2} ms"
        )?;
        writeln!(f, "  CPU of the relays     {:.1} us per envelope", self.cpu_us_per_envelope())?;
        for RelayFigures { name, usage, memory } in &self.relays {
            let per_thousand = ratio(usage.cpu.as_secs_f64() * 1000.0, count(self.envelopes));
            let (peak, written) = (mib(memory.peak), mib(usage.written));
            writeln!(
                f,
                "  {name:<21} {per_thousand:.4} CPU s per 1000 envelopes, peak {peak:.0} MiB, {written:.0} MiB written",
            )?;
        }
        writeln!(f, "  flush of the disk     {:.2} ms", self.flush_ms)?;
        writeln!(f, "  load generator        {:.0} % of one core", self.generator_cpu_share * 100.0)?;
        for Figure { label, value, .. } in &self.more {
            writeln!(f, "  {label:<38} {}", rounded(*value))?;
        }
        Ok(())
    }
}

/// A share of nothing is nothing.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "nobody measures 2^53 of anything here")]
pub(crate) fn count(value: u64) -> f64 {
    value as f64
}

pub(crate) fn mib(bytes: u64) -> f64 {
    count(bytes) / f64::from(1 << 20)
}

/// Three digits after the point are more than any of these is good for.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn number(value: f64) -> Value {
    json!(rounded(value))
}
