//! Log lines: to stderr, never to stdout, as text or as JSON.

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging at `level`, unless `RUST_LOG` says otherwise. To be called once.
pub fn start(level: &str, format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        // Library chatter below warnings is noise to an operator.
        EnvFilter::new(format!("warn,raftmq={level}"))
    });
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start fails, which only tests can bring about; the first one's lines go on.
    let _ = match format {
        Format::Text => lines.with_ansi(false).with_target(false).try_init(),
        Format::Json => lines.json().try_init(),
    };
}
