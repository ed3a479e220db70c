//! The command line. (Commands for clients follow.)

mod broker;
mod config;
mod exit;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "raftmq", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Broker(broker::BrokerArgs),
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let exit = match Cli::parse().command {
        Command::Broker(args) => broker::run(&args),
        Command::Config(command) => {
            config::run(&command, &mut std::io::stdout(), &mut std::io::stderr(), crate::env::disk::read_text)
                .unwrap_or(exit::Exit::Failed)
        }
    };
    exit.into()
}
