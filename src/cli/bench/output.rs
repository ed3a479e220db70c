//! What the subcommands share: addresses, failures, and how results are printed.

use serde::Serialize;

use crate::bench::Error;
use crate::bench::report::Latency;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::options::Format;
use crate::cli::render;
use crate::cli::render::Column;
use crate::client::Endpoints;

/// Columns of a measurement.
pub(super) const COLUMNS: [Column; 8] = [
    Column::Text(""),
    Column::Number("count"),
    Column::Number("rate/s"),
    Column::Number("MB/s"),
    Column::Number("p50"),
    Column::Number("p99"),
    Column::Number("p99.9"),
    Column::Number("max"),
];

pub(super) fn endpoints(text: &str) -> Result<Endpoints, Failure> {
    Endpoints::parse(text).map_err(|error| Failure::new(Exit::Usage, format!("endpoints: {error}")))
}

pub(super) fn failure(error: &Error) -> Failure {
    match error {
        Error::Connect { .. } => {
            Failure::new(Exit::CannotConnect, error).remedy("start one:", "scripts/fast-try.sh start")
        }
        Error::Refused { code, .. } if code == "TOPIC_NOT_FOUND" => {
            // Its text has the topic's name, and the command that creates it.
            Failure::new(Exit::NotFoundOrExists, error)
        }
        Error::Refused { .. } | Error::Failed(_) | Error::Mismatch(_) | Error::Machine(_) => {
            Failure::new(Exit::Failed, error)
        }
    }
}

pub(super) fn print(text: &str) -> Result<(), Failure> {
    render::print(text).map_err(|error| Failure::new(Exit::Failed, format!("stdout: {error}")))
}

pub(super) fn document(value: &impl Serialize, format: Format) -> Result<(), Failure> {
    let text = match format {
        Format::Jsonl => serde_json::to_string(value).map(|line| line + "\n"),
        Format::Table | Format::Wide | Format::Json => serde_json::to_string_pretty(value).map(|text| text + "\n"),
    };
    print(&text.map_err(|error| Failure::new(Exit::Failed, error))?)
}

fn millis(us: u64) -> String {
    format!("{:.2}ms", us as f64 / 1000.0)
}

/// A latency as the last four of [`COLUMNS`].
pub(super) fn quantiles(latency: Latency) -> [String; 4] {
    [latency.p50_us, latency.p99_us, latency.p999_us, latency.max_us].map(millis)
}
