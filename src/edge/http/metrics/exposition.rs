//! Families of metrics as text: OpenMetrics, as the library writes it, or Prometheus' older format for whoever does not ask
//! for that.

use std::fmt::{self, Write};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;

use crate::edge::http::metrics::families::Families;
use crate::edge::http::metrics::snapshot::Snapshot;
use crate::edge::http::metrics::{calls, host, messages, raft, store};

/// How the text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::edge::http) enum Format {
    OpenMetrics,
    Prometheus,
}

impl Format {
    /// The one that an `Accept` header asks for.
    pub fn of(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The text of a scrape.
pub(in crate::edge::http) fn encode(snapshot: Snapshot, format: Format) -> String {
    let labels = snapshot.labels.iter().map(|(name, value)| (name.clone().into(), value.clone().into()));
    let mut registry = Registry::with_labels(labels);
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("a String takes all");
    match format {
        Format::OpenMetrics => text,
        Format::Prometheus => to_prometheus(&text),
    }
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        host::put(&mut families, self)?;
        raft::put(&mut families, self)?;
        store::put(&mut families, self)?;
        calls::put(&mut families, self)?;
        messages::put(&mut families, self)
    }
}

/// OpenMetrics in Prometheus' older words: there a counter's family is called as its only series, `_total` included, and
/// there are no units and no end.
fn to_prometheus(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut help = "";
    for line in text.lines() {
        if line.starts_with("# HELP ") {
            // Its family's type comes next.
            help = line;
        } else if let Some(of) = line.strip_prefix("# TYPE ") {
            let (name, kind) = of.split_once(' ').unwrap_or((of, "untyped"));
            let suffix = if kind == "counter" { "_total" } else { "" };
            let help = help.strip_prefix("# HELP ").and_then(|help| help.strip_prefix(name)).unwrap_or_default();
            // Into a text nothing can fail.
            let _ = writeln!(out, "# HELP {name}{suffix}{help}\n# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_calls_a_counter_as_its_series() {
        let new = "# HELP a_seconds What.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total{x=\"y\"} 1\n\
                   # HELP b Which.\n# TYPE b gauge\nb 2\n# EOF\n";
        let old = "# HELP a_seconds_total What.\n# TYPE a_seconds_total counter\na_seconds_total{x=\"y\"} 1\n\
                   # HELP b Which.\n# TYPE b gauge\nb 2\n";
        assert_eq!(to_prometheus(new), old);
    }
}
