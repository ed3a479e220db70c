//! Log lines: to stderr, never to stdout, as text or as JSON.

use tracing_subscriber::EnvFilter;

/// The target of lines that no level hides.
pub const ANNOUNCEMENTS: &str = "raftmq::announcements";

/// Where openraft logs each try to reach a member.
const TRIES: [&str; 3] =
    ["openraft::core::heartbeat", "openraft::replication", "openraft::engine::handler::replication_handler"];

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
    // What libraries log below warnings is noise to an operator, and so is what openraft warns of while a member is down: each
    // try to reach it, fifty times a second. `raft/peer` says that once a minute. What a start announces of its
    // configuration is logged at every level.
    let tries = TRIES.map(|target| format!("{target}=error")).join(",");
    let filter = EnvFilter::new(format!("warn,{tries},raftmq={level},{ANNOUNCEMENTS}=info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start fails, which only tests can bring about; the first one's lines go on.
    let _ = match format {
        Format::Text => lines.with_ansi(false).with_target(false).try_init(),
        Format::Json => lines.json().try_init(),
    };
}
