//! `raftmq broker`: reads the configuration, announces it, and runs the server. What fails ends with one line and a named
//! exit code.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use crate::cli::config::{key_value, load};
use crate::cli::exit::Exit;
use crate::config::{BrokerConfig, Loaded, LogConfig, LogFormat};
use crate::env::{disk, panic, process};
use crate::logging;
use crate::server::{self, Ended, Fatal, StartAgain, StartError};

/// Of a node that ends because of it.
const OUT_OF_MEMORY: &str = "this node cannot go on: it gets no more memory. Raise what limits it (ulimit -v, LimitAS=, memory.max \
                             of its control group), or set rocksdbMemoryBudget and tailCacheBytes lower, and start it again";

/// Start a broker node.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  raftmq broker -c conf/dledger/broker-n0.conf\n  raftmq broker -c broker.conf -D storePathRootDir=/var/lib/raftmq -D logFormat=json"
)]
pub struct BrokerArgs {
    /// Property file, as RocketMQ's broker.conf; without one: a node of its own with the defaults
    #[arg(short, long)]
    config: Option<PathBuf>,
    #[arg(help = "Set a key, over file and environment (RAFTMQ_CONF_<key>)", short = 'D', value_name = "KEY=VALUE", value_parser = key_value)]
    define: Vec<(String, String)>,
}

/// Runs the node until a signal stops it.
pub fn run(args: &BrokerArgs) -> Exit {
    let exit = run_logged(args);
    logging::flush();
    exit
}

fn run_logged(args: &BrokerArgs) -> Exit {
    let loaded = match load(args.config.as_deref(), &args.define, disk::read_text) {
        Ok(loaded) => loaded,
        Err(errors) => {
            eprintln!("error: {errors}");
            return Exit::Usage;
        }
    };
    start_log(&loaded.config);
    announce(&loaded);
    panic::end_on_panic(die_of_panic);
    process::say_when_out_of_memory(&format!("error: {OUT_OF_MEMORY}"), Exit::TooLittleMemory as u8);
    let folder = loaded.config.store.clone();
    match server::run(&loaded, Arc::new(move |reason| die(reason, &folder))) {
        Ok(Ended::Stopped) => Exit::Ok,
        Ok(Ended::MustRestart) => run_anew(),
        Err(server::Error::Node(StartError::Again(again))) => start_again(&again, &loaded.config.store),
        Err(error) => {
            tracing::error!("{error}");
            exit_of(&error)
        }
    }
}

fn start_log(config: &BrokerConfig) {
    let LogConfig { level, format, files } = &config.log;
    let format = match format {
        LogFormat::Text => logging::Format::Text,
        LogFormat::Json => logging::Format::Json,
    };
    let files = files.as_ref().map(|files| logging::Files {
        folder: log_home(files.home.as_deref(), &config.store).join(&files.folder),
        bytes_max: files.bytes_max,
        kept: files.kept,
    });
    let folder = files.as_ref().map(|files| files.folder.clone());
    logging::start(level.parse().expect("one of the words that logLevel takes"), format, files);
    if let Some(folder) = folder {
        tracing::info!(target: logging::ANNOUNCEMENTS, folder = %folder.display(), "lines of this log go to broker.log too");
    }
}

/// A service may have no home folder; it has its store.
fn log_home(given: Option<&Path>, store: &Path) -> PathBuf {
    let of_user = || std::env::home_dir().filter(|home| home.is_absolute());
    given.map(Path::to_owned).or_else(of_user).unwrap_or_else(|| store.to_owned())
}

fn exit_of(error: &server::Error) -> Exit {
    match error {
        server::Error::PortInUse(_) => Exit::PortInUse,
        server::Error::Tls(_) | server::Error::Node(StartError::Contradiction(_)) => Exit::Usage,
        server::Error::TooLittleMemory(_) => Exit::TooLittleMemory,
        // Whatever needed some could not get it.
        _ if process::is_out_of_memory() => {
            tracing::error!("{OUT_OF_MEMORY}");
            Exit::TooLittleMemory
        }
        server::Error::Node(StartError::FolderTaken(_)) => Exit::FolderTaken,
        server::Error::Node(StartError::Damaged(_)) => Exit::Damaged,
        server::Error::Node(StartError::NoRoom(_)) => Exit::NoRoom,
        server::Error::TooFewFiles(_) => Exit::TooFewFiles,
        server::Error::Node(StartError::Raft(_) | StartError::Again(_)) | server::Error::System(_) => Exit::Failed,
    }
}

fn announce(loaded: &Loaded) {
    for value in &loaded.effective {
        tracing::info!(target: logging::ANNOUNCEMENTS, key = value.key, value = value.value, origin = %value.origin, "config");
    }
    for warning in &loaded.warnings {
        tracing::warn!(target: logging::ANNOUNCEMENTS, "{warning}");
    }
    if tracing::level_filters::STATIC_MAX_LEVEL < tracing::Level::TRACE && loaded.config.log.level == "trace" {
        tracing::warn!(target: logging::ANNOUNCEMENTS, "logLevel=trace: a release build logs debug and above only");
    }
}

/// A thread or task that panicked is missed by nobody, and what it was to do is not done any more (D74).
fn die_of_panic(what: &str) {
    if process::is_out_of_memory() {
        tracing::error!("{OUT_OF_MEMORY} ({what})");
        logging::flush();
        std::process::exit(i32::from(Exit::TooLittleMemory as u8));
    }
    tracing::error!("this node cannot go on, which is a bug in raftmq: {what}");
    logging::flush();
    std::process::exit(i32::from(Exit::Panicked as u8));
}

/// After a failed write or sync nothing may be acknowledged any more, and a node that the shard knows with another
/// disk must not vote: the process ends at once (D18).
fn die(reason: Fatal, folder: &Path) {
    if !matches!(reason, Fatal::Again(_)) {
        tracing::error!("this node cannot go on: {reason}");
    }
    let exit = match reason {
        // The files are whole: whatever needed one could not open it.
        Fatal::Failed(_) if process::is_out_of_files() => {
            tracing::error!("it may not open more files: raise the limit (ulimit -n, LimitNOFILE=) and start it again");
            Exit::TooFewFiles
        }
        Fatal::Failed(_) if process::is_out_of_memory() => {
            tracing::error!("{OUT_OF_MEMORY}");
            Exit::TooLittleMemory
        }
        Fatal::Failed(_) => Exit::Damaged,
        Fatal::Disowned(_) => Exit::FolderTaken,
        Fatal::Again(again) => start_again(&again, folder),
    };
    logging::flush();
    std::process::exit(i32::from(exit as u8));
}

/// Starts this process anew in its place: what runs of it is gone as after a crash, which every start expects. Returns only
/// if that fails.
fn start_again(again: &StartAgain, folder: &Path) -> Exit {
    tracing::warn!("this node {again}");
    if again.discards
        && let Err(error) = server::discard(folder)
    {
        tracing::error!(%error, folder = %folder.display(), "what is in the folder of a replica that was replaced cannot be dropped");
        return Exit::Damaged;
    }
    run_anew()
}

/// Returns only if that fails.
fn run_anew() -> Exit {
    logging::flush();
    let error = process::start_again();
    tracing::error!("this program cannot be started again: {error}; start this node");
    Exit::Failed
}
