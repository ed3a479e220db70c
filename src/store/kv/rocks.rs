//! The key-value store on RocksDB. The only file that names it.
//!
//! It has no write-ahead log: the Raft log is that. All families flush to one point (atomic flush), so
//! after a crash the store is some earlier state as a whole, and the marks inside say which (D6).
//!
//! On a full disk RocksDB keeps what it has in memory and refuses writes; it looks every five seconds by itself whether
//! there is room for a write buffer again, and goes on then (`ErrorHandler`, `SstFileManager::ClearError`).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::properties::{self, CUR_SIZE_ALL_MEM_TABLES as MEMTABLE_BYTES, PropName};
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    FlushOptions, IteratorMode, Options, ReadOptions, WriteOptions,
};

use crate::env::disk;
use crate::store::kv::{Error, Kv, KvFacts, Result, Space, WriteBatch};

/// Info logs kept, and the size of each.
const INFO_LOGS: usize = 3;
const INFO_LOG_BYTES: usize = 4 * 1024 * 1024;
/// A part of a table's index or filter.
const METADATA_BYTES: usize = 4096;
/// Of one family.
const BUFFER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Of a copy that is only read: for what a few look-ups touch.
const COPY_CACHE_BYTES: usize = 1024 * 1024;
const COPY_FILES_MAX: i32 = 16;
/// Pairs that are read with one iterator, which holds on to the files it reads.
const VERIFIED_AT_ONCE: usize = 1024;
/// What an entry costs beside its key and value.
const ENTRY_BYTES: u64 = 16;

/// One RocksDB, one column family per space.
pub struct RocksKv {
    db: DB,
    without_log: WriteOptions,
    /// The same, for a thread that must not wait.
    at_once: WriteOptions,
    /// Keys and values written since the last flush; RocksDB may have flushed some of them by itself.
    unflushed: AtomicU64,
    /// So much has to be free before RocksDB goes on after the disk was full.
    buffer_bytes: u64,
    /// The last write or flush found the disk full.
    is_full: AtomicBool,
    is_given_up: AtomicBool,
    /// Where it is noted that the store is damaged; of a copy nowhere, or what takes its folder would be taken for damaged.
    mark: Option<PathBuf>,
}

/// A pair as an iterator gives it.
type Pair = std::result::Result<(Box<[u8]>, Box<[u8]>), rocksdb::Error>;

/// The store at one moment. RocksDB keeps what it needs for it, so nobody holds one for long.
struct RocksSnapshot<'a> {
    store: &'a RocksKv,
    snapshot: rocksdb::Snapshot<'a>,
}

