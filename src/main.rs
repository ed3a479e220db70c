//! The one binary. Everything is in the library; this calls its command line.

/// Half the CPU of the C library's for the many small, short-lived objects of an RPC, and it gives memory
/// back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    raftmq::cli::main()
}
