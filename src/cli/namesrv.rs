//! `raftmq namesrv`: reads the configuration and runs a name server.

use std::path::PathBuf;

use clap::Args;

use crate::cli::config::key_value;
use crate::cli::exit::Exit;
use crate::config::{LogFormat, Sources, load_namesrv};
use crate::env::{disk, panic};
use crate::{logging, server};

/// Start a name server.
#[derive(Debug, Args)]
#[command(
    after_long_help = "It keeps nothing: brokers whose namesrvAddr names it report to it.\n\nExamples:\n  raftmq namesrv\n  raftmq namesrv -c namesrv.conf -D listenPort=9877"
)]
pub struct NamesrvArgs {
    /// Property file, as RocketMQ's namesrv.conf; without one: the defaults
    #[arg(short, long)]
    config: Option<PathBuf>,
    #[arg(help = "Set a key, over the file", short = 'D', value_name = "KEY=VALUE", value_parser = key_value)]
    define: Vec<(String, String)>,
}

/// Runs the name server until a signal stops it.
pub fn run(args: &NamesrvArgs) -> Exit {
    let exit = run_logged(args);
    logging::flush();
    exit
}

fn run_logged(args: &NamesrvArgs) -> Exit {
    let text = match &args.config {
        Some(path) => match disk::read_text(path) {
            Ok(text) => Some((path.display().to_string(), text)),
            Err(error) => {
                eprintln!("error: {}: {error}", path.display());
                return Exit::Usage;
            }
        },
        None => None,
    };
    let file = text.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    let loaded = match load_namesrv(&Sources { file, environment: Vec::new(), flags: args.define.clone() }) {
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
    logging::start(loaded.config.log_level.parse().expect("one of the words that logLevel takes"), format, None);
    for warning in &loaded.warnings {
        tracing::warn!(target: logging::ANNOUNCEMENTS, "{warning}");
    }
    panic::end_on_panic(|what| {
        tracing::error!("this name server cannot go on, which is a bug in raftmq: {what}");
        logging::flush();
        std::process::exit(i32::from(Exit::Panicked as u8));
    });
    let settings = loaded.effective.iter().map(|value| format!("{}={}\n", value.key, value.value)).collect();
    match server::run_name_server(&loaded.config, settings) {
        Ok(()) => Exit::Ok,
        Err(error) => {
            tracing::error!("{error}");
            match error {
                server::Error::PortInUse(_) => Exit::PortInUse,
                _ => Exit::Failed,
            }
        }
    }
}