/// The file that says that the store in a folder is damaged.
pub fn damage_mark(folder: &Path) -> PathBuf {
    folder.with_extension("damaged")
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
        // By this thread: for every family others would come and go, also with nothing to open, and one that cannot be had
        // leaves RocksDB waiting for its own lock.
        options.set_max_file_opening_threads(1);
        // One family alone may fill all write buffers together.
        let buffer_bytes = (memory_bytes / 3).min(BUFFER_BYTES_MAX);
        // All of them, because the largest write buffer of all is what has to be free after the disk was full.
        let db = DB::open_cf_descriptors(&options, folder, families(&cache, buffer_bytes))
            .map_err(|error| failed_or_full(error, WriteBatch::default()))?;
        Ok(Self::over(db, Some(damage_mark(folder)), buffer_bytes as u64))
    }

    /// A folder that a checkpoint is in, to be read only. Writes no file but RocksDB's info log.
    fn open_read_only(folder: &Path) -> Result<Self> {
        let cache = Cache::new_lru_cache(COPY_CACHE_BYTES);
        let mut options = Options::default();
        options.set_max_open_files(COPY_FILES_MAX);
        let families = families(&cache, BUFFER_BYTES_MAX);
        let db = DB::open_cf_descriptors_read_only(&options, folder, families, false).map_err(failed)?;
        Ok(Self::over(db, None, 0))
    }

    fn over(db: DB, mark: Option<PathBuf>, buffer_bytes: u64) -> Self {
        let mut without_log = WriteOptions::default();
        without_log.disable_wal(true);
        let mut at_once = WriteOptions::default();
        at_once.disable_wal(true);
        at_once.set_no_slowdown(true);
        let (unflushed, is_full, is_given_up) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
        Self { db, without_log, at_once, unflushed, buffer_bytes, is_full, is_given_up, mark }
    }

    /// Notes damage, so that the next start makes the store anew.
    fn failed(&self, error: rocksdb::Error) -> Error {
        let error = failed(error);
        if error.is_damage() {
            self.give_up(&error.to_string());
        }
        error
    }

    /// As [`Self::failed`], of what writes: what a compaction found refuses all that is written after it.
    fn failed_or_full(&self, error: rocksdb::Error, batch: WriteBatch) -> Error {
        if is_full(&error) { failed_or_full(error, batch) } else { self.failed(error) }
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
        self.read(self.db.iterator_cf_opt(self.family(space), Self::bounds(from, to), mode), limit)
    }

    fn read(&self, pairs: impl Iterator<Item = Pair>, limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        let mut read = Vec::new();
        for pair in pairs.take(limit) {
            let (key, value) = pair.map_err(|error| self.failed(error))?;
            read.push((key.into(), value.into()));
        }
        Ok(read)
    }

    fn write_with(&self, options: &WriteOptions, batch: WriteBatch) -> Result<()> {
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
        match self.db.write_opt(writes, options) {
            // Nothing is wrong: it has to flush or compact first.
            Err(error) if error.kind() == rocksdb::ErrorKind::Incomplete => return Err(Error::Stalled { batch }),
            written => self.noted(written).map_err(|error| self.failed_or_full(error, batch))?,
        }
        self.unflushed.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

/// All families that a store has; RocksDB's own is one of them.
fn families(cache: &Cache, buffer_bytes: usize) -> impl Iterator<Item = ColumnFamilyDescriptor> {
    let of =
        move |space: &Space| ColumnFamilyDescriptor::new(space.name(), family_options(*space, cache, buffer_bytes));
    Space::ALL.iter().map(of)
}

fn family_options(space: Space, cache: &Cache, buffer_bytes: usize) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_bloom_filter(10.0, false);
    // In parts: those of a table are half a megabyte each, and one that is not in the cache was read whole for one key.
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_partition_filters(true);
    blocks.set_metadata_block_size(METADATA_BYTES);
    blocks.set_pin_top_level_index_and_filter(true);
    let mut options = Options::default();
    options.set_compression_type(match space {
        // Hashes do not become smaller.
        Space::RecentSend => DBCompressionType::None,
        _ => DBCompressionType::Lz4,
    });
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
        let read = self.db.get_cf(self.family(space), key).map_err(|error| self.failed(error))?;
        Ok(read.map(Bytes::from))
    }

    fn scan(&self, space: Space, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        self.pairs(space, from, to, IteratorMode::Start, limit)
    }

    fn last(&self, space: Space, from: &[u8], to: &[u8]) -> Result<Option<(Bytes, Bytes)>> {
        Ok(self.pairs(space, from, to, IteratorMode::End, 1)?.pop())
    }

    fn write(&self, batch: WriteBatch) -> Result<()> {
        self.write_with(&self.without_log, batch)
    }

    fn write_at_once(&self, batch: WriteBatch) -> Result<()> {
        self.write_with(&self.at_once, batch)
    }

    fn snapshot(&self) -> Result<Box<dyn Kv + '_>> {
        Ok(Box::new(RocksSnapshot { store: self, snapshot: self.db.snapshot() }))
    }

    fn flush(&self) -> Result<()> {
        let families: Vec<_> = Space::ALL.iter().map(|space| self.family(*space)).collect();
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let flushed = self.unflushed.load(Ordering::Relaxed);
        self.noted(self.db.flush_cfs_opt(&families, &options))
            .map_err(|error| self.failed_or_full(error, WriteBatch::default()))?;
        self.unflushed.fetch_sub(flushed, Ordering::Relaxed);
        Ok(())
    }

    fn checkpoint(&self, folder: &Path) -> Result<()> {
        let made = Checkpoint::new(&self.db).and_then(|checkpoint| checkpoint.create_checkpoint(folder));
        // What is not found may be the folder above the copy.
        let is_corruption = |error: &rocksdb::Error| error.kind() == rocksdb::ErrorKind::Corruption;
        self.noted(made).map_err(|error| match is_corruption(&error) {
            true => self.failed(error),
            false => failed_or_full(error, WriteBatch::default()),
        })
    }

    fn open_copy(&self, folder: &Path) -> Result<Box<dyn Kv>> {
        Ok(Box::new(Self::open_read_only(folder)?))
    }

    /// Every block of data is read, and its checksum looked at, unless it is in the cache: those are looked at when they have
    /// left it.
    fn verify(&self, pace: &mut dyn FnMut(u64) -> bool) -> Result<()> {
        for space in Space::ALL {
            let mut from = Bytes::new();
            loop {
                let mut options = Self::bounds(&from, &[u8::MAX; 64]);
                options.fill_cache(false);
                let page = self.db.iterator_cf_opt(self.family(space), options, IteratorMode::Start);
                let (mut bytes, mut last) = (0, None);
                for pair in page.take(VERIFIED_AT_ONCE) {
                    let (key, value) = pair.map_err(|error| self.failed(error))?;
                    bytes += (key.len() + value.len()) as u64;
                    last = Some(key);
                }
                let Some(last) = last else { break };
                from = [last.as_ref(), &[0]].concat().into();
                if !pace(bytes) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn give_up(&self, reason: &str) {
        let Some(mark) = &self.mark else { return };
        if self.is_given_up.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::error!(reason, "the state store is made anew at the next start");
        if let Err(error) = disk::write_text(mark, reason) {
            tracing::error!(%error, "that could not be noted: remove the folder with the state by hand");
        }
    }

    fn facts(&self) -> KvFacts {
        let one = |name: &PropName| self.db.property_int_value_cf(self.family(Space::Meta), name).ok().flatten();
        let sum = |name: &PropName| {
            let of = |space: &Space| self.db.property_int_value_cf(self.family(*space), name).ok().flatten();
            Space::ALL.iter().filter_map(of).sum::<u64>()
        };
        KvFacts {
            memtable_bytes: sum(MEMTABLE_BYTES),
            // There is one cache for all.
            block_cache_bytes: one(properties::BLOCK_CACHE_USAGE).unwrap_or(0),
            block_cache_bytes_max: one(properties::BLOCK_CACHE_CAPACITY).unwrap_or(0),
            table_reader_bytes: sum(properties::ESTIMATE_TABLE_READERS_MEM),
            table_bytes: sum(properties::LIVE_SST_FILES_SIZE),
            keys: sum(properties::ESTIMATE_NUM_KEYS),
            pending_compaction_bytes: sum(properties::ESTIMATE_PENDING_COMPACTION_BYTES),
            running_compactions: one(properties::NUM_RUNNING_COMPACTIONS).unwrap_or(0),
            running_flushes: one(properties::NUM_RUNNING_FLUSHES).unwrap_or(0),
            is_write_stopped: one(properties::IS_WRITE_STOPPED).unwrap_or(0) > 0,
            background_errors: one(properties::BACKGROUND_ERRORS).unwrap_or(0),
        }
    }

    fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Relaxed)
    }

    fn unflushed_bytes(&self) -> u64 {
        let of = |space: &Space| self.db.property_int_value_cf(self.family(*space), MEMTABLE_BYTES).ok().flatten();
        let in_memory = Space::ALL.iter().filter_map(of).sum();
        let unflushed = self.unflushed.load(Ordering::Relaxed).min(in_memory);
        if self.is_full.load(Ordering::Relaxed) { unflushed.max(self.buffer_bytes) } else { unflushed }
    }
}

