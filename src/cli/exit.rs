//! Exit codes of `raftmq`; `cli.md` §4.1.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Failed for a reason without a number of its own.
    Failed = 1,
    /// Wrong use or bad configuration.
    Usage = 2,
    /// Done in part.
    Partly = 3,
    /// No node could be reached.
    CannotConnect = 4,
    /// No leader, unhealthy or timed out.
    Unavailable = 5,
    /// What was named is not there, or is there already.
    NotFoundOrExists = 6,
    /// Not allowed.
    Denied = 7,
    /// A port is in use.
    PortInUse = 10,
    /// The data folder is locked or another node's.
    FolderTaken = 11,
    /// The storage is damaged.
    Damaged = 12,
    /// Ended by ctrl-c.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
