//! Runtimes of one thread: Raft's, and those of the front end.

use std::io;

/// Threads of a runtime for what waits for the disk. More of them only hold memory: each keeps what it freed.
const DISK_THREADS: usize = 8;

/// A runtime for the calling thread, or one that it starts.
///
/// Before the thread sleeps, others that are ready have their turn: what they do is often what it would be woken for at
/// once, and a wake-up costs more than most of the work here (D44).
pub fn of_one_thread() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(std::thread::yield_now)
        .max_blocking_threads(DISK_THREADS)
        .build()
}
