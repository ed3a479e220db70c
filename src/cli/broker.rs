//! Placeholder of `raftmq broker`, which another branch brings; it refuses.

use super::exit::Exit;
use super::failure::Failure;

/// Arguments of `raftmq broker`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Refuses: this build cannot start a node.
pub fn run(_args: Args) -> Exit {
    Failure::new(Exit::Failed, "this build cannot start a node").print()
}
