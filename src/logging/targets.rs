//! Whose lines are shown at which level: ours, and hardly any of the libraries'.

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

/// The target of lines that no level hides.
pub const ANNOUNCEMENTS: &str = "raftmq::announcements";

/// The filter for a level.
///
/// What libraries log below warnings is noise to an operator. openraft warns of each try to reach a member that is down, fifty
/// times a second, and in its own words; what matters of it is said by `raft/`: who leads, whom a leader cannot reach (at once and
/// then once a minute), what ends the node. At `debug` its warnings are there too, for those who look for a bug.
pub(super) fn shown(level: Level) -> Targets {
    let of_raft = if level >= Level::DEBUG { LevelFilter::WARN } else { LevelFilter::OFF };
    Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("openraft", of_raft)
        .with_target("raftmq", level)
        .with_target(ANNOUNCEMENTS, LevelFilter::INFO)
}
