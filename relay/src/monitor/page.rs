//! Metrics as Prometheus reads them: the text format, version 0.0.4.

use std::fmt::{Display, Write};

use super::catalogue::{Kind, Metric};
use crate::count::Histogram;

/// The content type of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page that is being written.
#[derive(Debug, Default)]
pub(super) struct Page(String);

/// The samples of one metric.
pub(super) struct Samples<'a> {
    page: &'a mut String,
    metric: &'static Metric,
}

impl Page {
    /// Begins a metric. Each is written once.
    pub(super) fn metric(&mut self, metric: &'static Metric) -> Samples<'_> {
        let Metric { name, kind, help, .. } = metric;
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {}\n# TYPE {name} {}", help.trim(), kind.word());
        Samples { page: &mut self.0, metric }
    }

    /// A metric without labels.
    pub(super) fn single(&mut self, metric: &'static Metric, value: impl Display) {
        self.metric(metric).add(&[], value);
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

impl Samples<'_> {
    /// A sample, with a value for each of the metric's labels.
    pub(super) fn add(&mut self, labels: &[&str], value: impl Display) -> &mut Self {
        let labels: Vec<_> = self.metric.labels.iter().copied().zip(labels.iter().copied()).collect();
        self.sample("", &labels, value);
        self
    }

    /// All of a histogram, whose sizes are in units of which `per_unit` make one of the metric's.
    pub(super) fn histogram(&mut self, histogram: &Histogram, per_unit: f64) {
        debug_assert_eq!(self.metric.kind, Kind::Histogram);
        let (ranges, all, sum) = histogram.totals();
        #[expect(clippy::cast_precision_loss, reason = "what is measured has no need of the last of 53 bits")]
        let in_units = |size: u64| size as f64 / per_unit;
        for (bound, count) in ranges {
            self.sample("_bucket", &[("le", &in_units(bound).to_string())], count);
        }
        self.sample("_bucket", &[("le", "+Inf")], all);
        self.sample("_sum", &[], in_units(sum));
        self.sample("_count", &[], all);
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.page.push_str(self.metric.name);
        self.page.push_str(suffix);
        for (index, (name, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.page, "{before}{name}=\"{}\"", escaped(text));
        }
        if !labels.is_empty() {
            self.page.push('}');
        }
        let _ = writeln!(self.page, " {value}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::{FAILURES, FLUSH, READY};
    use super::*;

    #[test]
    fn a_page_is_written_as_prometheus_reads_it() {
        let mut page = Page::default();
        page.single(&READY, 1);
        page.metric(&FAILURES).add(&["b.example", "odd \"one\"\\\n"], 3).add(&["c.example", "loop"], 4);
        let histogram = Histogram::new(&[500_000, 1_000_000]);
        for nanoseconds in [400_000, 600_000, 3_000_000] {
            histogram.add(nanoseconds);
        }
        page.metric(&FLUSH).histogram(&histogram, 1e9);
        let expected = "\
# HELP postrider_ready 1 if /readyz says so, 0 otherwise.
# TYPE postrider_ready gauge
postrider_ready 1
# HELP postrider_destination_failures Consecutive failures of each that fails and is named, with the class of the last one.
# TYPE postrider_destination_failures gauge
postrider_destination_failures{destination=\"b.example\",class=\"odd \\\"one\\\"\\\\\\n\"} 3
postrider_destination_failures{destination=\"c.example\",class=\"loop\"} 4
# HELP postrider_store_flush_seconds How long it took to make a group of writes durable.
# TYPE postrider_store_flush_seconds histogram
postrider_store_flush_seconds_bucket{le=\"0.0005\"} 1
postrider_store_flush_seconds_bucket{le=\"0.001\"} 2
postrider_store_flush_seconds_bucket{le=\"+Inf\"} 3
postrider_store_flush_seconds_sum 0.004
postrider_store_flush_seconds_count 3
";
        assert_eq!(page.finish(), expected);
    }
}
