//! The key-value store on RocksDB. The only file that names it.
//!
//! It has no write-ahead log: the Raft log is that. All families flush to one point (atomic flush), so
//! after a crash the store is some earlier state as a whole, and the marks inside say which (D6).
//!
//! On a full disk RocksDB keeps what it has in memory and refuses writes; it looks every five seconds by itself whether
//! there is room for a write buffer again, and goes on then (`ErrorHandler`, `SstFileManager::ClearError`).

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use rocksdb::properties::CUR_SIZE_ALL_MEM_TABLES as MEMTABLE_BYTES;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, FlushOptions, IteratorMode,
    Options, ReadOptions, WriteOptions,
};

use crate::store::kv::{Error, Kv, Result, Space, WriteBatch};

/// Info logs kept, and the size of each.
const INFO_LOGS: usize = 3;
const INFO_LOG_BYTES: usize = 4 * 1024 * 1024;
/// Of one family.
const BUFFER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What an entry costs beside its key and value.
const ENTRY_BYTES: u64 = 16;

/// One RocksDB, one column family per space.
pub struct RocksKv {
    db: DB,
    without_log: WriteOptions,
    /// Keys and values written since the last flush; RocksDB may have flushed some of them by itself.
    unflushed: AtomicU64,
    /// So much has to be free before RocksDB goes on after the disk was full.
    buffer_bytes: u64,
    /// The last write or flush found the disk full.
    is_full: AtomicBool,
}

fn failed(error: rocksdb::Error) -> Error {
    Error::Failed(error.to_string())
}

/// Whether RocksDB says that the disk is full. It does not say so in a code: the text is that of ENOSPC or EDQUOT.
fn is_full(error: &rocksdb::Error) -> bool {
    let text: &str = error.as_ref();
    text.contains("No space left on device") || text.contains("Disk quota exceeded")
}

fn failed_or_full(error: rocksdb::Error, batch: WriteBatch) -> Error {
    if is_full(&error) { Error::Full { reason: error.into_string(), batch } } else { failed(error) }
}

impl RocksKv {
    /// Opens or makes the store; `memory_bytes` covers write buffers (a third) and cache, `open_files_max` its tables: those
    /// beyond are opened again when they are read.
    pub fn open(folder: &Path, memory_bytes: usize, open_files_max: u32) -> Result<Self> {
        let cache = Cache::new_lru_cache(memory_bytes / 3 * 2);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_atomic_flush(true);
        options.set_db_write_buffer_size(memory_bytes / 3);
        options.set_max_background_jobs(2);
        options.set_bytes_per_sync(1024 * 1024);
        options.set_max_open_files(i32::try_from(open_files_max).unwrap_or(i32::MAX));
        options.set_keep_log_file_num(INFO_LOGS);
        options.set_max_log_file_size(INFO_LOG_BYTES);
        options.set_avoid_unnecessary_blocking_io(true);
        // One family alone may fill all write buffers together.
        let buffer_bytes = (memory_bytes / 3).min(BUFFER_BYTES_MAX);
        let family = |name: &str| ColumnFamilyDescriptor::new(name, family_options(&cache, buffer_bytes));
        // RocksDB's own family is empty; named here for its options, because the largest write buffer of all is what has to
        // be free after the disk was full.
        let names = Space::ALL.iter().map(|space| space.name()).chain([rocksdb::DEFAULT_COLUMN_FAMILY_NAME]);
        let families: Vec<_> = names.map(family).collect();
        let db = DB::open_cf_descriptors(&options, folder, families)
            .map_err(|error| failed_or_full(error, WriteBatch::default()))?;
        let mut without_log = WriteOptions::default();
        without_log.disable_wal(true);
        let (unflushed, is_full) = (AtomicU64::new(0), AtomicBool::new(false));
        Ok(Self { db, without_log, unflushed, buffer_bytes: buffer_bytes as u64, is_full })
    }

    /// Remembers whether the disk was full.
    fn noted<T>(&self, result: std::result::Result<T, rocksdb::Error>) -> std::result::Result<T, rocksdb::Error> {
        let is_full = result.as_ref().is_err_and(is_full);
        if is_full != self.is_full.load(Ordering::Relaxed) {
            self.is_full.store(is_full, Ordering::Relaxed);
        }
        result
    }

    fn family(&self, space: Space) -> &ColumnFamily {
        self.db.cf_handle(space.name()).expect("every family is made when the store is opened")
    }

    fn bounds(from: &[u8], to: &[u8]) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        options
    }

    fn pairs(
        &self,
        space: Space,
        from: &[u8],
        to: &[u8],
        mode: IteratorMode<'_>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        if from >= to {
            return Ok(Vec::new());
        }
        let pairs = self.db.iterator_cf_opt(self.family(space), Self::bounds(from, to), mode);
        pairs.take(limit).map(|pair| pair.map(|(key, value)| (key.into(), value.into())).map_err(failed)).collect()
    }
}

fn family_options(cache: &Cache, buffer_bytes: usize) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_write_buffer_size(buffer_bytes);
    options.set_max_write_buffer_number(3);
    options.set_block_based_table_factory(&blocks);
    // Ended leases and past due times leave many deletions one after the other.
    options.add_compact_on_deletion_collector_factory(16 * 1024, 8 * 1024, 0.5);
    options
}

impl Kv for RocksKv {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.db.get_cf(self.family(space), key).map_err(failed)?.map(Bytes::from))
    }

    fn scan(&self, space: Space, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        self.pairs(space, from, to, IteratorMode::Start, limit)
    }

    fn last(&self, space: Space, from: &[u8], to: &[u8]) -> Result<Option<(Bytes, Bytes)>> {
        Ok(self.pairs(space, from, to, IteratorMode::End, 1)?.pop())
    }

    fn write(&self, batch: WriteBatch) -> Result<()> {
        let mut writes = rocksdb::WriteBatch::default();
        let mut bytes = 0;
        for (space, key, value) in &batch.writes {
            let family = self.family(*space);
            bytes += (key.len() + value.as_ref().map_or(0, Bytes::len)) as u64 + ENTRY_BYTES;
            match value {
                Some(value) => writes.put_cf(family, key, value),
                None => writes.delete_cf(family, key),
            }
        }
        self.noted(self.db.write_opt(writes, &self.without_log)).map_err(|error| failed_or_full(error, batch))?;
        self.unflushed.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        let families: Vec<_> = Space::ALL.iter().map(|space| self.family(*space)).collect();
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let flushed = self.unflushed.load(Ordering::Relaxed);
        self.noted(self.db.flush_cfs_opt(&families, &options))
            .map_err(|error| failed_or_full(error, WriteBatch::default()))?;
        self.unflushed.fetch_sub(flushed, Ordering::Relaxed);
        Ok(())
    }

    fn unflushed_bytes(&self) -> u64 {
        let of = |space: &Space| self.db.property_int_value_cf(self.family(*space), MEMTABLE_BYTES).ok().flatten();
        let in_memory = Space::ALL.iter().filter_map(of).sum();
        let unflushed = self.unflushed.load(Ordering::Relaxed).min(in_memory);
        if self.is_full.load(Ordering::Relaxed) { unflushed.max(self.buffer_bytes) } else { unflushed }
    }
}
