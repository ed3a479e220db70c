//! Exit codes, by name. Scripts and unit files rely on them.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    Failed = 1,
    /// Bad arguments or configuration.
    Usage = 2,
    /// Done in part.
    Partly = 3,
    /// No node could be reached.
    CannotConnect = 4,
    /// No leader, unhealthy, or timed out.
    Unavailable = 5,
    /// Not found, or exists already.
    NotFoundOrExists = 6,
    /// Not allowed.
    Denied = 7,
    /// A port of the broker is in use.
    PortInUse = 10,
    /// The broker's folder is in use or another node's.
    FolderTaken = 11,
    /// The broker's files are damaged or the disk failed.
    Damaged = 12,
    /// The broker's disk is too full for a start.
    NoRoom = 13,
    /// The broker may open too few files.
    TooFewFiles = 14,
    /// The broker gets too little memory.
    TooLittleMemory = 15,
    /// A bug: something outside of a client's request panicked.
    Panicked = 101,
    /// Ended by the user.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
