//! Placeholder of `raftmq config`, which another branch brings; it refuses.

use super::exit::Exit;
use super::failure::Failure;

/// Arguments of `raftmq config`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Refuses: this build cannot read configuration.
pub fn run(_args: Args) -> Exit {
    Failure::new(Exit::Failed, "this build cannot read configuration").print()
}
