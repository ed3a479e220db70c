//! `raftmq broker`: reads the configuration, announces it, and runs the server. What fails ends with one line and a named
//! exit code.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::cli::config::{key_value, load};
use crate::cli::exit::Exit;
use crate::config::{Loaded, LogFormat};
use crate::env::{disk, panic};
use crate::logging;
use crate::server::{self, Fatal, StartError};

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
    let loaded = match load(args.config.as_deref(), &args.define, disk::read_text) {
        Ok(loaded) => loaded,
        Err(errors) => {
            eprintln!("error: {errors}");
            return Exit::Usage;
        }
    };
    let format = match loaded.config.log_format {
        LogFormat::Text => logging::Format::Text,
        LogFormat::Json => logging::Format::Json,
    };
    logging::start(&loaded.config.log_level, format);
    announce(&loaded);
    panic::end_on_panic(die_of_panic);
    match server::run(&loaded.config, Arc::new(die)) {
        Ok(()) => Exit::Ok,
        Err(error) => {
            tracing::error!("{error}");
            exit_of(&error)
        }
    }
}

fn exit_of(error: &server::Error) -> Exit {
    match error {
        server::Error::PortInUse(_) => Exit::PortInUse,
        server::Error::Tls(_) | server::Error::Node(StartError::Contradiction(_)) => Exit::Usage,
        server::Error::Node(StartError::FolderTaken(_)) => Exit::FolderTaken,
        server::Error::Node(StartError::Damaged(_)) => Exit::Damaged,
        server::Error::Node(StartError::NoRoom(_)) => Exit::NoRoom,
        server::Error::Node(StartError::Raft(_)) | server::Error::System(_) => Exit::Failed,
    }
}

fn announce(loaded: &Loaded) {
    for value in &loaded.effective {
        tracing::info!(target: logging::ANNOUNCEMENTS, key = value.key, value = value.value, origin = %value.origin, "config");
    }
    for warning in &loaded.warnings {
        tracing::warn!(target: logging::ANNOUNCEMENTS, "{warning}");
    }
    let is_asked_for = |level: &str| loaded.config.log_level == level;
    if tracing::level_filters::STATIC_MAX_LEVEL < tracing::Level::DEBUG
        && (is_asked_for("debug") || is_asked_for("trace"))
    {
        let level = &loaded.config.log_level;
        tracing::warn!(target: logging::ANNOUNCEMENTS, "logLevel={level}: a release build logs info and above only");
    }
}

/// A thread or task that panicked is missed by nobody, and what it was to do is not done any more (D74).
fn die_of_panic(what: &str) {
    tracing::error!("this node cannot go on, which is a bug in raftmq: {what}");
    std::process::exit(i32::from(Exit::Panicked as u8));
}

/// After a failed write or sync nothing may be acknowledged any more, and a node that the shard knows with another
/// disk must not vote: the process ends at once (D18).
fn die(reason: Fatal) {
    tracing::error!("this node cannot go on: {reason}");
    let exit = match reason {
        Fatal::Failed(_) => Exit::Damaged,
        Fatal::Disowned(_) => Exit::FolderTaken,
    };
    std::process::exit(i32::from(exit as u8));
}
