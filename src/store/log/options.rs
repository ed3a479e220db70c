//! How the log is kept: what the configuration decides.

/// When an append counts as done (`flushDiskType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushMode {
    /// After its sync.
    Sync,
    /// After its write; a power loss can take the last half second.
    Async,
}

/// How the log is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Size of a segment; a larger record makes a larger segment.
    pub segment_bytes: u64,
    pub tail_cache_bytes: usize,
    pub flush: FlushMode,
    /// Files of sealed segments that are kept open; while they are read a few more may be.
    pub open_files_max: usize,
    /// Other nodes have copies: what damage took is fetched from them. Without, a log that lost durable entries is refused.
    pub has_peers: bool,
}
