//! Keys of the node's own log: level, format, and where its files are.

use std::path::PathBuf;

use crate::config::PeerAddress;
use crate::config::value::Values;
use crate::model::MemberName;

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The log of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `logLevel`.
    pub level: String,
    /// `logFormat`.
    pub format: LogFormat,
    /// `None`: lines go to stderr only.
    pub files: Option<LogFilesConfig>,
}

/// Where log files are, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilesConfig {
    /// `logHome`; `None`: the home folder of the user.
    pub home: Option<PathBuf>,
    /// Below it; of this node alone, if there is another one on its host.
    pub folder: PathBuf,
    /// `logFileSize`.
    pub bytes_max: u64,
    /// `logFilesKept`: beside the one that is written.
    pub kept: u32,
}

/// A `logHome` that asks for no files.
const NO_FILES: &str = "none";
/// Where RocketMQ has its files below the home folder.
const FOLDER: &str = "logs/rocketmqlogs";

/// `broker_name`, `peers` and `me` say what a folder of this node alone is called, and whether one is needed.
pub(super) fn log(
    values: &mut Values<'_>,
    broker_name: &str,
    peers: &[PeerAddress],
    me: Option<MemberName>,
) -> Option<LogConfig> {
    let levels = ["error", "warn", "info", "debug", "trace"].map(|level| (level, level));
    let level = values.choice("logLevel", &levels);
    let format = values.choice("logFormat", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    let is_isolated = values.bool("isolateLogEnable");
    let bytes_max = values.number("logFileSize");
    let kept = u32::try_from(values.number("logFilesKept")).ok();
    let home = values.path("logHome");
    let is_off = home.as_ref().is_some_and(|home| home.as_os_str() == NO_FILES);
    // As in RocketMQ with isolateLogEnable and DLedger.
    let own = me.filter(|me| is_isolated || shares_host(peers, *me)).map(|me| format!("{broker_name}_{me}"));
    let folder = PathBuf::from(FOLDER).join(own.map(in_one_folder).unwrap_or_default());
    let files = LogFilesConfig { home, folder, bytes_max, kept: kept? };
    Some(LogConfig { level: level?.to_owned(), format: format?, files: (!is_off).then_some(files) })
}

fn shares_host(peers: &[PeerAddress], me: MemberName) -> bool {
    let host = |peer: &PeerAddress| peer.address.host.clone();
    let own = peers.iter().find(|peer| peer.name == me).map(host);
    own.is_some_and(|own| peers.iter().filter(|peer| host(peer) == own).count() > 1)
}

/// A name may hold what would lead out of the folder.
fn in_one_folder(name: String) -> String {
    name.replace(['/', '\0'], "_")
}
