//! The port for HTTP: `metrics*`, `adminOpen`.

use std::collections::BTreeSet;

use crate::config::characters::shown;
use crate::config::value::Values;

/// Labels that every metric has anyway, and `le`, which is Prometheus's own.
const OWN_LABELS: [&str; 7] = ["cluster", "node_type", "node_id", "peer_id", "le", "job", "instance"];
/// More would cost more than they tell.
const LABELS_MAX: usize = 16;

/// Metrics, health and the dashboard over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// `metricsPromExporterHost`, else `bindAddress`.
    pub host: String,
    /// `metricsPromExporterPort`.
    pub port: u16,
    /// The port is nobody's choice: if it is in use, there is none.
    pub port_is_default: bool,
    /// `metricsExporterType` is not `DISABLE`.
    pub serves_metrics: bool,
    /// `metricsLabel`.
    pub labels: Vec<(String, String)>,
    /// `adminOpen`: the dashboard answers others than this machine.
    pub admin_open: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Exporter {
    Disable,
    Prometheus,
    Other(&'static str),
}

/// Reads the keys; `others` are the ports of this node with their keys.
pub(super) fn http(values: &mut Values<'_>, bind_address: &str, others: &[(&str, u16)]) -> Option<HttpConfig> {
    let choices = [
        ("DISABLE", Exporter::Disable),
        ("PROM", Exporter::Prometheus),
        ("OTLP_GRPC", Exporter::Other("OTLP_GRPC")),
        ("LOG", Exporter::Other("LOG")),
    ];
    let exporter = values.choice("metricsExporterType", &choices)?;
    if let Exporter::Other(_) = exporter {
        let what = "nothing is pushed or written: /metrics is served on metricsPromExporterPort instead, as with PROM; let \
                    Prometheus or an OpenTelemetry collector scrape it";
        values.note("metricsExporterType", what);
    }
    let port = u16::try_from(values.number("metricsPromExporterPort")).unwrap_or(u16::MAX);
    let port_is_default = !values.is_given("metricsPromExporterPort");
    if let Some((other, _)) = others.iter().find(|(_, other)| *other == port).filter(|_| !port_is_default) {
        values.complain("metricsPromExporterPort", format!("is {other} as well; HTTP needs a port of its own"));
    }
    let host = match values.optional("metricsPromExporterHost") {
        Some(_) => values.host("metricsPromExporterHost")?,
        None => bind_address.to_owned(),
    };
    let (labels, admin_open) = (labels(values), values.bool("adminOpen"));
    let serves_metrics = exporter != Exporter::Disable;
    Some(HttpConfig { host, port, port_is_default, serves_metrics, labels, admin_open })
}

fn labels(values: &mut Values<'_>) -> Vec<(String, String)> {
    let text = values.text("metricsLabel");
    let pairs: Vec<&str> = text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).collect();
    if pairs.len() > LABELS_MAX {
        values.complain("metricsLabel", format!("has {} labels, at most {LABELS_MAX} are taken", pairs.len()));
        return Vec::new();
    }
    let mut labels = Vec::new();
    let mut names = BTreeSet::new();
    for pair in pairs {
        let (name, value) = pair.split_once(':').map_or((pair, ""), |(name, value)| (name.trim(), value.trim()));
        let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        let fault = if !is_name || name.starts_with("__") || value.is_empty() {
            "is not like zone:a,rack:7; a name has letters, digits and _, and does not begin with a digit or __"
        } else if OWN_LABELS.contains(&name) {
            "is a label of every metric already; choose another name"
        } else if !names.insert(name.to_owned()) {
            "is there twice; keep one"
        } else {
            labels.push((name.to_owned(), value.to_owned()));
            continue;
        };
        values.complain("metricsLabel", format!("'{}' {fault}", shown(pair)));
    }
    labels
}
