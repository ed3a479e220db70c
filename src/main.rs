//! The `raftmq` binary: everything is in the library, so that tests and embedders reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    raftmq::cli::main()
}
