//! Log lines: to stderr, never to stdout, as text or as JSON.

use tracing_subscriber::EnvFilter;

/// The target of lines that no level hides.
pub const ANNOUNCEMENTS: &str = "raftmq::announcements";

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging at `level`. To be called once.
pub fn start(level: &str, format: Format) {
    // What libraries log below warnings is noise to an operator. What a start announces of its configuration is logged
    // at every level.
    let filter = EnvFilter::new(format!("warn,raftmq={level},{ANNOUNCEMENTS}=info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start fails, which only tests can bring about; the first one's lines go on.
    let _ = match format {
        Format::Text => lines.with_ansi(false).with_target(false).try_init(),
        Format::Json => lines.json().try_init(),
    };
}
