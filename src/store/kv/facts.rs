//! What a key-value store says of itself, for metrics.

/// Numbers of a store as they are now; zero where it has no such thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KvFacts {
    /// Written and not on the disk yet, in memory.
    pub memtable_bytes: u64,
    /// Blocks of tables in memory, and how much they may take.
    pub block_cache_bytes: u64,
    pub block_cache_bytes_max: u64,
    /// What open tables take beside.
    pub table_reader_bytes: u64,
    /// On the disk.
    pub table_bytes: u64,
    /// About how many keys there are.
    pub keys: u64,
    /// What compactions still have to rewrite.
    pub pending_compaction_bytes: u64,
    pub running_compactions: u64,
    pub running_flushes: u64,
    /// Writes wait until compactions have got on.
    pub is_write_stopped: bool,
    pub background_errors: u64,
}
