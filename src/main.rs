//! The one binary. Everything is in the library; this hands over to its command line.

fn main() -> std::process::ExitCode {
    raftmq::cli::main()
}
