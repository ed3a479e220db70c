//! Threads for what waits for the disk, apart by what it is for: however many old messages clients read, a vote finds a thread
//! (D231). A thread comes when it is needed and goes ten seconds after its last work.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// Votes, and cuts of the log: an election waits for them.
    Votes,
    /// Entries that followers or the state lack.
    LogReads,
    /// The state goes to the disk; also writes to it while it stalls.
    Flushes,
    /// Messages that clients read and that are in no memory.
    ColdReads,
    /// Digests of large bodies, and bodies that are unpacked: they take a processor and not the disk, and longer than Raft's
    /// thread should be without a turn.
    Bodies,
    /// What is read of the state for operators, and for the renewal of leases.
    Views,
    /// What a node does of itself: snapshots, repair, scrubs, removal of files.
    Upkeep,
}

impl Pool {
    const ALL: [Self; 7] =
        [Self::Votes, Self::LogReads, Self::Flushes, Self::ColdReads, Self::Bodies, Self::Views, Self::Upkeep];

    /// Its name, which its threads have, and how many there are at most: more of them only hold memory, as each keeps what
    /// it freed.
    fn shape(self) -> (&'static str, usize) {
        match self {
            Self::Votes => ("votes", 2),
            Self::LogReads => ("log-reads", 2),
            Self::Flushes => ("flushes", 2),
            Self::ColdReads => ("cold-reads", 4),
            Self::Bodies => ("bodies", 2),
            Self::Views => ("views", 2),
            Self::Upkeep => ("upkeep", 8),
        }
    }

    /// Runs what may wait for the disk, when one of the threads is free.
    pub fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        static POOLS: [OnceLock<Runtime>; Pool::ALL.len()] = [const { OnceLock::new() }; Pool::ALL.len()];
        let pool = POOLS[self as usize].get_or_init(|| {
            let (name, threads) = self.shape();
            // Only its threads for blocking work are used: nobody drives it, so it has no clock and no sockets.
            let pool = Builder::new_current_thread().thread_name(name).max_blocking_threads(threads).build();
            pool.expect("a runtime without a driver asks the system for nothing")
        });
        pool.handle().spawn_blocking(work)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn a_pool_whose_threads_are_all_taken_holds_up_no_other() {
        let (_, threads) = Pool::ColdReads.shape();
        let (go_on, waiting): (Vec<_>, Vec<_>) = (0..=threads).map(|_| channel::<()>()).unzip();
        let reads: Vec<_> =
            waiting.into_iter().map(|until| Pool::ColdReads.run(move || until.recv().is_ok())).collect();
        for pool in Pool::ALL.into_iter().filter(|pool| *pool != Pool::ColdReads) {
            let name = pool.run(|| std::thread::current().name().map(str::to_owned)).await.unwrap();
            assert_eq!(name.as_deref(), Some(pool.shape().0));
        }
        assert!(!reads[threads].is_finished(), "the last read waits for a thread");
        go_on.into_iter().for_each(|read| read.send(()).unwrap());
        for read in reads {
            assert!(read.await.unwrap());
        }
    }
}