impl RocksSnapshot<'_> {
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
        let family = self.store.family(space);
        self.store.read(self.snapshot.iterator_cf_opt(family, RocksKv::bounds(from, to), mode), limit)
    }
}

impl Kv for RocksSnapshot<'_> {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        let read = self.snapshot.get_cf(self.store.family(space), key).map_err(|error| self.store.failed(error))?;
        Ok(read.map(Bytes::from))
    }

    fn scan(&self, space: Space, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        self.pairs(space, from, to, IteratorMode::Start, limit)
    }

    fn last(&self, space: Space, from: &[u8], to: &[u8]) -> Result<Option<(Bytes, Bytes)>> {
        Ok(self.pairs(space, from, to, IteratorMode::End, 1)?.pop())
    }

    fn write(&self, _batch: WriteBatch) -> Result<()> {
        Err(Error::Failed("a snapshot is only read".to_owned()))
    }

    fn flush(&self) -> Result<()> {
        Err(Error::Failed("a snapshot is only read".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY_BYTES: usize = 8 * 1024 * 1024;
    const OPEN_FILES_MAX: u32 = 64;

    /// A store that takes no writes before it has compacted, which it does not.
    fn stall(kv: &RocksKv, stops_at: &str) {
        let options = [
            ("level0_file_num_compaction_trigger", "100"),
            ("level0_slowdown_writes_trigger", stops_at),
            ("level0_stop_writes_trigger", stops_at),
        ];
        kv.db.set_options_cf(kv.family(Space::Queue), &options).unwrap();
    }

    #[test]
    fn a_store_that_stalls_says_so_and_has_done_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let kv = RocksKv::open(folder.path(), MEMORY_BYTES, OPEN_FILES_MAX).unwrap();
        let batch = |key: &'static str| WriteBatch {
            writes: vec![(Space::Queue, Bytes::from_static(key.as_bytes()), Some(Bytes::new()))],
        };
        stall(&kv, "1");
        kv.write_at_once(batch("a")).unwrap();
        kv.flush().unwrap();
        let Err(Error::Stalled { batch: unwritten }) = kv.write_at_once(batch("b")) else { panic!("it writes on") };
        assert_eq!(unwritten, batch("b"));
        assert_eq!(kv.get(Space::Queue, b"b").unwrap(), None);
        assert!(!kv.is_given_up());
        stall(&kv, "200");
        kv.write_at_once(unwritten).unwrap();
        assert_eq!(kv.get(Space::Queue, b"b").unwrap(), Some(Bytes::new()));
    }
}
